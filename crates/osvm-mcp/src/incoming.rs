//! What a server writes: answers go to their calls, its notifications and requests to the client of the call that they belong to.
//!
//! A notification or request that names no call is given to the one call that is open; if several are, nobody can tell whose it
//! is, and it is given to none.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Map, Value, json};
use tokio::{
    io::BufReader,
    process::ChildStdout,
    sync::{Semaphore, mpsc, oneshot},
};

use crate::{
    caller::{Caller, Event},
    wire::{self, INTERNAL, METHOD_NOT_FOUND, RpcError},
};

/// Lines that are no messages, after which a server is ended.
const MOST_NOISE: u64 = 1000;
/// Requests of one server that may wait for its client.
const MOST_ASKED: usize = 16;

pub(crate) type Reply = oneshot::Sender<Result<Value, RpcError>>;

/// A call that is open.
pub(crate) struct Pending {
    pub(crate) reply: Reply,
    pub(crate) caller: Caller,
}

/// Calls that are open; None once the server has ended.
#[derive(Clone)]
pub(crate) struct Open(Arc<Mutex<Option<HashMap<u64, Pending>>>>);

impl Open {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(HashMap::new()))))
    }

    pub(crate) fn with<T>(&self, what: impl FnOnce(&mut Option<HashMap<u64, Pending>>) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The client of the only call that is open.
    fn only(&self) -> Option<Caller> {
        self.with(|open| {
            let mut calls = open.as_ref()?.values();
            calls.next().filter(|_| calls.next().is_none()).map(|call| call.caller.clone())
        })
    }
}

/// The reading side of one server.
pub(crate) struct Incoming {
    pub(crate) open: Open,
    pub(crate) out: mpsc::WeakSender<Vec<u8>>,
    /// Set when the server says that its tools are others now.
    pub(crate) stale: Arc<AtomicBool>,
    /// Notifications that a resource has changed.
    pub(crate) updates: mpsc::Sender<Value>,
    pub(crate) asked: Arc<Semaphore>,
}

impl Incoming {
    pub(crate) fn new(open: Open, out: mpsc::WeakSender<Vec<u8>>, updates: mpsc::Sender<Value>) -> Self {
        let asked = Arc::new(Semaphore::new(MOST_ASKED));
        Self { open, out, stale: Arc::default(), updates, asked }
    }

    /// Until the server ends or its stream is of no use any more.
    pub(crate) async fn read(self, stdout: ChildStdout) {
        let mut from = BufReader::new(stdout);
        let mut text = Vec::new();
        let mut noise = 0;
        loop {
            match wire::read_line(&mut from, &mut text).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    eprintln!("note: a server is not listened to any more: {error}");
                    break;
                }
            }
            let Ok(Value::Object(message)) = serde_json::from_slice::<Value>(&text) else {
                noise += 1;
                if noise > MOST_NOISE {
                    eprintln!("note: a server is not listened to any more: it writes what is no JSON-RPC");
                    break;
                }
                continue;
            };
            self.take(message);
        }
        // Each open call learns of it by its sender's end.
        self.open.with(Option::take);
    }

    fn take(&self, mut message: Map<String, Value>) {
        let method = message.get("method").and_then(Value::as_str).map(str::to_owned);
        match (method, message.remove("id")) {
            (Some(method), None | Some(Value::Null)) => self.note(&method, message),
            (Some(method), Some(id)) => self.request(method, id, message.remove("params").unwrap_or_else(|| json!({}))),
            (None, Some(id)) => self.answer(&id, message),
            (None, None) => {}
        }
    }

    fn answer(&self, id: &Value, mut message: Map<String, Value>) {
        let Some(id) = id.as_u64() else { return };
        let answer = match (message.remove("result"), message.remove("error")) {
            (Some(result), None) => Ok(result),
            (_, Some(error)) => Err(RpcError::of(&error)),
            (None, None) => return,
        };
        if let Some(call) = self.open.with(|open| open.as_mut().and_then(|open| open.remove(&id))) {
            let _ = call.reply.send(answer);
        }
    }

    fn note(&self, method: &str, mut message: Map<String, Value>) {
        match method {
            "notifications/progress" => {
                let Some(token) = message.get("params").and_then(|params| params["progressToken"].as_u64()) else {
                    return;
                };
                let caller = self.open.with(|open| Some(open.as_ref()?.get(&token)?.caller.clone()));
                if let (Some(caller), Some(params)) = (caller, message.get_mut("params"))
                    && let Some(wanted) = &caller.progress
                {
                    params["progressToken"] = wanted.clone();
                    send(&caller, message);
                }
            }
            "notifications/message" => {
                let level = message.get("params").and_then(|params| params["level"].as_str()).unwrap_or_default();
                if let Some(caller) = self.open.only().filter(|caller| caller.wants(level)) {
                    send(&caller, message);
                }
            }
            "notifications/tools/list_changed" => self.stale.store(true, Ordering::Relaxed),
            "notifications/resources/updated" => {
                let _ = self.updates.try_send(Value::Object(message));
            }
            _ => {}
        }
    }

    fn request(&self, method: String, id: Value, params: Value) {
        let Some(out) = self.out.upgrade() else { return };
        let tell = move |answer: &Value| {
            // A server that does not read its answers does not get them.
            let _ = out.try_send(wire::line(answer));
        };
        if method == "ping" {
            return tell(&json!({ "jsonrpc": "2.0", "id": id, "result": {} }));
        }
        let refused = RpcError::new(METHOD_NOT_FOUND, "there is no client that could be asked");
        let caller = self.open.only().filter(|caller| caller.answers(&method));
        let (Some(Caller { events: Some(events), .. }), Ok(permit)) = (caller, self.asked.clone().try_acquire_owned())
        else {
            return tell(&refused.answer(&id));
        };
        let (reply, answer) = oneshot::channel();
        if events.try_send(Event::Ask { method, params, reply }).is_err() {
            return tell(&refused.answer(&id));
        }
        // The call's end drops the sender, so this ends with it.
        tokio::spawn(async move {
            let answer = answer.await.unwrap_or_else(|_| Err(RpcError::new(INTERNAL, "nobody answers any more")));
            tell(&match answer {
                Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
                Err(error) => error.answer(&id),
            });
            drop(permit);
        });
    }
}

/// A message for which there is no room is lost: the server must not be held up by a client that does not read.
fn send(caller: &Caller, message: Map<String, Value>) {
    if let Some(events) = &caller.events {
        let _ = events.try_send(Event::Note(Value::Object(message)));
    }
}
