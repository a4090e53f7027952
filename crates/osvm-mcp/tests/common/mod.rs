//! What the tests with servers in jails share. They need root and python3.
#![allow(dead_code)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::OnceLock,
};

use osvm_mcp::config::{Client, Config, Server};
use serde_json::{Value, json};

pub(crate) const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// A fixture that may read its own script, Python's library and what is given.
pub(crate) fn fixture(kind: &str, described: &str, read: &[&Path]) -> Server {
    static PYTHON: OnceLock<(String, String)> = OnceLock::new();
    let (python, library) = PYTHON.get_or_init(|| {
        let told = Command::new("python3")
            .args(["-c", "import sys, sysconfig; print(sys.executable); print(sysconfig.get_path('stdlib'))"])
            .output()
            .unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let (python, library) = told.trim().split_once('\n').unwrap();
        (python.to_owned(), library.to_owned())
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixture.py");
    let mut server = Server::new([python, script, kind, described].map(str::to_owned).to_vec());
    server.read = vec![library.into(), script.into()];
    server.read.extend(read.iter().map(|path| path.to_path_buf()));
    server.call_seconds = 20;
    server
}

fn started(folder: &Path, servers: &[(&str, Server)], clients: &[(&str, Client)]) -> Command {
    let config = Config {
        servers: servers.iter().map(|(name, server)| ((*name).to_owned(), server.clone())).collect(),
        clients: clients.iter().map(|(name, client)| ((*name).to_owned(), client.clone())).collect(),
    };
    let file = folder.join("mcp.toml");
    config.save(&file).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_osvm-mcp"));
    command.arg("serve").env("OSVM_MCP_CONFIG", file).env("OSVM_HOME", folder);
    command
}

/// The lines of the audit log.
pub(crate) fn audited(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("mcp/audit.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Reads lines until one has this in it.
pub(crate) fn wait_for(lines: &mut impl BufRead, what: &str) -> String {
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        if line.contains(what) {
            return line;
        }
        line.clear();
    }
    panic!("the end came before {what:?}");
}

pub(crate) fn modern(mut params: Value, capabilities: Value) -> Value {
    params["_meta"][VERSION] = json!("2026-07-28");
    params["_meta"][CAPABILITIES] = capabilities;
    params
}

pub(crate) fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

/// The stdio bridge.
pub(crate) struct Bridge {
    child: Child,
    from: BufReader<std::process::ChildStdout>,
    pub(crate) log: BufReader<ChildStderr>,
    next: u64,
}

impl Bridge {
    pub(crate) fn start(folder: &Path, servers: &[(&str, Server)], args: &[&str]) -> Self {
        let mut command = started(folder, servers, &[]);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, from, log, next: 0 }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    /// Sends a request and gives its id.
    pub(crate) fn begin(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        self.send(&json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params }));
        self.next
    }

    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params);
        let answer = self.read();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    pub(crate) fn read(&mut self) -> Value {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn modern(&mut self, method: &str, params: Value) -> Value {
        self.ask(method, modern(params, json!({})))
    }

    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.modern("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    pub(crate) fn greet(&mut self, capabilities: Value) -> Value {
        let info = json!({ "name": "t", "version": "1" });
        self.ask(
            "initialize",
            json!({ "protocolVersion": "2025-06-18", "capabilities": capabilities, "clientInfo": info }),
        )
    }

    /// Ends it, and gives what it wrote to stderr.
    pub(crate) fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        assert!(self.child.wait().unwrap().success());
        log
    }
}

/// The HTTP endpoint.
pub(crate) struct Endpoint {
    child: Child,
    pub(crate) log: BufReader<ChildStderr>,
    pub(crate) at: String,
}

/// What the endpoint answers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// The document, or the events.
    pub(crate) messages: Vec<Value>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub(crate) fn last(&self) -> &Value {
        self.messages.last().unwrap_or_else(|| panic!("{self:?}"))
    }
}

impl Endpoint {
    pub(crate) fn start(folder: &Path, servers: &[(&str, Server)], clients: &[(&str, Client)], args: &[&str]) -> Self {
        let mut command = started(folder, servers, clients);
        command.args(["--listen", "127.0.0.1:0"]).args(args).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let line = wait_for(&mut log, "serving http://");
        let at = line.trim().strip_prefix("serving http://").and_then(|at| at.strip_suffix("/mcp")).unwrap();
        Self { child, log, at: at.to_owned() }
    }

    /// Sends what is given, as it is, and reads until the endpoint closes.
    pub(crate) fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.at).unwrap();
        // It may have refused what it has read so far.
        let _ = stream.write_all(request);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let events: Vec<_> = body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        let messages = if events.is_empty() { serde_json::from_str(body).into_iter().collect() } else { events };
        Answer { status, head: head.to_ascii_lowercase(), messages }
    }

    pub(crate) fn send(&self, method: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = format!("{method} /mcp HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "host") {
            request.push_str(&format!("host: {}\r\n", self.at));
        }
        request.push_str("content-type: application/json\r\naccept: application/json, text/event-stream\r\n");
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        self.raw(format!("{request}\r\n{body}").as_bytes())
    }

    /// A modern request with the headers that it has to have, and more.
    pub(crate) fn modern(&self, method: &str, params: Value, more: &[(&str, &str)]) -> Answer {
        let name = params["name"].as_str().or(params["uri"].as_str()).unwrap_or_default().to_owned();
        let mut headers = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
        if !name.is_empty() {
            headers.push(("mcp-name", &name));
        }
        headers.extend(more);
        let params = modern(params, json!({}));
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        self.send("POST", &headers, &body)
    }

    pub(crate) fn call(&self, tool: &str, arguments: Value, more: &[(&str, &str)]) -> Answer {
        self.modern("tools/call", json!({ "name": tool, "arguments": arguments }), more)
    }

    /// Begins a session and gives its id.
    pub(crate) fn greet(&self, capabilities: Value, more: &[(&str, &str)]) -> String {
        let info = json!({ "name": "t", "version": "1" });
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": info });
        let body = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }).to_string();
        let answer = self.send("POST", more, &body);
        assert_eq!(answer.last()["result"]["protocolVersion"], "2025-11-25");
        answer.header("mcp-session-id").unwrap().to_owned()
    }

    pub(crate) fn in_session(
        &self,
        session: &str,
        id: u64,
        method: &str,
        params: Value,
        more: &[(&str, &str)],
    ) -> Answer {
        let mut headers = vec![("mcp-session-id", session), ("mcp-protocol-version", "2025-11-25")];
        headers.extend(more);
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        self.send("POST", &headers, &body)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
