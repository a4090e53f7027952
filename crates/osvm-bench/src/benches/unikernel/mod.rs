//! Level `unikernel` beside bubblewrap and the bare program: how fast it starts and ends, what a VM costs in memory, what work inside costs.
//! The monitor is run by itself, in no jail.

mod many;
mod talk;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde::Serialize;
use tempfile::TempDir;

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
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// VMs whose memory is measured
    #[arg(long, default_value_t = 100)]
    vms: usize,
    /// VMs that are alive and answer at the same time
    #[arg(long, default_value_t = 1000)]
    alive: usize,
}

/// Starts before it counts.
const WARM_UP: usize = 5;
/// The aims. Those that are reached are checked; the others are told.
const FIRST_OUTPUT_US: u64 = 5_000;
const FIRST_ANSWER_US: u64 = 10_000;
const CLONE_ANSWER_US: u64 = 3_000;
const TINY_RATIO: f64 = 0.8;
const PYTHON_RATIO: f64 = 1.5;
const CPU_RATIO: f64 = 1.02;
const NULL_RATIO: f64 = 1.0;
const STARTS_A_SECOND: f64 = 200.0;
const KIB_A_VM: u64 = 1536;
const ECHO_US: u64 = 60;
const STREAM_RATIO: f64 = 0.5;
const STREAM_GB: f64 = 2.0;

/// One kind of start.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Starts {
    first: Spread,
    end: Spread,
}

#[derive(Debug, Serialize)]
struct Report {
    bare: Starts,
    bubblewrap: Starts,
    vm: Starts,
    end_ratio: f64,
    first_answer: Spread,
    clone_answer: Spread,
    python: Option<[Spread; 3]>,
    python_ratio: Option<f64>,
    starts_a_second: f64,
    memory: many::Memory,
    alive: usize,
    cpu_ratio: f64,
    null_ratio: f64,
    talk: talk::Talk,
}

/// What is started: the monitor, and a program that it runs.
pub(crate) struct Bench {
    monitor: PathBuf,
    dir: TempDir,
    program: PathBuf,
}

pub(crate) fn failed(what: &str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::io(what, source)
}

impl Bench {
    fn new() -> Result<Self, Error> {
        let dir = tempfile::tempdir().map_err(failed("make a folder"))?;
        let (source, program) = (dir.path().join("program.c"), dir.path().join("program"));
        fs::write(&source, include_str!("program.c")).map_err(failed("write a program"))?;
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-static", "-o"]).arg(&program).arg(&source).arg("-lm");
        if !cc.status().map_err(failed("run cc"))?.success() {
            return Err(Error::Program("the program does not compile".to_owned()));
        }
        Ok(Self { monitor: product::bin()?.join("osvm-unikernel"), dir, program })
    }

    fn bare(&self) -> Command {
        Command::new(&self.program)
    }

    fn bubblewrap(&self) -> Command {
        let mut command = Command::new("bwrap");
        command.args(["--unshare-all", "--ro-bind"]).arg(&self.program).args(["/program", "/program"]);
        command
    }

    fn vm(&self, options: &[&Path]) -> Command {
        let mut command = Command::new(&self.monitor);
        command.arg("run").args(options).arg("--").arg(&self.program);
        command
    }
}

/// Starts a program and waits for its first byte.
pub(crate) fn spawn(command: &mut Command) -> Result<Child, Error> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed("start a program"))?;
    let said = child.stdout.as_mut().map(|out| out.read_exact(&mut [0]));
    match said {
        Some(Ok(())) => Ok(child),
        _ => {
            let _ = child.kill();
            let status = child.wait().map_err(failed("wait for a program"))?;
            Err(Error::Program(format!("{command:?} said nothing: {status}")))
        }
    }
}

/// To the first byte of output, and to the end.
fn once(mut command: Command) -> Result<(Duration, Duration), Error> {
    let began = Instant::now();
    let mut child = spawn(&mut command)?;
    let first = began.elapsed();
    let status = child.wait().map_err(failed("wait for a program"))?;
    let whole = began.elapsed();
    if status.success() { Ok((first, whole)) } else { Err(Error::Program(format!("{command:?}: {status}"))) }
}

/// Several commands in turn, so that what the machine does besides hits all alike.
fn in_turn(runs: usize, commands: &[&dyn Fn() -> Command]) -> Result<Vec<Starts>, Error> {
    let mut samples = vec![(Vec::new(), Vec::new()); commands.len()];
    for run in 0..WARM_UP + runs {
        for (command, samples) in commands.iter().zip(&mut samples) {
            let (first, end) = once(command())?;
            if run >= WARM_UP {
                samples.0.push(first.as_micros() as u64);
                samples.1.push(end.as_micros() as u64);
            }
        }
    }
    Ok(samples.iter_mut().map(|(first, end)| Starts { first: Spread::of(first), end: Spread::of(end) }).collect())
}

/// The median of what a program says that it took, inside and outside in turn: inside of outside.
fn work(bench: &Bench, word: &str, rounds: usize) -> Result<f64, Error> {
    let told = |mut command: Command| -> Result<f64, Error> {
        let output = command.arg(word).output().map_err(failed("run a program"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().map_err(|_| Error::Program(format!("{command:?}: {}", output.status)))
    };
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        outside.push(told(bench.bare())?);
        inside.push(told(bench.vm(&[]))?);
    }
    Ok(median(&mut inside) / median(&mut outside))
}

/// `python3 -c pass`, bare, under bubblewrap and in a VM, with its libraries in an image. None: there is no python3.
fn python(bench: &Bench, runs: usize) -> Result<Option<[Spread; 3]>, Error> {
    // The system's own rather than one of a version manager, whose libraries lie elsewhere. It keeps its place.
    let script = r#"set -e; p=/usr/bin/python3; [ -x $p ] || p=$(command -v python3); p=$(readlink -f "$p")
        v=$("$p" -I -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
        mkdir -p "$1$(dirname "$p")" "$1$v"; cp "$p" "$1$p"; cp -r "$v/." "$1$v"; rm -rf "$1$v/test" "$1$v"/config-*
        for l in $(ldd "$p" | grep -o '/[^ ]*'); do mkdir -p "$1$(dirname "$l")"; cp -L "$l" "$1$l"; done; echo "$p""#;
    let (root, image) = (bench.dir.path().join("root"), bench.dir.path().join("image"));
    let made = Command::new("sh").args(["-c", script, "sh"]).arg(&root).stderr(Stdio::null()).output();
    let Some(made) = made.ok().filter(|made| made.status.success()) else { return Ok(None) };
    let python = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let packed = Command::new(&bench.monitor).arg("pack").args([&root, &image]).stdout(Stdio::null()).status();
    if !packed.map_err(failed("pack an image"))?.success() {
        return Err(Error::Program("the image was not packed".to_owned()));
    }
    let words = ["-I", "-c", "print(1, end='')"];
    let bare = || {
        let mut command = Command::new(&python);
        command.args(words);
        command
    };
    let bubblewrap = || {
        let mut command = Command::new("bwrap");
        command.args(["--unshare-all", "--ro-bind"]).arg(&root).args(["/", &python]).args(words);
        command
    };
    let vm = || {
        let mut command = Command::new(&bench.monitor);
        command.args(["run", "--rootfs"]).arg(&root).arg("--image").arg(&image).args(["--", &python]);
        command.args(words);
        command
    };
    let all = in_turn(runs, &[&bare, &bubblewrap, &vm])?;
    Ok(all.into_iter().map(|starts| starts.end).collect::<Vec<_>>().try_into().ok())
}

/// Runs all of it.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let bench = Bench::new()?;
    let mut starts = in_turn(args.runs, &[&|| bench.bare(), &|| bench.bubblewrap(), &|| bench.vm(&[])])?.into_iter();
    let mut next = || starts.next().unwrap_or_default();
    let (bare, bubblewrap, vm) = (next(), next(), next());
    println!("{:<40} {:>10} {:>10} {:>10} {:>10}", "a tiny static program", "first p50", "p99", "end p50", "p99");
    for (name, starts) in [("bare", &bare), ("bubblewrap", &bubblewrap), ("VM", &vm)] {
        let [a, b, c, d] = [starts.first.p50_us, starts.first.p99_us, starts.end.p50_us, starts.end.p99_us].map(ms);
        println!("{name:<40} {a:>10} {b:>10} {c:>10} {d:>10}");
    }
    let end_ratio = vm.end.p50_us as f64 / bubblewrap.end.p50_us.max(1) as f64;
    let [first_answer, clone_answer] = talk::first_answer(&bench, args.runs)?;
    println!(
        "{:<40} {:>10} {:>10}",
        "VM, to the first answer over vsock",
        ms(first_answer.p50_us),
        ms(first_answer.p99_us)
    );
    println!(
        "{:<40} {:>10} {:>10}",
        "clone, to the first answer over vsock",
        ms(clone_answer.p50_us),
        ms(clone_answer.p99_us)
    );
    let python = python(&bench, args.runs.min(50))?;
    let python_ratio = python.as_ref().map(|[_, bubblewrap, vm]| vm.p50_us as f64 / bubblewrap.p50_us.max(1) as f64);
    if let Some(spreads) = &python {
        for (name, spread) in ["bare", "bubblewrap", "VM"].iter().zip(spreads) {
            println!("python3, {name:<31} {:>10} {:>10} {:>10} {:>10}", "", "", ms(spread.p50_us), ms(spread.p99_us));
        }
    }
    let starts_a_second = many::starts_a_second(&bench, args.runs)?;
    let memory = many::memory(&bench, args.vms)?;
    let (cpu_ratio, null_ratio) = (work(&bench, "cpu", args.rounds)?, work(&bench, "null", args.rounds)?);
    let talk = talk::talk(&bench)?;
    let alive = many::alive(&bench, args.alive)?;
    println!("{talk}");

    let mut checks = Checks::default();
    checks.that(vm.first.p50_us <= FIRST_OUTPUT_US, format!("first output after {}", ms(vm.first.p50_us)));
    checks.that(first_answer.p50_us <= FIRST_ANSWER_US, format!("first answer after {}", ms(first_answer.p50_us)));
    checks.that(starts_a_second >= STARTS_A_SECOND, format!("{starts_a_second:.0} VMs a second, two at a time"));
    let kib = memory.private_kib + memory.kernel_kib;
    checks
        .that(kib <= KIB_A_VM, format!("{kib} KiB a VM, {} of them the kernel's, at {}", memory.kernel_kib, args.vms));
    checks.that(alive == args.alive, format!("{alive} VMs of {} alive and answering at once", args.alive));
    checks.that(cpu_ratio <= CPU_RATIO, format!("arithmetic inside of outside: {cpu_ratio:.3}"));
    checks.that(null_ratio <= NULL_RATIO, format!("getppid inside of outside: {null_ratio:.2}"));
    for (what, ratio, aim) in [
        ("tiny program of bubblewrap's", Some(end_ratio), TINY_RATIO),
        ("python3 of bubblewrap's", python_ratio, PYTHON_RATIO),
    ] {
        match ratio {
            Some(ratio) => println!("     {what}, whole process: {ratio:.2}, aim {aim}"),
            None => println!("     {what}: not measured, there is no python3 with ldd"),
        }
    }
    println!("     a clone's first answer after {}, aim {}", ms(clone_answer.p50_us), ms(CLONE_ANSWER_US));
    println!("     echo over vsock: {} us, aim {ECHO_US}", talk.vsock_echo.p50_us);
    println!(
        "     stream over vsock: {:.2} GB/s, aim {STREAM_GB} or {STREAM_RATIO} of a unix socket's {:.2}",
        talk.vsock_gb, talk.unix_gb
    );
    println!("     Firecracker: not measured by this bench");
    let report = Report {
        bare,
        bubblewrap,
        vm,
        end_ratio,
        first_answer,
        clone_answer,
        python,
        python_ratio,
        starts_a_second,
        memory,
        alive,
        cpu_ratio,
        null_ratio,
        talk,
    };
    write("unikernel.json", &report)?;
    checks.result()
}
