//! Attempts to get out of a jail, each with a control that shows that it works without one.
//!
//! Needs root. Each attempt is made on a stage of its own (`examples/escape/stage.rs`): namespaces of mounts, network, IPC, host name
//! and processes, and a temporary folder, all of which end with it. Nothing of the machine is changed, and nothing leaves it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// What an attempt says with its exit code.
const WORKED: &str = "exit:0";
const REFUSED: &str = "exit:10";
/// Ended by the filter.
const SIGSYS: &str = "signal:31";
/// Ended by the kernel for memory, which the jail reports in these words.
const SIGKILL: &str = "signal:9";
const OOM: &str = "(OOM)";

/// Attempts at parts of the kernel that some kernels do not have. Their control may fail, but only in these words of the kernel for
/// "not built in"; then they are refused in a jail all the same, but not counted.
const MAY_BE_MISSING: [(&str, &str); 19] = [
    ("device-kvm", NO_DEVICE),
    ("device-fuse", NO_DEVICE),
    ("device-loop", NO_DEVICE),
    ("load-module", NO_CALL),
    ("load-module-from-file", NO_CALL),
    ("remove-module", NO_CALL),
    ("kexec", NO_CALL),
    ("io-ports", NO_CALL),
    ("io-privilege", NO_CALL),
    ("modify-ldt", NO_CALL),
    ("perf-event", NO_CALL),
    ("userfaultfd", NO_CALL),
    ("quota", NO_CALL),
    ("vsock", NO_FAMILY),
    ("crypto-socket", NO_FAMILY),
    ("xdp-socket", NO_FAMILY),
    ("netlink-audit", NO_PROTOCOL),
    ("netlink-netfilter", NO_PROTOCOL),
    ("netlink-generic", NO_PROTOCOL),
];
/// ENOENT, ENOSYS, EAFNOSUPPORT and EPROTONOSUPPORT.
const NO_DEVICE: &str = "os error 2)";
const NO_CALL: &str = "os error 38";
const NO_FAMILY: &str = "os error 97";
const NO_PROTOCOL: &str = "os error 93";
/// How many must be refused with a control that works.
const LEAST: usize = 190;

fn escape() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples/escape")
}

/// Makes it inside and outside. The stage is the first process of its pid namespace.
fn stage(attempt: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--fork", "--pid", "--kill-child", "--mount", "--mount-proc", "--ipc", "--uts", "--net", "--"]);
    command.arg(escape()).args(["stage", env!("CARGO_BIN_EXE_osvm-jail"), attempt]);
    command.current_dir(folder.path()).output().unwrap()
}

/// What is wrong with one attempt. None and `true`: refused, with a control that works.
fn judge(attempt: &str, refusal: &str) -> (Option<String>, bool) {
    let output = stage(attempt);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong =
        |why: &str| (Some(format!("{attempt}: {why}\n{text}{}", String::from_utf8_lossy(&output.stderr))), false);
    if !output.status.success() {
        return wrong("the stage broke");
    }
    let lines =
        |side: &str| -> Vec<_> { text.lines().filter_map(|line| line.strip_prefix(side)).map(str::trim).collect() };
    let (inside, outside, harm) = (lines("inside"), lines("outside"), lines("harm"));
    if !harm.is_empty() {
        return wrong("harm was done");
    }
    let expected = |line: &str| match refusal {
        "Error" => line.starts_with(REFUSED),
        "Sigsys" => line.starts_with(SIGSYS),
        "Oom" => line.starts_with(SIGKILL) && line.contains(OOM),
        _ => false,
    };
    if inside.is_empty() || !inside.iter().all(|line| expected(line)) {
        return wrong("not refused as expected");
    }
    let [control] = outside[..] else { return wrong("there is no control") };
    if control.starts_with(WORKED) {
        return (None, true);
    }
    match MAY_BE_MISSING.iter().find(|(name, _)| *name == attempt) {
        Some((_, words)) if control.starts_with(REFUSED) && control.contains(words) => (None, false),
        _ => wrong("the control does not work"),
    }
}

#[test]
fn every_attempt_works_outside_and_is_refused_inside() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let list = Command::new(escape()).arg("list").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let attempts: Vec<_> = list.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut wrong = Vec::new();
    let (mut refused, mut missing) = (0, Vec::new());
    for (name, refusal) in &attempts {
        match judge(name, refusal) {
            (Some(why), _) => wrong.push(why),
            (None, true) => refused += 1,
            (None, false) => missing.push(*name),
        }
    }
    println!(
        "{refused} of {} attempts are refused and work outside; this kernel does not have {}",
        attempts.len(),
        missing.join(", ")
    );
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), attempts.len(), wrong.join("\n"));
    assert!(refused >= LEAST, "only {refused} attempts have a control that works");
}
