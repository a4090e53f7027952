//! The command line of `osvm gateway`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// How `osvm gateway` is started.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// Unix socket of the admin interface; PATH.fds hands out the listening sockets
    #[arg(long, value_name = "PATH", required_unless_present = "config")]
    pub admin: Option<PathBuf>,

    /// Route table (JSON) to start with
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Threads; 0 means one a core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub workers: usize,

    /// Client connections at one time, over all listeners
    #[arg(long, value_name = "N", default_value_t = crate::limits::CONNECTIONS)]
    pub max_connections: usize,

    /// Requests that may wait for an instance at one time, a pool
    #[arg(long, value_name = "N", default_value_t = crate::limits::WAITERS)]
    pub max_waiting: usize,

    /// Longest request body, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = crate::limits::BODY)]
    pub max_body: u64,

    /// Longest request head, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = crate::limits::HEAD)]
    pub max_head: usize,

    /// Most header fields of a request
    #[arg(long, value_name = "N", default_value_t = crate::limits::HEADERS)]
    pub max_headers: usize,

    /// For a client to send a whole request head, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = crate::limits::HEAD_TIMEOUT_MS)]
    pub head_timeout_ms: u64,

    /// For a client to send the next piece of a request body, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = crate::limits::BODY_TIMEOUT_MS)]
    pub body_timeout_ms: u64,

    /// For a client connection without a request, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = crate::limits::IDLE_TIMEOUT_MS)]
    pub idle_timeout_ms: u64,

    /// For an instance to take a connection, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = crate::limits::CONNECT_TIMEOUT_MS)]
    pub connect_timeout_ms: u64,

    /// For an instance to begin its answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = crate::limits::ANSWER_TIMEOUT_MS)]
    pub answer_timeout_ms: u64,

    /// After SIGTERM: go on accepting, and tell clients to reconnect elsewhere, for so long, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = crate::limits::ANNOUNCE_MS)]
    pub announce_ms: u64,

    /// After that: let what is in flight end for so long, in milliseconds, then cut it
    #[arg(long, value_name = "MS", default_value_t = crate::limits::DRAIN_MS)]
    pub drain_ms: u64,
}
