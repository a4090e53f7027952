//! JSON-RPC 2.0: from a body to an answer. Knows calls, batches and errors; what a method does is in `methods`.
//!
//! Three kinds of methods. Reads are answered where they arrive. Scans (many accounts, or the disk) run on threads of their own, a few
//! at a time, so that they hold up nobody. Writes are handed to the bank and answered once it says that the write is safe.

mod error;
mod params;

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

pub(crate) use self::{
    error::RpcError,
    params::{ContextConfig, Level, Params, Positional, address, hash, signature},
};
use crate::{
    methods::{self, Run},
    node::Node,
};

/// A result, serialised.
pub(crate) type Answer = Result<Vec<u8>, RpcError>;

/// Why a write was not done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum WriteError {
    /// Nothing happened; another instance may take it.
    NotLeader,
    /// Anything else, as the client is to see it.
    Rpc(RpcError),
}

/// A write under way.
pub(crate) type Pending = oneshot::Receiver<Result<Vec<u8>, WriteError>>;

/// What the body of the HTTP answer is.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Status 200.
    Body(Vec<u8>),
    /// Status 503 with the header that says that nothing was done.
    NotProcessed(Vec<u8>),
}

/// Serialises a result.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Answer {
    serde_json::to_vec(value).map_err(|_| RpcError::internal("the answer could not be written as JSON"))
}

#[derive(Deserialize)]
struct WireCall<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    method: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
}

/// `null` is an id; only absence makes a notification.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

const NULL: &str = "null";

/// A call whose form was checked.
pub(crate) struct Call<'a> {
    pub(crate) method: Cow<'a, str>,
    params: Option<&'a RawValue>,
    /// None: a notification, which is not answered.
    pub(crate) id: Option<&'a str>,
}

impl<'a> Call<'a> {
    /// Its parameters, not yet read.
    pub(crate) fn params(&self) -> Params<'a> {
        Params::new(self.params)
    }

    /// The call, or the id under which to say that it is none.
    pub(crate) fn read(raw: &'a RawValue) -> Result<Self, &'a str> {
        let wire: WireCall<'a> = serde_json::from_str(raw.get()).map_err(|_| NULL)?;
        let id = match wire.id.map(RawValue::get) {
            Some(id) if id.starts_with(['"', 'n', '-']) || id.starts_with(|c: char| c.is_ascii_digit()) => Some(id),
            Some(_) => return Err(NULL),
            None => None,
        };
        let method = wire.method.and_then(|raw| serde_json::from_str::<CowStr<'a>>(raw.get()).ok());
        match (wire.jsonrpc.as_deref(), method) {
            (Some("2.0"), Some(method)) => Ok(Self { method: method.0, params: wire.params, id }),
            _ => Err(id.unwrap_or(NULL)),
        }
    }
}

/// A string that borrows where it can.
#[derive(Deserialize)]
struct CowStr<'a>(#[serde(borrow)] Cow<'a, str>);

/// A call under way.
enum Outcome {
    Done(Result<Vec<u8>, RpcError>),
    Scanning(tokio::task::JoinHandle<Answer>),
    Writing(Pending),
}

/// Answers a body. `retry`: a write that was already done is answered as done.
pub(crate) async fn handle(node: &Arc<Node>, body: Bytes, retry: bool) -> Reply {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'[') {
        return match serde_json::from_slice::<&RawValue>(&body) {
            Ok(raw) => single(node, raw, retry).await,
            Err(_) => failed(RpcError::parse()),
        };
    }
    match serde_json::from_slice::<Vec<&RawValue>>(&body) {
        Ok(calls) if calls.is_empty() => failed(RpcError::invalid_request()),
        Ok(calls) if calls.len() > node.limits.batch => failed(RpcError::new(
            -32600,
            format!("the batch has {} calls; the limit is {} (--limit-batch)", calls.len(), node.limits.batch),
        )),
        Ok(calls) => batch(node, &calls, retry).await,
        Err(_) => failed(RpcError::parse()),
    }
}

fn failed(error: RpcError) -> Reply {
    let mut out = Vec::with_capacity(128);
    envelope(&mut out, &Err(error), NULL);
    out.push(b'\n');
    Reply::Body(out)
}

async fn single(node: &Arc<Node>, raw: &RawValue, retry: bool) -> Reply {
    let mut out = Vec::new();
    let call = match Call::read(raw) {
        Ok(call) => call,
        Err(id) => {
            envelope(&mut out, &Err(RpcError::invalid_request()), id);
            out.push(b'\n');
            return Reply::Body(out);
        }
    };
    let outcome = if is_write(&call) && !node.leads() {
        Err(WriteError::NotLeader)
    } else {
        finish(start(node, &call, retry)).await
    };
    let (result, not_processed) = settle(outcome);
    if let Some(id) = call.id {
        envelope(&mut out, &limited(node, result, 0), id);
        out.push(b'\n');
    }
    if not_processed { Reply::NotProcessed(out) } else { Reply::Body(out) }
}

async fn batch(node: &Arc<Node>, raws: &[&RawValue], retry: bool) -> Reply {
    let calls: Vec<_> = raws.iter().map(|raw| Call::read(raw)).collect();
    let writes = calls.iter().flatten().filter(|call| is_write(call)).count();
    let leads = writes == 0 || node.leads();
    let mut started = Vec::with_capacity(calls.len());
    for call in &calls {
        started.push(match call {
            Ok(_) if !leads => Err(()),
            // Writes of a batch are queued in its order and wait for their answers together.
            Ok(call) => Ok(start(node, call, retry)),
            Err(_) => Ok(Outcome::Done(Err(RpcError::invalid_request()))),
        });
    }
    let mut out = vec![b'['];
    let mut refused = 0;
    for (call, outcome) in calls.iter().zip(started) {
        let outcome = match outcome {
            Ok(outcome) => finish(outcome).await,
            Err(()) => Err(WriteError::NotLeader),
        };
        let (result, not_processed) = settle(outcome);
        refused += usize::from(not_processed && call.as_ref().is_ok_and(is_write));
        let id = match call {
            Ok(Call { id: None, .. }) => continue,
            Ok(Call { id: Some(id), .. }) | Err(id) => id,
        };
        if out.len() > 1 {
            out.push(b',');
        }
        let result = limited(node, result, out.len());
        envelope(&mut out, &result, id);
    }
    if out.len() == 1 {
        // Nothing but notifications: nothing is answered.
        out.clear();
    } else {
        out.extend_from_slice(b"]\n");
    }
    // When leadership went over in the middle, some writes may be done: then each call has its own answer.
    if writes > 0 && refused == writes { Reply::NotProcessed(out) } else { Reply::Body(out) }
}

fn is_write(call: &Call<'_>) -> bool {
    methods::find(&call.method).is_some_and(|method| matches!(method.run, Run::Write(_)))
}

fn start(node: &Arc<Node>, call: &Call<'_>, retry: bool) -> Outcome {
    let Some(method) = methods::find(&call.method) else {
        return Outcome::Done(Err(RpcError::method_not_found()));
    };
    match method.run {
        Run::Read(run) => Outcome::Done(run(node, call.params())),
        Run::Write(run) => match run(node, call.params(), retry) {
            Ok(pending) => Outcome::Writing(pending),
            Err(error) => Outcome::Done(Err(error)),
        },
        Run::Scan(run) => {
            let Some(ticket) = node.scans.queue() else {
                return Outcome::Done(Err(RpcError::overloaded("too many scans are waiting")));
            };
            let node = Arc::clone(node);
            let params = call.params.map(ToOwned::to_owned);
            Outcome::Scanning(tokio::spawn(async move {
                let place = ticket.place().await;
                let scan = tokio::task::spawn_blocking(move || {
                    let answer = run(&node, Params::new(params.as_deref()));
                    drop(place);
                    answer
                });
                scan.await.unwrap_or_else(|_| Err(RpcError::internal("Internal error")))
            }))
        }
    }
}

async fn finish(outcome: Outcome) -> Result<Vec<u8>, WriteError> {
    match outcome {
        Outcome::Done(result) => result.map_err(WriteError::Rpc),
        Outcome::Scanning(task) => {
            task.await.unwrap_or_else(|_| Err(RpcError::internal("Internal error"))).map_err(WriteError::Rpc)
        }
        // The bank always answers unless it ends; then nobody knows whether the write is in the log.
        Outcome::Writing(pending) => pending.await.unwrap_or_else(|_| {
            Err(WriteError::Rpc(RpcError::internal("the node stopped before the write was answered")))
        }),
    }
}

fn settle(outcome: Result<Vec<u8>, WriteError>) -> (Result<Vec<u8>, RpcError>, bool) {
    match outcome {
        Ok(result) => (Ok(result), false),
        Err(WriteError::Rpc(error)) => (Err(error), false),
        Err(WriteError::NotLeader) => (Err(RpcError::not_leader()), true),
    }
}

fn limited(node: &Node, result: Result<Vec<u8>, RpcError>, already: usize) -> Result<Vec<u8>, RpcError> {
    let limit = node.limits.response_bytes;
    match result {
        Ok(result) if result.len() + already > limit => Err(too_large(limit)),
        result => result,
    }
}

/// The error for an answer over the limit.
pub(crate) fn too_large(limit: usize) -> RpcError {
    RpcError::scan(format!(
        "the answer is larger than {limit} bytes (--limit-response); ask for less with filters or dataSlice"
    ))
}

/// Writes a call's answer.
pub(crate) fn envelope(out: &mut Vec<u8>, result: &Result<Vec<u8>, RpcError>, id: &str) {
    match result {
        Ok(result) => {
            out.reserve(result.len() + id.len() + 40);
            out.extend_from_slice(br#"{"jsonrpc":"2.0","result":"#);
            out.extend_from_slice(result);
        }
        Err(error) => {
            out.extend_from_slice(br#"{"jsonrpc":"2.0","error":"#);
            if serde_json::to_writer(&mut *out, error).is_err() {
                // An error holds only numbers and strings; they can always be written.
                out.extend_from_slice(br#"{"code":-32603,"message":"Internal error"}"#);
            }
        }
    }
    out.extend_from_slice(br#","id":"#);
    out.extend_from_slice(id.as_bytes());
    out.push(b'}');
}
