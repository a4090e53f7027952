//! Every default of the house, in one place.

use std::time::Duration;

/// For a new instance to start and pass its checks.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(30);
/// For an old instance to finish what is in flight.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a new instance is watched with the old one ready to take over.
pub const WATCH_WINDOW: Duration = Duration::from_secs(10);
/// How long a request waits at the gateway for an instance.
pub const GATEWAY_WAIT: Duration = Duration::from_secs(5);
/// The local node's RPC port; its WebSocket port is the next one.
pub const RPC_PORT: u16 = 8899;
/// The local node's slot time.
pub const SLOT: Duration = Duration::from_millis(400);
/// First pause before an instance that ended by itself is started again; it doubles up to [`RESTART_PAUSE_MAX`].
pub const RESTART_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause before a restart.
pub const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);

/// [`GATEWAY_WAIT`] for serde.
pub(crate) fn gateway_wait_ms() -> u64 {
    GATEWAY_WAIT.as_millis() as u64
}
