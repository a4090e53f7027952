//! The load generator: readers over HTTP/1.1 and HTTP/2, writers, and WebSocket subscribers, in a process of its own.
//!
//! It is steered by lines on stdin (`begin NAME`, `end NAME`, `count`, `stop`) and answers with JSON lines on stdout. A request
//! counts as failed when its answer is not a JSON-RPC result with HTTP status 200. A patient load sends a request again until it
//! is answered; an impatient one takes the first outcome.

mod client;
pub(crate) mod driver;
mod reads;
pub(crate) mod record;
mod sockets;
mod writes;

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::json;
use solana_hash::Hash;
use solana_signer::Signer;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{error::Error, rpc::Rpc, wallet::Wallet};
use client::{Client, Http2};
use record::Recorder;

/// What load to put where.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// JSON-RPC address
    #[arg(long)]
    pub(crate) rpc: String,
    /// WebSocket address
    #[arg(long)]
    pub(crate) ws: String,
    /// Readers over HTTP/1.1, each with a connection of its own
    #[arg(long, default_value_t = 4)]
    pub(crate) http1: usize,
    /// Readers over HTTP/2, sharing connections
    #[arg(long, default_value_t = 8)]
    pub(crate) http2: usize,
    /// Writers: one half over HTTP/1.1, the other over HTTP/2
    #[arg(long, default_value_t = 4)]
    pub(crate) writers: usize,
    /// WebSockets that subscribe to slots, an account and logs
    #[arg(long, default_value_t = 4)]
    pub(crate) sockets: usize,
    /// WebSockets that send a transfer and wait for its signature's notification, again and again
    #[arg(long, default_value_t = 2)]
    pub(crate) confirmers: usize,
    /// Reads a second, all readers together; 0 means as fast as they are answered
    #[arg(long, default_value_t = 1200)]
    pub(crate) reads_per_second: u64,
    /// Transfers a second, all writers together; 0 means as fast as they are answered
    #[arg(long, default_value_t = 200)]
    pub(crate) writes_per_second: u64,
    /// Where each signature is written down when it is sent and when it is acknowledged
    #[arg(long)]
    pub(crate) journal: PathBuf,
    /// Send again what was not answered
    #[arg(long)]
    pub(crate) patient: bool,
    /// Threads of the load generator
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
}

/// Readers that share one HTTP/2 connection.
const STREAMS_A_CONNECTION: usize = 4;
/// Given to each payer at the start.
const PAYER_LAMPORTS: u64 = 100_000_000_000;
/// Given to each recipient at the start, so that it may keep what it gets.
const RECIPIENT_LAMPORTS: u64 = 1_000_000_000;
/// Between two looks at the latest blockhash; one is good for 150 slots.
const BLOCKHASH_EVERY: Duration = Duration::from_secs(2);
/// For the tasks to end after `stop`.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Lines of stdin that wait to be followed.
const STEERING_LINES: usize = 16;

/// What all tasks share.
pub(crate) struct Shared {
    pub(crate) args: Args,
    pub(crate) recorder: Recorder,
    pub(crate) blockhash: watch::Receiver<Hash>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Shared {
    pub(crate) fn stopped(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Runs until `stop` or the end of stdin.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let mut rpc = Rpc::new(&args.rpc);
    let wallets = fund(&mut rpc, args.writers + args.confirmers).await?;
    let (stop, stopped) = watch::channel(false);
    let (fresh, blockhash) = watch::channel(rpc.blockhash().await?);
    let recorder = Recorder::new(&args.journal)?;
    let shared = Arc::new(Shared { args, recorder, blockhash, stop: stopped });
    let mut tasks = JoinSet::new();
    tasks.spawn(refresh(Arc::clone(&shared), fresh));
    spawn_all(&shared, wallets, &mut tasks).await?;
    say(&json!({"event": "ready"}));
    let mut lines = stdin_lines();
    while let Some(line) = lines.recv().await {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("begin", name) => shared.recorder.begin(name),
            ("end", name) => shared.recorder.end(name),
            ("stop", _) => break,
            _ => {}
        }
        let (requests, failed) = shared.recorder.count();
        say(&json!({"event": "count", "requests": requests, "failed": failed}));
    }
    // The receivers live as long as the tasks; a send that reaches nobody is fine.
    let _ = stop.send(true);
    let ended = tokio::time::timeout(STOP_TIMEOUT, async { while tasks.join_next().await.is_some() {} }).await;
    let report = shared.recorder.report(ended.is_ok())?;
    say(&json!({"event": "report", "report": report}));
    Ok(())
}

/// The lines of stdin, read by a thread of their own; it ends with this process.
fn stdin_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(STEERING_LINES);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Lamports that all accounts of a load were given together.
pub(crate) fn given(args: &Args) -> u64 {
    (args.writers + args.confirmers) as u64 * (PAYER_LAMPORTS + RECIPIENT_LAMPORTS)
}

fn say(line: &serde_json::Value) {
    println!("{line}");
}

async fn fund(rpc: &mut Rpc, count: usize) -> Result<Vec<Wallet>, Error> {
    let mut wallets = Vec::with_capacity(count);
    for _ in 0..count {
        let wallet = Wallet::new();
        rpc.airdrop(&wallet.payer.pubkey(), PAYER_LAMPORTS).await?;
        rpc.airdrop(&wallet.recipient, RECIPIENT_LAMPORTS).await?;
        wallets.push(wallet);
    }
    Ok(wallets)
}

async fn spawn_all(shared: &Arc<Shared>, wallets: Vec<Wallet>, tasks: &mut JoinSet<()>) -> Result<(), Error> {
    let args = &shared.args;
    let accounts: Vec<_> = wallets.iter().map(|wallet| (wallet.payer.pubkey(), wallet.recipient)).collect();
    for (payer, recipient) in &accounts {
        shared.recorder.account(payer);
        shared.recorder.account(recipient);
    }
    let watched = |index: usize| accounts[index % accounts.len().max(1)];
    for index in 0..args.sockets.min(if accounts.is_empty() { 0 } else { usize::MAX }) {
        let (payer, recipient) = watched(index);
        let socket = sockets::Watcher::open(shared, payer, recipient).await?;
        tasks.spawn(socket.run(Arc::clone(shared)));
    }
    let mut wallets = wallets.into_iter();
    for wallet in wallets.by_ref().take(args.confirmers) {
        let confirmer = sockets::Confirmer::open(shared, wallet).await?;
        tasks.spawn(confirmer.run(Arc::clone(shared)));
    }
    let http2: Vec<Arc<Http2>> =
        (0..args.http2.div_ceil(STREAMS_A_CONNECTION).max(1)).map(|_| Http2::new(&args.rpc)).collect();
    let client = |index: usize, over_http2: bool| {
        if over_http2 { Client::http2(&http2[index % http2.len()]) } else { Client::http1(&args.rpc) }
    };
    let known: Arc<[String]> = accounts.iter().map(|(payer, _)| payer.to_string()).collect();
    let readers = args.http1 + args.http2;
    for index in 0..readers {
        let over_http2 = index >= args.http1;
        let pace = pace(args.reads_per_second, readers, index);
        tasks.spawn(reads::run(Arc::clone(shared), client(index, over_http2), pace, Arc::clone(&known), index));
    }
    for (index, wallet) in wallets.enumerate() {
        let pace = pace(args.writes_per_second, args.writers, index);
        tasks.spawn(writes::run(Arc::clone(shared), client(index, index % 2 == 1), pace, wallet));
    }
    Ok(())
}

/// A share of a rate, begun at its place in the round so that the tasks do not all send at once.
fn pace(per_second: u64, tasks: usize, index: usize) -> Option<tokio::time::Interval> {
    let period = Duration::from_secs(1).checked_mul(tasks as u32)?.checked_div(per_second as u32)?;
    let start = tokio::time::Instant::now() + period.mul_f64(index as f64 / tasks.max(1) as f64);
    let mut interval = tokio::time::interval_at(start, period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    Some(interval)
}

/// Waits for the next turn; true if there is none because the load ends.
pub(crate) async fn turn(pace: &mut Option<tokio::time::Interval>, shared: &Shared) -> bool {
    if let Some(interval) = pace {
        interval.tick().await;
    }
    shared.stopped()
}

async fn refresh(shared: Arc<Shared>, fresh: watch::Sender<Hash>) {
    let mut stop = shared.stop.clone();
    let mut rpc = Rpc::new(&shared.args.rpc);
    loop {
        tokio::select! {
            _ = tokio::time::sleep(BLOCKHASH_EVERY) => {}
            _ = stop.changed() => return,
        }
        match rpc.blockhash().await {
            // Nobody listening means the load has ended.
            Ok(hash) => drop(fresh.send(hash)),
            // A patient load looks again at the next turn.
            Err(_) if shared.args.patient => rpc = Rpc::new(&shared.args.rpc),
            Err(error) => shared.recorder.failure(format!("getLatestBlockhash: {error}")),
        }
    }
}
