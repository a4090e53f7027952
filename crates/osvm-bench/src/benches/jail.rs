//! The jail of level `process` beside bubblewrap: time to the first output, and what it costs work inside.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    error::{Checks, Error},
    product,
    stats::{Spread, median, ms},
};

use super::write;

/// How much.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Starts of each, in turn
    #[arg(long, default_value_t = 200)]
    runs: usize,
    /// Rounds of work inside and outside, in turn; the median counts
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

/// What a program does inside or outside.
#[derive(clap::Args)]
pub(crate) struct Work {
    #[arg(value_enum)]
    kind: Kind,
    /// Under a filter of one instruction, which allows every call
    #[arg(long)]
    filtered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// Arithmetic.
    Cpu,
    /// Pages of a file that is in memory, and messages through a pipe.
    Io,
    /// Asking for the own parent: the cheapest call there is.
    Null,
    /// Opening and closing a file.
    Opens,
}

/// The most that a start may take of bubblewrap's.
const START_RATIO: f64 = 1.2;
/// Starts with which a 99th percentile means something.
const RUNS_FOR_P99: usize = 200;
/// The most that arithmetic may take of what it takes outside.
const CPU_RATIO: f64 = 1.02;
/// The most that work of system calls may take.
const IO_RATIO: f64 = 1.15;
/// What one start of a program prints.
const WORD: &str = "x";
/// Starts before it counts.
const WARM_UP: usize = 5;
/// Steps of arithmetic in one piece of work.
const STEPS: u64 = 150_000_000;
/// Rounds of three calls in one piece of work.
const ROUNDS: u32 = 100_000;
/// Calls in one piece of work.
const CALLS: u32 = 500_000;
/// The filter's one instruction: `BPF_RET | BPF_K`, and what it returns.
const BPF_RETURN: u16 = 0x06;
const SECCOMP_ALLOW: u32 = 0x7fff_0000;
/// Files opened in one piece of work.
const OPENS: u32 = 60_000;

#[derive(Debug, Serialize)]
struct Report {
    bare: Spread,
    bubblewrap: Spread,
    osvm: Spread,
    p50_ratio: f64,
    p99_ratio: f64,
    work: Vec<Cost>,
}

#[derive(Debug, Serialize)]
struct Cost {
    kind: Kind,
    outside_ms: f64,
    /// Outside, under a filter of one instruction that allows every call: what any filter costs at least.
    filtered_ms: f64,
    inside_ms: f64,
    ratio: f64,
}

/// Runs both comparisons.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let osvm = product::bin()?.join("osvm-run");
    let osvm = osvm.to_str().ok_or_else(|| Error::Program("a path that is not UTF-8".to_owned()))?;
    let mut spreads = starts(osvm, args.runs)?.into_iter();
    let mut next = || spreads.next().unwrap_or_default();
    let (bare, bubblewrap, jailed) = (next(), next(), next());
    let ratio = |of: fn(&Spread) -> u64| of(&jailed) as f64 / of(&bubblewrap).max(1) as f64;
    let (p50_ratio, p99_ratio) = (ratio(|spread| spread.p50_us), ratio(|spread| spread.p99_us));
    println!("{:<34} {:>10} {:>10}", "start to first output", "p50", "p99");
    for (name, spread) in [("the program alone", &bare), ("bubblewrap", &bubblewrap), ("osvm run", &jailed)] {
        println!("{name:<34} {:>10} {:>10}", ms(spread.p50_us), ms(spread.p99_us));
    }
    println!("{:<34} {p50_ratio:>10.2} {p99_ratio:>10.2}\n", "osvm run of bubblewrap");
    let work = [Kind::Cpu, Kind::Io, Kind::Null, Kind::Opens].map(|kind| cost(osvm, kind, args.rounds));
    let work = work.into_iter().collect::<Result<Vec<_>, _>>()?;
    println!("{:<24} {:>10} {:>12} {:>10} {:>10}", "work", "outside", "any filter", "inside", "ratio");
    for cost in &work {
        let name = match cost.kind {
            Kind::Cpu => "arithmetic",
            Kind::Io => "reads and writes",
            Kind::Null => "getppid",
            Kind::Opens => "open and close",
        };
        let (outside, filtered, inside) = (cost.outside_ms, cost.filtered_ms, cost.inside_ms);
        println!("{name:<24} {outside:>7.1} ms {filtered:>9.1} ms {inside:>7.1} ms {:>10.3}", cost.ratio);
    }
    let mut checks = Checks::default();
    let within = |ratio: f64, most: f64, what: &str| (ratio <= most, format!("{what}: {ratio:.3}, at most {most}"));
    let mut check = |(holds, what): (bool, String)| checks.that(holds, what);
    check(within(p50_ratio, START_RATIO, "start of bubblewrap's, median"));
    if args.runs >= RUNS_FOR_P99 {
        check(within(p99_ratio, START_RATIO, "start of bubblewrap's, 99th percentile"));
    }
    for cost in &work {
        match cost.kind {
            Kind::Cpu => check(within(cost.ratio, CPU_RATIO, "arithmetic inside of outside")),
            Kind::Io => check(within(cost.ratio, IO_RATIO, "reads and writes inside of outside")),
            // What a filter costs at all, and what Landlock does: told, not bounded.
            Kind::Null | Kind::Opens => {}
        }
    }
    write("jail.json", &Report { bare, bubblewrap, osvm: jailed, p50_ratio, p99_ratio, work })?;
    checks.result()
}

/// The three in turn, so that what the machine does besides hits all alike.
fn starts(osvm: &str, runs: usize) -> Result<Vec<Spread>, Error> {
    let program = ["/bin/echo", WORD];
    // The same as the jail's: all namespaces, read-only libraries, the four devices (and some more), a /tmp. No /proc.
    let links = ["usr/bin", "/bin", "usr/lib", "/lib", "usr/lib64", "/lib64"];
    let mut bubblewrap = vec!["bwrap", "--unshare-all", "--die-with-parent", "--new-session"];
    bubblewrap.extend(["--ro-bind", "/usr", "/usr"]);
    bubblewrap.extend(links.chunks(2).flat_map(|link| ["--symlink", link[0], link[1]]));
    bubblewrap.extend(["--dev", "/dev", "--tmpfs", "/tmp", "--"]);
    let commands = [
        program.to_vec(),
        [bubblewrap, program.to_vec()].concat(),
        [vec![osvm, "--isolation", "process", "--"], program.to_vec()].concat(),
    ];
    let mut samples = vec![Vec::with_capacity(runs); commands.len()];
    for run in 0..WARM_UP + runs {
        for (command, samples) in commands.iter().zip(&mut samples) {
            let took = first_output(command)?;
            if run >= WARM_UP {
                samples.push(took.as_micros() as u64);
            }
        }
    }
    Ok(samples.iter_mut().map(|samples| Spread::of(samples)).collect())
}

fn first_output(command: &[&str]) -> Result<Duration, Error> {
    let failed = |source| Error::io(format!("run {}", command[0]), source);
    let began = Instant::now();
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = [0];
    let mut rest = Vec::new();
    let Some(mut stdout) = child.stdout.take() else { return Err(Error::Program("no stdout".to_owned())) };
    let first = stdout.read_exact(&mut said);
    let took = began.elapsed();
    let done = first.and_then(|()| stdout.read_to_end(&mut rest)).and_then(|_| child.wait()).map_err(failed)?;
    if !done.success() || said != WORD.as_bytes() {
        return Err(Error::Program(format!("{} did not print {WORD} ({done})", command[0])));
    }
    Ok(took)
}

fn cost(osvm: &str, kind: Kind, rounds: usize) -> Result<Cost, Error> {
    let own: PathBuf = std::env::current_exe().map_err(|source| Error::io("find this program", source))?;
    let own = own.to_str().ok_or_else(|| Error::Program("a path that is not UTF-8".to_owned()))?;
    let word = match kind {
        Kind::Cpu => "cpu",
        Kind::Io => "io",
        Kind::Null => "null",
        Kind::Opens => "opens",
    };
    let outside = [own, "work", word];
    let inside = [&[osvm, "--isolation", "process", "--"][..], &outside[..]].concat();
    let filtered = [&outside[..], &["--filtered"]].concat();
    let (mut outsides, mut filters, mut insides) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        outsides.push(worked(&outside)?);
        filters.push(worked(&filtered)?);
        insides.push(worked(&inside)?);
    }
    let (outside_ms, inside_ms) = (median(&mut outsides), median(&mut insides));
    Ok(Cost { kind, outside_ms, filtered_ms: median(&mut filters), inside_ms, ratio: inside_ms / outside_ms })
}

/// The milliseconds that the work took, as it measured itself.
fn worked(command: &[&str]) -> Result<f64, Error> {
    let output = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|source| Error::io(format!("run {}", command[0]), source))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| Error::Program(format!("{}: {} ({text:?})", command.join(" "), output.status)))
}

/// Does one piece of work and prints the CPU time it took, in milliseconds.
pub(crate) fn work(work: &Work) -> Result<(), Error> {
    let failed = |source| Error::io("work", source);
    if work.filtered {
        let allow = seccompiler::sock_filter { code: BPF_RETURN, jt: 0, jf: 0, k: SECCOMP_ALLOW };
        let applied = seccompiler::apply_filter(&[allow]).map_err(std::io::Error::other);
        applied.map_err(|source| Error::io("load a filter", source))?;
    }
    let began = cpu_time();
    match work.kind {
        Kind::Cpu => {
            let mut number = std::hint::black_box(1u64);
            for _ in 0..STEPS {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            }
            std::hint::black_box(number);
        }
        Kind::Io => {
            let file = std::env::args_os()
                .next()
                .map_or_else(|| Err(std::io::ErrorKind::NotFound.into()), File::open)
                .map_err(failed)?;
            let (mut reader, mut writer) = std::io::pipe().map_err(failed)?;
            let (mut page, mut message) = ([0; 4096], [0; 64]);
            for _ in 0..ROUNDS {
                file.read_exact_at(&mut page, 0).map_err(failed)?;
                writer.write_all(&message).map_err(failed)?;
                reader.read_exact(&mut message).map_err(failed)?;
            }
        }
        Kind::Null => {
            for _ in 0..CALLS {
                std::hint::black_box(rustix::process::getppid());
            }
        }
        Kind::Opens => {
            for _ in 0..OPENS {
                drop(File::open("/dev/null").map_err(failed)?);
            }
        }
    }
    println!("{}", (cpu_time() - began).as_secs_f64() * 1e3);
    Ok(())
}

/// CPU time of this process, since wall time is the machine's other work too.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
