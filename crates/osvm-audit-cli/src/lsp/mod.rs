//! `osvm audit lsp`: a language server over stdio. Diagnostics on open and save, quick fixes for what is mechanical.
//!
//! One message after the other; an audit takes the time of one. It starts nothing and writes no file.

mod rpc;
mod session;
mod uri;

use std::io::{self, BufReader};

use serde_json::{Value, json};

use crate::failure::Failure;
use rpc::Message;
use session::Session;

/// JSON-RPC: the method does not exist.
const METHOD_NOT_FOUND: i64 = -32601;
/// LSP: a request before `initialize`, or after `shutdown`.
const NOT_NOW: i64 = -32002;

/// Serves until the client says `exit`, or closes its end.
pub(crate) fn serve() -> Result<(), Failure> {
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = io::stdout().lock();
    let mut session: Option<Session> = None;
    let mut ended = false;
    let broken = |error: io::Error| Failure::new("the editor's messages cannot be read").because(&error);
    while let Some(message) = rpc::read(&mut input).map_err(broken)? {
        let Message { id, method, params } = message;
        let mut send = |value: &Value| rpc::write(&mut output, value);
        match (method.as_str(), &mut session) {
            ("exit", _) => {
                return if ended { Ok(()) } else { Err(Failure::new("the editor said exit before shutdown")) };
            }
            ("initialize", _) => {
                session = Some(Session::new(&params));
                send(&answer(&id, capabilities()))?;
            }
            ("shutdown", _) => {
                ended = true;
                send(&answer(&id, Value::Null))?;
            }
            (_, Some(session)) if !ended => match session.handle(&method, &params) {
                session::Outcome::Result(result) => send(&answer(&id, result))?,
                session::Outcome::Notify(notifications) => {
                    for notification in &notifications {
                        send(notification)?;
                    }
                }
                session::Outcome::Unknown if id.is_some() => {
                    send(&refusal(&id, METHOD_NOT_FOUND, &format!("no method {method}")))?;
                }
                session::Outcome::Unknown => {}
            },
            _ if id.is_some() => send(&refusal(&id, NOT_NOW, "not initialized, or shut down"))?,
            _ => {}
        }
    }
    Ok(())
}

fn capabilities() -> Value {
    json!({
        "capabilities": {
            "positionEncoding": "utf-16",
            "textDocumentSync": { "openClose": true, "change": 1, "save": { "includeText": false } },
            "codeActionProvider": { "codeActionKinds": ["quickfix"] },
        },
        "serverInfo": { "name": "osvm audit", "version": env!("CARGO_PKG_VERSION") },
    })
}

fn answer(id: &Option<Value>, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

fn refusal(id: &Option<Value>, code: i64, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

/// Reads any bytes as a message; for the property tests.
#[cfg(test)]
pub(crate) fn robust(mut bytes: &[u8]) -> io::Result<()> {
    rpc::read(&mut bytes).map(drop)
}
