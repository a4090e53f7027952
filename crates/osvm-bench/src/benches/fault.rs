//! kill -9 at random points under load: the daemon, the gateway, the node, also in the middle of swaps.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    error::{Checks, Error},
    load::{self, driver::Load, record::Report},
    process,
    product::{self, Product, SERVICE},
    rpc::Rpc,
    stats::{Spread, ms, unix_ms},
    verify,
};

use super::{check_ledger, print_load, write};

/// How long, and with which dice.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node\'s isolation
    #[arg(long, default_value = "auto")]
    isolation: String,
    /// How long the killing goes on
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The same seed kills the same things after the same pauses
    #[arg(long)]
    seed: Option<u64>,
}

/// For the product to be whole again after the last kill.
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks.
const PROBE: Duration = Duration::from_millis(50);
/// Between two kills.
const PAUSE_MS: std::ops::Range<u64> = 300..3000;
/// A swap is begun before one kill in so many.
const SWAP_ONE_IN: u64 = 3;

#[derive(Serialize)]
struct Written<'a> {
    seed: u64,
    kills: &'a [(String, u64)],
    swaps: usize,
    longest_request: Spread,
    load: &'a Report,
}

/// Runs the whole test.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let seed = args.seed.unwrap_or_else(|| unix_ms() | 1);
    println!("seed {seed} (again: cargo xtask bench fault --seconds {} --seed {seed})", args.seconds);
    let mut dice = Dice(seed);
    let mut product = Product::start_foreground(&args.isolation)?;
    let load_args = load_args(&product);
    let mut load = Load::start(&load_args).await?;
    let begin = Instant::now();
    let mut kills = Vec::new();
    let mut swaps = Vec::new();
    while begin.elapsed() < Duration::from_secs(args.seconds) {
        tokio::time::sleep(Duration::from_millis(dice.within(PAUSE_MS))).await;
        if dice.within(0..SWAP_ONE_IN) == 0 {
            swaps.push(begin_swap(&product)?);
            tokio::time::sleep(Duration::from_millis(dice.within(0..1500))).await;
        }
        let Ok(processes) = product.processes().await else {
            // The daemon is on its way back: it is nobody's turn.
            continue;
        };
        let (name, pid) = &processes[dice.within(0..processes.len() as u64) as usize];
        load.begin(&format!("kill {name}")).await?;
        println!("{:>6.1} s  kill -9 {name} ({pid})", begin.elapsed().as_secs_f64());
        process::kill(*pid);
        kills.push((name.clone(), begin.elapsed().as_millis() as u64));
    }
    let whole = wait_whole(&product).await;
    for mut swap in std::mem::take(&mut swaps) {
        // A swap whose daemon was killed ends with an error; it has to end.
        swap.wait().await.map_err(|source| Error::io("wait for osvm swap", source))?;
    }
    let report = load.stop().await?;
    let mut rpc = Rpc::new(&product.ready.rpc_url);
    let ledger = verify::ledger(&mut rpc, &load_args.journal).await?;
    let found = verify::lamports(&mut rpc, &report.accounts).await?;
    print_load(&report);
    let longest = Spread::of(&mut report.kinds.values().map(|spread| spread.max_us).collect::<Vec<_>>());
    println!(
        "{} kills, {} tries of {} requests were repeated, the slowest request took {}",
        kills.len(),
        report.retries,
        report.requests,
        ms(longest.max_us)
    );
    let mut checks = Checks::default();
    checks.that(whole, "daemon, gateway and node are there again after the last kill");
    checks.that(!kills.is_empty(), format!("{} processes were killed", kills.len()));
    checks.that(
        report.failed == 0,
        format!("{} of {} requests were never answered well", report.failed, report.requests),
    );
    check_ledger(&mut checks, &ledger, load::given(&load_args), found);
    write("fault.json", &Written { seed, kills: &kills, swaps: swaps.len(), longest_request: longest, load: &report })?;
    let down = product.down().await;
    checks.that(
        down.is_ok(),
        format!("osvm down ends every process{}", down.err().map_or(String::new(), |error| format!(": {error}"))),
    );
    checks.result()
}

fn load_args(product: &Product) -> load::Args {
    load::Args {
        rpc: product.ready.rpc_url.clone(),
        ws: product.ready.ws_url.clone(),
        http1: 2,
        http2: 4,
        writers: 4,
        sockets: 2,
        confirmers: 0,
        reads_per_second: 300,
        writes_per_second: 200,
        journal: product.state_dir().join("journal"),
        patient: true,
        threads: 1,
    }
}

fn begin_swap(product: &Product) -> Result<tokio::process::Child, Error> {
    let osvm: PathBuf = product::bin()?.join("osvm");
    let mut command = tokio::process::Command::new(osvm);
    command.args(["swap", SERVICE, "--watch", "1s", "--output", "json", "--state-dir"]).arg(product.state_dir());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).kill_on_drop(true);
    println!("          osvm swap {SERVICE}");
    command.spawn().map_err(|source| Error::io("run osvm swap", source))
}

/// Whether daemon, gateway and a node that answers are there within the limit.
async fn wait_whole(product: &Product) -> bool {
    let whole = async {
        loop {
            if let Ok(processes) = product.processes().await
                && processes.len() >= 3
                && Rpc::new(&product.ready.rpc_url).call("getHealth", serde_json::json!([])).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(PROBE).await;
        }
    };
    tokio::time::timeout(RECOVERY_LIMIT, whole).await.is_ok()
}

/// splitmix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start + (bits ^ (bits >> 31)) % (range.end - range.start).max(1)
    }
}
