//! What a node shows before it may take traffic, and while it is watched.
//!
//! A node alone is asked whether each answer is well-formed and agrees with its others. A node with a peer (during a swap: one
//! leads, the other follows) is also compared with the peer: same genesis, the same accounts, not behind, each knows the other's
//! newest blockhash, and its slot moves on. Nothing is sent that changes state.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{Client, Error};

/// A node further behind its peer than this is not in sync. Operators of RPC nodes use 50.
pub const MAX_SLOT_LAG: u64 = 50;
/// Probes of the slot in a row that must find the lag small.
const PROBES: u32 = 3;
/// Between two probes, and between two looks at what is on its way.
const PROBE_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause between two looks while a slot lasts.
const PROBE_PAUSE_MAX: Duration = Duration::from_millis(50);
/// For one answer; a node that takes longer is not healthy.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The SPL Token program: on every cluster, and the same on both nodes.
const KNOWN_PROGRAM: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";

/// What to check.
#[derive(Clone, Debug)]
pub struct Options {
    /// Until when what takes time (a slot, an entry on its way) may take.
    pub deadline: Instant,
    /// The version that the node must say it has; none takes any.
    pub version: Option<String>,
    /// Whether the slot must be seen to move on. It takes up to a slot's time.
    pub moves_on: bool,
}

/// The checks that passed, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed(Vec<&'static str>);

impl Passed {
    /// Their names.
    pub fn names(&self) -> &[&'static str] {
        &self.0
    }

    /// `genesis, version, health, slot, blockhash, reads`
    pub fn summary(&self) -> String {
        self.0.join(", ")
    }
}

/// The first check that failed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The node gave no usable answer.
    #[error(transparent)]
    Asked(#[from] Error),
    /// The peer gave no usable answer, so nothing can be compared.
    #[error("the serving instance cannot be compared with")]
    Peer(#[source] Error),
    /// Two answers that must be the same are not.
    #[error("{method} differs: {} is not {}", short(new), short(peer))]
    Differs {
        /// The call.
        method: &'static str,
        /// The node's answer.
        new: String,
        /// The answer it must be.
        peer: String,
    },
    /// Something did not come about in time.
    #[error("{what}")]
    Late {
        /// In one line, with figures.
        what: String,
    },
    /// An answer that contradicts another of the same node.
    #[error("{what}")]
    Contradiction {
        /// In one line.
        what: String,
    },
}

impl Failed {
    /// The failure and its causes in one line.
    pub fn line(&self) -> String {
        match self {
            Self::Asked(error) => error.line(),
            Self::Peer(error) => format!("{self}: {}", error.line()),
            other => other.to_string(),
        }
    }
}

/// The whole list: for a new node before it may take traffic.
pub async fn full(node: &Client, peer: Option<&Client>, options: &Options) -> Result<Passed, Failed> {
    let mut passed = quick(node, peer, options).await?;
    slot(node, peer, options).await?;
    passed.0.push("slot");
    blockhash(node, peer, options.deadline).await?;
    passed.0.push("blockhash");
    if let Some(peer) = peer {
        ledger(node, peer).await?;
        passed.0.push("ledger");
    }
    reads(node, peer).await?;
    passed.0.push("reads");
    Ok(passed)
}

/// Genesis, version and health: cheap enough to be repeated while a node is watched.
pub async fn quick(node: &Client, peer: Option<&Client>, options: &Options) -> Result<Passed, Failed> {
    let genesis = node.genesis_hash().await?;
    if let Some(peer) = peer {
        same("getGenesisHash", genesis, peer.genesis_hash().await.map_err(Failed::Peer)?)?;
    }
    let version = node.version().await?;
    if let Some(wanted) = &options.version {
        same("getVersion", version, wanted.clone())?;
    }
    node.health().await?;
    Ok(Passed(vec!["genesis", "version", "health"]))
}

fn same(method: &'static str, new: String, peer: String) -> Result<(), Failed> {
    if new == peer { Ok(()) } else { Err(Failed::Differs { method, new, peer }) }
}

/// The beginning of a value that is too long for a line.
fn short(text: &str) -> String {
    const LONGEST: usize = 16;
    const KEPT: usize = 5;
    if text.chars().count() <= LONGEST { text.to_owned() } else { text.chars().take(KEPT).chain(['…']).collect() }
}

/// Looks again, with growing pauses, until a deadline.
struct Patience {
    deadline: Instant,
    pause: Duration,
}

impl Patience {
    fn until(deadline: Instant) -> Self {
        Self { deadline, pause: PROBE_PAUSE }
    }

    /// Pauses before the next look; at the deadline `last` is the failure.
    async fn or(&mut self, last: Failed) -> Result<(), Failed> {
        if Instant::now() + self.pause >= self.deadline {
            return Err(last);
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PROBE_PAUSE_MAX);
        Ok(())
    }
}

/// The lag is small over several probes, and the slot moves on.
async fn slot(node: &Client, peer: Option<&Client>, options: &Options) -> Result<(), Failed> {
    let first = node.slot().await?;
    if let Some(peer) = peer {
        for _ in 0..PROBES {
            in_reach(node, peer, options.deadline).await?;
            sleep(PROBE_PAUSE).await;
        }
    }
    if !options.moves_on {
        return Ok(());
    }
    let began = Instant::now();
    let mut patience = Patience::until(options.deadline);
    loop {
        let now = node.slot().await?;
        if now > first {
            return Ok(());
        }
        let what = format!("getSlot does not move on: {now} for {} ms", began.elapsed().as_millis());
        patience.or(Failed::Late { what }).await?;
    }
}

async fn in_reach(node: &Client, peer: &Client, deadline: Instant) -> Result<(), Failed> {
    let mut patience = Patience::until(deadline);
    loop {
        // The peer first: what it had before the node was asked, the node must nearly have.
        let ahead = peer.slot().await.map_err(Failed::Peer)?;
        let own = node.slot().await?;
        let lag = ahead.saturating_sub(own);
        if lag <= MAX_SLOT_LAG {
            return Ok(());
        }
        let what = format!("getSlot is {own}, {lag} behind the serving instance; at most {MAX_SLOT_LAG} is healthy");
        patience.or(Failed::Late { what }).await?;
    }
}

/// Each knows the other's newest blockhash. What the leader sealed a moment ago may be on its way to the follower still.
async fn blockhash(node: &Client, peer: Option<&Client>, deadline: Instant) -> Result<(), Failed> {
    let own = node.latest_blockhash("processed").await?.blockhash;
    let Some(peer) = peer else {
        return if node.is_blockhash_valid(&own).await? {
            Ok(())
        } else {
            Err(Failed::Contradiction { what: format!("isBlockhashValid denies {own}, which getLatestBlockhash gave") })
        };
    };
    let theirs = peer.latest_blockhash("processed").await.map_err(Failed::Peer)?.blockhash;
    let mut patience = Patience::until(deadline);
    while !node.is_blockhash_valid(&theirs).await? {
        let what = format!("isBlockhashValid denies {}, the serving instance's newest", short(&theirs));
        patience.or(Failed::Late { what }).await?;
    }
    while !peer.is_blockhash_valid(&own).await.map_err(Failed::Peer)? {
        let what = format!("the serving instance does not know {}, the newest blockhash of the new one", short(&own));
        patience.or(Failed::Late { what }).await?;
    }
    Ok(())
}

/// The history that clients can ask for does not shrink.
async fn ledger(node: &Client, peer: &Client) -> Result<(), Failed> {
    let shrunk = |method: &str, own: u64, theirs: u64| Failed::Contradiction {
        what: format!("{method} is {own}, but the serving instance has history from {theirs} on"),
    };
    // The node first: the peer may prune in between, which only makes its first slot later.
    let own = node.first_available_block().await?;
    let theirs = peer.first_available_block().await.map_err(Failed::Peer)?;
    if own > theirs {
        return Err(shrunk("getFirstAvailableBlock", own, theirs));
    }
    let own = node.minimum_ledger_slot().await?;
    let theirs = peer.minimum_ledger_slot().await.map_err(Failed::Peer)?;
    if own > theirs { Err(shrunk("minimumLedgerSlot", own, theirs)) } else { Ok(()) }
}

/// A known account reads the same, and a transaction can be simulated with the same outcome.
async fn reads(node: &Client, peer: Option<&Client>) -> Result<(), Failed> {
    let known = node.account(KNOWN_PROGRAM, "processed").await?;
    let payer = node.identity().await?;
    let wire = empty_transfer(&payer);
    let outcome = node.simulate_transaction(&wire).await?;
    let Some(peer) = peer else {
        return match known {
            Some(account) if account.executable => Ok(()),
            _ => Err(Failed::Contradiction { what: format!("getAccountInfo knows no program {KNOWN_PROGRAM}") }),
        };
    };
    let theirs = peer.account(KNOWN_PROGRAM, "processed").await.map_err(Failed::Peer)?;
    if known != theirs {
        let told = |account: &Option<crate::Account>| match account {
            Some(account) => format!("{} bytes", account.data.len()),
            None => "no account".to_owned(),
        };
        let (new, peer) = (told(&known), told(&theirs));
        return Err(if new == peer {
            Failed::Contradiction { what: format!("getAccountInfo differs for {KNOWN_PROGRAM} in its content") }
        } else {
            Failed::Differs { method: "getAccountInfo", new, peer }
        });
    }
    let theirs = peer.simulate_transaction(&wire).await.map_err(Failed::Peer)?;
    let (own, theirs) = (&outcome["err"], &theirs["err"]);
    if own == theirs {
        Ok(())
    } else {
        Err(Failed::Differs {
            method: "simulateTransaction",
            new: json!(own).to_string(),
            peer: json!(theirs).to_string(),
        })
    }
}

/// A transfer of nothing from `payer` to itself, not signed: a transaction that every cluster can simulate.
fn empty_transfer(payer: &str) -> Vec<u8> {
    const SYSTEM_PROGRAM: [u8; 32] = [0; 32];
    const ANY_BLOCKHASH: [u8; 32] = [0; 32];
    const TRANSFER_OF_NOTHING: [u8; 12] = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let payer = bs58::decode(payer).into_vec().unwrap_or_default();
    let mut wire = vec![1];
    wire.extend([0; 64]);
    // One signer, no read-only signer, one read-only account; two accounts.
    wire.extend([1, 0, 1, 2]);
    wire.extend(&payer);
    wire.extend(SYSTEM_PROGRAM);
    wire.extend(ANY_BLOCKHASH);
    // One instruction: program 1, accounts 0 and 0.
    wire.extend([1, 1, 2, 0, 0, TRANSFER_OF_NOTHING.len() as u8]);
    wire.extend(TRANSFER_OF_NOTHING);
    wire
}
