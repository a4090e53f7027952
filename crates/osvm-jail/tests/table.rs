//! Every system call there is, made in a jail: each is answered as the table says. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use osvm_jail::{Spec, calls, closure};

/// The calls of the kernel's own probes (`uretprobe` and `uprobe`), which no filter sees. Elsewhere than in a probe the kernel ends who
/// makes the first by `SIGILL`, and answers the second with an error.
const UNFILTERED: [i64; 2] = if cfg!(target_arch = "x86_64") { [335, 336] } else { [-1, -1] };

fn escape() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples/escape")
}

#[test]
fn each_call_is_answered_in_a_jail_as_the_table_says() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let mut spec = Spec::new(escape());
    spec.argv = ["escape", "every-call"].map(str::to_owned).to_vec();
    spec.mounts = closure(&escape(), &[]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_osvm-jail"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&spec).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {text}", output.status);
    let answers: BTreeMap<i64, &str> =
        text.lines().filter_map(|line| line.split_once(' ')).map(|(n, a)| (n.parse().unwrap(), a)).collect();
    let allowed = || calls::SERVICE.iter().chain(calls::SERVICE_OLD);
    let mut wrong = Vec::new();
    for call in 0..calls::BEYOND {
        let expected = if calls::FATAL.contains(&call) {
            "SIGSYS"
        } else if calls::FORBIDDEN.contains(&call) {
            "EPERM"
        } else if allowed().any(|allowed| *allowed == call) {
            "allowed"
        } else {
            "ENOSYS"
        };
        let answer = answers.get(&call).copied().unwrap_or("nothing");
        let passed_by = UNFILTERED.contains(&call) && ["SIGILL", "allowed"].contains(&answer);
        if answer != expected && !passed_by {
            wrong.push(format!("{call}: {answer}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
