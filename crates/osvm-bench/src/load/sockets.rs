//! WebSocket clients: what a user of subscriptions would notice is counted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use solana_address::Address;
use tokio::{net::TcpStream, sync::watch};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{error::Error, wallet::Wallet};

use super::{Shared, client::Client, record::Kind, writes::send};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// For a subscription to be answered, and for a signature to be told.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a watcher listens on after the load has ended.
const LINGER: Duration = Duration::from_secs(1);
/// Between two transfers of a confirmer.
const CONFIRM_PAUSE: Duration = Duration::from_millis(200);

/// What a socket said.
enum Heard {
    Json(Value),
    Closed(String),
    Stopped,
}

/// Watches slots, an account and logs.
pub(crate) struct Watcher {
    socket: Socket,
    subscriptions: HashMap<u64, &'static str>,
    account: Address,
    last_slot: Option<u64>,
}

impl Watcher {
    /// Connects and subscribes.
    pub(crate) async fn open(shared: &Shared, payer: Address, recipient: Address) -> Result<Self, Error> {
        let mut socket = connect(shared).await?;
        let mut subscriptions = HashMap::new();
        for (method, params) in [
            ("slotSubscribe", json!([])),
            ("accountSubscribe", json!([recipient.to_string(), {"encoding": "base64", "commitment": "processed"}])),
            ("logsSubscribe", json!([{"mentions": [payer.to_string()]}, {"commitment": "processed"}])),
        ] {
            subscriptions.insert(subscribe(&mut socket, method, params).await?, method);
        }
        Ok(Self { socket, subscriptions, account: recipient, last_slot: None })
    }

    /// Listens until the load ends.
    pub(crate) async fn run(mut self, shared: Arc<Shared>) {
        let mut stop = shared.stop.clone();
        loop {
            match hear(&mut self.socket, &mut stop).await {
                Heard::Json(notice) => self.note(&shared, &notice),
                Heard::Stopped => break,
                Heard::Closed(why) => return closed(&shared, &why),
            }
        }
        // What the last transfers changed is told after they were acknowledged.
        let (_keep, mut never) = watch::channel(false);
        let rest = async {
            while let Heard::Json(notice) = hear(&mut self.socket, &mut never).await {
                self.note(&shared, &notice);
            }
        };
        // Slots go on for ever: the time is what ends this.
        let _ = tokio::time::timeout(LINGER, rest).await;
    }

    fn note(&mut self, shared: &Shared, notice: &Value) {
        let params = &notice["params"];
        let method = params["subscription"].as_u64().and_then(|id| self.subscriptions.get(&id).copied());
        let (mut missed, mut repeated) = (0, 0);
        if method == Some("slotSubscribe") {
            let slot = params["result"]["slot"].as_u64().unwrap_or(0);
            match self.last_slot {
                Some(last) if slot <= last => repeated = 1,
                Some(last) => missed = slot - last - 1,
                None => {}
            }
            self.last_slot = Some(slot.max(self.last_slot.unwrap_or(0)));
        }
        shared.recorder.sockets(|sockets| {
            sockets.notifications += 1;
            sockets.unknown_ids += u64::from(method.is_none());
            sockets.slots_missed += missed;
            sockets.slots_repeated += repeated;
            if let (Some("accountSubscribe"), Some(lamports)) = (method, params["result"]["value"]["lamports"].as_u64())
            {
                sockets.last_lamports.insert(self.account.to_string(), lamports);
            }
        });
    }
}

/// Sends a transfer and waits for its signature's notification, again and again.
pub(crate) struct Confirmer {
    socket: Socket,
    wallet: Wallet,
}

impl Confirmer {
    /// Connects.
    pub(crate) async fn open(shared: &Shared, wallet: Wallet) -> Result<Self, Error> {
        Ok(Self { socket: connect(shared).await?, wallet })
    }

    /// Goes on until the load ends.
    pub(crate) async fn run(mut self, shared: Arc<Shared>) {
        let mut client = Client::http1(&shared.args.rpc);
        // A confirmation under way when the load ends is waited for; `hear` is not cut short by the stop.
        let (_keep, mut never) = watch::channel(false);
        while !shared.stopped() {
            tokio::time::sleep(CONFIRM_PAUSE).await;
            let signed = self.wallet.transfer(&shared.blockhash.borrow());
            let params = json!([signed.signature, {"commitment": "processed"}]);
            let id = match subscribe(&mut self.socket, "signatureSubscribe", params).await {
                Ok(id) => id,
                Err(error) => return closed(&shared, &error.to_string()),
            };
            if !send(&shared, &mut client, Kind::WriteConfirmed, &signed).await {
                continue;
            }
            let noticed = async {
                loop {
                    match hear(&mut self.socket, &mut never).await {
                        Heard::Json(notice) if notice["params"]["subscription"].as_u64() == Some(id) => {
                            return Ok(true);
                        }
                        Heard::Json(_) => {}
                        Heard::Closed(why) => return Err(why),
                        Heard::Stopped => return Ok(false),
                    }
                }
            };
            match tokio::time::timeout(NOTICE_TIMEOUT, noticed).await {
                Ok(Ok(told)) => shared.recorder.sockets(|sockets| sockets.confirmed += u64::from(told)),
                Ok(Err(why)) => return closed(&shared, &why),
                Err(_) => {
                    shared.recorder.sockets(|sockets| sockets.unconfirmed += 1);
                    shared.recorder.failure(format!("signatureSubscribe told nothing of {}", signed.signature));
                }
            }
        }
    }
}

async fn connect(shared: &Shared) -> Result<Socket, Error> {
    let (socket, _) =
        connect_async(&shared.args.ws).await.map_err(|error| Error::exchange("open a WebSocket", error))?;
    shared.recorder.sockets(|sockets| sockets.opened += 1);
    Ok(socket)
}

async fn subscribe(socket: &mut Socket, method: &str, params: Value) -> Result<u64, Error> {
    let failed = |why: String| Error::exchange(method, why);
    let call = json!({"jsonrpc": "2.0", "id": method, "method": method, "params": params}).to_string();
    socket.send(Message::text(call)).await.map_err(|error| failed(error.to_string()))?;
    let (_keep, mut never) = watch::channel(false);
    let answer = async {
        loop {
            match hear(socket, &mut never).await {
                Heard::Json(answer) if answer["id"] == method => {
                    return answer["result"].as_u64().ok_or_else(|| failed(answer.to_string()));
                }
                Heard::Json(_) => {}
                Heard::Closed(why) => return Err(failed(why)),
                Heard::Stopped => return Err(failed("the load ended".into())),
            }
        }
    };
    match tokio::time::timeout(NOTICE_TIMEOUT, answer).await {
        Ok(done) => done,
        Err(_) => Err(failed(format!("no answer within {} s", NOTICE_TIMEOUT.as_secs()))),
    }
}

async fn hear(socket: &mut Socket, stop: &mut watch::Receiver<bool>) -> Heard {
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            _ = stop.changed() => return Heard::Stopped,
        };
        match message {
            Some(Ok(Message::Text(text))) => match serde_json::from_str(text.as_str()) {
                Ok(json) => return Heard::Json(json),
                Err(error) => return Heard::Closed(format!("sent what is not JSON: {error}")),
            },
            Some(Ok(Message::Close(frame))) => return Heard::Closed(format!("{frame:?}")),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Heard::Closed(error.to_string()),
            None => return Heard::Closed("the stream ended".to_owned()),
        }
    }
}

fn closed(shared: &Shared, why: &str) {
    shared.recorder.sockets(|sockets| sockets.closed += 1);
    // Where the gateway itself is killed, its sockets close: a patient load takes that.
    if !shared.args.patient {
        shared.recorder.failure(format!("a WebSocket was closed: {why}"));
    }
}
