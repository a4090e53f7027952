//! `cargo xtask conformance`: the official suite of MCP against the gateway, and against the fixture alone.
//!
//! The suite's version and those of all that it needs are pinned by tests/conformance/package-lock.json. The fixture runs in a jail behind
//! `osvm mcp serve --listen`, and is spoken to in the protocol that the suite's requirements are of; by itself it is `rmcp` over HTTP.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::{
    clients, osvm,
    sh::{self, Result},
    test::Counts,
};

/// What the suite runs on, and what it is run against.
pub(crate) const PACKAGES: [&str; 2] = ["osvm-mcp", "osvm-mcp-fixture"];
/// Node's oldest major version that the suite runs on.
const NODE_MAJOR: u32 = 22;
/// The revisions of the protocol whose requirements are checked, and how many scenarios each requires of a server.
const REVISIONS: [(&str, usize); 2] = [("2026-07-28", 37), ("2025-11-25", 30)];
/// What a server says when it can be reached.
const READY: &str = "serving ";

/// Runs every scenario that is required of a server, twice for each revision.
pub(crate) fn run() -> Result<Counts> {
    install_missing()?;
    osvm::build(&PACKAGES)?;
    let mut counts = Counts::default();
    for (revision, required) in REVISIONS {
        for server in [Server::gateway(revision)?, Server::alone()?] {
            counts += suite(&server, revision, required)?;
        }
    }
    Ok(counts)
}

fn folder() -> PathBuf {
    sh::target().join("conformance")
}

fn install_missing() -> Result<()> {
    clients::node_runtime(NODE_MAJOR)?;
    let (from, to) = (sh::root().join("tests/conformance"), folder());
    let lock = "package-lock.json";
    if fs::read(to.join(lock)).ok() == fs::read(from.join(lock)).ok() && to.join("node_modules").is_dir() {
        return Ok(());
    }
    let failed = |error| format!("cannot copy {} to {}: {error}", from.display(), to.display());
    fs::create_dir_all(&to).map_err(failed)?;
    for file in [lock, "package.json"] {
        fs::copy(from.join(file), to.join(file)).map_err(failed)?;
    }
    sh::run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&to))
}

fn suite(server: &Server, revision: &str, required: usize) -> Result<Counts> {
    let mut suite = Command::new(clients::node_binary(NODE_MAJOR));
    suite
        .arg("node_modules/@modelcontextprotocol/conformance/dist/index.js")
        .args(["server", "--url", &server.url, "--requirements", revision])
        .current_dir(folder());
    let mut scenarios = BTreeMap::new();
    let ended_well = sh::watch(&mut suite, |line| read(line, &mut scenarios))?;
    let mut counts = count(&scenarios);
    println!("{} {revision}: {} of {required} required scenarios passed", server.name, counts.passed);
    // Fewer scenarios than are required, or an end that none of them explains.
    if counts.failed == 0 && (scenarios.len() != required || !ended_well) {
        counts.failed = 1;
    }
    Ok(counts)
}

/// `✓ ping: 2 passed, 0 failed` is a scenario; `  ✗ tasks-lifecycle (extension)` afterwards says that it is not required.
fn read(line: &str, scenarios: &mut BTreeMap<String, bool>) {
    let (own, indented) = (line.trim_start(), line.starts_with("  "));
    let Some((passed, rest)) =
        own.strip_prefix("✓ ").map(|rest| (true, rest)).or(own.strip_prefix("✗ ").map(|rest| (false, rest)))
    else {
        return;
    };
    if indented {
        scenarios.remove(rest.split(' ').next().unwrap_or_default());
    } else if let Some((name, _)) = rest.split_once(": ") {
        scenarios.insert(name.to_owned(), passed);
    }
}

fn count(scenarios: &BTreeMap<String, bool>) -> Counts {
    let passed = scenarios.values().filter(|passed| **passed).count() as u64;
    Counts { passed, failed: scenarios.len() as u64 - passed, skipped: 0 }
}

/// A server that is ended when dropped.
struct Server {
    name: &'static str,
    child: Child,
    url: String,
    state: Option<PathBuf>,
}

impl Server {
    /// The gateway, with the fixture in a jail behind it.
    fn gateway(revision: &str) -> Result<Self> {
        let state = std::env::temp_dir().join(format!("osvm-conformance-{}-{revision}", std::process::id()));
        let failed = |error| format!("cannot write to {}: {error}", state.display());
        fs::create_dir_all(&state).map_err(failed)?;
        let program = sh::release("osvm-mcp-fixture");
        let text = format!("[servers.fixture]\ncommand = [{program:?}]\nprotocol = {revision:?}\n");
        fs::write(state.join("mcp.toml"), text).map_err(failed)?;
        let mut command = Command::new(sh::release("osvm-mcp"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--only", "fixture"]);
        command.env("OSVM_MCP_CONFIG", state.join("mcp.toml")).env("OSVM_HOME", &state);
        Self::start("through the gateway,", command, Some(state))
    }

    fn alone() -> Result<Self> {
        let mut command = Command::new(sh::release("osvm-mcp-fixture"));
        command.args(["--listen", "127.0.0.1:0"]);
        Self::start("the fixture alone,", command, None)
    }

    fn start(name: &'static str, mut command: Command, state: Option<PathBuf>) -> Result<Self> {
        let failed = |why: String| format!("{name} does not start: {why}");
        let mut child = command.stderr(Stdio::piped()).spawn().map_err(|error| failed(error.to_string()))?;
        let log = child.stderr.take();
        let mut server = Self { name, child, url: String::new(), state };
        let mut lines = BufReader::new(log.ok_or_else(|| failed("it has no stderr".to_owned()))?).lines();
        let first = lines.next().and_then(|line| line.ok()).unwrap_or_default();
        server.url = first.strip_prefix(READY).map(str::to_owned).ok_or_else(|| failed(first.clone()))?;
        // What it says later is passed on, so that it never waits for a reader.
        std::thread::spawn(move || lines.map_while(std::result::Result::ok).for_each(|line| eprintln!("{line}")));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(state) = &self.state {
            let _ = fs::remove_dir_all(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_counted_but_for_those_that_are_not_required() {
        let mut scenarios = BTreeMap::new();
        for line in [
            "=== Running scenario: ping ===",
            "✓ ping: 2 passed, 0 failed",
            "✗ caching: 7 passed, 1 failed",
            "✗ tasks-lifecycle: 1 passed, 8 failed",
            "Total: 10 passed, 9 failed",
            "  ✗ tasks-lifecycle (extension)",
        ] {
            read(line, &mut scenarios);
        }
        let counts = count(&scenarios);
        assert_eq!((counts.passed, counts.failed), (1, 1));
    }
}
