//! The client: typed calls for what osvm asks of a node.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use osvm_model::Endpoint;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{Error, error::excerpt, rpc, target::Target, transport::Transport};

/// How long a call may take, connection included.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON-RPC client of one node. Calls may run at the same time; connections are kept between them.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
    next_id: AtomicU64,
}

/// An account as the node holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its balance.
    pub lamports: u64,
    /// The program that owns it, base58.
    pub owner: String,
    /// Whether it is a program.
    pub executable: bool,
    /// Its data.
    pub data: Vec<u8>,
}

/// A blockhash and how long it holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatestBlockhash {
    /// Base58.
    pub blockhash: String,
    /// The last block height at which a transaction with it is taken.
    pub last_valid_block_height: u64,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignatureStatus {
    /// The slot that took it.
    pub slot: u64,
    /// Why it failed, if it did.
    pub err: Option<Value>,
    /// `processed`, `confirmed` or `finalized`.
    pub confirmation_status: Option<String>,
}

impl SignatureStatus {
    /// Whether a vote of the cluster stands behind it.
    pub fn is_confirmed(&self) -> bool {
        matches!(self.confirmation_status.as_deref(), Some("confirmed" | "finalized"))
    }
}

#[derive(Deserialize)]
struct WithContext<T> {
    value: T,
}

#[derive(Deserialize)]
struct WireAccount {
    lamports: u64,
    owner: String,
    executable: bool,
    data: (String, String),
}

impl Client {
    /// A client of the node at `url`, or at one of the names that [`crate::url::expand`] knows. Nothing is dialled yet.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        Ok(Self::new(Target::from_url(url)?))
    }

    /// A client of an instance. Nothing is dialled yet.
    pub fn from_endpoint(endpoint: &Endpoint) -> Self {
        Self::new(Target::from_endpoint(endpoint))
    }

    fn new(target: Target) -> Self {
        Self { transport: Transport::new(target, CALL_TIMEOUT), next_id: AtomicU64::new(1) }
    }

    /// Sets how long a call may take.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.transport.timeout = timeout;
        self
    }

    /// The node's address, without keys that its URL may hold.
    pub fn target(&self) -> String {
        self.transport.target.to_string()
    }

    /// Any method; `params` is the array of its parameters.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, Error> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let body = self.transport.post(method, rpc::request(id, method, &params)).await?;
        rpc::answer(id, method, &body)
    }

    async fn typed<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, Error> {
        let result = self.call(method, params).await?;
        T::deserialize(&result).map_err(|error| shape(method, &error.to_string(), &result))
    }

    async fn value<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, Error> {
        Ok(self.typed::<WithContext<T>>(method, params).await?.value)
    }

    /// `getGenesisHash`, known to be 32 bytes in base58.
    pub async fn genesis_hash(&self) -> Result<String, Error> {
        let result = self.call("getGenesisHash", json!([])).await?;
        key_text("getGenesisHash", &result)
    }

    /// `getIdentity`.
    pub async fn identity(&self) -> Result<String, Error> {
        let result = self.call("getIdentity", json!([])).await?;
        key_text("getIdentity", result.get("identity").unwrap_or(&Value::Null))
    }

    /// `getVersion`: what the node calls `solana-core`.
    pub async fn version(&self) -> Result<String, Error> {
        let result = self.call("getVersion", json!([])).await?;
        match result.get("solana-core").and_then(Value::as_str) {
            Some(version) if !version.is_empty() => Ok(version.to_owned()),
            _ => Err(shape("getVersion", "no solana-core", &result)),
        }
    }

    /// `getHealth`; anything but `ok` is an error.
    pub async fn health(&self) -> Result<(), Error> {
        let result = self.call("getHealth", json!([])).await?;
        if result == "ok" { Ok(()) } else { Err(shape("getHealth", "not \"ok\"", &result)) }
    }

    /// `getSlot` at `processed`.
    pub async fn slot(&self) -> Result<u64, Error> {
        self.typed("getSlot", json!([{"commitment": "processed"}])).await
    }

    /// `getFirstAvailableBlock`.
    pub async fn first_available_block(&self) -> Result<u64, Error> {
        self.typed("getFirstAvailableBlock", json!([])).await
    }

    /// `minimumLedgerSlot`.
    pub async fn minimum_ledger_slot(&self) -> Result<u64, Error> {
        self.typed("minimumLedgerSlot", json!([])).await
    }

    /// `getBlockHeight` at `commitment`.
    pub async fn block_height(&self, commitment: &str) -> Result<u64, Error> {
        self.typed("getBlockHeight", json!([{"commitment": commitment}])).await
    }

    /// `getLatestBlockhash`, known to hold 32 bytes in base58.
    pub async fn latest_blockhash(&self, commitment: &str) -> Result<LatestBlockhash, Error> {
        let latest: LatestBlockhash = self.value("getLatestBlockhash", json!([{"commitment": commitment}])).await?;
        key_text("getLatestBlockhash", &Value::String(latest.blockhash.clone()))?;
        Ok(latest)
    }

    /// `isBlockhashValid` at `processed`.
    pub async fn is_blockhash_valid(&self, blockhash: &str) -> Result<bool, Error> {
        self.value("isBlockhashValid", json!([blockhash, {"commitment": "processed"}])).await
    }

    /// `getAccountInfo`.
    pub async fn account(&self, address: &str, commitment: &str) -> Result<Option<Account>, Error> {
        let params = json!([address, {"encoding": "base64", "commitment": commitment}]);
        let Some(wire) = self.value::<Option<WireAccount>>("getAccountInfo", params).await? else { return Ok(None) };
        let data = BASE64_STANDARD
            .decode(&wire.data.0)
            .map_err(|_| shape("getAccountInfo", "data is not base64", &Value::String(wire.data.0.clone())))?;
        Ok(Some(Account { lamports: wire.lamports, owner: wire.owner, executable: wire.executable, data }))
    }

    /// `getBalance`.
    pub async fn balance(&self, address: &str, commitment: &str) -> Result<u64, Error> {
        self.value("getBalance", json!([address, {"commitment": commitment}])).await
    }

    /// `getMinimumBalanceForRentExemption`.
    pub async fn rent_for(&self, bytes: usize) -> Result<u64, Error> {
        self.typed("getMinimumBalanceForRentExemption", json!([bytes])).await
    }

    /// `requestAirdrop`: the transaction's signature.
    pub async fn request_airdrop(&self, address: &str, lamports: u64) -> Result<String, Error> {
        self.typed("requestAirdrop", json!([address, lamports])).await
    }

    /// `sendTransaction`: the signature of the transaction in `wire`.
    pub async fn send_transaction(&self, wire: &[u8], skip_preflight: bool) -> Result<String, Error> {
        let options = json!({
            "encoding": "base64", "skipPreflight": skip_preflight, "preflightCommitment": "confirmed", "maxRetries": 5,
        });
        self.typed("sendTransaction", json!([BASE64_STANDARD.encode(wire), options])).await
    }

    /// `simulateTransaction` without signature check and on the newest blockhash: the result's `value`.
    pub async fn simulate_transaction(&self, wire: &[u8]) -> Result<Value, Error> {
        let options = json!({
            "encoding": "base64", "sigVerify": false, "replaceRecentBlockhash": true, "commitment": "processed",
        });
        let value: Value = self.value("simulateTransaction", json!([BASE64_STANDARD.encode(wire), options])).await?;
        if value.get("err").is_none() { Err(shape("simulateTransaction", "no err", &value)) } else { Ok(value) }
    }

    /// `getSignatureStatuses`, in the order asked. A node takes up to 256 at once.
    pub async fn signature_statuses(&self, signatures: &[String]) -> Result<Vec<Option<SignatureStatus>>, Error> {
        let statuses: Vec<_> = self.value("getSignatureStatuses", json!([signatures])).await?;
        if statuses.len() == signatures.len() {
            Ok(statuses)
        } else {
            Err(Error::Shape {
                method: "getSignatureStatuses".to_owned(),
                reason: format!("{} answers to {} signatures", statuses.len(), signatures.len()),
                excerpt: "…".to_owned(),
            })
        }
    }
}

fn shape(method: &str, reason: &str, result: &Value) -> Error {
    Error::Shape {
        method: method.to_owned(),
        reason: reason.to_owned(),
        excerpt: excerpt(result.to_string().as_bytes()),
    }
}

/// A hash or an address as text, known to be 32 bytes.
fn key_text(method: &str, value: &Value) -> Result<String, Error> {
    let text = value.as_str().ok_or_else(|| shape(method, "not a string", value))?;
    match bs58::decode(text).into_vec() {
        Ok(bytes) if bytes.len() == 32 => Ok(text.to_owned()),
        _ => Err(shape(method, "not 32 bytes in base58", value)),
    }
}
