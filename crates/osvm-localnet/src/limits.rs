//! Every limit of the node's network side, with its default. Each has a flag (`--limit-…`) and an error that names it.

use std::time::Duration;

/// A request's body, in bytes; agave's default.
pub const BODY_BYTES: usize = 50 * 1024;
/// Calls in one batch.
pub const BATCH: usize = 1_000;
/// An answer's body, in bytes.
pub const RESPONSE_BYTES: usize = 256 * 1024 * 1024;
/// HTTP connections open at once.
pub const HTTP_CONNECTIONS: usize = 4_096;
/// Calls that read many accounts or the disk, running at once. They run apart from everything else.
pub const SCANS: usize = 4;
/// Calls that wait for a place among [`SCANS`].
pub const SCANS_WAITING: usize = 1_024;
/// WebSocket connections open at once.
pub const WS_CONNECTIONS: usize = 1_024;
/// Subscriptions of one connection.
pub const SUBSCRIPTIONS_PER_CONNECTION: usize = 1_024;
/// Subscriptions of all connections.
pub const SUBSCRIPTIONS: usize = 100_000;
/// Notifications that wait for one connection to read them. A client that falls further behind is closed.
pub const WS_QUEUE: usize = 4_096;
/// Bytes of notifications that wait for one connection to read them.
pub const WS_QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// A WebSocket message from a client, in bytes.
pub const WS_MESSAGE_BYTES: usize = 64 * 1024;

/// For a client to send a request's head, from the answer before on: so long may a connection be kept open unused. Longer than any
/// pool keeps one, so that the pool's side is the one that closes it.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(600);
/// For a client to open a WebSocket on a connection.
pub const WS_HANDSHAKE: Duration = Duration::from_secs(30);
/// For a client to send a request's body once its head is there.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// For what is in flight to end when the node stops.
pub const DRAIN: Duration = Duration::from_secs(10);
/// Between two pings to a WebSocket client.
pub const WS_PING: Duration = Duration::from_secs(30);
/// For a WebSocket client to show any sign of life.
pub const WS_SILENCE: Duration = Duration::from_secs(90);
/// For a WebSocket client to take what is written to it.
pub const WS_WRITE: Duration = Duration::from_secs(30);
/// For a WebSocket client that is too slow to take what is being written, before it is cut off.
pub const WS_OVERFLOW: Duration = Duration::from_secs(1);
/// For the leader to finish its queue and the standby to acknowledge the token.
pub const HAND_OVER: Duration = Duration::from_secs(10);

/// The limits in force.
#[derive(Clone, Debug)]
pub struct Limits {
    /// [`BODY_BYTES`]
    pub body_bytes: usize,
    /// [`BATCH`]
    pub batch: usize,
    /// [`RESPONSE_BYTES`]
    pub response_bytes: usize,
    /// [`HTTP_CONNECTIONS`]
    pub http_connections: usize,
    /// [`SCANS`]
    pub scans: usize,
    /// [`WS_CONNECTIONS`]
    pub ws_connections: usize,
    /// [`SUBSCRIPTIONS_PER_CONNECTION`]
    pub subscriptions_per_connection: usize,
    /// [`SUBSCRIPTIONS`]
    pub subscriptions: usize,
    /// [`WS_QUEUE`]
    pub ws_queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: BODY_BYTES,
            batch: BATCH,
            response_bytes: RESPONSE_BYTES,
            http_connections: HTTP_CONNECTIONS,
            scans: SCANS,
            ws_connections: WS_CONNECTIONS,
            subscriptions_per_connection: SUBSCRIPTIONS_PER_CONNECTION,
            subscriptions: SUBSCRIPTIONS,
            ws_queue: WS_QUEUE,
        }
    }
}
