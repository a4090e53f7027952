//! `osvm audit lsp`, spoken to as an editor speaks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use common::{command, vault};
use serde_json::{Value, json};

struct Server {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut child = command(folder).arg("lsp").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { input: child.stdin.take(), child, output }
    }

    fn send(&mut self, mut message: Value) {
        message["jsonrpc"] = "2.0".into();
        let body = message.to_string();
        let input = self.input.as_mut().unwrap();
        write!(input, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        input.flush().unwrap();
    }

    fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            match line.trim().strip_prefix("Content-Length: ") {
                Some(number) => length = number.parse().unwrap(),
                None if line.trim().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// Diagnostics of the file whose name ends so; others are passed over.
    fn diagnostics(&mut self, end: &str) -> Vec<Value> {
        loop {
            let message = self.receive();
            assert_eq!(message["method"], "textDocument/publishDiagnostics", "{message}");
            if message["params"]["uri"].as_str().unwrap().ends_with(end) {
                return message["params"]["diagnostics"].as_array().unwrap().clone();
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_editor_gets_diagnostics_on_open_and_save_and_a_quick_fix() {
    let folder = vault();
    let root = format!("file://{}", folder.path().display());
    let manifest = folder.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, format!("{text}\n[profile.release]\noverflow-checks = false\n")).unwrap();
    let uri = format!("{root}/Cargo.toml");
    let mut server = Server::start(folder.path());
    server.send(json!({ "id": 0, "method": "textDocument/codeAction", "params": {} }));
    assert_eq!(server.receive()["error"]["code"], -32002, "nothing before initialize");
    server.send(json!({ "id": 1, "method": "initialize", "params": { "rootUri": root } }));
    assert_eq!(server.receive()["result"]["capabilities"]["textDocumentSync"]["save"]["includeText"], false);
    server.send(json!({ "method": "initialized", "params": {} }));
    let opened = fs::read_to_string(&manifest).unwrap();
    let document = json!({ "uri": uri, "languageId": "toml", "version": 1, "text": opened });
    server.send(json!({ "method": "textDocument/didOpen", "params": { "textDocument": document } }));
    let diagnostics = server.diagnostics("/Cargo.toml");
    let overflow = diagnostics.iter().find(|d| d["code"] == "OSVM-093").unwrap();
    assert_eq!(overflow["range"]["start"], json!({ "line": 14, "character": 18 }));
    assert_eq!(overflow["severity"], 2);
    let range = overflow["range"].clone();
    let params = json!({ "textDocument": { "uri": uri }, "range": range, "context": { "diagnostics": [] } });
    server.send(json!({ "id": 2, "method": "textDocument/codeAction", "params": params }));
    let mut answer = server.receive();
    while answer["id"] != 2 {
        answer = server.receive();
    }
    let edit = &answer["result"][0]["edit"]["changes"][&uri][0];
    assert_eq!(edit["newText"], "true");
    assert_eq!(edit["range"], range);
    fs::write(&manifest, opened.replace("= false", "= true")).unwrap();
    server.send(json!({ "method": "textDocument/didSave", "params": { "textDocument": { "uri": uri } } }));
    let diagnostics = server.diagnostics("/Cargo.toml");
    assert!(diagnostics.iter().all(|d| d["code"] != "OSVM-093"), "{diagnostics:?}");
    server.send(json!({ "id": 3, "method": "no/such", "params": {} }));
    let mut answer = server.receive();
    while answer["id"] != 3 {
        answer = server.receive();
    }
    assert_eq!(answer["error"]["code"], -32601);
    server.send(json!({ "id": 4, "method": "shutdown" }));
    while server.receive()["id"] != 4 {}
    server.send(json!({ "method": "exit" }));
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_no_message_ends_the_server_with_2() {
    let folder = vault();
    let mut server = Server::start(folder.path());
    server.input.as_mut().unwrap().write_all(b"Content-Length: x\r\n\r\n").unwrap();
    server.input = None;
    assert_eq!(server.child.wait().unwrap().code(), Some(2));
}

#[test]
fn what_stands_in_the_editor_counts_and_places_are_in_utf_16() {
    let folder = vault();
    let root = format!("file://{}", folder.path().display());
    let uri = format!("{root}/src/lib.rs");
    let mut server = Server::start(folder.path());
    server.send(json!({ "id": 1, "method": "initialize", "params": { "workspaceFolders": [{ "uri": root }] } }));
    server.receive();
    let disk = fs::read_to_string(folder.path().join("src/lib.rs")).unwrap();
    let buffer = disk.replace("    pub authority: Un", "    /* \u{1f600} */ pub authority: Un");
    let document = json!({ "uri": uri, "languageId": "rust", "version": 1, "text": buffer });
    server.send(json!({ "method": "textDocument/didOpen", "params": { "textDocument": document } }));
    let found = server.diagnostics("/src/lib.rs");
    let signer = found.iter().find(|d| d["code"] == "OSVM-001").unwrap();
    // Four blanks, a comment of nine units (the face is two), `pub `.
    assert_eq!(signer["range"]["start"], json!({ "line": 27, "character": 17 }), "{signer}");
    assert!(!signer["relatedInformation"].as_array().unwrap().is_empty());
    let mended = buffer.replace("pub authority: UncheckedAccount", "pub authority: Signer");
    let changes = json!([{ "text": mended }]);
    let params = json!({ "textDocument": { "uri": uri, "version": 2 }, "contentChanges": changes });
    server.send(json!({ "method": "textDocument/didChange", "params": params }));
    server.send(json!({ "method": "textDocument/didSave", "params": { "textDocument": { "uri": uri } } }));
    let found = server.diagnostics("/src/lib.rs");
    assert!(found.iter().all(|d| d["code"] != "OSVM-001"), "{found:?}");
}
