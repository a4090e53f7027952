//! What a client sends, and the answer in the form of its version. The stdio bridge and the HTTP endpoint share it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    caller::{Caller, Event, is_level},
    gateway::Gateway,
    incoming::Reply,
    version::{self, LEGACY, META_CAPABILITIES, META_VERSION, MODERN, Version},
    wire::{DEEPEST, INVALID_PARAMS, INVALID_REQUEST, PARSE, RpcError, UNSUPPORTED_VERSION, depth},
};

/// Messages of one call that may wait for its client.
const MOST_WAITING: usize = 64;

/// A message of a client.
#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    Request { id: Value, method: String, params: Value },
    Cancelled(Value),
    Answer { id: String, answer: Result<Value, RpcError> },
    Broken { id: Value, error: RpcError },
    Other,
}

/// Reads a message. What is none is an error, with the id that it is to be sent to.
pub(crate) fn parse(text: &[u8]) -> Message {
    let wrong = |id: Value, code: i64, why: &str| Message::Broken { id, error: RpcError::new(code, why) };
    if depth(text) > DEEPEST {
        return wrong(Value::Null, INVALID_REQUEST, "it is nested too deeply");
    }
    let Ok(mut message) = serde_json::from_slice::<Value>(text) else {
        return wrong(Value::Null, PARSE, "it is no JSON");
    };
    if !message.is_object() || message["jsonrpc"] != "2.0" {
        return wrong(Value::Null, INVALID_REQUEST, "it is no JSON-RPC message");
    }
    let id = message["id"].take();
    let Some(method) = message["method"].as_str().map(str::to_owned) else {
        let answer = match (message.get("result"), message.get("error")) {
            (Some(_), None) => Ok(message["result"].take()),
            (_, Some(error)) => Err(RpcError::of(error)),
            (None, None) => return wrong(id, INVALID_REQUEST, "it is neither a request nor an answer"),
        };
        return id.as_str().map_or(Message::Other, |id| Message::Answer { id: id.to_owned(), answer });
    };
    let params = match message["params"].take() {
        Value::Null => json!({}),
        params @ Value::Object(_) => params,
        _ => return wrong(id, INVALID_REQUEST, "params is an object"),
    };
    match id {
        Value::Null if method == "notifications/cancelled" => Message::Cancelled(params["requestId"].clone()),
        Value::Null => Message::Other,
        id @ (Value::String(_) | Value::Number(_)) => Message::Request { id, method, params },
        _ => wrong(Value::Null, INVALID_REQUEST, "an id is a string or a number"),
    }
}

/// Which version a request is of. A modern one says so itself; any other needs an `initialize` before it.
pub(crate) fn speaks(method: &str, params: &Value, greeted: bool) -> Result<Version, RpcError> {
    let meta = &params["_meta"];
    match &meta[META_VERSION] {
        Value::String(asked) if asked == MODERN && meta[META_CAPABILITIES].is_object() => Ok(Version::Modern),
        Value::String(asked) if asked == MODERN => {
            Err(RpcError::new(INVALID_PARAMS, format!("_meta has no {META_CAPABILITIES}")))
        }
        Value::Null if greeted || method == "initialize" || method == "ping" => Ok(Version::Legacy),
        Value::Null => Err(RpcError::new(INVALID_PARAMS, format!("neither initialize nor {META_VERSION} in _meta"))),
        asked => Err(RpcError {
            code: UNSUPPORTED_VERSION,
            message: "Unsupported protocol version".to_owned(),
            data: Some(json!({ "supported": [MODERN], "requested": asked })),
        }),
    }
}

/// Requests to a client of an older version that have no answer yet.
#[derive(Default)]
pub(crate) struct Asks {
    next: AtomicU64,
    open: Mutex<HashMap<String, Reply>>,
}

impl Asks {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Reply>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer has come; one that nobody waits for is thrown away.
    pub(crate) fn answered(&self, id: &str, answer: Result<Value, RpcError>) {
        if let Some(reply) = self.lock().remove(id) {
            let _ = reply.send(answer);
        }
    }
}

/// What one call has asked; its end takes the questions back.
struct Asked<'a> {
    asks: &'a Asks,
    ids: Vec<String>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut open = self.asks.lock();
        for id in &self.ids {
            open.remove(id);
        }
    }
}

/// What a session of an older client, or one request of a modern one, is answered with.
pub(crate) struct Talk {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) asks: Arc<Asks>,
    /// Where a call's notifications and questions go.
    pub(crate) out: mpsc::Sender<Value>,
}

impl Talk {
    /// Answers a request; what is said meanwhile goes out before the answer.
    pub(crate) async fn answer(&self, method: &str, params: Value, mut caller: Caller) -> Result<Value, RpcError> {
        let (events, mut said) = mpsc::channel(MOST_WAITING);
        caller.events = Some(events);
        let mut asked = Asked { asks: &self.asks, ids: Vec::new() };
        let call = answer(&self.gateway, method, params, &caller);
        tokio::pin!(call);
        loop {
            tokio::select! {
                biased;
                Some(event) = said.recv() => self.pass(event, &mut asked).await,
                result = &mut call => {
                    while let Ok(event) = said.try_recv() {
                        self.pass(event, &mut asked).await;
                    }
                    return result;
                }
            }
        }
    }

    async fn pass(&self, event: Event, asked: &mut Asked<'_>) {
        let message = match event {
            Event::Note(note) => note,
            Event::Ask { method, params, reply } => {
                let id = format!("osvm-{}", self.asks.next.fetch_add(1, Ordering::Relaxed));
                self.asks.lock().insert(id.clone(), reply);
                asked.ids.push(id.clone());
                json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
            }
        };
        let _ = self.out.send(message).await;
    }
}

/// What `initialize` said, as far as it matters later.
pub(crate) fn greeting(params: &Value) -> (&'static str, Value) {
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let spoken = LEGACY.iter().find(|known| **known == asked).unwrap_or(&LEGACY[0]);
    (spoken, params["capabilities"].clone())
}

/// The answer in the form of the client's version.
async fn answer(gateway: &Gateway, method: &str, params: Value, caller: &Caller) -> Result<Value, RpcError> {
    let capabilities = Gateway::capabilities(caller.version);
    let mut result = match (caller.version, method) {
        (Version::Legacy, "initialize") => {
            let (spoken, _) = greeting(&params);
            let info = version::own_info();
            return Ok(json!({ "protocolVersion": spoken, "capabilities": capabilities, "serverInfo": info }));
        }
        (Version::Legacy, "ping") => return Ok(json!({})),
        (Version::Legacy, "logging/setLevel") => {
            let known = params["level"].as_str().is_some_and(is_level);
            return if known { Ok(json!({})) } else { Err(RpcError::new(INVALID_PARAMS, "there is no such level")) };
        }
        (Version::Modern, "server/discover") => {
            json!({ "supportedVersions": [MODERN], "capabilities": capabilities })
        }
        _ => gateway.handle(method, params, caller).await?,
    };
    if caller.version == Version::Modern {
        version::complete(method, &mut result);
    }
    Ok(result)
}

/// The whole message of an answer.
pub(crate) fn whole(id: &Value, answer: Result<Value, RpcError>) -> Value {
    match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => error.answer(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_version_needs_a_greeting_and_an_unknown_version_is_refused() {
        assert!(speaks("tools/list", &json!({}), false).is_err());
        assert_eq!(speaks("tools/list", &json!({}), true), Ok(Version::Legacy));
        let modern = |version: &str| json!({ "_meta": { META_VERSION: version, META_CAPABILITIES: {} } });
        assert_eq!(speaks("tools/list", &modern(MODERN), false), Ok(Version::Modern));
        assert_eq!(speaks("tools/list", &modern("1900-01-01"), true).unwrap_err().code, UNSUPPORTED_VERSION);
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_id_where_it_has_one() {
        let broken = |text: &[u8]| match parse(text) {
            Message::Broken { id, error } => (id, error.code),
            message => panic!("{message:?}"),
        };
        assert_eq!(broken(b"{"), (Value::Null, PARSE));
        assert_eq!(broken(b"[]"), (Value::Null, INVALID_REQUEST));
        assert_eq!(broken(br#"{"jsonrpc":"2.0","id":7,"method":"m","params":[]}"#), (json!(7), INVALID_REQUEST));
        assert_eq!(broken("[".repeat(65).as_bytes()), (Value::Null, INVALID_REQUEST));
        let told = br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
        assert_eq!(parse(told), Message::Cancelled(json!(7)));
    }
}
