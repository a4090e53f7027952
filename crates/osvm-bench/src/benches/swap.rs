//! Swaps under load: sound ones, a rollback, and five broken artifacts.

use std::{fs, path::PathBuf, time::Duration};

use osvm_model::{RolloutOutcome, RolloutStatus};
use serde::Serialize;

use crate::{
    broken::{self, Kind, Note},
    error::{Checks, Error},
    load::{self, driver::Load, record::Report},
    plot, process,
    product::{Product, Swapped},
    rpc::Rpc,
    stats::{Spread, ms},
    verify,
};

use super::{check_ledger, print_load, write};

/// How long and how hard.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Sound swaps
    #[arg(long, default_value_t = 20)]
    swaps: usize,
    /// Requests at least
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// The node's isolation
    #[arg(long, default_value = "auto")]
    isolation: String,
    /// Leave the broken artifacts out
    #[arg(long)]
    sound_only: bool,
    /// Reads a second
    #[arg(long, default_value_t = 1200)]
    reads_per_second: u64,
    /// Transfers a second
    #[arg(long, default_value_t = 200)]
    writes_per_second: u64,
    /// Where the picture goes; a run of 20 swaps draws docs/swap.svg
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// Load before the first swap, so that what follows is compared with a warm product.
const WARM_UP: Duration = Duration::from_secs(4);
/// After the last swap, before memory is read again.
const SETTLE: Duration = Duration::from_secs(4);
/// The swaps' watch window: shorter than the default, so that twenty fit into minutes.
const WATCH: &str = "2s";
/// What a broken artifact has to become healthy.
const HEALTH_TIMEOUT: &str = "5s";
/// How long the node that crashes leads before it does.
const LEADS_FOR_MS: u64 = 400;
/// The longest silence that a client may see, at the 99th percentile of the swaps.
const PAUSE_LIMIT_US: u64 = 100_000;
/// What memory may differ by, beside [`INDEX_BYTES`].
const MEMORY_GROWTH: f64 = 1.1;
/// What the node may keep in memory of each transaction: the index of its history.
const INDEX_BYTES: u64 = 512;

/// A swap and what came of it.
#[derive(Serialize)]
struct Row {
    name: String,
    exit: i32,
    rollout: Option<RolloutStatus>,
}

/// The JSON report.
#[derive(Serialize)]
struct Written<'a> {
    swaps: &'a [Row],
    pause: Spread,
    longest_request: Spread,
    longest_gateway_wait: Spread,
    memory_before: Vec<(String, u64)>,
    memory_after: Vec<(String, u64)>,
    acknowledged_by_the_crashed: Option<usize>,
    load: &'a Report,
}

/// Runs the whole bench.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let mut product = Product::start(&args.isolation)?;
    println!(
        "rpc {}, ready in {} ms, state {}",
        product.ready.rpc_url,
        product.ready.ready_ms,
        product.state_dir().display()
    );
    let mut rpc = Rpc::new(&product.ready.rpc_url);
    let genesis = rpc.call("getGenesisHash", serde_json::json!([])).await?.as_str().unwrap_or_default().to_owned();
    let load_args = load_args(&args, &product);
    let mut load = Load::start(&load_args).await?;
    tokio::time::sleep(WARM_UP).await;
    let memory_before = memory(&product).await?;
    let mut checks = Checks::default();
    let mut rows = Vec::new();
    for number in 1..=args.swaps {
        rows.push(swap(&product, &mut load, &format!("swap {number}"), Some(&["--watch", WATCH]), &mut checks).await?);
    }
    while load.count().await?.0 < args.requests {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tokio::time::sleep(SETTLE).await;
    let memory_after = memory(&product).await?;
    rows.push(swap(&product, &mut load, "rollback", None, &mut checks).await?);
    if !args.sound_only {
        for kind in Kind::ALL {
            let note = Note { kind, node: product.node(), leads_for_ms: LEADS_FOR_MS, genesis: genesis.clone() };
            rows.push(swap_broken(&product, &mut load, &note, &mut checks).await?);
        }
    }
    let report = load.stop().await?;
    let ledger = verify::ledger(&mut rpc, &load_args.journal).await?;
    let given = load::given(&load_args);
    let found = verify::lamports(&mut rpc, &report.accounts).await?;
    print_load(&report);
    let sums = Sums::of(&report, &rows, args.swaps);
    sums.print();
    checks
        .that(report.failed == 0 && report.ended, format!("{} of {} requests failed", report.failed, report.requests));
    checks
        .that(report.requests >= args.requests, format!("{} requests of at least {}", report.requests, args.requests));
    check_ledger(&mut checks, &ledger, given, found);
    check_sockets(&mut checks, &mut rpc, &report).await?;
    sums.check(&mut checks);
    check_memory(&mut checks, &memory_before, &memory_after, ledger.landed);
    let crashed = acknowledged_by_the_crashed(&product, &ledger);
    if !args.sound_only {
        checks.that(
            crashed.is_some_and(|count| count > 0),
            format!(
                "{} transactions were acknowledged by the node that then crashed, and are counted above",
                crashed.unwrap_or(0)
            ),
        );
    }
    draw(&args, &report)?;
    write(
        "swap.json",
        &Written {
            swaps: &rows,
            pause: sums.pause.clone(),
            longest_request: sums.request.clone(),
            longest_gateway_wait: sums.gateway.clone(),
            memory_before,
            memory_after,
            acknowledged_by_the_crashed: crashed,
            load: &report,
        },
    )?;
    let down = product.down().await;
    checks.that(
        down.is_ok(),
        format!("osvm down ends every process{}", down.err().map_or(String::new(), |error| format!(": {error}"))),
    );
    checks.result()
}

fn load_args(args: &Args, product: &Product) -> load::Args {
    load::Args {
        rpc: product.ready.rpc_url.clone(),
        ws: product.ready.ws_url.clone(),
        http1: 4,
        http2: 8,
        writers: 4,
        sockets: 4,
        confirmers: 2,
        reads_per_second: args.reads_per_second,
        writes_per_second: args.writes_per_second,
        journal: product.state_dir().join("journal"),
        patient: false,
        threads: 1,
    }
}

/// One sound swap, or with no flags a rollback.
async fn swap(
    product: &Product,
    load: &mut Load,
    name: &str,
    flags: Option<&[&str]>,
    checks: &mut Checks,
) -> Result<Row, Error> {
    load.begin(name).await?;
    let swapped = match flags {
        Some(flags) => product.swap(flags)?,
        None => product.rollback()?,
    };
    load.end(name).await?;
    let done = swapped.status.as_ref().is_some_and(|status| status.outcome == RolloutOutcome::Done);
    if !(done && swapped.exit == 0) {
        checks.that(false, format!("{name} is done (exit {}, {})", swapped.exit, why(&swapped)));
    }
    Ok(Row { name: name.to_owned(), exit: swapped.exit, rollout: swapped.status })
}

async fn swap_broken(product: &Product, load: &mut Load, note: &Note, checks: &mut Checks) -> Result<Row, Error> {
    let artifact = product.state_dir().join(format!("broken-{}", note.kind.name().replace(' ', "-")));
    broken::make(&artifact, note)?;
    let before = serving(product)?;
    let name = format!("broken: {}", note.kind.name());
    load.begin(&name).await?;
    let flags = ["--artifact".as_ref(), artifact.as_os_str(), "--health-timeout".as_ref(), HEALTH_TIMEOUT.as_ref()];
    let swapped = product.swap(&flags)?;
    let (_, failed) = load.end(&name).await?;
    let after = serving(product)?;
    let expected =
        if note.kind == Kind::CrashesAfterTheShift { RolloutOutcome::RolledBack } else { RolloutOutcome::Kept };
    let outcome = swapped.status.as_ref().map(|status| status.outcome);
    checks.that(
        outcome == Some(expected) && swapped.exit == 1 && before == after,
        format!(
            "{name}: {outcome:?}, exit {}, {}; {before:?} served before and {after:?} after",
            swapped.exit,
            why(&swapped)
        ),
    );
    checks.that(failed == 0, format!("{name}: {failed} requests failed up to its end"));
    Ok(Row { name, exit: swapped.exit, rollout: swapped.status })
}

/// The generations that are alive and ready.
fn serving(product: &Product) -> Result<Vec<String>, Error> {
    let instances = product.instances()?.instances;
    Ok(instances
        .iter()
        .map(|instance| format!("generation {} revision {}", instance.generation, instance.revision))
        .collect())
}

fn why(swapped: &Swapped) -> String {
    let error = swapped.status.as_ref().and_then(|status| status.error.clone());
    error.unwrap_or_else(|| swapped.said.lines().last().unwrap_or("no reason given").to_owned())
}

/// What the sound swaps cost together.
struct Sums {
    pause: Spread,
    request: Spread,
    gateway: Spread,
    handed_over: Spread,
}

impl Sums {
    fn of(report: &Report, rows: &[Row], swaps: usize) -> Self {
        let windows: Vec<_> = report.windows.iter().take(swaps).collect();
        let rollouts: Vec<&RolloutStatus> = rows.iter().take(swaps).filter_map(|row| row.rollout.as_ref()).collect();
        let phase = |status: &&RolloutStatus| {
            let phase = status.phases.iter().find(|report| report.phase == osvm_model::Phase::HandOver);
            phase.map(|report| report.duration_us)
        };
        Self {
            pause: Spread::of(&mut windows.iter().map(|window| window.longest_gap_us).collect::<Vec<_>>()),
            request: Spread::of(&mut windows.iter().map(|window| window.longest_request_us).collect::<Vec<_>>()),
            gateway: Spread::of(&mut rollouts.iter().filter_map(|status| status.longest_wait_us).collect::<Vec<_>>()),
            handed_over: Spread::of(&mut rollouts.iter().filter_map(phase).collect::<Vec<_>>()),
        }
    }

    fn print(&self) {
        println!("{:<42} {:>9} {:>10} {:>10} {:>10}", "a swap", "swaps", "p50", "p99", "longest");
        for (name, spread) in [
            ("longest silence that clients saw", &self.pause),
            ("slowest request", &self.request),
            ("longest wait at the gateway", &self.gateway),
            ("hand-over", &self.handed_over),
        ] {
            println!(
                "{name:<42} {:>9} {:>10} {:>10} {:>10}",
                spread.count,
                ms(spread.p50_us),
                ms(spread.p99_us),
                ms(spread.max_us)
            );
        }
        println!();
    }

    fn check(&self, checks: &mut Checks) {
        for (name, spread) in [("longest silence", &self.pause), ("longest wait at the gateway", &self.gateway)] {
            checks.that(
                spread.count > 0 && spread.p99_us < PAUSE_LIMIT_US,
                format!(
                    "the {name} of a swap is {} at the 99th percentile (limit {})",
                    ms(spread.p99_us),
                    ms(PAUSE_LIMIT_US)
                ),
            );
        }
    }
}

async fn check_sockets(checks: &mut Checks, rpc: &mut Rpc, report: &Report) -> Result<(), Error> {
    let sockets = &report.sockets;
    checks.that(sockets.closed == 0, format!("{} of {} WebSockets were closed", sockets.closed, sockets.opened));
    checks.that(
        sockets.unconfirmed == 0 && sockets.confirmed > 0,
        format!("{} signatures were told to their WebSockets, {} were not", sockets.confirmed, sockets.unconfirmed),
    );
    checks.that(
        sockets.unknown_ids == 0 && sockets.slots_repeated == 0,
        format!(
            "{} notifications with an unknown id, {} slots told twice",
            sockets.unknown_ids, sockets.slots_repeated
        ),
    );
    let mut stale = 0;
    for (account, told) in &sockets.last_lamports {
        let params = serde_json::json!([account, {"commitment": "processed"}]);
        stale += u64::from(rpc.call("getBalance", params).await?["value"].as_u64() != Some(*told));
    }
    let count = sockets.last_lamports.len();
    checks.that(
        stale == 0 && count > 0,
        format!("{stale} of {count} watched accounts differ from their last notification"),
    );
    Ok(())
}

async fn memory(product: &Product) -> Result<Vec<(String, u64)>, Error> {
    Ok(product.processes().await?.into_iter().map(|(name, pid)| (name, process::memory_of_all(pid))).collect())
}

fn check_memory(checks: &mut Checks, before: &[(String, u64)], after: &[(String, u64)], transactions: u64) {
    let mib = |list: &[(String, u64)]| list.iter().map(|(_, bytes)| bytes).sum::<u64>() as f64 / f64::from(1 << 20);
    for (when, list) in [("before", before), ("after", after)] {
        let parts: Vec<String> = list.iter().map(|(name, bytes)| format!("{name} {} MiB", bytes >> 20)).collect();
        println!("memory {when}: {}", parts.join(", "));
    }
    let index = (transactions * INDEX_BYTES) as f64 / f64::from(1 << 20);
    checks.that(
        before.len() == after.len() && mib(after) <= mib(before) * MEMORY_GROWTH + index,
        format!(
            "{:.0} MiB in {} processes before the swaps, {:.0} MiB in {} after them and {transactions} transactions",
            mib(before),
            before.len(),
            mib(after),
            after.len()
        ),
    );
}

/// How many transactions were acknowledged between the crashing node's token and its death.
fn acknowledged_by_the_crashed(product: &Product, ledger: &verify::Ledger) -> Option<usize> {
    let logs = fs::read_dir(product.logs()).ok()?.flatten();
    let texts = logs.filter_map(|log| fs::read_to_string(log.path()).ok());
    let diary = texts.filter_map(|text| Some(text.split_once(broken::DIARY)?.1.lines().next()?.to_owned())).next()?;
    let (led, killed) = diary.split_once(' ')?;
    let (led, killed): (u64, u64) = (led.parse().ok()?, killed.trim().parse().ok()?);
    Some(ledger.acknowledged.iter().filter(|(_, at)| (led..killed).contains(at)).count())
}

fn draw(args: &Args, report: &Report) -> Result<(), Error> {
    let path = match &args.plot {
        Some(path) => path.clone(),
        None if args.swaps >= 20 => "docs/swap.svg".into(),
        None => crate::product::out()?.join("swap.svg"),
    };
    let swaps: Vec<_> = report.windows.iter().take(args.swaps).collect();
    let (Some(first), Some(last)) = (swaps.first(), swaps.last()) else { return Ok(()) };
    let (from, to) = (first.begin_us.saturating_sub(2_000_000), last.end_us + 2_000_000);
    // The windows of what came after are not in the picture.
    let only = Report { windows: swaps.iter().map(|&window| window.clone()).collect(), ..report.clone() };
    let requests: u64 = swaps.iter().map(|window| window.requests).sum();
    let failed: u64 = swaps.iter().map(|window| window.failed).sum();
    let slowest = swaps.iter().map(|window| window.longest_request_us).max().unwrap_or(0);
    let title = format!(
        "{} swaps under load: {requests} requests, {failed} failed, the slowest took {}",
        swaps.len(),
        ms(slowest)
    );
    fs::write(&path, plot::svg(&only, from, to, &title))
        .map_err(|source| Error::io(format!("write {}", path.display()), source))
}
