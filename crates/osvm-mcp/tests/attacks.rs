//! Servers that attack: what they try is refused, and other servers are unharmed.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{fs, net::TcpListener};

use common::{Bridge, fixture, text};
use serde_json::{Value, json};

/// A bridge with a server to attack from, `bad`, and another, `good`.
fn both(folder: &std::path::Path, change: impl FnOnce(&mut osvm_mcp::config::Server)) -> Bridge {
    let mut bad = fixture("legacy", "-", &[]);
    change(&mut bad);
    Bridge::start(folder, &[("bad", bad), ("good", fixture("modern", "-", &[]))], &[])
}

fn unharmed(bridge: &mut Bridge) {
    assert_eq!(text(&bridge.call("good__echo", json!({ "text": "here" }))), "here");
}

#[test]
fn a_server_reads_what_was_declared_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let [declared, other] = ["declared", "other"].map(|name| folder.path().join(name));
    fs::write(&declared, "for it").unwrap();
    fs::write(&other, "not for it").unwrap();
    let servers = [("f", fixture("legacy", "-", &[&declared])), ("g", fixture("legacy", "-", &[&other]))];
    let mut bridge = Bridge::start(folder.path(), &servers, &[]);
    assert_eq!(text(&bridge.call("f__read", json!({ "path": declared }))), "for it");
    let traversal = format!("{}/../other", declared.display());
    let config = folder.path().join("mcp.toml");
    for path in [
        other.to_str().unwrap(),
        &traversal,
        config.to_str().unwrap(),
        "/etc/passwd",
        "/proc/1/environ",
        "/proc/self/environ",
        "/root/.ssh/id_ed25519",
        "/sys/kernel/notes",
    ] {
        assert!(text(&bridge.call("f__read", json!({ "path": path }))).starts_with("refused: "), "{path}");
    }
    bridge.end();
}

#[test]
fn a_server_has_no_variable_but_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut bridge = both(folder.path(), |bad| {
        bad.env.insert("MINE".to_owned(), "1".to_owned());
    });
    let told: Value = serde_json::from_str(text(&bridge.call("bad__environ", json!({})))).unwrap();
    assert_eq!(told["MINE"], "1");
    for name in ["HOME", "OSVM_HOME", "OSVM_MCP_CONFIG", "USER"] {
        assert!(told[name].is_null(), "{name}");
    }
    bridge.end();
}

#[test]
fn a_server_without_destinations_reaches_nothing_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut bridge = both(folder.path(), |_| {});
    for host in ["127.0.0.1", "169.254.169.254", "10.0.0.1", "192.0.2.1", "::1"] {
        let answer = bridge.call("bad__connect", json!({ "host": host, "port": port }));
        assert!(text(&answer).starts_with("refused: "), "{host}: {answer}");
    }
    // Nor by asking for a name: there is nobody to ask.
    assert!(text(&bridge.call("bad__resolve", json!({ "host": "secret.attacker.example" }))).starts_with("refused: "));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
    unharmed(&mut bridge);
    bridge.end();
}

#[test]
fn a_server_with_destinations_reaches_no_other_one_and_each_refusal_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut bridge = both(folder.path(), |bad| bad.allow = vec!["192.0.2.1:80".to_owned()]);
    let targets = [
        format!("http://127.0.0.1:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://metadata.google.internal/".to_owned(),
        "http://192.0.2.1:81/".to_owned(),
        "http://192.0.2.1.attacker.example/".to_owned(),
    ];
    for url in &targets {
        let answer = bridge.call("bad__fetch", json!({ "url": url }));
        assert!(text(&answer).starts_with("refused: "), "{url}: {answer}");
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
    unharmed(&mut bridge);
    let log = bridge.end();
    assert_eq!(log.matches("egress refused: ").count(), targets.len(), "{log}");
}

#[test]
fn a_fork_bomb_and_a_glutton_stop_at_their_own_limit() {
    let folder = tempfile::tempdir().unwrap();
    let mut bridge = both(folder.path(), |bad| {
        bad.pids = Some(16);
        bad.memory = Some("64M".to_owned());
    });
    assert!(text(&bridge.call("bad__fork", json!({}))).starts_with("stopped after "));
    unharmed(&mut bridge);
    let answer = bridge.call("bad__eat", json!({ "bytes": 512 << 20 }));
    assert!(answer["error"].is_object() || text(&answer).starts_with("refused: "), "{answer}");
    unharmed(&mut bridge);
    assert_eq!(text(&bridge.call("bad__echo", json!({ "text": "again" }))), "again");
    bridge.end();
}

#[test]
fn a_server_that_dies_hangs_or_floods_harms_no_other_and_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut bridge = both(folder.path(), |bad| bad.call_seconds = 2);
    for tool in ["die", "deep", "long", "noise", "never"] {
        let answer = bridge.call(&format!("bad__{tool}"), json!({}));
        assert_eq!(answer["error"]["code"], -32603, "{tool}: {answer}");
        unharmed(&mut bridge);
        assert_eq!(text(&bridge.call("bad__echo", json!({ "text": tool }))), tool);
    }
    bridge.end();
}

#[test]
fn frames_that_are_broken_or_belong_to_nobody_reach_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut bridge = both(folder.path(), |_| {});
    for tool in ["malformed", "stray"] {
        assert_eq!(text(&bridge.call(&format!("bad__{tool}"), json!({ "text": "mine" }))), "mine");
    }
    bridge.end();
}

#[test]
fn a_call_that_was_cancelled_gets_no_answer_and_the_next_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut bridge = both(folder.path(), |_| {});
    let params = common::modern(json!({ "name": "bad__never", "arguments": {} }), json!({}));
    let id = bridge.begin("tools/call", params);
    bridge.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } }));
    assert_eq!(text(&bridge.call("bad__echo", json!({ "text": "next" }))), "next");
    bridge.end();
}

#[test]
fn a_server_of_an_older_protocol_than_is_spoken_here_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let servers = [("bad", fixture("downgrade", "-", &[])), ("good", fixture("modern", "-", &[]))];
    let mut bridge = Bridge::start(folder.path(), &servers, &[]);
    let answer = bridge.call("bad__echo", json!({ "text": "x" }));
    assert!(answer["error"]["message"].as_str().unwrap().contains("2024-11-05"), "{answer}");
    unharmed(&mut bridge);
    bridge.end();
}

#[test]
fn a_tool_or_resource_cannot_be_taken_for_another_servers() {
    let folder = tempfile::tempdir().unwrap();
    let servers = [("a", fixture("modern", "-", &[])), ("b", fixture("legacy", "-", &[]))];
    let mut bridge = Bridge::start(folder.path(), &servers, &[]);
    // The tool `b__echo` of `a` is that of `a` under its own prefix, and `b__echo` is that of `b`.
    for server in ["a", "b"] {
        assert_eq!(text(&bridge.call(&format!("{server}__count"), json!({}))), "1");
    }
    assert_eq!(text(&bridge.call("a__b__echo", json!({ "text": "x" }))), "x");
    assert_eq!(text(&bridge.call("b__echo", json!({ "text": "x" }))), "x");
    assert_eq!((text(&bridge.call("a__count", json!({}))), text(&bridge.call("b__count", json!({})))), ("3", "3"));
    // A resource's URI leads to the server that it names, whatever comes after.
    let uri = "osvm-mcp://a/../b/file:///a";
    let read = bridge.modern("resources/read", json!({ "uri": uri }));
    let content = &read["result"]["contents"][0];
    assert_eq!((&content["text"], &content["uri"]), (&json!("you asked for ../b/file:///a"), &json!(uri)));
    for uri in ["osvm-mcp://c/x", "osvm-mcp://a", "file:///a", "osvm-mcp:///a"] {
        assert_eq!(bridge.modern("resources/read", json!({ "uri": uri }))["error"]["code"], -32602, "{uri}");
    }
    bridge.end();
}

#[test]
fn a_description_that_changes_while_the_server_runs_is_held_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut bridge = both(folder.path(), |_| {});
    let names = |bridge: &mut Bridge| bridge.modern("tools/list", json!({}))["result"]["tools"].to_string();
    assert!(names(&mut bridge).contains("bad__echo"));
    bridge.call("bad__grown", json!({}));
    let after = names(&mut bridge);
    assert!(!after.contains("bad__echo\"") && !after.contains("all keys") && after.contains("bad__read"), "{after}");
    assert_eq!(bridge.call("bad__echo", json!({ "text": "x" }))["error"]["code"], -32602);
    bridge.end();
}
