//! A fake of a Solana node's subscription port. It says what the test tells it to.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async, tungstenite::Message};
use tokio_util::sync::CancellationToken;

type Subscriptions = Arc<Mutex<HashMap<u64, (String, mpsc::UnboundedSender<String>)>>>;

pub(crate) struct Node {
    pub(crate) addr: SocketAddr,
    subscriptions: Subscriptions,
    dead: CancellationToken,
}

impl Node {
    /// Its ids begin at `first_id`, so that no two nodes use the same.
    pub(crate) async fn start(first_id: u64) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), first_id, false).await
    }

    /// One that takes requests and never answers.
    pub(crate) async fn mute() -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), 0, true).await
    }

    async fn start_on(listener: TcpListener, first_id: u64, mute: bool) -> Self {
        let addr = listener.local_addr().unwrap();
        let (subscriptions, dead) = (Subscriptions::default(), CancellationToken::new());
        let (table, end) = (Arc::clone(&subscriptions), dead.clone());
        let ids = Arc::new(AtomicU64::new(first_id));
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = end.cancelled() => return,
                };
                let (table, ids, end) = (Arc::clone(&table), Arc::clone(&ids), end.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve(stream, table, ids, mute) => {}
                        () = end.cancelled() => {}
                    }
                });
            }
        });
        Self { addr, subscriptions, dead }
    }

    /// News for everybody who subscribed to `kind`.
    pub(crate) fn tell(&self, kind: &str, result: &Value) {
        let mut subscriptions = self.subscriptions.lock().unwrap();
        subscriptions.retain(|id, (its_kind, to)| {
            if its_kind != kind {
                return true;
            }
            let params = json!({ "result": result, "subscription": id });
            let news = json!({ "jsonrpc": "2.0", "method": format!("{kind}Notification"), "params": params });
            to.send(news.to_string()).is_ok() && kind != "signature"
        });
    }

    pub(crate) fn subscriptions(&self) -> usize {
        self.subscriptions.lock().unwrap().len()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.dead.cancel();
    }
}

async fn serve(stream: TcpStream, table: Subscriptions, ids: Arc<AtomicU64>, mute: bool) {
    let Ok(mut socket) = accept_async(stream).await else { return };
    let (queue, mut queued) = mpsc::unbounded_channel::<String>();
    let mut mine = Vec::new();
    loop {
        tokio::select! {
            text = queued.recv() => {
                if socket.send(Message::text(text.unwrap())).await.is_err() { break }
            }
            message = socket.next() => {
                let text = match message {
                    Some(Ok(Message::Text(text))) => text,
                    Some(Ok(Message::Ping(_))) => {
                        let _ = socket.flush().await;
                        continue;
                    }
                    Some(Ok(_)) => continue,
                    _ => break,
                };
                if mute { continue }
                let request: Value = serde_json::from_str(&text).unwrap();
                let method = request["method"].as_str().unwrap();
                let answer = if let Some(kind) = method.strip_suffix("Subscribe") {
                    if request["params"][0] == "bad" {
                        json!({ "jsonrpc": "2.0", "error": { "code": -32602, "message": "bad" }, "id": request["id"] })
                    } else {
                        let id = ids.fetch_add(1, Ordering::SeqCst);
                        mine.push(id);
                        table.lock().unwrap().insert(id, (kind.to_owned(), queue.clone()));
                        json!({ "jsonrpc": "2.0", "result": id, "id": request["id"] })
                    }
                } else if method.ends_with("Unsubscribe") {
                    let known = table.lock().unwrap().remove(&request["params"][0].as_u64().unwrap()).is_some();
                    json!({ "jsonrpc": "2.0", "result": known, "id": request["id"] })
                } else {
                    json!({ "jsonrpc": "2.0", "result": { "echo": method }, "id": request["id"] })
                };
                queue.send(answer.to_string()).unwrap();
            }
        }
    }
    let mut table = table.lock().unwrap();
    for id in mine {
        table.remove(&id);
    }
}

/// A client of subscriptions.
pub(crate) struct WsClient {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl WsClient {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        Self { socket: client_async("ws://test/", stream).await.unwrap().0 }
    }

    pub(crate) async fn send(&mut self, text: Value) {
        self.socket.send(Message::text(text.to_string())).await.unwrap();
    }

    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(json!({ "jsonrpc": "2.0", "id": method, "method": method, "params": params })).await;
        loop {
            let said = self.next().await;
            if said["id"] == method {
                return said;
            }
        }
    }

    /// The next text as JSON.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            match tokio::time::timeout(super::PATIENCE, self.socket.next()).await.unwrap() {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("the client saw {other:?}"),
            }
        }
    }

    /// The code of the close frame, after whatever comes before it.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match tokio::time::timeout(super::PATIENCE, self.socket.next()).await.unwrap() {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(Message::Close(None)) | Err(_)) | None => panic!("closed without a code"),
                Some(Ok(_)) => {}
            }
        }
    }
}
