//! Every timeout and limit of the gateway, in one place. Those that a user may change are flags; see [`crate::Args`].

use std::time::Duration;

use crate::Args;

/// Client connections at one time.
pub(crate) const CONNECTIONS: usize = 20_000;
/// Requests that may wait for an instance, a pool.
pub(crate) const WAITERS: usize = 10_000;
/// A request's body: 64 MiB.
pub(crate) const BODY: u64 = 64 << 20;
/// A request's head: 32 KiB.
pub(crate) const HEAD: usize = 32 << 10;
/// Header fields of a request.
pub(crate) const HEADERS: usize = 100;
pub(crate) const HEAD_TIMEOUT_MS: u64 = 10_000;
pub(crate) const BODY_TIMEOUT_MS: u64 = 30_000;
pub(crate) const IDLE_TIMEOUT_MS: u64 = 60_000;
pub(crate) const CONNECT_TIMEOUT_MS: u64 = 2_000;
pub(crate) const ANSWER_TIMEOUT_MS: u64 = 60_000;
pub(crate) const ANNOUNCE_MS: u64 = 1_000;
pub(crate) const DRAIN_MS: u64 = 10_000;

/// A request body that is kept so that it can be sent again: 64 KiB.
pub(crate) const REPLAY_BODY: usize = 64 << 10;
/// An answer that is held back until it is whole, so that the request can be sent again: 256 KiB.
pub(crate) const REPLAY_ANSWER: u64 = 256 << 10;
/// First pause before a failed request is sent again; it doubles up to [`RETRY_PAUSE_MAX`]. A new table ends it early.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(2);
/// Longest pause before a request is sent again.
pub(crate) const RETRY_PAUSE_MAX: Duration = Duration::from_millis(50);
/// Idle connections kept to one instance by one worker.
pub(crate) const IDLE_UPSTREAM: usize = 512;
/// `Retry-After` of a 503, in seconds.
pub(crate) const RETRY_AFTER: &str = "1";
/// For a TLS handshake.
pub(crate) const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one HTTP/2 connection.
pub(crate) const STREAMS: u32 = 256;
/// Pause after `accept` failed for want of file descriptors; there is no event to wait for.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// A connection waiting in the kernel to be accepted.
pub(crate) const BACKLOG: u32 = 4096;
/// For a tunnel that is cut to reach the end of a WebSocket frame, and for the client to answer the close.
pub(crate) const CUT_TIMEOUT: Duration = Duration::from_secs(1);
/// For `PUT /v1/routes` to wait for subscriptions that are opened in advance.
pub(crate) const PREPARE_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that `POST /v1/drained` waits.
pub(crate) const DRAINED_MAX: Duration = Duration::from_secs(3600);
/// A route table on the admin socket: 4 MiB.
pub(crate) const ADMIN_BODY: usize = 4 << 20;

/// The limits that flags set.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) waiters: usize,
    pub(crate) body: u64,
    pub(crate) head: usize,
    pub(crate) headers: usize,
    pub(crate) head_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) answer_timeout: Duration,
    pub(crate) announce: Duration,
    pub(crate) drain: Duration,
}

impl From<&Args> for Limits {
    fn from(args: &Args) -> Self {
        Self {
            connections: args.max_connections,
            waiters: args.max_waiting,
            body: args.max_body,
            head: args.max_head,
            headers: args.max_headers,
            head_timeout: Duration::from_millis(args.head_timeout_ms),
            body_timeout: Duration::from_millis(args.body_timeout_ms),
            idle_timeout: Duration::from_millis(args.idle_timeout_ms),
            connect_timeout: Duration::from_millis(args.connect_timeout_ms),
            answer_timeout: Duration::from_millis(args.answer_timeout_ms),
            announce: Duration::from_millis(args.announce_ms),
            drain: Duration::from_millis(args.drain_ms),
        }
    }
}
