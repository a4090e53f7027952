//! The product under test: `osvm rpc local` in a temporary state folder on free ports, steered by its own command line.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use osvm_model::{
    RolloutStatus,
    api::{DaemonStatus, InstanceList, Ready},
};
use tempfile::TempDir;

use crate::{error::Error, process};

/// The service's name.
pub(crate) const SERVICE: &str = "rpc-local";

/// A running product. Dropping it stops everything and removes the state folder.
pub(crate) struct Product {
    bin: PathBuf,
    state: TempDir,
    port: u16,
    pub(crate) ready: Ready,
    /// `osvm rpc local`, where it stays in the foreground.
    foreground: Option<Child>,
}

/// How `osvm swap` ended.
pub(crate) struct Swapped {
    pub(crate) exit: i32,
    pub(crate) status: Option<RolloutStatus>,
    /// What it printed on stderr.
    pub(crate) said: String,
}

/// For every process to be gone after `osvm down` has returned.
const DOWN_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks.
const DOWN_PROBE: Duration = Duration::from_millis(10);

/// Where the product's binaries are.
pub(crate) fn bin() -> Result<PathBuf, Error> {
    if let Some(dir) = std::env::var_os("OSVM_BENCH_BIN") {
        return Ok(dir.into());
    }
    let program = std::env::current_exe().map_err(|source| Error::io("find this program", source))?;
    Ok(program.parent().map(Path::to_owned).unwrap_or_default())
}

/// Where reports go.
pub(crate) fn out() -> Result<PathBuf, Error> {
    let dir = std::env::var_os("OSVM_BENCH_OUT").map_or_else(|| "target/bench".into(), PathBuf::from);
    std::fs::create_dir_all(&dir).map_err(|source| Error::io(format!("make {}", dir.display()), source))?;
    Ok(dir)
}

impl Product {
    /// `osvm rpc local --detach`.
    pub(crate) fn start(isolation: &str) -> Result<Self, Error> {
        Self::begin(false, isolation)
    }

    /// `osvm rpc local` as a child of ours, which restarts a daemon that dies.
    pub(crate) fn start_foreground(isolation: &str) -> Result<Self, Error> {
        Self::begin(true, isolation)
    }

    fn begin(foreground: bool, isolation: &str) -> Result<Self, Error> {
        let bin = bin()?;
        let state =
            tempfile::Builder::new().prefix("osvm-").tempdir().map_err(|source| Error::io("make a folder", source))?;
        let port = free_port_pair()?;
        let mut command = Command::new(bin.join("osvm"));
        command
            .args(["rpc", "local", "--output", "json", "--port", &port.to_string(), "--isolation", isolation])
            // The broken nodes become the sound one.
            .arg("--read")
            .arg(bin.join("osvm-localnet"))
            .arg("--state-dir")
            .arg(state.path());
        let failed = |why: String| Error::exchange("osvm rpc local", why);
        let mut product = Self { bin, state, port, ready: unready(), foreground: None };
        let line = if foreground {
            let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| failed(error.to_string()))?;
            let stdout = child.stdout.take().ok_or_else(|| failed("has no stdout".into()))?;
            product.foreground = Some(child);
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map_err(|error| failed(error.to_string()))?;
            line
        } else {
            let output = command.arg("--detach").output().map_err(|error| failed(error.to_string()))?;
            if !output.status.success() {
                return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
            }
            last_line(&output.stdout)
        };
        product.ready = serde_json::from_str(&line).map_err(|error| failed(format!("{error} in {line:?}")))?;
        Ok(product)
    }

    /// The node's binary.
    pub(crate) fn node(&self) -> PathBuf {
        self.bin.join("osvm-localnet")
    }

    /// What the node's generations wrote.
    pub(crate) fn logs(&self) -> PathBuf {
        self.state.path().join("services").join(SERVICE).join("logs")
    }

    /// The state folder.
    pub(crate) fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// `osvm swap` with these flags.
    pub(crate) fn swap<S: AsRef<OsStr>>(&self, flags: &[S]) -> Result<Swapped, Error> {
        let output = self.osvm(|command| command.args(["swap", SERVICE]).args(flags))?;
        Ok(swapped(&output))
    }

    /// `osvm rollback`.
    pub(crate) fn rollback(&self) -> Result<Swapped, Error> {
        let output = self.osvm(|command| command.args(["rollback", SERVICE]))?;
        Ok(swapped(&output))
    }

    /// `osvm ps`.
    pub(crate) fn instances(&self) -> Result<InstanceList, Error> {
        let output = self.osvm(|command| command.arg("ps"))?;
        serde_json::from_slice(&output.stdout).map_err(|error| Error::exchange("osvm ps", error))
    }

    /// The daemon's own account of itself, over its socket; none while no daemon answers.
    pub(crate) async fn daemon(&self) -> Option<DaemonStatus> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::UnixStream::connect(self.state.path().join("run/daemon.sock")).await.ok()?;
        stream.write_all(b"GET /v1/daemon HTTP/1.1\r\nHost: osvm\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let body = answer.split_once("\r\n\r\n")?.1;
        serde_json::from_str(&body[body.find('{')?..=body.rfind('}')?]).ok()
    }

    /// Daemon, gateway and every instance, by name.
    pub(crate) async fn processes(&self) -> Result<Vec<(String, u32)>, Error> {
        let daemon = self.daemon().await.ok_or_else(|| Error::Program("the daemon does not answer".into()))?;
        let mut all = vec![("daemon".to_owned(), daemon.pid)];
        all.extend(daemon.gateway_pid.map(|pid| ("gateway".to_owned(), pid)));
        for instance in self.instances()?.instances {
            all.extend(instance.pid.map(|pid| (format!("{} generation {}", instance.name, instance.generation), pid)));
        }
        Ok(all)
    }

    /// `osvm down`, and whether every process is gone after it.
    pub(crate) async fn down(&mut self) -> Result<(), Error> {
        let processes = self.processes().await?;
        let output = self.osvm(|command| command.arg("down"))?;
        if !output.status.success() {
            return Err(Error::exchange("osvm down", String::from_utf8_lossy(&output.stderr)));
        }
        if let Some(mut child) = self.foreground.take() {
            child.wait().map_err(|source| Error::io("wait for osvm rpc local", source))?;
        }
        // The daemon answers before it ends.
        let begin = Instant::now();
        while processes.iter().any(|(_, pid)| process::is_alive(*pid)) && begin.elapsed() < DOWN_LIMIT {
            tokio::time::sleep(DOWN_PROBE).await;
        }
        match processes.iter().find(|(_, pid)| process::is_alive(*pid)) {
            Some((name, pid)) => Err(Error::Program(format!("{name} (process {pid}) outlived osvm down"))),
            None => Ok(()),
        }
    }

    fn osvm(&self, set: impl FnOnce(&mut Command) -> &mut Command) -> Result<Output, Error> {
        let mut command = Command::new(self.bin.join("osvm"));
        set(&mut command).args(["--output", "json", "--state-dir"]).arg(self.state.path());
        command.output().map_err(|source| Error::io("run osvm", source))
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        // Stopped already where all went well.
        let _ = self.osvm(|command| command.arg("down"));
        if let Some(mut child) = self.foreground.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Whoever keeps the folder for a look says so.
        if std::env::var_os("OSVM_BENCH_KEEP").is_some() {
            eprintln!("kept {} (port {})", self.state.path().display(), self.port);
            self.state.disable_cleanup(true);
        }
    }
}

fn swapped(output: &Output) -> Swapped {
    Swapped {
        exit: output.status.code().unwrap_or(-1),
        status: String::from_utf8_lossy(&output.stdout).lines().rev().find_map(read_rollout),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    }
}

/// The rollout's status is the last line, bare or under `rollout`.
fn read_rollout(line: &str) -> Option<RolloutStatus> {
    let json: serde_json::Value = serde_json::from_str(line).ok()?;
    let bare = serde_json::from_value(json.clone()).ok();
    bare.or_else(|| serde_json::from_value(json.get("rollout")?.clone()).ok())
}

fn last_line(stdout: &[u8]) -> String {
    String::from_utf8_lossy(stdout).trim_end().lines().last().unwrap_or_default().to_owned()
}

fn unready() -> Ready {
    Ready {
        schema: String::new(),
        event: String::new(),
        name: String::new(),
        rpc_url: String::new(),
        ws_url: String::new(),
        isolation: osvm_model::IsolationLevel::None,
        pid: 0,
        revision: 0,
        ready_ms: 0,
        state_dir: PathBuf::new(),
        stop: String::new(),
    }
}

/// A free port whose next one is free too.
pub(crate) fn free_port_pair() -> Result<u16, Error> {
    const TRIES: usize = 64;
    for _ in 0..TRIES {
        let first = TcpListener::bind("127.0.0.1:0").map_err(|source| Error::io("bind a port", source))?;
        let port = first.local_addr().map_err(|source| Error::io("read a port", source))?.port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::Program("found no two free ports in a row".into()))
}
