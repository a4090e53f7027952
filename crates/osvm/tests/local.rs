//! `osvm rpc local` and what belongs to it, with the real daemon, gateway and node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

use common::{World, ended, is_alive, sibling, signal, two_free_ports};
use rustix::process::Signal;
use serde_json::Value;

/// For what comes about by itself.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(LOOK);
    }
}

/// The processes whose command line or environment names this world's folder. A daemon lets go of the folder, for which `down`
/// waits, a moment before its process is gone.
fn processes(world: &World) -> BTreeSet<u64> {
    let folder = world.folder.path().to_str().unwrap().to_owned();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
    let named = |pid: &u64| {
        let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let text = [read("cmdline"), read("environ")].concat();
        is_alive(*pid) && String::from_utf8_lossy(&text).contains(&folder)
    };
    pids.filter(named).collect()
}

fn call(world: &World, url: &str, method: &str) -> Option<Value> {
    let _ = world;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = osvm_solana::Client::from_url(url).unwrap();
    runtime.block_on(client.call(method, serde_json::json!([]))).ok()
}

#[test]
fn the_ready_line_is_true_and_down_leaves_nothing() {
    let world = World::new();
    let ready = world.node();
    assert_eq!((ready["schema"].as_str(), ready["event"].as_str()), (Some("osvm/v1"), Some("ready")));
    // In a jail where there can be one: with root's power, and osvm-jail beside osvm.
    let level = if rustix::process::geteuid().is_root() { "process" } else { ready["isolation"].as_str().unwrap() };
    assert_eq!(ready["isolation"], level);
    assert_eq!(ready["stop"], "osvm stop rpc-local");
    assert!(is_alive(ready["pid"].as_u64().unwrap()));
    let url = ready["rpc_url"].as_str().unwrap();
    assert_eq!(call(&world, url, "getHealth"), Some(Value::from("ok")));

    let ps = world.json(&["ps"]);
    let instance = &ps["instances"][0];
    assert_eq!((instance["name"].as_str(), instance["level"].as_str()), (Some("rpc-local"), Some(level)));
    assert_eq!((instance["state"].as_str(), &instance["pid"]), (Some("ready"), &ready["pid"]));
    let stats = world.json(&["stats", "rpc-local"]);
    let used = &stats["instances"][0];
    assert!(used["cpus"].as_f64().is_some() && used["memory_bytes"].as_u64().unwrap() > 1 << 20, "{stats}");
    if level == "process" {
        assert!(used["memory_limit_bytes"].as_u64().unwrap() > used["memory_peak_bytes"].as_u64().unwrap(), "{stats}");
        assert!(used["tasks"].as_u64().unwrap() > 2 && used["oom_kills"] == 0, "{stats}");
    }
    assert!(world.ok(&["stats"]).lines().all(|line| line.chars().count() <= 100));
    assert_eq!(world.osvm(&["stats", "nobody"]).code, 1);
    assert_eq!(world.json(&["status", "rpc-local"])["revision"], 1);
    assert!(world.ok(&["events", "rpc-local"]).contains("is ready"));
    assert!(world.ok(&["ps"]).lines().all(|line| line.chars().count() <= 100));

    assert_eq!(world.json(&["down"])["instances_stopped"], 1);
    until("the end of every process", || processes(&world).is_empty());
}

#[test]
fn a_second_one_is_told_where_the_first_serves() {
    let world = World::new();
    let ready = world.node();
    let second = world.osvm(&["rpc", "local", "--detach"]);
    assert_eq!(second.code, 1);
    let url = ready["rpc_url"].as_str().unwrap();
    assert!(second.err.contains("rpc-local runs already") && second.err.contains(url), "{}", second.err);
    assert!(second.err.contains("osvm stop rpc-local"), "{}", second.err);
    assert_eq!(call(&world, url, "getHealth"), Some(Value::from("ok")), "the first was hurt");
}

#[test]
fn a_port_in_use_is_named_and_nothing_stays() {
    sibling("osvm-localnet");
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = world.osvm(&["rpc", "local", "--detach", "--port", &port.to_string()]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains(&port.to_string()) && refused.err.contains("--port"), "{}", refused.err);
    until("the end of every process", || processes(&world).is_empty());
}

#[test]
fn a_program_that_is_no_node_is_told_and_nothing_stays() {
    let world = World::new();
    let port = two_free_ports().to_string();
    let failed = world.osvm(&["rpc", "local", "--detach", "--artifact", "/bin/false", "--port", &port]);
    assert_eq!(failed.code, 1);
    assert!(failed.err.starts_with("error: "), "{}", failed.err);
    until("the end of every process", || processes(&world).is_empty());
}

#[test]
fn ctrl_c_stops_the_node_the_gateway_and_the_daemon_and_keeps_the_state() {
    let world = World::new();
    let (child, ready) = world.foreground();
    let genesis = call(&world, ready["rpc_url"].as_str().unwrap(), "getGenesisHash");
    signal(u64::from(child.id()), Signal::INT);
    let end = ended(child.wait_with_output().unwrap());
    assert_eq!(end.code, 0, "{}", end.err);
    until("the end of every process", || processes(&world).is_empty());

    let (child, ready) = world.foreground();
    assert!(genesis.is_some());
    assert_eq!(call(&world, ready["rpc_url"].as_str().unwrap(), "getGenesisHash"), genesis);
    signal(u64::from(child.id()), Signal::TERM);
    assert_eq!(ended(child.wait_with_output().unwrap()).code, 0);
}

#[test]
fn a_daemon_that_was_killed_is_started_again_and_the_node_never_stops() {
    let world = World::new();
    let (child, ready) = world.foreground();
    let url = ready["rpc_url"].as_str().unwrap().to_owned();
    let log = fs::read_to_string(world.path("s/daemon.log")).unwrap();
    let daemon: u64 =
        log.split("the daemon runs (process ").nth(1).unwrap().split(')').next().unwrap().parse().unwrap();
    signal(daemon, Signal::KILL);
    until("the daemon's end", || !is_alive(daemon));
    assert_eq!(call(&world, &url, "getHealth"), Some(Value::from("ok")), "the node stopped with the daemon");
    until("another daemon that has the node", || {
        let ps = world.osvm(&["ps", "--output", "json"]);
        serde_json::from_str::<Value>(&ps.out).is_ok_and(|ps| ps["instances"][0]["pid"] == ready["pid"])
    });
    signal(u64::from(child.id()), Signal::INT);
    let end = ended(child.wait_with_output().unwrap());
    assert_eq!(end.code, 0, "{}", end.err);
    assert!(end.err.contains("the daemon ended"), "{}", end.err);
    until("the end of every process", || processes(&world).is_empty());
}

#[test]
fn down_ends_what_a_killed_daemon_left_behind() {
    let world = World::new();
    let ready = world.node();
    let log = fs::read_to_string(world.path("s/daemon.log")).unwrap();
    let daemon: u64 =
        log.split("the daemon runs (process ").nth(1).unwrap().split(')').next().unwrap().parse().unwrap();
    signal(daemon, Signal::KILL);
    until("the daemon's end", || !is_alive(daemon));
    let ps = world.osvm(&["ps"]);
    assert!(ps.err.contains("may still run"), "{}", ps.err);
    assert!(is_alive(ready["pid"].as_u64().unwrap()));
    assert_eq!(world.json(&["down"])["instances_stopped"], 1);
    until("the end of every process", || processes(&world).is_empty());
    assert!(world.osvm(&["ps"]).err.contains("nothing runs"));
}

#[test]
fn stop_in_another_terminal_ends_the_foreground_command() {
    let world = World::new();
    let (child, _) = world.foreground();
    world.ok(&["stop", "rpc-local"]);
    let end = ended(child.wait_with_output().unwrap());
    assert_eq!(end.code, 0, "{}", end.err);
    assert!(end.err.contains("stopped by another command"), "{}", end.err);
}

#[test]
fn a_stopped_service_starts_on_its_state_and_a_removed_one_is_gone() {
    let world = World::new();
    let ready = world.node();
    let url = ready["rpc_url"].as_str().unwrap();
    let genesis = call(&world, url, "getGenesisHash");
    world.ok(&["stop", "rpc-local"]);
    assert_eq!(world.json(&["ps"])["instances"], Value::Array(vec![]));
    assert!(world.ok(&["ps"]).contains("stopped"));
    world.ok(&["start", "rpc-local"]);
    assert_eq!(call(&world, url, "getGenesisHash"), genesis);
    world.ok(&["restart", "rpc-local"]);
    assert_eq!(call(&world, url, "getGenesisHash"), genesis);
    world.ok(&["rm", "rpc-local"]);
    assert_eq!(world.osvm(&["status", "rpc-local"]).code, 1);
}

#[test]
fn a_swap_tells_each_phase_and_a_broken_one_changes_nothing() {
    let world = World::new();
    let ready = world.node();
    let url = ready["rpc_url"].as_str().unwrap();
    let swap = world.ok(&["swap", "rpc-local", "--watch", "300ms"]);
    for word in ["start", "check", "hand over", "shift", "drain", "watch", "retire", "done", "undo"] {
        assert!(swap.lines().any(|line| line.starts_with(word)), "no {word} in\n{swap}");
    }
    assert!(swap.contains("0 requests failed"), "{swap}");
    assert!(swap.lines().all(|line| line.chars().count() <= 100), "{swap}");

    let broken = world.osvm(&["swap", "rpc-local", "--artifact", "/bin/false", "--health-timeout", "5s"]);
    assert_eq!(broken.code, 1);
    assert!(broken.out.contains("kept      revision 2 serves, nothing changed"), "{}", broken.out);
    assert_eq!(call(&world, url, "getHealth"), Some(Value::from("ok")));

    world.ok(&["rollback", "rpc-local"]);
    assert_eq!(world.json(&["status", "rpc-local"])["rollout"]["outcome"], "done");
    assert!(world.ok(&["events", "rpc-local", "--last"]).contains("revision"));
}
