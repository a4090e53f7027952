//! Log lines: on standard error, and in `validator.log` in the ledger's folder, where tools look for it.

use std::{fs::OpenOptions, io, path::Path, sync::Mutex};

use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// The file's name, as `solana-test-validator` has it.
pub(crate) const FILE: &str = "validator.log";

/// How lines are written on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `quiet`: warnings and errors only, on standard error.
pub(crate) fn start(format: Format, quiet: bool, ledger: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(ledger.join(FILE))?;
    let filter = |quiet: bool| {
        let default = if quiet { "warn" } else { "info" };
        EnvFilter::try_from_env("OSVM_LOG").unwrap_or_else(|_| EnvFilter::new(default))
    };
    let stderr = fmt::layer().with_writer(io::stderr).with_target(false);
    let stderr = match format {
        Format::Text => stderr.with_ansi(false).boxed(),
        Format::Json => stderr.json().flatten_event(true).boxed(),
    };
    let file = fmt::layer().with_writer(Mutex::new(file)).with_ansi(false);
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry()
        .with(stderr.with_filter(filter(quiet)))
        .with(file.with_filter(filter(false)))
        .try_init();
    Ok(())
}
