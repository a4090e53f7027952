//! The gateway for one client over stdin and stdout. Each request is answered by itself, in whatever order they are done.

use std::{collections::HashMap, io, sync::Arc};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufRead, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use crate::{
    gateway::Gateway,
    version::{self, LEGACY, META_VERSION, MODERN, Version},
    wire::{self, Broken, INVALID_REQUEST, RpcError, UNSUPPORTED_VERSION},
};

/// Requests of one client that may be open.
const MOST_OPEN: usize = 256;
/// Answers that may wait to be written.
const MOST_WAITING: usize = 64;

/// Why the bridge ended before its client did.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the client writes is of no use.
    #[error("the client is not understood")]
    Client(#[from] Broken),
    /// The client does not read.
    #[error("cannot write to the client")]
    Write(#[from] io::Error),
}

/// Serves until the client closes its end. Requests that are open then are given up.
///
/// # Errors
/// When the client's stream is of no use any more.
pub async fn serve(
    gateway: Arc<Gateway>,
    mut from: impl AsyncBufRead + Unpin,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
) -> Result<(), Error> {
    let (out, mut waiting) = mpsc::channel::<Value>(MOST_WAITING);
    let writer = tokio::spawn(async move {
        while let Some(answer) = waiting.recv().await {
            to.write_all(format!("{answer}\n").as_bytes()).await?;
            to.flush().await?;
        }
        Ok::<_, io::Error>(())
    });
    let (mut tasks, mut open) = (JoinSet::new(), HashMap::<String, AbortHandle>::new());
    let mut greeted = false;
    let mut text = Vec::new();
    while wire::read_line(&mut from, &mut text).await? {
        while tasks.try_join_next().is_some() {}
        open.retain(|_, task| !task.is_finished());
        let (id, method, mut params) = match parse(&text) {
            Ok(Incoming::Request { id, method, params }) => (id, method, params),
            Ok(Incoming::Cancelled(id)) => {
                // The call's end tells the server.
                if let Some(task) = open.remove(&id.to_string()) {
                    task.abort();
                }
                continue;
            }
            Ok(Incoming::Other) => continue,
            Err(error) => {
                let _ = out.send(error.answer(&Value::Null)).await;
                continue;
            }
        };
        let version = match speaks(&method, &params, greeted) {
            Ok(version) => version,
            Err(error) => {
                let _ = out.send(error.answer(&id)).await;
                continue;
            }
        };
        greeted |= method == "initialize";
        if open.len() >= MOST_OPEN || open.contains_key(&id.to_string()) {
            let error = RpcError::new(INVALID_REQUEST, "too many open requests, or one of this id");
            let _ = out.send(error.answer(&id)).await;
            continue;
        }
        if let Some(fields) = params.as_object_mut() {
            fields.remove("_meta");
        }
        let (gateway, out, key) = (gateway.clone(), out.clone(), id.to_string());
        let task = tasks.spawn(async move {
            let answer = match answer(&gateway, version, &method, params).await {
                Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
                Err(error) => error.answer(&id),
            };
            let _ = out.send(answer).await;
        });
        open.insert(key, task);
    }
    tasks.shutdown().await;
    drop(out);
    match writer.await {
        Ok(written) => Ok(written?),
        Err(error) => Err(Error::Write(io::Error::other(error))),
    }
}

enum Incoming {
    Request { id: Value, method: String, params: Value },
    Cancelled(Value),
    Other,
}

fn parse(text: &[u8]) -> Result<Incoming, RpcError> {
    let wrong = |why: &str| RpcError::new(INVALID_REQUEST, why);
    let mut message: Value = serde_json::from_slice(text).map_err(|_| RpcError::new(-32700, "it is no JSON"))?;
    if !message.is_object() || message["jsonrpc"] != "2.0" {
        return Err(wrong("it is no JSON-RPC message"));
    }
    let Some(method) = message["method"].as_str().map(str::to_owned) else { return Ok(Incoming::Other) };
    let params = match message["params"].take() {
        Value::Null => json!({}),
        params @ Value::Object(_) => params,
        _ => return Err(wrong("params is an object")),
    };
    match message["id"].take() {
        Value::Null if method == "notifications/cancelled" => Ok(Incoming::Cancelled(params["requestId"].clone())),
        Value::Null => Ok(Incoming::Other),
        id @ (Value::String(_) | Value::Number(_)) => Ok(Incoming::Request { id, method, params }),
        _ => Err(wrong("an id is a string or a number")),
    }
}

/// Which version a request is of. A modern one says so itself; any other needs an `initialize` before it.
pub(crate) fn speaks(method: &str, params: &Value, greeted: bool) -> Result<Version, RpcError> {
    match &params["_meta"][META_VERSION] {
        Value::String(asked) if asked == MODERN => Ok(Version::Modern),
        Value::Null if greeted || method == "initialize" || method == "ping" => Ok(Version::Legacy),
        Value::Null => Err(RpcError::new(INVALID_REQUEST, format!("neither initialize nor {META_VERSION} in _meta"))),
        asked => Err(RpcError {
            code: UNSUPPORTED_VERSION,
            message: "Unsupported protocol version".to_owned(),
            data: Some(json!({ "supported": [MODERN], "requested": asked })),
        }),
    }
}

/// The answer in the form of the client's version.
pub(crate) async fn answer(
    gateway: &Gateway,
    version: Version,
    method: &str,
    params: Value,
) -> Result<Value, RpcError> {
    let capabilities = json!({ "tools": {}, "prompts": {}, "resources": {} });
    let mut result = match (version, method) {
        (Version::Legacy, "initialize") => {
            let asked = params["protocolVersion"].as_str().unwrap_or_default();
            let spoken = LEGACY.iter().find(|known| **known == asked).unwrap_or(&LEGACY[0]);
            return Ok(
                json!({ "protocolVersion": spoken, "capabilities": capabilities, "serverInfo": version::own_info() }),
            );
        }
        (Version::Legacy, "ping") => return Ok(json!({})),
        (Version::Modern, "server/discover") => {
            json!({ "supportedVersions": [MODERN], "capabilities": capabilities, "serverInfo": version::own_info() })
        }
        _ => gateway.handle(method, params).await?,
    };
    if version == Version::Modern {
        version::complete(method, &mut result);
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_version_needs_a_greeting_and_an_unknown_version_is_refused() {
        assert!(speaks("tools/list", &json!({}), false).is_err());
        assert_eq!(speaks("tools/list", &json!({}), true), Ok(Version::Legacy));
        let modern = |version: &str| json!({ "_meta": { META_VERSION: version } });
        assert_eq!(speaks("tools/list", &modern(MODERN), false), Ok(Version::Modern));
        assert_eq!(speaks("tools/list", &modern("1900-01-01"), true).unwrap_err().code, UNSUPPORTED_VERSION);
    }
}
