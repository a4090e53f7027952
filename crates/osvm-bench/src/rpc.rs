//! JSON-RPC over one HTTP connection, for set-up and verification. The load generator has clients of its own.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use solana_address::Address;
use solana_hash::Hash;
use tokio::net::TcpStream;

use crate::error::Error;

/// A connection to `http://HOST:PORT`.
pub(crate) struct Rpc {
    authority: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Rpc {
    /// Connects at the first call.
    pub(crate) fn new(url: &str) -> Self {
        Self { authority: authority(url).to_owned(), sender: None }
    }

    /// The result of a call; an error answer is an error here.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value, Error> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let (status, answer) = self.post(body).await.map_err(|why| Error::exchange(method, why))?;
        let mut json: Value = serde_json::from_slice(&answer)
            .map_err(|error| Error::exchange(method, format!("HTTP {status}: {error}")))?;
        match json.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(Error::exchange(method, &json["error"])),
        }
    }

    async fn post(&mut self, body: String) -> Result<(u16, Bytes), String> {
        let mut sender = live(self.sender.take(), &self.authority).await?;
        let request = request(&self.authority, body.into())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        self.sender = Some(sender);
        Ok((status, body))
    }

    /// A fresh blockhash.
    pub(crate) async fn blockhash(&mut self) -> Result<Hash, Error> {
        let answer = self.call("getLatestBlockhash", json!([{"commitment": "confirmed"}])).await?;
        let text = answer["value"]["blockhash"].as_str().unwrap_or_default();
        text.parse().map_err(|error| Error::exchange("getLatestBlockhash", error))
    }

    /// Lamports of an account at commitment processed.
    pub(crate) async fn balance(&mut self, address: &Address) -> Result<u64, Error> {
        let answer = self.call("getBalance", json!([address.to_string(), {"commitment": "processed"}])).await?;
        answer["value"].as_u64().ok_or_else(|| Error::exchange("getBalance", &answer))
    }

    /// Asks the faucet, and waits until it has given.
    pub(crate) async fn airdrop(&mut self, address: &Address, lamports: u64) -> Result<(), Error> {
        let before = self.balance(address).await?;
        self.call("requestAirdrop", json!([address.to_string(), lamports])).await?;
        for _ in 0..AIRDROP_PROBES {
            if self.balance(address).await? >= before + lamports {
                return Ok(());
            }
            tokio::time::sleep(PROBE_PAUSE).await;
        }
        Err(Error::exchange("requestAirdrop", format!("{address} was not given {lamports} lamports")))
    }

    /// Sends a transaction in wire format.
    pub(crate) async fn send(&mut self, wire: &[u8]) -> Result<String, Error> {
        let answer = self.call("sendTransaction", send_params(wire)).await?;
        answer.as_str().map(str::to_owned).ok_or_else(|| Error::exchange("sendTransaction", &answer))
    }
}

/// Probes of a balance before an airdrop counts as failed.
const AIRDROP_PROBES: usize = 200;
/// Between two probes: the node offers no event over HTTP.
const PROBE_PAUSE: std::time::Duration = std::time::Duration::from_millis(25);

/// `sendTransaction`'s parameters.
pub(crate) fn send_params(wire: &[u8]) -> Value {
    json!([BASE64_STANDARD.encode(wire), {"encoding": "base64", "preflightCommitment": "processed"}])
}

/// `127.0.0.1:8899` of `http://127.0.0.1:8899/`.
pub(crate) fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// The connection that there is, if it is still good, else a new one.
pub(crate) async fn live(
    kept: Option<SendRequest<Full<Bytes>>>,
    authority: &str,
) -> Result<SendRequest<Full<Bytes>>, String> {
    if let Some(mut sender) = kept
        && sender.ready().await.is_ok()
    {
        return Ok(sender);
    }
    connect(authority).await
}

async fn connect(authority: &str) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(authority).await.map_err(|error| format!("connect: {error}"))?;
    stream.set_nodelay(true).map_err(|error| format!("nodelay: {error}"))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends with the sender; what broke it is told by the request that fails.
    tokio::spawn(connection);
    Ok(sender)
}

/// A POST with a JSON body.
pub(crate) fn request(authority: &str, body: Bytes) -> Result<http::Request<Full<Bytes>>, String> {
    http::Request::post("/")
        .header(http::header::HOST, authority)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| error.to_string())
}
