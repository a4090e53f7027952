//! `osvm mcp`: declares MCP servers, calls them, and serves them all as one.
//!
//! Exit codes: 0; 1 when something failed; 2 for a wrong command line or configuration; 3 when a jail cannot be made (the monitor's).
#![forbid(unsafe_code)]

mod args;
mod commands;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Before any thread: the monitor has to be alone.
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(osvm_mcp::launch::MONITOR) {
        return osvm_mcp::launch::monitor(words.next().as_deref());
    }
    let args = args::Args::parse();
    // One thread: monitors end with the thread that started them.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(commands::run(args));
    // A read of stdin that is still open is not waited for.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", osvm_mcp::launch::plain(&failure.line));
            ExitCode::from(failure.exit)
        }
    }
}
