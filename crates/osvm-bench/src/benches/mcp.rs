//! An MCP server behind the gateway in a jail, beside the same server as a bare child process: the first call, a call, calls a second, memory.
//!
//! The server is the conformance suite's fixture, and a call is that of a tool which answers at once. Level `unikernel` is not measured:
//! `osvm mcp` does not have it yet.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    error::{Checks, Error},
    process, product,
    stats::{Spread, ms},
};

use super::write;

/// How much.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// First calls of each, in turn
    #[arg(long, default_value_t = 50)]
    starts: usize,
    /// Calls of each, in turns of a tenth
    #[arg(long, default_value_t = 5000)]
    calls: usize,
}

/// What the gateway is to add to a warm call at most, median; and where it has become much worse, also on a machine that is busy.
const AIM_US: u64 = 150;
const OVERHEAD_US: u64 = 500;
/// The most memory that the gateway may have with so many servers declared and none started, bytes.
const IDLE_MEMORY: u64 = 20 << 20;
const DECLARED: usize = 100;
/// Calls on the way at one time, where calls a second are counted.
const IN_FLIGHT: usize = 32;
/// Calls before it counts.
const WARM_UP: usize = 20;

#[derive(Debug, Serialize)]
struct Report {
    bare: Figures,
    process: Figures,
    overhead_p50_us: u64,
    idle_declared: usize,
    idle_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Figures {
    cold: Spread,
    warm: Spread,
    calls_a_second: f64,
    memory_bytes: u64,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let state = TempDir::new().map_err(|source| Error::io("make a folder", source))?;
    let bin = product::bin()?;
    let fixture = bin.join("osvm-mcp-fixture");
    declare(state.path(), &fixture, 1)?;
    let bare = || Peer::start(Command::new(&fixture));
    let gateway = || Peer::start(bridge(&bin, state.path()));

    let (mut cold_bare, mut cold_process) = (Vec::new(), Vec::new());
    for _ in 0..args.starts {
        let since = Instant::now();
        let mut peer = bare()?;
        peer.ask("server/discover")?;
        peer.call()?;
        cold_bare.push(micros(since));
        // The gateway runs already: it is there before the server is needed.
        let mut peer = gateway()?;
        peer.ask("server/discover")?;
        let since = Instant::now();
        peer.call()?;
        cold_process.push(micros(since));
    }

    let (mut alone, mut behind) = (bare()?, gateway()?);
    let (mut warm_bare, mut warm_process) = (Vec::new(), Vec::new());
    for peer in [&mut alone, &mut behind] {
        peer.ask("server/discover")?;
        (0..WARM_UP).try_for_each(|_| peer.call())?;
    }
    for _ in 0..10 {
        for (peer, samples) in [(&mut alone, &mut warm_bare), (&mut behind, &mut warm_process)] {
            for _ in 0..args.calls / 10 {
                let since = Instant::now();
                peer.call()?;
                samples.push(micros(since));
            }
        }
    }
    let figures = |peer: &mut Peer, cold: &mut Vec<u64>, warm: &mut Vec<u64>| {
        let calls_a_second = peer.rate(args.calls)?;
        let memory_bytes = process::memory_of_all(peer.child.id());
        Ok::<_, Error>(Figures { cold: Spread::of(cold), warm: Spread::of(warm), calls_a_second, memory_bytes })
    };
    let bare = figures(&mut alone, &mut cold_bare, &mut warm_bare)?;
    let process = figures(&mut behind, &mut cold_process, &mut warm_process)?;

    declare(state.path(), &fixture, DECLARED)?;
    let mut idle = gateway()?;
    idle.ask("server/discover")?;
    let idle_bytes = process::memory_of_all(idle.child.id());
    let overhead_p50_us = process.warm.p50_us.saturating_sub(bare.warm.p50_us);
    let report = Report { bare, process, overhead_p50_us, idle_declared: DECLARED, idle_bytes };
    print(&report);
    let mut checks = Checks::default();
    println!("added to a warm call, median: {overhead_p50_us} us; the aim is {AIM_US}");
    checks.that(
        overhead_p50_us <= OVERHEAD_US,
        format!("added to a warm call, median: {overhead_p50_us} us, at most {OVERHEAD_US}"),
    );
    checks.that(
        idle_bytes < IDLE_MEMORY,
        format!("{DECLARED} servers declared and none started: {}, under 20 MiB", mib(idle_bytes)),
    );
    write("mcp.json", &report)?;
    checks.result()
}

fn print(report: &Report) {
    println!("{:<34} {:>12} {:>12}", "", "bare child", "process");
    let row = |name: &str, of: &dyn Fn(&Figures) -> String| {
        println!("{name:<34} {:>12} {:>12}", of(&report.bare), of(&report.process));
    };
    row("first call, p50", &|figures| ms(figures.cold.p50_us));
    row("first call, p99", &|figures| ms(figures.cold.p99_us));
    row("a call, p50", &|figures| format!("{} us", figures.warm.p50_us));
    row("a call, p99", &|figures| format!("{} us", figures.warm.p99_us));
    row("calls a second, 32 on the way", &|figures| format!("{:.0}", figures.calls_a_second));
    row("memory of all its processes", &|figures| mib(figures.memory_bytes));
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn declare(state: &Path, fixture: &Path, servers: usize) -> Result<(), Error> {
    let one = |number: usize| format!("[servers.s{number}]\ncommand = [{fixture:?}]\n");
    let text: String = (0..servers).map(one).collect();
    fs::write(state.join("mcp.toml"), text).map_err(|source| Error::io("write mcp.toml", source))
}

fn bridge(bin: &Path, state: &Path) -> Command {
    let mut command = Command::new(bin.join("osvm-mcp"));
    command.arg("serve").env("OSVM_MCP_CONFIG", state.join("mcp.toml")).env("OSVM_HOME", state);
    command
}

/// Somebody who speaks MCP of 2026-07-28 over stdio. Ended when dropped.
struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    next: u64,
    tool: &'static str,
}

impl Peer {
    fn start(mut command: Command) -> Result<Self, Error> {
        let tool = if command.get_args().len() == 0 { "test_simple_text" } else { "s0__test_simple_text" };
        let failed = |source| Error::io("start a server", source);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(failed)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(to), Some(from)) => Ok(Self { child, to, from: BufReader::new(from), next: 0, tool }),
            _ => Err(Error::Program("a server has no pipes".to_owned())),
        }
    }

    fn send(&mut self, method: &str) -> Result<(), Error> {
        self.next += 1;
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "bench", "version": "1" },
        });
        let params = if method == "tools/call" {
            json!({ "name": self.tool, "arguments": {}, "_meta": meta })
        } else {
            json!({ "_meta": meta })
        };
        let message = json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params });
        self.to.write_all(format!("{message}\n").as_bytes()).map_err(|source| Error::io("write to a server", source))
    }

    fn receive(&mut self) -> Result<(), Error> {
        let mut line = String::new();
        self.from.read_line(&mut line).map_err(|source| Error::io("read from a server", source))?;
        if line.contains("\"result\"") { Ok(()) } else { Err(Error::exchange("a call", line)) }
    }

    fn ask(&mut self, method: &str) -> Result<(), Error> {
        self.send(method)?;
        self.receive()
    }

    fn call(&mut self) -> Result<(), Error> {
        self.ask("tools/call")
    }

    fn rate(&mut self, calls: usize) -> Result<f64, Error> {
        let since = Instant::now();
        (0..IN_FLIGHT).try_for_each(|_| self.send("tools/call"))?;
        for _ in 0..calls {
            self.receive()?;
            self.send("tools/call")?;
        }
        (0..IN_FLIGHT).try_for_each(|_| self.receive())?;
        Ok((calls + IN_FLIGHT) as f64 / since.elapsed().as_secs_f64())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
