//! Monitors in different namespaces of networks and processes, as in `ip netns exec` or a container, that share the host's control groups.
//! Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{Read, Write},
    process::{Child, Command, Stdio},
    thread,
};

use osvm_jail::{Spec, closure};

/// Jails that each side starts.
const STARTS: usize = 150;
/// A program that is there until it is ended.
const WAITS: &str = "echo up; while :; do :; done";

/// A jail whose monitor is the first process of its pid namespace, in a network namespace of its own; or in the host's.
fn jail(apart: bool, script: &str) -> Child {
    let mut spec = Spec::new("/bin/sh");
    spec.argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    spec.mounts = closure("/bin/sh".as_ref(), &[]).unwrap();
    let monitor = env!("CARGO_BIN_EXE_osvm-jail");
    let mut command = if apart {
        let mut command = Command::new("unshare");
        command.args(["--fork", "--pid", "--kill-child", "--mount", "--mount-proc", "--net", "--", monitor]);
        command
    } else {
        Command::new(monitor)
    };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&spec).unwrap()).unwrap();
    child
}

fn only_child(pid: u32) -> u32 {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    list.trim().parse().unwrap_or_else(|_| panic!("process {pid} has the children {list:?}"))
}

#[test]
fn two_instances_have_two_users_though_their_monitors_do_not_see_each_other() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    // Both monitors are process 1 where they are, and begin to look for an id at the same number.
    let mut both = [jail(true, WAITS), jail(true, WAITS)];
    let users = both.each_mut().map(|child| {
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
        // unshare, the monitor, the first process, the program.
        let first = only_child(only_child(child.id()));
        let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
        status.lines().find(|line| line.starts_with("Uid:")).unwrap().to_owned()
    });
    for child in &mut both {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_ne!(users[0], users[1]);
}

#[test]
fn jails_of_two_namespaces_start_side_by_side() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let starts = |apart: bool| {
        move || {
            for start in 0..STARTS {
                let mut child = jail(apart, "exit 7");
                assert_eq!(child.wait().unwrap().code(), Some(7), "start {start}, apart: {apart}");
            }
        }
    };
    thread::scope(|scope| {
        let sides = [scope.spawn(starts(false)), scope.spawn(starts(true)), scope.spawn(starts(true))];
        for side in sides {
            side.join().unwrap();
        }
    });
}
