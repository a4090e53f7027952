//! `osvm`: runs services in sandboxes, reaches them over vsock, and replaces them without dropping a request.
//!
//! Only the command line lives here: definitions, output, and the entry points of daemon and gateway. What a command does is
//! done by the daemon (`osvm-control`) or the gateway (`osvm-gateway`).
#![forbid(unsafe_code)]

mod checker;
mod cli;
mod commands;
mod daemon_process;
mod external;
mod failure;
mod format;
mod logging;
mod notify;
mod output;
mod reference;
mod state_dir;
mod table;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::try_parse() {
        Ok(cli) => cli::run(cli),
        // Help and version are asked for (exit 0); everything else is a usage error (exit 2).
        Err(error) => {
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { failure::USAGE } else { 0 })
        }
    }
}
