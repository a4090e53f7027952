//! `osvm-jail`: reads a specification as JSON from stdin, runs the program in a jail, and ends as it ended.
//!
//! stdin is replaced by /dev/null once the specification is read. Exit codes: the program's own, 128 + a signal's number, 3 if the
//! jail could not be made.
#![forbid(unsafe_code)]

use std::{error::Error as _, io::Read, process::ExitCode};

use osvm_jail::{End, Error, Output, Spec, run};

fn main() -> ExitCode {
    match start() {
        Ok(end) => ExitCode::from(match end {
            End::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
            End::Signalled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }),
        Err((line, exit)) => {
            eprintln!("error: {line}");
            ExitCode::from(exit)
        }
    }
}

fn start() -> Result<End, (String, u8)> {
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json).map_err(|error| (format!("cannot read stdin: {error}"), 2))?;
    let spec: Spec =
        serde_json::from_str(&json).map_err(|error| (format!("the specification is wrong: {error}"), 2))?;
    let null = std::fs::File::open("/dev/null").map_err(|error| (format!("cannot open /dev/null: {error}"), 1))?;
    rustix::stdio::dup2_stdin(&null).map_err(|error| (format!("cannot replace stdin: {error}"), 1))?;
    run(&spec, Output::Inherit).map(|outcome| outcome.end).map_err(|error| (explain(&error), error.exit()))
}

fn explain(error: &Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    if let Some(help) = error.help() {
        line.push_str(&format!("\n  help: {help}"));
    }
    line
}
