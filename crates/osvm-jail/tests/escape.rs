//! Attempts to get out of a jail, each with a control that shows that it works without one.
//!
//! Needs root. The control runs in namespaces of processes, mounts, IPC, host name and (but for the two that dial the test's own
//! listeners) network that end with it, in a temporary folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io::Write,
    net::TcpListener,
    os::{
        fd::AsRawFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
        unix::process::ExitStatusExt,
    },
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use osvm_jail::{Spec, closure};

/// What the attempt's program says with its exit code.
const REFUSED: i32 = 10;
/// The attempts that end the program: by SIGSYS, and by the kernel for memory.
const FATAL: [(&str, i32); 2] = [("modify-ldt", libc::SIGSYS), ("memory-bomb", libc::SIGKILL)];
/// The attempts that dial the test's own listeners, which are on the machine's loopback.
const DIALS: [&str; 2] = ["host-tcp", "host-abstract-socket"];

fn escape() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples/escape")
}

fn jailed(attempt: &str, port: u16) -> Output {
    let mut spec = Spec::new(escape());
    spec.argv = vec!["escape".to_owned(), attempt.to_owned(), port.to_string()];
    spec.mounts = closure(&escape(), &[]).unwrap();
    spec.cwd = PathBuf::from("/tmp");
    let mut command = Command::new(env!("CARGO_BIN_EXE_osvm-jail"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("OSVM_SECRET", "x");
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&spec).unwrap()).unwrap();
    child.wait_with_output().unwrap()
}

fn control(attempt: &str, port: u16) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--fork", "--pid", "--mount", "--mount-proc", "--ipc", "--uts"]);
    if !DIALS.contains(&attempt) {
        command.arg("--net");
    }
    command.arg("--").arg(escape()).args([attempt, &port.to_string()]);
    command.current_dir(folder.path()).env("OSVM_SECRET", "x").output().unwrap()
}

#[test]
fn every_attempt_works_outside_and_is_refused_inside() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = SocketAddr::from_abstract_name(format!("osvm-escape/{port}")).unwrap();
    let _abstract = UnixListener::bind_addr(&name).unwrap();
    // A folder of the host as descriptor 9, handed on to whatever this process starts.
    let root = std::fs::File::open("/").unwrap();
    let nine = rustix::io::fcntl_dupfd_cloexec(&root, 9).unwrap();
    assert_eq!(nine.as_raw_fd(), 9, "descriptor 9 is taken");
    rustix::io::fcntl_setfd(&nine, rustix::io::FdFlags::empty()).unwrap();

    let list = Command::new(escape()).arg("list").output().unwrap();
    let names: Vec<_> = std::str::from_utf8(&list.stdout).unwrap().lines().map(str::to_owned).collect();
    assert!(names.len() >= 60, "{} attempts", names.len());
    let mut wrong = Vec::new();
    for attempt in &names {
        let outside = control(attempt, port);
        if outside.status.code() != Some(0) {
            wrong.push(format!("{attempt}: the control does not work: {outside:?}"));
        }
        let inside = jailed(attempt, port);
        let refused = match FATAL.iter().find(|(name, _)| name == attempt) {
            Some((_, signal)) => inside.status.signal() == Some(*signal),
            None => inside.status.code() == Some(REFUSED),
        };
        if !refused {
            wrong.push(format!("{attempt}: not refused as expected: {inside:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), names.len(), wrong.join("\n"));
}
