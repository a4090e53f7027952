//! A node in process on free ports, and the plainest clients for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub, missing_docs)]

use std::{net::SocketAddr, path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{SinkExt, StreamExt};
use osvm_localnet::{Bind, Options, Server, limits::Limits};
use serde_json::{Value, json};
use solana_address::Address;
use solana_hash::Hash;
use solana_keypair::Keypair;
use solana_message::Message;
use solana_signer::Signer;
use solana_transaction::{Transaction, versioned::VersionedTransaction};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite};

/// Long enough that only a bug reaches it.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const SOL: u64 = 1_000_000_000;

pub fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub fn options(ledger: Option<&Path>) -> Options {
    Options {
        bind: Bind::Tcp { rpc: any(), ws: any(), control: Some(any()), replication: Some(any()) },
        bank: osvm_bank::Config {
            state_dir: ledger.map(Into::into),
            slot: Duration::from_millis(40),
            finality_slots: 4,
            ..osvm_bank::Config::default()
        },
        limits: Limits::default(),
    }
}

pub async fn node() -> Node {
    Node::start(options(None)).await
}

pub struct Node {
    pub server: Server,
    pub rpc: Rpc,
}

impl Node {
    pub async fn start(options: Options) -> Self {
        let server = Server::start(options).await.unwrap();
        let rpc = Rpc::new(server.rpc_address().unwrap());
        Self { server, rpc }
    }

    pub async fn ws(&self) -> Ws {
        Ws::connect(self.server.ws_address().unwrap()).await
    }

    pub async fn stop(self) {
        self.server.stop().await.unwrap();
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

pub async fn http(address: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The node may answer and close before it has read all of a body that is too large.
    let _ = stream.write_all(body).await;
    let mut all = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await.unwrap();
    let text = String::from_utf8_lossy(&all).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

#[derive(Clone, Copy)]
pub struct Rpc {
    pub address: SocketAddr,
}

impl Rpc {
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    pub async fn post(&self, headers: &str, body: &str) -> Answer {
        http(self.address, "POST", "/", &format!("content-type: application/json\r\n{headers}"), body.as_bytes()).await
    }

    pub async fn raw(&self, body: &str) -> Value {
        self.post("", body).await.json()
    }

    /// The whole answer.
    pub async fn call(&self, method: &str, params: Value) -> Value {
        self.raw(&json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()).await
    }

    /// The result of a call that must succeed.
    pub async fn ok(&self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The error of a call that must fail.
    pub async fn err(&self, method: &str, params: Value) -> (i64, String) {
        let answer = self.call(method, params).await;
        let error = answer.get("error").unwrap_or_else(|| panic!("{method} succeeded: {answer}"));
        (error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned())
    }

    pub async fn blockhash(&self) -> Hash {
        let answer = self.ok("getLatestBlockhash", json!([{ "commitment": "processed" }])).await;
        answer["value"]["blockhash"].as_str().unwrap().parse().unwrap()
    }

    pub async fn airdrop(&self, to: &Address, lamports: u64) -> String {
        self.ok("requestAirdrop", json!([to.to_string(), lamports])).await.as_str().unwrap().to_owned()
    }

    pub async fn send(&self, transaction: &VersionedTransaction) -> Value {
        self.call("sendTransaction", json!([encode(transaction), { "encoding": "base64" }])).await
    }

    pub async fn balance(&self, of: &Address, level: &str) -> u64 {
        self.ok("getBalance", json!([of.to_string(), { "commitment": level }])).await["value"].as_u64().unwrap()
    }

    /// Waits until the slot at `level` is past `slot`.
    pub async fn past(&self, level: &str, slot: u64) {
        let wait = async {
            while self.ok("getSlot", json!([{ "commitment": level }])).await.as_u64().unwrap() <= slot {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the slots do not move on");
    }

    /// Waits until a transaction is at `level`.
    pub async fn reached(&self, signature: &str, level: &str) {
        let wait = async {
            loop {
                let answer = self.ok("getSignatureStatuses", json!([[signature]])).await;
                let status = answer["value"][0]["confirmationStatus"].as_str().unwrap_or_default().to_owned();
                if status == level || status == "finalized" {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the transaction does not get on");
    }
}

pub fn encode(transaction: &VersionedTransaction) -> String {
    BASE64_STANDARD.encode(wincode::serialize(transaction).unwrap())
}

pub fn transfer(from: &Keypair, to: &Address, lamports: u64, blockhash: Hash) -> VersionedTransaction {
    let instruction = solana_system_interface::instruction::transfer(&from.pubkey(), to, lamports);
    let message = Message::new(&[instruction], Some(&from.pubkey()));
    Transaction::new(&[from], message, blockhash).into()
}

/// A funded key.
pub async fn funded(rpc: &Rpc, sol: u64) -> Keypair {
    let keypair = Keypair::new();
    rpc.airdrop(&keypair.pubkey(), sol * SOL).await;
    keypair
}

pub struct Ws {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub waiting: std::collections::VecDeque<Value>,
}

impl Ws {
    pub async fn connect(address: SocketAddr) -> Self {
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/")).await.unwrap();
        Self { socket, waiting: std::collections::VecDeque::new() }
    }

    pub async fn send(&mut self, method: &str, params: Value) {
        let text = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        self.socket.send(tungstenite::Message::Text(text.into())).await.unwrap();
    }

    async fn receive(&mut self) -> Value {
        loop {
            let message =
                tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("nothing came").unwrap().unwrap();
            if let tungstenite::Message::Text(text) = message {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// A call's whole answer; notifications that come before it are kept.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(method, params).await;
        loop {
            let value = self.receive().await;
            if value.get("id").is_some() {
                return value;
            }
            self.waiting.push_back(value);
        }
    }

    pub async fn subscribe(&mut self, method: &str, params: Value) -> u64 {
        let answer = self.call(method, params).await;
        answer["result"].as_u64().unwrap_or_else(|| panic!("{method}: {answer}"))
    }

    /// The next notification's `params`.
    pub async fn next(&mut self) -> Value {
        let value = match self.waiting.pop_front() {
            Some(value) => value,
            None => self.receive().await,
        };
        value["params"].clone()
    }

    /// The next notification of one subscription.
    pub async fn next_of(&mut self, id: u64) -> Value {
        loop {
            let params = self.next().await;
            if params["subscription"] == id {
                return params["result"].clone();
            }
        }
    }

    /// Whether nothing comes for a while.
    pub async fn silent(&mut self, time: Duration) -> bool {
        if !self.waiting.is_empty() {
            return false;
        }
        match tokio::time::timeout(time, self.receive()).await {
            Ok(value) => {
                self.waiting.push_back(value);
                false
            }
            Err(_) => true,
        }
    }
}
