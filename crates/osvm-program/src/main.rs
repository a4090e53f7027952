//! `osvm program`: deploys programs with the upgradeable loader (v3), over JSON-RPC alone.
//!
//! The file is verified as the loader does before anything is paid for; the buffer's key is on disk before the first write, so that
//! the same command again goes on where one broke off; success is told after the bytes were read back.
#![forbid(unsafe_code)]

mod cli;
mod close;
mod cluster;
mod deploy;
mod elf;
mod failure;
mod keys;
mod loader;
mod output;
mod sender;
mod show;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    cli::{Cli, Command},
    failure::Failure,
    output::Printer,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { failure::USAGE } else { 0 });
        }
    };
    let printer = Printer { format: cli.output };
    match run(cli, printer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            printer.failure(&failure);
            ExitCode::from(failure.exit)
        }
    }
}

fn run(cli: Cli, printer: Printer) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("cannot start the async runtime").because(&error))?;
    runtime.block_on(async {
        match cli.command {
            Command::Deploy(args) => deploy::run(printer, &args).await,
            Command::Show(args) => show::run(printer, &args).await,
            Command::Close(args) => close::run(printer, &args).await,
        }
    })
}
