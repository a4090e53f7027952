//! The route table: everything the gateway knows. The control plane sends it whole, the gateway swaps it in one step.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Generation, defaults};

/// All routes of one gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    /// Grows with each change; the gateway refuses a table older than the one in force.
    pub version: u64,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Who answers, by name (`rpc-local/rpc`).
    pub pools: BTreeMap<String, Pool>,
}

/// An address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The address on this machine.
    pub addr: SocketAddr,
    /// What clients speak.
    pub protocol: ListenerProtocol,
    /// PEM files; with them the listener speaks TLS with ALPN `h2` and `http/1.1`.
    #[serde(default)]
    pub tls: Option<TlsFiles>,
    /// Which pool answers. Routes are tried in order; the first that matches wins.
    pub routes: Vec<Route>,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM, leaf first.
    pub certificate: PathBuf,
    /// PEM, PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// What a listener's clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerProtocol {
    /// HTTP/1.1 and HTTP/2 (prior knowledge without TLS), WebSocket by upgrade.
    Http,
    /// Solana's WebSocket subscriptions: they survive the change of an instance.
    SolanaPubsub,
    /// Bytes.
    Tcp,
}

/// A match, and the pool that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The host that the client names, without port; none matches all.
    #[serde(default)]
    pub host: Option<String>,
    /// The beginning of the path, by whole segments; none matches all.
    #[serde(default)]
    pub path_prefix: Option<String>,
    /// The pool's name.
    pub pool: String,
}

/// The instances that can answer for one port of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The instances; requests go to those that are [`BackendRole::Active`], the one with the fewest in flight first.
    pub backends: Vec<Backend>,
    /// New requests wait (up to `wait_ms`) until a later table lifts this.
    #[serde(default)]
    pub hold: bool,
    /// Which requests may be sent once more when an instance dies under them.
    #[serde(default)]
    pub replay: ReplayPolicy,
    /// How long a request waits for an instance, in milliseconds, before it is answered 503.
    #[serde(default = "defaults::gateway_wait_ms")]
    pub wait_ms: u64,
}

/// One instance of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Connections are pooled by this number and never cross it.
    pub generation: Generation,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What it is there for.
    pub role: BackendRole,
}

/// What a backend is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackendRole {
    /// Takes requests.
    Active,
    /// Takes no requests yet; subscriptions are opened on it in advance.
    Prepare,
    /// Takes no new requests; those in flight end.
    Drain,
}

/// Where an instance listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Endpoint {
    /// Hybrid vsock: a unix socket, `CONNECT port\n`, `OK port\n`, then bytes.
    Vsock {
        /// The unix socket of the VM or sandbox.
        uds: PathBuf,
        /// The port inside.
        port: u32,
    },
    /// A TCP address.
    Tcp(SocketAddr),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock { uds, port } => write!(f, "vsock:{}:{port}", uds.display()),
            Self::Tcp(addr) => write!(f, "tcp:{addr}"),
        }
    }
}

/// Which requests the gateway may send once more, to another instance, when the first gave no whole answer.
///
/// Whatever the policy, a request that an instance refused unprocessed (503 with [`crate::handover::NOT_PROCESSED`]) goes
/// to the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayPolicy {
    /// Only where nothing of the request had been sent.
    #[default]
    Unsent,
    /// Also GET, HEAD and OPTIONS.
    Idempotent,
    /// Also Solana JSON-RPC calls by POST, but for `requestAirdrop`: reads change nothing, and a transaction's signature makes
    /// sending it twice the same as once. The second try carries [`crate::handover::RETRY`].
    SolanaRpc,
}
