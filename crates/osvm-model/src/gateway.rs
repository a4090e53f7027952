//! Answers of the gateway's admin interface (JSON over a unix socket), for the control plane.
//!
//! | request | answer |
//! |---|---|
//! | `PUT /v1/routes` with a [`crate::RouteTable`] | 200 [`RoutesApplied`] once in force; 409 if older than the one in force |
//! | `GET /v1/routes` | 200 [`crate::RouteTable`]; 404 before the first |
//! | `GET /v1/stats[?pool=NAME]` | 200 [`GatewayStats`]; 404 if no such pool |
//! | `POST /v1/stats/reset?pool=NAME` | 200 [`PoolStats`] up to now; the counts start anew |
//! | `POST /v1/drained?pool=NAME&generation=N&timeout_ms=M` | 200 [`Drained`] once nothing is in flight there; 408 [`Drained`] with what is left |
//! | `GET /live` | 200 |
//! | `GET /ready` | 200 once routes are in force, else 503 |
//! | `GET /metrics` | OpenMetrics text, `osvm_gateway_…` |
//!
//! Every other answer is an [`AdminError`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BackendRole, Generation};

/// What a new table did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoutesApplied {
    /// The version in force.
    pub version: u64,
    /// By pool: how far the subscriptions are that were opened in advance on a backend with [`BackendRole::Prepare`].
    pub prepared: BTreeMap<String, Prepared>,
}

/// Subscriptions opened in advance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prepared {
    /// Clients of the pool.
    pub clients: u64,
    /// Subscriptions of those clients that are open on the new instance.
    pub subscriptions: u64,
    /// Whether every client is done with it. If not, the rest is opened after the shift.
    pub complete: bool,
}

/// Figures of the whole gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GatewayStats {
    /// The version of the table in force; 0 before the first.
    pub version: u64,
    /// Its process.
    pub pid: u32,
    /// Client connections that are open.
    pub connections: u64,
    /// By pool.
    pub pools: BTreeMap<String, PoolStats>,
}

/// Figures of one pool. All counts are since the last reset, all other figures are of now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolStats {
    /// When the counts began, in milliseconds of Unix time.
    pub since_unix_ms: u64,
    /// Requests, TCP connections and WebSockets taken.
    pub requests: u64,
    /// Requests that wait for an instance now.
    pub waiting: u64,
    /// Requests that had to wait for an instance or be sent again.
    pub waited: u64,
    /// The longest such wait, in microseconds.
    pub longest_wait_us: u64,
    /// The median of such waits, in microseconds, to within 13 percent.
    pub wait_p50_us: u64,
    /// The 99th percentile of such waits, in microseconds, to within 13 percent.
    pub wait_p99_us: u64,
    /// Requests sent once more.
    pub replayed: u64,
    /// Requests that failed, by cause.
    pub failures: Failures,
    /// Clients with a Solana subscription socket.
    pub pubsub_clients: u64,
    /// Their subscriptions.
    pub subscriptions: u64,
    /// The instances, by generation.
    pub generations: Vec<GenerationStats>,
}

/// Requests that the gateway failed. A client that sent nonsense or went away is not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failures {
    /// Answered 502: the instance broke off or answered garbage, and the request could not be sent again.
    pub bad_gateway: u64,
    /// Answered 503: no instance took it within the wait, or too many wait.
    pub unavailable: u64,
    /// Answered 504: the instance did not begin its answer in time.
    pub timeout: u64,
    /// The answer had begun and broke off.
    pub broken: u64,
}

impl Failures {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.bad_gateway + self.unavailable + self.timeout + self.broken
    }
}

/// Figures of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GenerationStats {
    /// Which.
    pub generation: Generation,
    /// Where it listens.
    pub endpoint: String,
    /// Its role; none once it left the table.
    pub role: Option<BackendRole>,
    /// Requests in flight.
    pub in_flight: u64,
    /// Tunnels: upgraded connections, TCP connections, subscription sockets.
    pub tunnels: u64,
    /// Requests sent to it, since it came.
    pub requests: u64,
    /// Connections that it did not take, since it came.
    pub connect_errors: u64,
    /// Answers that it did not give or broke off, since it came.
    pub resets: u64,
}

/// What is in flight on one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drained {
    /// The pool.
    pub pool: String,
    /// The instance.
    pub generation: Generation,
    /// Requests left.
    pub in_flight: u64,
    /// Tunnels left.
    pub tunnels: u64,
}

/// Why the admin interface refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdminError {
    /// One line.
    pub error: String,
}
