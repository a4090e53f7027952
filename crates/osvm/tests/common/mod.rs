//! A state folder of its own, the built binary, and the certainty that nothing runs on afterwards.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// One state folder and home for one test.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
}

/// What a finished command left.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("osvm").tempdir_in("/tmp").unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `osvm ARGS` in this world.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.program(Path::new(env!("CARGO_BIN_EXE_osvm")), args)
    }

    /// Another copy of osvm in this world.
    pub(crate) fn program(&self, osvm: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(osvm);
        command.args(args);
        self.settle(&mut command);
        command
    }

    fn settle(&self, command: &mut Command) {
        command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("OSVM_HOME", self.path("s"))
            .env_remove("XDG_STATE_HOME")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null());
    }

    pub(crate) fn osvm(&self, args: &[&str]) -> Ended {
        ended(self.command(args).output().unwrap())
    }

    /// The command must end well; its stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ended = self.osvm(args);
        assert_eq!(ended.code, 0, "osvm {args:?}\n{}{}", ended.out, ended.err);
        ended.out
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let out = self.ok(&[args, &["--output", "json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("osvm {args:?}: {error}: {out}"))
    }

    /// A detached local node on free ports; its ready line.
    pub(crate) fn node(&self) -> Value {
        self.node_with_slots_of("50")
    }

    pub(crate) fn node_with_slots_of(&self, ms: &str) -> Value {
        sibling("osvm-localnet");
        let port = two_free_ports().to_string();
        self.json(&["rpc", "local", "--detach", "--slot-ms", ms, "--port", &port])
    }

    /// A local node in the foreground, once it is ready.
    pub(crate) fn foreground(&self) -> (Child, Value) {
        sibling("osvm-localnet");
        let port = two_free_ports().to_string();
        let mut command = self.command(&["rpc", "local", "--slot-ms", "50", "--port", &port, "--output", "json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        (child, serde_json::from_str(&line).unwrap())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Also finds what a daemon that was killed left behind.
        let _ = self.command(&["down"]).output();
    }
}

pub(crate) fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A program beside the tested one.
pub(crate) fn sibling(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_osvm")).with_file_name(name);
    assert!(path.exists(), "{} is missing; build it: cargo build -p {name}", path.display());
    path
}

/// A port that is free together with the next one. Another process may take it before it is used, which the test then shows.
pub(crate) fn two_free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

/// Whether the process is there and no zombie.
pub(crate) fn is_alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Sends a signal.
pub(crate) fn signal(pid: u64, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}
