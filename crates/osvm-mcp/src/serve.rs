//! The gateway for one client over stdin and stdout. Each request is answered by itself, in whatever order they are done.

use std::{collections::HashMap, io, sync::Arc};

use serde_json::Value;
use tokio::{
    io::{AsyncBufRead, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use crate::{
    caller::{Caller, is_level},
    gateway::Gateway,
    message::{Asks, Message, Talk, greeting, parse, speaks, whole},
    version::Version,
    watch::Mailbox,
    wire::{self, Broken, INVALID_REQUEST, RpcError},
};

/// Requests of one client that may be open.
const MOST_OPEN: usize = 256;
/// Answers that may wait to be written.
const MOST_WAITING: usize = 64;
/// The client's name in the audit log.
const CLIENT: &str = "stdio";

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

/// What an older client said once, and is of all its requests.
#[derive(Default)]
struct Greeted {
    done: bool,
    capabilities: Value,
    log_level: Option<String>,
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
            to.write_all(&wire::line(&answer)).await?;
            to.flush().await?;
        }
        Ok::<_, io::Error>(())
    });
    let (mut tasks, mut open) = (JoinSet::new(), HashMap::<String, AbortHandle>::new());
    let (mut greeted, asks, mailbox) = (Greeted::default(), Arc::<Asks>::default(), Arc::<Mailbox>::default());
    mailbox.open(out.clone());
    let mut text = Vec::new();
    while wire::read_line(&mut from, &mut text).await? {
        while tasks.try_join_next().is_some() {}
        open.retain(|_, task| !task.is_finished());
        let (id, method, mut params) = match parse(&text) {
            Message::Request { id, method, params } => (id, method, params),
            Message::Cancelled(id) => {
                // The call's end tells the server.
                if let Some(task) = open.remove(&id.to_string()) {
                    task.abort();
                }
                continue;
            }
            Message::Answer { id, answer } => {
                asks.answered(&id, answer);
                continue;
            }
            Message::Other => continue,
            Message::Broken { id, error } => {
                let _ = out.send(error.answer(&id)).await;
                continue;
            }
        };
        let version = match speaks(&method, &params, greeted.done) {
            Ok(version) => version,
            Err(error) => {
                let _ = out.send(error.answer(&id)).await;
                continue;
            }
        };
        if open.len() >= MOST_OPEN || open.contains_key(&id.to_string()) {
            let error = RpcError::new(INVALID_REQUEST, "too many open requests, or one of this id");
            let _ = out.send(error.answer(&id)).await;
            continue;
        }
        let mut caller = Caller { version, mailbox: mailbox.clone(), ..Caller::plain(CLIENT) };
        if version == Version::Legacy {
            greeted.learn(&method, &params);
            caller.capabilities = greeted.capabilities.clone();
            caller.log_level = greeted.log_level.clone();
        }
        caller.take_meta(&mut params);
        let talk = Talk { gateway: gateway.clone(), asks: asks.clone(), out: out.clone() };
        let key = id.to_string();
        let task = tasks.spawn(async move {
            let answer = talk.answer(&method, params, caller).await;
            let _ = talk.out.send(whole(&id, answer)).await;
        });
        open.insert(key, task);
    }
    tasks.shutdown().await;
    gateway.leave(&mailbox);
    drop((out, mailbox));
    match writer.await {
        Ok(written) => Ok(written?),
        Err(error) => Err(Error::Write(io::Error::other(error))),
    }
}

impl Greeted {
    fn learn(&mut self, method: &str, params: &Value) {
        match method {
            "initialize" => *self = Self { done: true, capabilities: greeting(params).1, log_level: None },
            "logging/setLevel" => {
                self.log_level = params["level"].as_str().filter(|level| is_level(level)).map(str::to_owned);
            }
            _ => {}
        }
    }
}
