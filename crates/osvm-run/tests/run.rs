//! `osvm run` as a user has it. Needs root, since control groups are made.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
};

use serde_json::Value;

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_osvm-run"));
    command.args(args).env_remove("OSVM_OUTPUT").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Ended {
    let output = command(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A shell script at level `process`.
fn script(options: &[&str], text: &str) -> Ended {
    run(&[&["--isolation", "process"], options, &["--", "sh", "-c", text]].concat())
}

fn json(options: &[&str], text: &str) -> (Ended, Value) {
    let ended = script(&[&["--output", "json"], options].concat(), text);
    let value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {} {}", ended.out, ended.err));
    (ended, value)
}

#[test]
fn output_and_exit_code_are_the_programs_own() {
    let ended = script(&[], "echo out; echo err >&2; exit 7");
    assert_eq!((ended.code, &*ended.out, &*ended.err), (Some(7), "out\n", "err\n"));
    let ended = script(&[], "kill -TERM $$");
    assert_eq!(ended.code, Some(128 + 15));
}

#[test]
fn stdin_is_the_programs_too() {
    let mut command = command(&["--isolation", "process", "--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"through").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"through");
}

#[test]
fn json_tells_the_level_the_end_and_what_was_used() {
    let (ended, run) = json(&[], "echo out; exit 3");
    assert_eq!(ended.code, Some(3));
    assert_eq!((run["schema"].as_str(), run["isolation"].as_str()), (Some("osvm/v1"), Some("process")));
    assert_eq!((run["stdout"].as_str(), &run["exit"], &run["timed_out"]), (Some("out\n"), &3.into(), &false.into()));
    let used = &run["resources"];
    assert!(used["wall_ms"].as_f64().unwrap() > 0.0 && used["cpu_ms"].as_f64().unwrap() > 0.0, "{used}");
    assert!(used["memory_peak_bytes"].as_u64().unwrap() > 0, "{used}");
    assert_ne!(run["uid"], 0);
}

#[test]
fn what_is_too_long_or_too_large_is_ended_and_told() {
    let (ended, run) = json(&["--timeout", "100ms"], "while :; do :; done");
    assert_eq!((ended.code, &run["timed_out"]), (Some(124), &true.into()));
    let (ended, run) = json(&["--memory", "32M"], "x=0123456789abcdef; while :; do x=$x$x; done");
    assert_eq!((ended.code, &run["oom"]), (Some(128 + 9), &true.into()));
    let ended = script(&["--memory", "32M"], "x=0123456789abcdef; while :; do x=$x$x; done");
    assert!(ended.err.contains("more than --memory"), "{}", ended.err);
}

#[test]
fn only_what_was_declared_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    fs::write(folder.path().join("in"), "from the host\n").unwrap();
    let (rw, ro) = (format!("{path}:/data"), format!("{path}:/data:ro"));
    let text =
        "read line < /data/in && echo \"$line\"; (echo x > /data/out) 2>/dev/null && echo wrote; echo $SECRET$WORD";
    let outside = command(&["--isolation", "process", "--mount", &ro, "--env", "WORD=w", "--", "sh", "-c", text])
        .env("SECRET", "s")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(outside.stdout).unwrap(), "from the host\nw\n");
    let ended = script(&["--mount", &rw], text);
    assert_eq!(ended.out, "from the host\nwrote\n\n");
    assert!(folder.path().join("out").exists());
    assert_eq!(script(&["--read-only"], "echo x > /tmp/x").code, Some(2), "there is no /tmp");
    let ended = script(&["--read-only", "--mount", &rw], "exit 0");
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("contradicts read-only"), "{}", ended.err);
}

#[test]
fn a_level_that_is_not_there_is_refused_with_3_and_runs_nothing() {
    let ended = run(&["--isolation", "none", "--", "sh", "-c", "echo ran"]);
    assert_eq!((ended.code, &*ended.out), (Some(3), ""), "{}", ended.err);
    assert!(ended.err.contains("error:") && ended.err.contains("help:"), "{}", ended.err);
}

#[test]
fn a_microvm_wants_an_image_and_what_it_cannot_do_is_refused() {
    let image = ["--isolation", "microvm", "--image", "x"];
    let cases: [(&[&str], &str); 5] = [
        (&["--isolation", "microvm"], "needs an image"),
        (&[&image[..], &["--timeout", "1s"]].concat(), "--timeout does not work at level microvm"),
        (&[&image[..], &["--mount", "/usr:/usr"]].concat(), "--mount does not work at level microvm"),
        (&["--isolation", "process", "--image", "x"], "mean nothing at level process"),
        (&["--isolation", "process", "--require-hardware"], "mean nothing at level process"),
    ];
    for (args, why) in cases {
        let ended = run(&[args, &["--", "sh", "-c", "echo ran"]].concat());
        assert_eq!((ended.code, &*ended.out), (Some(2), ""), "{}", ended.err);
        assert!(ended.err.contains(why), "{}", ended.err);
    }
}

#[test]
fn a_microvm_is_the_business_of_osvm_microvm_with_the_same_words() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (folder.path().join("osvm-run"), folder.path().join("osvm-microvm"));
    std::fs::copy(env!("CARGO_BIN_EXE_osvm-run"), &own).unwrap();
    let words = ["--isolation", "microvm", "--image", "x", "--memory", "1M", "--env", "A=b c", "--", "cat", "-n", "--"];
    let run = |path: &str| std::process::Command::new(&own).args(words).env("PATH", path).output().unwrap();
    let ended = run("/nowhere");
    assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(3), &b""[..]), "{ended:?}");
    std::fs::write(&other, "#!/bin/sh\nprintf '<%s>' \"$@\"\nexit 7\n").unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let ended = run("/usr/bin:/bin");
    let due = "<run><--image><x><--memory><1048576><--cwd></><--env><A=b c><--><cat><-n><-->";
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stdout).as_ref()), (Some(7), due), "{ended:?}");
}

#[test]
fn auto_tells_the_level_that_it_took() {
    let ended = run(&["--", "sh", "-c", "echo ran"]);
    assert_eq!((ended.code, &*ended.out), (Some(0), "ran\n"));
    assert!(ended.err.contains("isolation process"), "{}", ended.err);
}

#[test]
fn a_program_that_is_not_there_is_127_and_a_wrong_option_is_2() {
    let ended = run(&["--isolation", "process", "--", "/no/such/program"]);
    assert_eq!(ended.code, Some(127), "{}", ended.err);
    assert!(ended.err.contains("/no/such/program"), "{}", ended.err);
    assert_eq!(run(&["--memory", "much", "--", "true"]).code, Some(2));
    let ended = run(&["--timeout", "18446744073709551615h", "--isolation", "process", "--", "true"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("too long"), "{}", ended.err);
    // The longest that can be said is as good as none.
    assert_eq!(run(&["--timeout", "18446744073709551615ms", "--isolation", "process", "--", "true"]).code, Some(0));
    assert_eq!(run(&["--cpus", "0", "--isolation", "process", "--", "true"]).code, Some(2));
}

#[test]
fn a_signal_goes_to_the_program_and_a_killed_monitor_takes_it_along() {
    let mut child =
        command(&["--isolation", "process", "--", "sh", "-c", "trap 'exit 9' TERM; echo up; while :; do :; done"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));

    let mut child = command(&["--isolation", "process", "--", "sh", "-c", "echo up; while :; do :; done"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // The program held the other end: it is gone once this ends.
    let mut rest = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}
