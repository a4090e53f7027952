//! `osvm-microvm`: programs in Linux guests, the guests' images and kernel.
//!
//! A guest lives as long as the program that `run` starts in it, and as long as `run` itself. Exit codes: the program's own; 128 +
//! the number
//! of the signal that ended it; 2 for a wrong command line; 3 when the isolation asked for cannot be given; 127 when there is no such
//! program in the guest; 1 for anything else.
#![forbid(unsafe_code)]

mod cli;
mod commands;

use std::{error::Error as _, process::ExitCode};

use clap::Parser;
use cli::Cli;
use osvm_agent::Code;
use osvm_microvm::Error;

fn main() -> ExitCode {
    match commands::run(&Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  {error}");
                cause = error.source();
            }
            if let Some(help) = error.help() {
                eprintln!("  help: {help}");
            }
            ExitCode::from(exit(&error))
        }
    }
}

fn exit(error: &Error) -> u8 {
    match error {
        Error::Name(_) | Error::Config(_) => 2,
        Error::Missing { .. } | Error::NotHardware { .. } => 3,
        Error::Agent(osvm_agent::Error::Refused(failure)) if failure.code == Code::Missing => 127,
        _ => 1,
    }
}
