//! Where the VMMs are, the guests' programs, and what is left of a VM.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use osvm_microvm::{Error, Machine};

/// The folder that `cargo xtask setup` fills.
pub(crate) fn tools() -> PathBuf {
    // target/tmp
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let tools = target.join("microvm");
    assert!(tools.is_dir(), "{} is not there: run cargo xtask setup", tools.display());
    tools
}

/// A program of this folder, compiled unless that was done since it was last changed.
pub(crate) fn compiled(name: &str, args: &[&str]) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests");
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("guest-{name}"));
    let changed = |file: &Path| file.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let sources = fs::read_dir(&here).unwrap().map(|entry| changed(&entry.unwrap().path())).max().unwrap();
    if changed(&to) > sources {
        return to;
    }
    let part = to.with_extension(std::process::id().to_string());
    let mut rustc = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()));
    rustc.args([
        "--edition",
        "2024",
        "--crate-type",
        "bin",
        "--target",
        "x86_64-unknown-linux-gnu",
        "--crate-name",
        name,
    ]);
    rustc.args(["-Copt-level=2", "-Cpanic=abort", "-Ctarget-feature=+crt-static"]).args(args);
    let done = rustc.arg("-o").arg(&part).arg(here.join(format!("{name}.rs"))).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::rename(part, &to).unwrap();
    to
}

/// Sends `bytes` to an echo and reads them back.
pub(crate) fn echoed(stream: &UnixStream, bytes: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut back = vec![0; bytes.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| (&mut &*stream).write_all(bytes).unwrap());
        (&mut &*stream).read_exact(&mut back).unwrap();
    });
    back
}

/// Bytes that differ from their neighbours.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (0..count)
        .scan(7_u32, |state, _| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*state >> 24) as u8)
        })
        .collect()
}

/// Whether a process with this number is there and no zombie.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Nothing of a machine is left once it is dropped: processes and folder.
pub(crate) fn drop_leaves_nothing(root: &Path, machine: Machine) {
    let pids = machine.pids();
    drop(machine);
    nothing_is_left(root, &pids);
}

pub(crate) fn nothing_is_left(root: &Path, pids: &[u32]) {
    for &pid in pids {
        assert!(!lives(pid), "process {pid} is left");
    }
    let left: Vec<_> = fs::read_dir(root.join("vms")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?} is left");
}

/// An error with all its causes.
pub(crate) fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
