//! The node that is talked to, who pays there, and the care that the main network asks for.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use osvm_solana::{Client, url};
use solana_keypair::Keypair;
use solana_signer::Signer;
use tokio::time::{Instant, sleep};

use crate::{
    cli::ClusterArgs,
    failure::Failure,
    keys,
    output::{Printer, sol},
    sender::{COMMITMENT, Sender},
};

/// For an airdrop to arrive.
const AIRDROP_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at the balance.
const LOOK: Duration = Duration::from_millis(100);
/// The least that is asked of a local faucet, so that the next command need not ask again.
const LEAST_AIRDROP: u64 = 10_000_000_000;

/// A node and who pays.
pub(crate) struct Cluster {
    pub(crate) sender: Sender,
    /// As the user named it, for commands in hints.
    pub(crate) named: Option<String>,
    is_local: bool,
}

/// A client of the node that `named` says; the local one by default.
pub(crate) fn client(named: Option<&str>) -> Result<Client, Failure> {
    Ok(Client::from_url(named.unwrap_or("localhost"))?)
}

impl Cluster {
    pub(crate) fn new(printer: Printer, args: &ClusterArgs) -> Result<Self, Failure> {
        let named = args.url.clone();
        let is_local = url::is_local(url::expand(named.as_deref().unwrap_or("localhost")));
        let payer = payer(printer, args, is_local)?;
        let client = client(named.as_deref())?;
        Ok(Self { sender: Sender { client: Arc::new(client), payer: Arc::new(payer) }, named, is_local })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.sender.client
    }

    /// ` --url URL` as the user wrote it, for hints.
    pub(crate) fn url_flag(&self) -> String {
        self.named.as_ref().map_or_else(String::new, |url| format!(" --url {url}"))
    }

    /// The main network only if the user named it and means it. What it is is told by its genesis, not by its URL.
    pub(crate) async fn confirm(&self, what: &str, yes: bool) -> Result<(), Failure> {
        if self.client().genesis_hash().await? != url::MAINNET_GENESIS {
            return Ok(());
        }
        if self.named.is_none() {
            return Err(
                Failure::new("the local node is one of the main network").help("name it if you mean it: --url URL")
            );
        }
        if yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::new(format!("{what} the main network needs a confirmation, and this is no terminal"))
                .help("--yes, if you mean it"));
        }
        eprint!("{what} the main network, paid by {}. Type yes to go on: ", self.sender.payer.pubkey());
        let _ = io::stderr().flush();
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        read.map_err(|error| Failure::new("cannot read the answer").because(&error))?;
        if answer.trim() == "yes" { Ok(()) } else { Err(Failure::new("not confirmed; nothing was sent")) }
    }

    /// Makes sure that the payer has `needed` lamports; a local faucet helps out.
    pub(crate) async fn fund(&self, printer: Printer, needed: u64) -> Result<(), Failure> {
        let payer = self.sender.payer.pubkey().to_string();
        let has = self.client().balance(&payer, COMMITMENT).await?;
        if has >= needed {
            return Ok(());
        }
        if !self.is_local {
            return Err(Failure::new(format!("{payer} has {}, and this needs {}", sol(has), sol(needed)))
                .help("send it more, or pay with another key: --keypair FILE"));
        }
        let asked = (needed - has).max(LEAST_AIRDROP);
        self.client().request_airdrop(&payer, asked).await?;
        let deadline = Instant::now() + AIRDROP_TIMEOUT;
        while self.client().balance(&payer, COMMITMENT).await? < needed {
            if Instant::now() >= deadline {
                return Err(Failure::new(format!("the airdrop of {} to {payer} did not arrive", sol(asked))));
            }
            sleep(LOOK).await;
        }
        printer.labelled("airdrop", &format!("{} to {payer}", sol(asked)))
    }
}

fn payer(printer: Printer, args: &ClusterArgs, is_local: bool) -> Result<Keypair, Failure> {
    if let Some(path) = &args.keypair {
        return keys::read(path, "the payer's key");
    }
    let default = keys::default_path();
    if let Some(path) = default.as_ref().filter(|path| path.exists()) {
        return keys::read(path, "the payer's key");
    }
    if !is_local {
        let shown = default.map_or_else(|| "~/.config/solana/id.json".to_owned(), |path| path.display().to_string());
        return Err(
            Failure::new(format!("no key to pay with: {shown} does not exist")).help("name one: --keypair FILE")
        );
    }
    let path = keys::own_folder()?.join("payer.json");
    let (pair, new) = keys::read_or_make(&path, "the payer's key")?;
    if new {
        printer.labelled("payer", &format!("{}  new key in {}", pair.pubkey(), path.display()))?;
    }
    Ok(pair)
}
