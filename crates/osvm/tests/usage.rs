//! What a user reads when the command line, the host or the state folder is wrong. No daemon runs here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use common::{World, ended, is_alive};
use serde_json::Value;

#[test]
fn a_wrong_command_line_ends_with_2_and_a_hint() {
    let world = World::new();
    for (args, said) in [
        (&["--nonsense"][..], "unexpected argument '--nonsense'"),
        (&["rpc"], "Usage: osvm rpc"),
        (&["rpc", "local", "--port", "0"], "0 is not in 1..=65534"),
        (&["rpc", "local", "--port", "65535"], "65535 is not in 1..=65534"),
        (&["rpc", "local", "--isolation", "jail"], "is not an isolation level"),
        (&["swap", "rpc-local", "--drain-timeout", "60"], "Write 60s for seconds"),
        (&["status", "Not A Name"], "is not a service name"),
        (&["bogus"], "no command \"bogus\""),
        (&["stauts", "x"], "did you mean `osvm status`"),
        (&["progam"], "did you mean `osvm program`"),
        (&["schema", "nope"], "one of error, event"),
        (&["../evil"], "no command"),
    ] {
        let ended = world.osvm(args);
        assert_eq!(ended.code, 2, "{args:?}: {}", ended.err);
        assert!(ended.err.contains(said), "{args:?} said {}", ended.err);
        assert_eq!(ended.out, "", "{args:?}");
    }
}

#[test]
fn without_a_daemon_lists_are_empty_and_questions_fail() {
    let world = World::new();
    let ps = world.osvm(&["ps"]);
    assert_eq!((ps.code, ps.out.lines().count()), (0, 1));
    assert!(ps.err.contains("nothing runs"), "{}", ps.err);
    assert_eq!(world.json(&["ps"])["instances"], Value::Array(vec![]));
    assert_eq!(world.json(&["down"])["instances_stopped"], 0);
    for args in [&["status", "x"][..], &["swap", "x"], &["logs", "x"], &["events"], &["stop", "x"], &["rm", "x"]] {
        let ended = world.osvm(args);
        assert_eq!(ended.code, 1, "{args:?}");
        assert!(ended.err.contains("no osvm daemon runs"), "{args:?}: {}", ended.err);
        assert!(ended.err.contains("help: start a service: osvm rpc local"), "{args:?}: {}", ended.err);
    }
    assert!(!world.path("s").exists(), "a question made a state folder");
}

#[test]
fn an_isolation_level_that_is_not_there_is_refused_with_3_and_starts_nothing() {
    let world = World::new();
    // Without osvm-jail beside it, and with one that cannot make a jail.
    let alone = world.path("alone");
    let beside_a_broken_one = world.path("broken");
    for folder in [&alone, &beside_a_broken_one] {
        fs::create_dir(folder).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_osvm"), folder.join("osvm")).unwrap();
    }
    let jail = beside_a_broken_one.join("osvm-jail");
    fs::write(&jail, "#!/bin/sh\necho 'error: no namespaces here' >&2\nexit 3\n").unwrap();
    fs::set_permissions(&jail, PermissionsExt::from_mode(0o755)).unwrap();
    let whole = PathBuf::from(env!("CARGO_BIN_EXE_osvm"));
    for (osvm, level, why) in [
        (&alone.join("osvm"), "process", "there is no osvm-jail"),
        (&beside_a_broken_one.join("osvm"), "process", "no namespaces here"),
        (&whole, "microvm", "no driver"),
        (&alone.join("osvm"), "unikernel", "there is no osvm-jail"),
        (&beside_a_broken_one.join("osvm"), "unikernel", "there is no osvm-unikernel"),
    ] {
        let args = ["rpc", "local", "--isolation", level, "--artifact", "/bin/true"];
        let ended = ended(world.program(osvm, &args).env("PATH", "/usr/bin:/bin").output().unwrap());
        assert_eq!(ended.code, 3, "{}", ended.err);
        assert!(ended.err.starts_with(&format!("error: level {level} is not available on this host")), "{}", ended.err);
        assert!(ended.err.contains("help:") && ended.err.contains(why), "{}", ended.err);
    }
    assert!(!world.path("s").exists());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let world = World::new();
    let ended = world.osvm(&["rpc", "local", "--artifact", "/no/such/node"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("/no/such/node") && ended.err.contains("No such file"), "{}", ended.err);
    let ended = world.osvm(&["rpc", "local", "--artifact", "/bin/true", "--account-dir", "/no/such/dir"]);
    assert!(ended.err.contains("/no/such/dir"), "{}", ended.err);
    let ended = world.osvm(&["swap", "x", "--artifact", "/no/such/node"]);
    assert!(ended.err.contains("/no/such/node"), "{}", ended.err);
}

#[test]
fn a_state_folder_that_cannot_be_used_is_named_with_a_way_out() {
    let world = World::new();
    // A file in the folder's place: refused for root too.
    fs::write(world.path("s"), "").unwrap();
    let ended = world.osvm(&["rpc", "local", "--artifact", "/bin/true"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("cannot use the state folder"), "{}", ended.err);
    assert!(ended.err.contains("--state-dir DIR"), "{}", ended.err);
    fs::remove_file(world.path("s")).unwrap();
}

#[test]
fn a_state_folder_too_deep_for_sockets_is_told() {
    let world = World::new();
    let deep = world.path(&"d".repeat(120));
    let ended = world.osvm(&["rpc", "local", "--artifact", "/bin/true", "--state-dir", deep.to_str().unwrap()]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("too long"), "{}", ended.err);
}

#[test]
fn errors_are_json_where_json_was_asked_for() {
    let world = World::new();
    let ended = world.osvm(&["status", "x", "--output", "json"]);
    let body: Value = serde_json::from_str(&ended.err).unwrap();
    assert_eq!((body["schema"].as_str(), body["exit"].as_u64()), (Some("osvm/v1"), Some(1)));
    assert!(body["error"].as_str().unwrap().contains("no osvm daemon runs"));
}

#[test]
fn another_name_becomes_the_program_of_that_name() {
    let world = World::new();
    let bin = world.path("bin");
    fs::create_dir(&bin).unwrap();
    let tool = bin.join("osvm-echo-test");
    fs::write(&tool, "#!/bin/sh\necho \"$@\" \"$OSVM_OUTPUT\"\nexit 7\n").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let output = world.command(&["--output", "json", "echo-test", "a", "--flag"]).env("PATH", path).output().unwrap();
    let ended = ended(output);
    assert_eq!((ended.code, ended.out.as_str()), (7, "a --flag json\n"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let world = World::new();
    let program = env!("CARGO_BIN_EXE_osvm");
    let script = format!("{program} schema | head -1; echo ${{PIPESTATUS[0]}}");
    let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    let ended = ended(output);
    assert_eq!(ended.err, "");
    assert!(ended.out.ends_with("0\n"), "{}", ended.out);
    drop(world);
}

#[test]
fn no_line_is_coloured_away_from_a_terminal() {
    let world = World::new();
    for args in [&["doctor"][..], &["ps"], &["status", "x"]] {
        let ended = world.osvm(args);
        assert!(!ended.out.contains('\x1b') && !ended.err.contains('\x1b'), "{args:?}");
    }
}

#[test]
fn doctor_counts_what_stands_between_a_program_and_this_host() {
    let world = World::new();
    let report = world.json(&["doctor", "--surface"]);
    let levels = report["levels"].as_array().unwrap();
    let names: Vec<_> = levels.iter().map(|level| level["level"].as_str().unwrap()).collect();
    assert_eq!(names, ["none", "process", "unikernel"]);
    assert!(levels[0]["system_calls"].is_null() && levels[1]["hypercalls"].as_array().unwrap().is_empty());
    assert!(levels[2]["hypercalls"].as_array().unwrap().iter().any(|call| call == "folder"), "{report}");
    assert!(levels[2]["system_calls"].as_array().unwrap().iter().any(|call| call == "ioctl"), "{report}");
    assert!(world.ok(&["doctor", "--surface"]).lines().all(|line| line.chars().count() <= 110));
}

#[test]
fn the_reference_is_current() {
    let world = World::new();
    let made = world.ok(&["reference"]);
    let committed = include_str!("../../../docs/cli.md");
    assert!(made == committed, "docs/cli.md is not current: osvm reference > docs/cli.md");
}

#[test]
fn schemas_and_completions_are_printed() {
    let world = World::new();
    let all: Value = serde_json::from_str(&world.ok(&["schema"])).unwrap();
    assert_eq!(all["ready"]["properties"]["rpc_url"]["type"], "string");
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.ok(&["completions", shell]).contains("osvm"));
    }
    assert_eq!(world.json(&["version"])["version"], env!("CARGO_PKG_VERSION"));
    assert!(is_alive(u64::from(std::process::id())));
}
