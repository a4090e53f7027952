//! `osvm mcp serve --listen`, with servers in jails.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    process::{Command, Stdio},
};

use common::{Endpoint, audited, fixture, text, wait_for};
use osvm_mcp::{config::Client, pins::sha256};
use serde_json::{Value, json};

fn client(token: &str, servers: &[&str], requests_a_minute: u32) -> Client {
    let servers = Some(servers.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    Client { token_sha256: sha256(token.as_bytes()), servers: servers.filter(|all| !all.is_empty()), requests_a_minute }
}

#[test]
fn clients_of_either_version_are_served_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let servers = [("old", fixture("legacy", "-", &[])), ("new", fixture("modern", "-", &[]))];
    let endpoint = Endpoint::start(folder.path(), &servers, &[], &[]);
    let session = endpoint.greet(json!({}), &[]);
    for server in ["old", "new"] {
        let tool = format!("{server}__echo");
        let answer = endpoint.call(&tool, json!({ "text": "hello" }), &[]);
        assert_eq!((answer.status, text(answer.last())), (200, "hello"));
        let params = json!({ "name": tool, "arguments": { "text": "again" } });
        let answer = endpoint.in_session(&session, 7, "tools/call", params, &[]);
        assert_eq!((answer.status, text(answer.last())), (200, "again"));
    }
    assert_eq!(endpoint.modern("ping", json!({}), &[]).status, 404);
    assert_eq!(endpoint.send("DELETE", &[("mcp-session-id", &session)], "").status, 200);
    assert_eq!(endpoint.in_session(&session, 8, "ping", json!({}), &[]).status, 404);
}

#[test]
fn what_is_said_before_an_answer_makes_it_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(folder.path(), &[("f", fixture("legacy", "-", &[]))], &[], &["--only", "f"]);
    let params = json!({ "name": "progress", "arguments": {}, "_meta": { "progressToken": 5 } });
    let answer = endpoint.modern("tools/call", params, &[]);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let steps: Vec<_> = answer.messages[..2].iter().map(|note| &note["params"]).collect();
    assert_eq!((&steps[0]["progress"], &steps[1]["progressToken"]), (&json!(1), &json!(5)));
    assert_eq!(answer.last()["id"], 1);
}

#[test]
fn a_resource_that_changes_is_told_to_the_session_that_watches_it() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(folder.path(), &[("f", fixture("legacy", "-", &[]))], &[], &[]);
    let session = endpoint.greet(json!({}), &[]);
    let mut stream = TcpStream::connect(&endpoint.at).unwrap();
    let head = format!("GET /mcp HTTP/1.1\r\nhost: {}\r\nmcp-session-id: {session}\r\n\r\n", endpoint.at);
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    let mut said = BufReader::new(stream.by_ref());
    wait_for(&mut said, "text/event-stream");
    let params = json!({ "uri": "osvm-mcp://f/file:///a" });
    let answer = endpoint.in_session(&session, 1, "resources/subscribe", params, &[]);
    assert_eq!(answer.last()["result"], json!({}));
    endpoint.call("f__stray", json!({}), &[]);
    let told = wait_for(&mut said, "notifications/resources/updated");
    assert!(told.contains("osvm-mcp://f/file:///a"), "{told}");
}

#[test]
fn headers_that_say_something_else_than_the_message_are_refused_and_nothing_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(folder.path(), &[("f", fixture("modern", "-", &[]))], &[], &["--only", "f"]);
    let call = |headers: &[(&str, &str)]| {
        let meta = json!({ common::VERSION: "2026-07-28", common::CAPABILITIES: {} });
        let params = json!({ "name": "count", "arguments": {}, "_meta": meta });
        let body = json!({ "jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": params });
        endpoint.send("POST", headers, &body.to_string())
    };
    let (version, method) = (("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"));
    for headers in [
        &[version, method][..],
        &[version, method, ("mcp-name", "echo")],
        &[version, method, ("mcp-name", "count"), ("mcp-name", "echo")],
        &[version, ("mcp-method", "tools/list"), ("mcp-name", "count")],
        &[method, ("mcp-name", "count")],
    ] {
        let answer = call(headers);
        assert_eq!((answer.status, &answer.last()["error"]["code"]), (400, &json!(-32020)), "{headers:?}");
        assert_eq!(answer.last()["id"], 4);
    }
    assert_eq!(text(call(&[version, method, ("mcp-name", "count")]).last()), "1");
    // A request that can be read in two ways.
    let head = format!("POST /mcp HTTP/1.1\r\nhost: {}\r\n", endpoint.at);
    let two = format!("{head}content-length: 4\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n");
    assert_eq!(endpoint.raw(two.as_bytes()).status, 400);
}

#[test]
fn a_page_of_another_site_and_a_session_of_another_client_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let clients = [("one", client("t1", &[], 600)), ("two", client("t2", &[], 600))];
    let endpoint = Endpoint::start(folder.path(), &[("f", fixture("modern", "-", &[]))], &clients, &[]);
    let (one, two) = (("authorization", "Bearer t1"), ("authorization", "Bearer t2"));
    let session = endpoint.greet(json!({}), &[one]);
    assert_eq!(endpoint.in_session(&session, 1, "ping", json!({}), &[one]).status, 200);
    assert_eq!(endpoint.in_session(&session, 2, "ping", json!({}), &[two]).status, 404);
    assert_eq!(endpoint.send("DELETE", &[("mcp-session-id", &session), two], "").status, 404);
    // Nor is the version changed under way.
    let downgraded = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-06-18"), one];
    let ping = r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#;
    assert_eq!(endpoint.send("POST", &downgraded, ping).status, 400);
    for headers in [("host", "evil.example"), ("origin", "http://evil.example"), ("origin", "null")] {
        assert_eq!(endpoint.modern("tools/list", json!({}), &[headers, one]).status, 403, "{headers:?}");
    }
}

#[test]
fn a_client_has_its_servers_and_its_number_of_requests_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let servers = [("a", fixture("modern", "-", &[])), ("b", fixture("modern", "-", &[]))];
    let clients = [("one", client("t1", &["a"], 4))];
    let endpoint = Endpoint::start(folder.path(), &servers, &clients, &[]);
    let token = ("authorization", "Bearer t1");
    let refused = endpoint.modern("tools/list", json!({}), &[]);
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("bearer")));
    assert_eq!(endpoint.modern("tools/list", json!({}), &[("authorization", "Bearer t3")]).status, 401);
    let listed = endpoint.modern("tools/list", json!({}), &[token]);
    let tools = listed.last()["result"]["tools"].as_array().unwrap();
    assert!(!tools.is_empty() && tools.iter().all(|tool| tool["name"].as_str().unwrap().starts_with("a__")));
    assert_eq!(endpoint.call("b__echo", json!({}), &[token]).last()["error"]["code"], -32602);
    assert_eq!(
        endpoint.modern("resources/read", json!({ "uri": "osvm-mcp://b/x" }), &[token]).last()["error"]["code"],
        -32602
    );
    assert_eq!(text(endpoint.call("a__echo", json!({ "text": "x" }), &[token]).last()), "x");
    assert_eq!(endpoint.modern("tools/list", json!({}), &[token]).status, 429);
    let lines = audited(folder.path());
    let refusals = lines.iter().filter(|line| line["outcome"].as_str().unwrap().starts_with("refused: ")).count();
    assert_eq!(refusals, 3, "{lines:?}");
    assert!(lines.iter().any(|line| line["client"] == "one" && line["name"] == "a__echo" && line["outcome"] == "done"));
}

#[test]
fn what_is_too_large_too_deep_or_no_message_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(folder.path(), &[("f", fixture("modern", "-", &[]))], &[], &[]);
    assert_eq!(endpoint.send("POST", &[], &"x".repeat((8 << 20) + 1)).status, 413);
    for body in ["{", "[]", &"[".repeat(100_000), r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#] {
        assert_eq!(endpoint.send("POST", &[], body).status, 400);
    }
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#;
    let head = format!("POST /mcp HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", endpoint.at);
    let typed = format!("{head}content-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    assert_eq!(endpoint.raw(typed.as_bytes()).status, 415);
    assert_eq!(text(endpoint.call("f__echo", json!({ "text": "x" }), &[]).last()), "x");
}

#[test]
fn a_server_is_started_by_its_first_call_and_stopped_when_nobody_calls_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = fixture("modern", "-", &[]);
    server.idle_seconds = 1;
    let mut endpoint = Endpoint::start(folder.path(), &[("f", server)], &[], &["--only", "f"]);
    assert_eq!(text(endpoint.call("count", json!({}), &[]).last()), "1");
    assert_eq!(text(endpoint.call("count", json!({}), &[]).last()), "2");
    wait_for(&mut endpoint.log, "ended");
    // Its tools are known still: a list starts nothing.
    let listed = endpoint.modern("tools/list", json!({}), &[]);
    assert!(listed.last()["result"]["tools"].as_array().unwrap().len() > 1);
    assert_eq!(text(endpoint.call("count", json!({}), &[]).last()), "1");
}

#[test]
fn an_endpoint_that_others_could_reach_is_refused_without_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_osvm-mcp"))
        .args(["serve", "--listen", "0.0.0.0:0"])
        .env("OSVM_MCP_CONFIG", folder.path().join("mcp.toml"))
        .env("OSVM_HOME", folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let refused = line.contains("osvm mcp token");
    if !refused {
        child.kill().unwrap();
    }
    assert_eq!((refused, child.wait().unwrap().code()), (true, Some(2)), "{line}");
}

#[test]
fn a_client_that_goes_away_cancels_its_call() {
    let folder = tempfile::tempdir().unwrap();
    let mut endpoint = Endpoint::start(folder.path(), &[("f", fixture("modern", "-", &[]))], &[], &["--only", "f"]);
    assert_eq!(text(endpoint.call("echo", json!({ "text": "x" }), &[]).last()), "x");
    let params: Value = common::modern(json!({ "name": "never", "arguments": {} }), json!({}));
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: never\r\n\r\n{body}",
        endpoint.at,
        body.len()
    );
    let mut stream = TcpStream::connect(&endpoint.at).unwrap();
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    drop(stream);
    wait_for(&mut endpoint.log, "told notifications/cancelled");
    assert_eq!(text(endpoint.call("echo", json!({ "text": "x" }), &[]).last()), "x");
    assert!(audited(folder.path()).iter().any(|line| line["name"] == "never" && line["outcome"] == "cancelled"));
}
