//! The auditor: lines a second and memory on a tree, beside a peer on the same code, and how soon `--watch` tells after one edit.

use std::{
    fs,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;

use crate::{
    error::{Checks, Error},
    process, product,
    stats::{median, unix_ms},
};

use super::write;

/// What, and how often.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The tree that is audited; it is copied before anything is changed
    #[arg(long, env = "OSVM_BENCH_TREE")]
    tree: PathBuf,
    /// The peer's program, solana_fender; left out if there is none
    #[arg(long, env = "OSVM_BENCH_FENDER")]
    peer: Option<PathBuf>,
    /// Runs of each, in turn; medians count
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Edits while `--watch` runs
    #[arg(long, default_value_t = 21)]
    edits: usize,
}

/// Lines a second of processor time, at the least.
const LINES_A_SECOND: f64 = 100_000.0;
/// A rerun after one edit, as a median, the 30 ms included for which the auditor waits for an editor to end.
const RERUN_LIMIT_MS: f64 = 100.0;
/// A run that takes longer has hung.
const RUN_LIMIT: Duration = Duration::from_secs(300);
/// Between two looks at a process's memory.
const PROBE: Duration = Duration::from_millis(2);
/// Between two edits: longer than a rerun, so that each is told by itself.
const PAUSE: Duration = Duration::from_millis(250);

/// One run of a program over the tree.
#[derive(Clone, Copy, Debug, Serialize)]
struct Run {
    seconds: f64,
    processor_seconds: f64,
    memory_bytes: u64,
}

#[derive(Serialize)]
struct Written {
    unix_ms: u64,
    files: u64,
    lines: u64,
    own: Vec<Run>,
    peer: Option<Vec<Run>>,
    rerun_ms: Vec<f64>,
}

/// Runs the whole bench.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let dir = tempfile::Builder::new()
        .prefix("osvm-audit-")
        .tempdir()
        .map_err(|source| Error::io("make a folder", source))?;
    let tree = dir.path().join("tree");
    copy(&args.tree, &tree)?;
    let own = product::bin()?.join("osvm-audit");
    let (files, lines) = size(&own, &tree)?;
    println!("{files} files of Rust, {lines} lines");
    let peer = args.peer.as_ref().filter(|peer| peer.is_file());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..args.runs.max(1) {
        let mut command = Command::new(&own);
        ours.push(timed(command.arg(&tree).args(["--format", "json"]))?);
        if let Some(peer) = peer {
            let mut command = Command::new(peer);
            theirs.push(timed(command.args(["--program"]).arg(&tree))?);
        }
    }
    println!("\n{:<24} {:>10} {:>12} {:>16} {:>10}", "", "seconds", "processor s", "lines/s and core", "MiB");
    let rate = row("osvm audit", &ours, lines);
    match peer {
        Some(_) => {
            row("solana_fender", &theirs, lines);
        }
        None => println!("solana_fender            not run: it is not installed"),
    }
    let mut reruns = watched(&own, &tree, args.edits.max(1))?;
    let rerun = median(&mut reruns.clone());
    reruns.sort_by(f64::total_cmp);
    let longest = reruns.last().copied().unwrap_or_default();
    println!("\nrerun after one edit, {} edits: median {rerun:.0} ms, longest {longest:.0} ms", reruns.len());
    let mut checks = Checks::default();
    checks
        .that(rate >= LINES_A_SECOND, format!("{rate:.0} lines a second of processor time (aim {LINES_A_SECOND:.0})"));
    checks.that(
        rerun < RERUN_LIMIT_MS,
        format!("after one edit `--watch` tells in {rerun:.0} ms (aim {RERUN_LIMIT_MS:.0} ms)"),
    );
    let peer = peer.map(|_| theirs);
    write("audit.json", &Written { unix_ms: unix_ms(), files, lines, own: ours, peer, rerun_ms: reruns })?;
    checks.result()
}

/// Prints a program's medians and gives its lines a second of processor time.
fn row(name: &str, runs: &[Run], lines: u64) -> f64 {
    let of = |figure: &dyn Fn(&Run) -> f64| median(&mut runs.iter().map(figure).collect::<Vec<_>>());
    let processor = of(&|run| run.processor_seconds).max(f64::EPSILON);
    let rate = lines as f64 / processor;
    println!(
        "{name:<24} {:>10.2} {processor:>12.2} {rate:>16.0} {:>10.0}",
        of(&|run| run.seconds),
        of(&|run| run.memory_bytes as f64) / f64::from(1 << 20)
    );
    rate
}

fn size(own: &Path, tree: &Path) -> Result<(u64, u64), Error> {
    let output = Command::new(own)
        .arg(tree)
        .args(["--format", "json"])
        .output()
        .map_err(|source| Error::io("run osvm-audit", source))?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| Error::Program(format!("osvm-audit printed no JSON: {error}")))?;
    let number = |key: &str| report[key].as_u64().unwrap_or_default();
    Ok((number("files"), number("lines")))
}

/// Runs a program to its end, whatever it finds, with an eye on its memory.
fn timed(command: &mut Command) -> Result<Run, Error> {
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| Error::io(format!("start {:?}", command.get_program()), source))?;
    let (mut memory, mut ticks) = (0, 0);
    let seconds = loop {
        memory = memory.max(process::memory(child.id()));
        // One that has ended and was not waited for still tells its processor time.
        ticks = ticks.max(process::cpu_ticks(child.id()));
        if !process::is_alive(child.id()) {
            break begin.elapsed().as_secs_f64();
        }
        if begin.elapsed() > RUN_LIMIT {
            process::kill(child.id());
            return Err(Error::Program(format!("{:?} took over {} s", command.get_program(), RUN_LIMIT.as_secs())));
        }
        thread::sleep(PROBE);
    };
    ticks = ticks.max(process::cpu_ticks(child.id()));
    child.wait().map_err(|source| Error::io("wait for a program", source))?;
    Ok(Run { seconds, processor_seconds: ticks as f64 / process::TICKS_PER_SECOND, memory_bytes: memory })
}

/// `osvm-audit --watch` with its reports.
struct Watch {
    child: Child,
    reports: Receiver<()>,
}

impl Watch {
    fn start(own: &Path, tree: &Path) -> Result<Self, Error> {
        let mut child = Command::new(own)
            .arg(tree)
            .args(["--watch", "--format", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| Error::io("start osvm-audit --watch", source))?;
        let stdout = child.stdout.take().ok_or_else(|| Error::Program("osvm-audit has no stdout".to_owned()))?;
        let (tell, reports) = channel();
        thread::spawn(move || {
            // A report is one JSON object; its end is told as soon as its last bracket is there.
            let mut depth = Depth::default();
            let mut bytes = [0; 1 << 16];
            let mut stdout = BufReader::new(stdout);
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                for _ in 0..depth.ends(&bytes[..count]) {
                    if tell.send(()).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self { child, reports })
    }

    fn report(&self) -> Result<(), Error> {
        self.reports.recv_timeout(RUN_LIMIT).map_err(|_| Error::Program("osvm-audit --watch told nothing".to_owned()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        process::kill(self.child.id());
        let _ = self.child.wait();
    }
}

/// How deep in brackets a stream of JSON is.
#[derive(Default)]
struct Depth {
    open: u32,
    text: bool,
    escaped: bool,
}

impl Depth {
    /// How many objects end in these bytes.
    fn ends(&mut self, bytes: &[u8]) -> usize {
        let mut ends = 0;
        for byte in bytes {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.text => self.escaped = true,
                b'"' => self.text = !self.text,
                b'{' if !self.text => self.open += 1,
                b'}' if !self.text => {
                    self.open = self.open.saturating_sub(1);
                    ends += usize::from(self.open == 0);
                }
                _ => {}
            }
        }
        ends
    }
}

/// Milliseconds from each edit to the end of the report that follows.
fn watched(own: &Path, tree: &Path, edits: usize) -> Result<Vec<f64>, Error> {
    let file = longest(tree)?;
    let text = fs::read_to_string(&file).map_err(|source| Error::io("read the file to edit", source))?;
    // In the middle, and a line more each time: what stands below moves.
    let middle = text[..text.len() / 2].rfind("\n\n").map_or(0, |at| at + 1);
    let watch = Watch::start(own, tree)?;
    watch.report()?;
    let mut took = Vec::with_capacity(edits);
    for edit in 0..edits {
        thread::sleep(PAUSE);
        let edited = format!("{}// edit {edit}\n{}{}", &text[..middle], "\n".repeat(edit % 3), &text[middle..]);
        let begin = Instant::now();
        fs::write(&file, edited).map_err(|source| Error::io("edit a file", source))?;
        watch.report()?;
        took.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}

/// The longest Rust file below 2,000 lines: one that somebody would edit.
fn longest(tree: &Path) -> Result<PathBuf, Error> {
    let mut best: Option<(usize, PathBuf)> = None;
    each(tree, &mut |path| {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let lines = fs::read_to_string(path).map_or(0, |text| text.lines().count());
            if lines < 2_000 && best.as_ref().is_none_or(|(most, _)| lines > *most) {
                best = Some((lines, path.to_owned()));
            }
        }
        Ok(())
    })?;
    best.map(|(_, path)| path).ok_or_else(|| Error::Program("the tree has no Rust file".to_owned()))
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    each(from, &mut |path| {
        let short = path.strip_prefix(from).unwrap_or(path);
        let target = to.join(short);
        let parent = target.parent().unwrap_or(to);
        fs::create_dir_all(parent).map_err(|source| Error::io(format!("make {}", parent.display()), source))?;
        fs::copy(path, &target).map_err(|source| Error::io(format!("copy {}", path.display()), source))?;
        Ok(())
    })
}

fn each(dir: &Path, then: &mut dyn FnMut(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let failed = |source| Error::io(format!("read {}", dir.display()), source);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            each(&entry.path(), then)?;
        } else if kind.is_file() {
            then(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_told_apart_whatever_their_texts_hold() {
        let mut depth = Depth::default();
        assert_eq!(depth.ends(br#"{"a": "}{\"", "b": {}"#), 0);
        assert_eq!(depth.ends(br#"} {"c": 1}"#), 2);
        assert_eq!(depth.ends(b"\n"), 0);
    }
}
