//! The node alone, without gateway: start to ready, transfers a second, and how reads and memory grow with accounts.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use solana_system_interface::instruction::create_account_with_seed;

use crate::{
    error::{Checks, Error},
    load::{self, driver::Load},
    process, product,
    rpc::Rpc,
    stats::{Spread, median, ms},
    wallet,
};

use super::write;

/// How much.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Accounts in the end; figures are taken at this number and at each tenth of the next one down to 10,000
    #[arg(long, default_value_t = 1_000_000)]
    accounts: u64,
    /// Transfers that are timed, at the first and at the last number of accounts
    #[arg(long, default_value_t = 200_000)]
    transfers: u64,
}

/// Starts of an empty node whose median counts.
const STARTS: usize = 9;
/// Aim of a start, as a median.
const START_LIMIT_MS: f64 = 300.0;
/// For a node to answer, with a million accounts to read.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Between two tries to reach a node that starts, so small that it does not show in the figure.
const READY_PROBE: Duration = Duration::from_millis(1);
/// Connections that create accounts.
const CREATORS: u64 = 8;
/// Accounts that fit into one transaction.
const ACCOUNTS_A_TRANSACTION: u64 = 7;
/// Data of an account.
const SPACE: u64 = 64;
/// Data of the few accounts that getProgramAccounts is to find among all.
const RARE_SPACE: u64 = 100;
const RARE: u64 = 10;
/// Rent for more than [`RARE_SPACE`].
const RENT: u64 = 2_000_000;
/// Owner of the accounts: a name that no program has.
const OWNER: Address = Address::new_from_array([7; 32]);
const READS: usize = 2000;
const SCANS: usize = 20;
/// A scan of ten times the accounts may take this many times as long: linear, and as much again for a machine that is busy.
const LINEAR: f64 = 20.0;
/// Fewer accounts than this fit into the processor's caches; the step out of them is not the node's.
const CACHED: u64 = 100_000;
/// Writers whose transfers are timed.
const WRITERS: usize = 64;
/// Below this, a figure of growth is noise.
const SMALLEST: u64 = 10_000;

/// A node of its own.
struct Node {
    child: Child,
    url: String,
    ws: String,
    ready: Duration,
}

/// Figures at one number of accounts.
#[derive(Clone, Debug, Serialize)]
struct Row {
    accounts: u64,
    get_account_info: Spread,
    get_program_accounts: Spread,
    memory_bytes: u64,
    transfers_per_second: Option<f64>,
}

#[derive(Serialize)]
struct Written {
    start_ms_median: f64,
    start_ms_all: Vec<f64>,
    restart_ms: f64,
    restart_accounts: u64,
    rows: Vec<Row>,
}

/// Runs the whole bench.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let dir = tempfile::Builder::new()
        .prefix("osvm-localnet-")
        .tempdir()
        .map_err(|source| Error::io("make a folder", source))?;
    let mut starts = Vec::new();
    for number in 0..STARTS {
        let mut node = Node::start(&dir.path().join(format!("start-{number}"))).await?;
        starts.push(node.ready.as_secs_f64() * 1e3);
        node.stop()?;
    }
    let start = median(&mut starts.clone());
    println!("start to ready, empty: {start:.0} ms, the median of {STARTS}");
    let ledger = dir.path().join("grown");
    let mut node = Node::start(&ledger).await?;
    let mut rows = Vec::new();
    let mut made = 0;
    for accounts in steps(args.accounts) {
        let begin = Instant::now();
        create(&node, made, accounts).await?;
        println!("{accounts} accounts, made in {:.1} s", begin.elapsed().as_secs_f64());
        made = accounts;
        let time_transfers = rows.is_empty() || accounts == args.accounts;
        rows.push(row(&node, accounts, if time_transfers { args.transfers } else { 0 }, dir.path()).await?);
    }
    node.stop()?;
    let mut node = Node::start(&ledger).await?;
    let restart = node.ready.as_secs_f64() * 1e3;
    println!("start to ready with {made} accounts: {restart:.0} ms");
    node.stop()?;
    print(&rows);
    let mut checks = Checks::default();
    checks.that(
        start < START_LIMIT_MS,
        format!("an empty node is ready {start:.0} ms after its start (aim {START_LIMIT_MS} ms)"),
    );
    for pair in rows.windows(2) {
        let growth = pair[1].get_program_accounts.p50_us as f64 / pair[0].get_program_accounts.p50_us.max(1) as f64;
        let accounts = pair[1].accounts as f64 / pair[0].accounts as f64;
        checks.that(
            growth <= LINEAR * accounts / 10.0 || pair[0].accounts < CACHED,
            format!("getProgramAccounts takes {growth:.1} times as long at {accounts:.0} times the accounts"),
        );
    }
    write(
        "localnet.json",
        &Written { start_ms_median: start, start_ms_all: starts, restart_ms: restart, restart_accounts: made, rows },
    )?;
    checks.result()
}

/// 10,000, 100,000, 1,000,000 for a million.
fn steps(accounts: u64) -> Vec<u64> {
    let mut steps = vec![accounts];
    while let Some(&first) = steps.first()
        && first / 10 >= SMALLEST
    {
        steps.insert(0, first / 10);
    }
    steps
}

impl Node {
    async fn start(ledger: &Path) -> Result<Self, Error> {
        let port = product::free_port_pair()?;
        let begin = Instant::now();
        let child = Command::new(product::bin()?.join("osvm-localnet"))
            .args(["--rpc-port", &port.to_string(), "--ledger"])
            .arg(ledger)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| Error::io("start osvm-localnet", source))?;
        let mut node = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
            ws: format!("ws://127.0.0.1:{}", port + 1),
            ready: Duration::ZERO,
        };
        let mut rpc = Rpc::new(&node.url);
        while rpc.call("getHealth", json!([])).await.is_err() {
            if let Ok(Some(status)) = node.child.try_wait() {
                return Err(Error::Program(format!("osvm-localnet ended with {status}")));
            }
            if begin.elapsed() > READY_LIMIT {
                return Err(Error::Program(format!("osvm-localnet was not ready after {} s", READY_LIMIT.as_secs())));
            }
            tokio::time::sleep(READY_PROBE).await;
        }
        node.ready = begin.elapsed();
        Ok(node)
    }

    fn stop(&mut self) -> Result<(), Error> {
        process::terminate(self.child.id());
        let status = self.child.wait().map_err(|source| Error::io("wait for osvm-localnet", source))?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::Program(format!("osvm-localnet ended with {status} at SIGTERM")))
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Ended already where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the accounts with numbers `from..to`, over several connections.
async fn create(node: &Node, from: u64, to: u64) -> Result<(), Error> {
    let mut tasks = tokio::task::JoinSet::new();
    for creator in 0..CREATORS {
        let url = node.url.clone();
        let share = (to - from) / CREATORS;
        let begin = from + creator * share;
        let end = if creator == CREATORS - 1 { to } else { begin + share };
        tasks.spawn(async move { create_some(&url, begin, end).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| Error::Program(error.to_string()))??;
    }
    Ok(())
}

async fn create_some(url: &str, begin: u64, end: u64) -> Result<(), Error> {
    /// Transactions between two looks at the blockhash.
    const REFRESH: u64 = 2000;
    let mut rpc = Rpc::new(url);
    let payer = Keypair::new();
    rpc.airdrop(&payer.pubkey(), (end - begin + 1) * (RENT + 5000)).await?;
    let mut blockhash = rpc.blockhash().await?;
    let mut next = begin;
    let mut sent = 0;
    while next < end {
        let last = end.min(next + ACCOUNTS_A_TRANSACTION);
        let instructions: Vec<_> = (next..last).map(|number| creation(&payer, number)).collect();
        rpc.send(&wallet::sign(&payer, &instructions, &blockhash).wire).await?;
        next = last;
        sent += 1;
        if sent % REFRESH == 0 {
            blockhash = rpc.blockhash().await?;
        }
    }
    Ok(())
}

/// The first accounts have another size than all others.
fn creation(payer: &Keypair, number: u64) -> solana_instruction::Instruction {
    let (base, seed) = (payer.pubkey(), number.to_string());
    let space = if number < RARE { RARE_SPACE } else { SPACE };
    create_account_with_seed(&base, &seeded(&base, &seed), &base, &seed, RENT, space, &OWNER)
}

/// An address made of another and a seed, as the system program wants it.
fn seeded(base: &Address, seed: &str) -> Address {
    let mut hash = Sha256::new();
    hash.update(base.as_ref());
    hash.update(seed.as_bytes());
    hash.update(OWNER.as_ref());
    Address::new_from_array(hash.finalize().into())
}

async fn row(node: &Node, accounts: u64, transfers: u64, dir: &Path) -> Result<Row, Error> {
    let mut rpc = Rpc::new(&node.url);
    let find = json!([OWNER.to_string(), {"encoding": "base64", "filters": [{"dataSize": RARE_SPACE}], "commitment": "processed"}]);
    let found = rpc.call("getProgramAccounts", find.clone()).await?;
    let rare: Vec<String> = found
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["pubkey"].as_str())
        .map(str::to_owned)
        .collect();
    if rare.len() as u64 != RARE {
        return Err(Error::Program(format!("getProgramAccounts found {} of {RARE} accounts", rare.len())));
    }
    let reads =
        timed(&mut rpc, "getAccountInfo", READS, |index| json!([rare[index % rare.len()], {"encoding": "base64"}]))
            .await?;
    let scans = timed(&mut rpc, "getProgramAccounts", SCANS, |_| find.clone()).await?;
    let memory = process::memory(node.child.id());
    let transfers_per_second =
        if transfers > 0 { Some(transfer(node, transfers, dir.join("journal")).await?) } else { None };
    Ok(Row {
        accounts,
        get_account_info: reads,
        get_program_accounts: scans,
        memory_bytes: memory,
        transfers_per_second,
    })
}

async fn timed(rpc: &mut Rpc, method: &str, times: usize, params: impl Fn(usize) -> Value) -> Result<Spread, Error> {
    let mut took = Vec::with_capacity(times);
    for index in 0..times {
        let params = params(index);
        let begin = Instant::now();
        rpc.call(method, params).await?;
        took.push(begin.elapsed().as_micros() as u64);
    }
    Ok(Spread::of(&mut took))
}

/// Transfers a second of the load generator at full speed: each is signed, sent over HTTP, executed, logged and answered.
async fn transfer(node: &Node, transfers: u64, journal: PathBuf) -> Result<f64, Error> {
    let args = load::Args {
        rpc: node.url.clone(),
        ws: node.ws.clone(),
        http1: 0,
        http2: 0,
        writers: WRITERS,
        sockets: 0,
        confirmers: 0,
        reads_per_second: 0,
        writes_per_second: 0,
        journal,
        patient: false,
        threads: 1,
    };
    let mut load = Load::start(&args).await?;
    let (before, _) = load.count().await?;
    let begin = Instant::now();
    let (mut now, mut failed) = (before, 0);
    while now - before < transfers && failed == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        (now, failed) = load.count().await?;
    }
    let rate = (now - before) as f64 / begin.elapsed().as_secs_f64();
    let report = load.stop().await?;
    if report.failed > 0 {
        return Err(Error::Program(format!(
            "{} transfers failed: {}",
            report.failed,
            report.failures.first().cloned().unwrap_or_default()
        )));
    }
    Ok(rate)
}

fn print(rows: &[Row]) {
    println!(
        "\n{:>10} {:>16} {:>16} {:>16} {:>16} {:>10} {:>12}",
        "accounts", "accountInfo p50", "p99", "programAcc. p50", "p99", "memory", "transfers/s"
    );
    for row in rows {
        println!(
            "{:>10} {:>16} {:>16} {:>16} {:>16} {:>6} MiB {:>12}",
            row.accounts,
            ms(row.get_account_info.p50_us),
            ms(row.get_account_info.p99_us),
            ms(row.get_program_accounts.p50_us),
            ms(row.get_program_accounts.p99_us),
            row.memory_bytes >> 20,
            row.transfers_per_second.map_or("-".to_owned(), |rate| format!("{rate:.0}"))
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_taken_at_each_power_of_ten() {
        assert_eq!(steps(1_000_000), [10_000, 100_000, 1_000_000]);
        assert_eq!(steps(10_000), [10_000]);
        assert_eq!(steps(500), [500]);
    }
}
