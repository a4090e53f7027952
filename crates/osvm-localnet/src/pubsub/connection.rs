//! One WebSocket connection: reads calls, writes what waits in its queue, watches that the client is alive.

use std::{collections::HashMap, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use serde_json::value::RawValue;
use tokio::{sync::Semaphore, time::Instant};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message as WsMessage, Utf8Bytes,
        error::CapacityError,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    hub::Prepared,
    outbox::{Outbox, Waiting, outbox},
    request::{Action, Topic, find},
};
use crate::{
    limits,
    listen::{Listener, Stream, refuse},
    node::Node,
    rpc::{self, RpcError},
};

/// Serves until `stop`, then closes every connection with 1001.
pub(crate) async fn serve(node: Arc<Node>, mut listener: Listener, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(node.limits.ws_connections));
    let tasks = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = stop.cancelled() => None,
        };
        let Some(stream) = stream else { break };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            let reason = format!("too many WebSocket connections (limit {})", node.limits.ws_connections);
            tokio::spawn(async move { refuse(stream, &reason).await });
            continue;
        };
        let (node, stop) = (Arc::clone(&node), stop.clone());
        tasks.spawn(async move {
            connection(&node, stream, &stop).await;
            drop(place);
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(limits::DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!("WebSocket clients did not close within {} s", limits::DRAIN.as_secs());
    }
}

async fn connection(node: &Arc<Node>, stream: Stream, stop: &CancellationToken) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits::WS_MESSAGE_BYTES))
        .max_frame_size(Some(limits::WS_MESSAGE_BYTES));
    let handshake = tokio_tungstenite::accept_async_with_config(stream, Some(config));
    let Ok(Ok(socket)) = tokio::time::timeout(limits::WS_HANDSHAKE, handshake).await else { return };
    let (outbox, waiting) = outbox(node.limits.ws_queue);
    let mut session = Session { node, outbox, subscriptions: HashMap::new() };
    let end = session.run(socket, waiting, stop).await;
    session.end();
    if let Some((mut socket, frame)) = end {
        // Closing is a courtesy: a client that does not take it is dropped.
        let _ = tokio::time::timeout(limits::WS_WRITE, socket.close(Some(frame))).await;
    }
}

/// How a connection ends that this side closes.
type Goodbye = Option<(WebSocketStream<Stream>, CloseFrame)>;

struct Session<'a> {
    node: &'a Arc<Node>,
    outbox: Outbox,
    /// Ids with the start of their method's name, so that each kind is ended by its own method.
    subscriptions: HashMap<u64, String>,
}

fn frame(code: CloseCode, reason: &'static str) -> CloseFrame {
    CloseFrame { code, reason: Utf8Bytes::from_static(reason) }
}

impl Session<'_> {
    async fn run(
        &mut self,
        mut socket: WebSocketStream<Stream>,
        mut waiting: Waiting,
        stop: &CancellationToken,
    ) -> Goodbye {
        let overflow = waiting.overflow.clone();
        let mut ping = tokio::time::interval_at(Instant::now() + limits::WS_PING, limits::WS_PING);
        let mut heard = Instant::now();
        loop {
            let write = tokio::select! {
                biased;
                () = overflow.cancelled() => {
                    return Some((socket, frame(CloseCode::Again, "the client reads too slowly: too many notifications wait")));
                }
                () = stop.cancelled() => return Some((socket, frame(CloseCode::Away, "the node is stopping"))),
                message = socket.next() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(WsMessage::Text(text))) => {
                            self.text(&text);
                            continue;
                        }
                        Some(Ok(WsMessage::Binary(bytes))) => {
                            match std::str::from_utf8(&bytes) {
                                Ok(text) => self.text(text),
                                Err(_) => self.outbox.push(answer(&Err(RpcError::parse()), "null").into()),
                            }
                            continue;
                        }
                        // Pings are answered by the library, with the next write.
                        Some(Ok(WsMessage::Ping(_))) => None,
                        Some(Ok(WsMessage::Pong(_) | WsMessage::Frame(_))) => continue,
                        Some(Err(WsError::Capacity(CapacityError::MessageTooLong { .. }))) => {
                            return Some((socket, frame(CloseCode::Size, "the message is larger than 64 KiB")));
                        }
                        Some(Ok(WsMessage::Close(_)) | Err(_)) | None => return None,
                    }
                }
                message = waiting.next() => message.map(WsMessage::Text),
                _ = ping.tick() => {
                    if heard.elapsed() > limits::WS_SILENCE {
                        return Some((socket, frame(CloseCode::Policy, "no sign of life")));
                    }
                    Some(WsMessage::Ping(Default::default()))
                }
            };
            let sending = async {
                match write {
                    Some(message) => {
                        socket.feed(message).await?;
                        // What else waits goes into the same write.
                        while let Some(more) = waiting.try_next() {
                            socket.feed(WsMessage::Text(more)).await?;
                        }
                        socket.flush().await
                    }
                    None => socket.flush().await,
                }
            };
            tokio::select! {
                sent = sending => if sent.is_err() { return None },
                () = tokio::time::sleep(limits::WS_WRITE) => return None,
                // A client that reads nothing any more does not get a close frame either.
                () = async { overflow.cancelled().await; tokio::time::sleep(limits::WS_OVERFLOW).await } => return None,
            }
        }
    }

    /// Answers a message. What it subscribes to is active only once its answer is in the queue.
    fn text(&mut self, text: &str) {
        let mut started = Vec::new();
        let body = self.answer_all(text, &mut started);
        if let Some(body) = body {
            self.outbox.push(body);
        }
        for prepared in started {
            self.node.hub.activate(prepared, &self.outbox);
        }
    }

    /// The answer to a message, if there is to be one.
    fn answer_all(&mut self, text: &str, started: &mut Vec<Prepared>) -> Option<Utf8Bytes> {
        if !text.trim_start().starts_with('[') {
            return match serde_json::from_str::<&RawValue>(text) {
                Ok(call) => self.answer_one(call, started).map(Into::into),
                Err(_) => Some(answer(&Err(RpcError::parse()), "null").into()),
            };
        }
        match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(calls) if calls.is_empty() || calls.len() > self.node.limits.batch => {
                Some(answer(&Err(RpcError::invalid_request()), "null").into())
            }
            Ok(calls) => {
                let answers: Vec<String> =
                    calls.into_iter().filter_map(|call| self.answer_one(call, started)).collect();
                (!answers.is_empty()).then(|| format!("[{}]", answers.join(",")).into())
            }
            Err(_) => Some(answer(&Err(RpcError::parse()), "null").into()),
        }
    }

    fn answer_one(&mut self, raw: &RawValue, started: &mut Vec<Prepared>) -> Option<String> {
        let call = match rpc::Call::read(raw) {
            Ok(call) => call,
            Err(id) => return Some(answer(&Err(RpcError::invalid_request()), id)),
        };
        let result = match find(&call.method) {
            None => Err(RpcError::method_not_found()),
            Some(Action::Subscribe(read)) => {
                let kind = call.method.trim_end_matches("Subscribe").to_owned();
                read(call.params()).and_then(|topic| self.subscribe(kind, topic)).map(|prepared| {
                    let id = prepared.id.to_string().into_bytes();
                    started.push(prepared);
                    id
                })
            }
            Some(Action::Unsubscribe) => self.unsubscribe(call.method.trim_end_matches("Unsubscribe"), call.params()),
        };
        call.id.map(|id| answer(&result, id))
    }

    fn subscribe(&mut self, kind: String, topic: Topic) -> Result<Prepared, RpcError> {
        // Those that ended by themselves (a signature's) do not count.
        let limit = self.node.limits.subscriptions_per_connection;
        if self.subscriptions.len() >= limit {
            self.node.hub.retain_alive(&mut self.subscriptions);
            if self.subscriptions.len() >= limit {
                return Err(RpcError::internal(format!("too many subscriptions on this connection (limit {limit})")));
            }
        }
        let prepared = self.node.hub.prepare(topic)?;
        self.subscriptions.insert(prepared.id, kind);
        Ok(prepared)
    }

    fn unsubscribe(&mut self, kind: &str, params: rpc::Params<'_>) -> rpc::Answer {
        let id: u64 = params.between(1, 1)?.get(0)?;
        match self.subscriptions.get(&id) {
            Some(own) if own == kind => {
                self.subscriptions.remove(&id);
                self.node.hub.unsubscribe(id);
                Ok(b"true".to_vec())
            }
            _ => Err(RpcError::invalid_params("Invalid subscription id.")),
        }
    }

    fn end(&mut self) {
        for (id, _) in self.subscriptions.drain() {
            self.node.hub.unsubscribe(id);
        }
    }
}

fn answer(result: &rpc::Answer, id: &str) -> String {
    let mut out = Vec::with_capacity(64);
    rpc::envelope(&mut out, result, id);
    // JSON is UTF-8; an empty message would be a bug that the client sees.
    String::from_utf8(out).unwrap_or_default()
}
