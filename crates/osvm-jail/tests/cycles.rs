//! Starts and stops leave nothing. Needs root. `OSVM_JAIL_CYCLES=1000` for the long form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use osvm_jail::{Spec, closure};

/// Cycles of the short form.
const CYCLES: usize = 200;
/// Said to the test by itself, when it has put itself where nobody else is.
const ALONE: &str = "OSVM_JAIL_ALONE";
/// For what the kernel clears up by itself, and for the next jail to clear up what a killed monitor left.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

fn jail(script: &str) -> Child {
    let mut spec = Spec::new("/bin/sh");
    spec.argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    spec.mounts = closure("/bin/sh".as_ref(), &[]).unwrap();
    spec.limits.cpus = Some(1.0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_osvm-jail"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&spec).unwrap()).unwrap();
    child
}

/// Groups of these monitors, in whichever hierarchy.
fn groups(monitors: &BTreeSet<u32>) -> Vec<PathBuf> {
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut found = Vec::new();
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("osvm-jail.").and_then(|rest| rest.split_once('.')?.1.parse().ok());
            match pid {
                Some(pid) if monitors.contains(&pid) => found.push(entry.path()),
                Some(_) => {}
                None if entry.path().is_dir() && !entry.path().is_symlink() => todo.push(entry.path()),
                None => {}
            }
        }
    }
    found
}

/// Namespaces of every kind that a process is in.
fn namespaces() -> BTreeSet<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let folders = processes.filter_map(|entry| fs::read_dir(entry.path().join("ns")).ok());
    folders.flatten().flatten().filter_map(|link| fs::read_link(link.path()).ok()).collect()
}

/// Instance ids that are held.
fn ids() -> BTreeSet<String> {
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    sockets.split_whitespace().filter(|word| word.starts_with("@osvm-jail/")).map(str::to_owned).collect()
}

fn children() -> String {
    let own = std::process::id();
    fs::read_dir("/proc/self/task").unwrap().flatten().fold(String::new(), |mut all, task| {
        let list = format!("/proc/{own}/task/{}/children", task.file_name().to_string_lossy());
        all.push_str(&fs::read_to_string(list).unwrap_or_default());
        all
    })
}

fn until_empty<T: Ord + std::fmt::Debug>(what: &str, before: &BTreeSet<T>, now: impl Fn() -> BTreeSet<T>) {
    let began = Instant::now();
    loop {
        let now = now();
        let new: Vec<_> = now.difference(before).collect();
        if new.is_empty() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{what} are left: {new:?}");
        thread::sleep(LOOK);
    }
}

/// Runs the test again in namespaces of processes, mounts and network of its own, so that it counts its own jails' only. The shell is
/// their first process, and takes the orphans.
fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    command.args(["--fork", "--pid", "--kill-child", "--mount", "--mount-proc", "--net", "--", "sh", "-c"]);
    command.arg("\"$0\" \"$@\"; exit $?").arg(std::env::current_exe().unwrap());
    let status = command.args(["--exact", test, "--nocapture"]).env(ALONE, "1").status().unwrap();
    assert!(status.success(), "{status}");
    false
}

#[test]
fn a_thousand_starts_and_stops_leave_nothing() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    if !alone("a_thousand_starts_and_stops_leave_nothing") {
        return;
    }
    let cycles = std::env::var("OSVM_JAIL_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(CYCLES);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (spaces, held) = (namespaces(), ids());
    let mut monitors = BTreeSet::new();
    for cycle in 0..cycles {
        // It ends well; it leaves processes behind; it crashes; it is told to end; its monitor is killed.
        let script = match cycle % 5 {
            0 => "exit 7",
            1 => "(while :; do :; done) & (while :; do :; done) & exit 0",
            2 => "kill -SEGV $$",
            _ => "echo up; while :; do :; done",
        };
        let mut child = jail(script);
        monitors.insert(child.id());
        if cycle % 5 >= 3 {
            child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
            let signal = if cycle % 5 == 3 { rustix::process::Signal::TERM } else { rustix::process::Signal::KILL };
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        }
        let status = child.wait().unwrap();
        assert_eq!(status.code() == Some(7), cycle % 5 == 0, "{cycle}: {status}");
        assert_eq!(status.success(), cycle % 5 == 1, "{cycle}: {status}");
    }
    // What a killed monitor left, the next jail that ends clears up.
    assert!(jail("exit 0").wait().unwrap().success());
    until_empty("control groups", &BTreeSet::new(), || {
        jail("exit 0").wait().unwrap();
        groups(&monitors).into_iter().collect()
    });
    assert_eq!(children(), "", "children, dead or alive");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts, "mounts");
    until_empty("namespaces", &spaces, namespaces);
    until_empty("instance ids", &held, ids);
}
