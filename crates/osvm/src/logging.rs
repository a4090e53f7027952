//! The log of daemon and gateway: lines on stderr, filtered by `OSVM_LOG`.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// What is logged unless `OSVM_LOG` says otherwise.
const DEFAULT: &str = "info";

/// Begins to log. Call once.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("OSVM_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(stderr().is_terminal());
    // A second start in one process could only be a mistake of this program; the first log then stays.
    let _ = log.try_init();
}
