//! `osvm-jail`: reads a specification as JSON from stdin, runs the program in a jail, and ends as it ended.
//!
//! stdin is replaced by /dev/null once the specification is read. It ends by the signal by which the program ended (or with 128
//! and its number), with the program's exit code, or with 3 if the jail could not be made. `osvm-jail check` makes a jail for this very program and ends with 0 if that went well.
#![forbid(unsafe_code)]

use std::{error::Error as _, io::Read, path::PathBuf, process::ExitCode};

use osvm_jail::{End, Error, Limits, Outcome, Output, Spec, closure, run};
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};

/// What the program is told when it is the one in the jail.
const INSIDE: &str = "inside-a-jail";

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        None => start(),
        Some("check") => check(),
        Some(INSIDE) => return ExitCode::SUCCESS,
        Some(_) => Err(("it takes a specification on stdin, or the word check".to_owned(), 2)),
    };
    match done {
        Ok(outcome) => {
            if outcome.oom {
                eprintln!("osvm-jail: the kernel ended a process for memory: the instance's limit was reached (OOM)");
            } else if outcome.timed_out {
                eprintln!("osvm-jail: it ran longer than it may and was ended");
            }
            ExitCode::from(match outcome.end {
                End::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
                End::Signalled(signal) => end_by(signal),
            })
        }
        Err((line, exit)) => {
            eprintln!("error: {line}");
            ExitCode::from(exit)
        }
    }
}

/// Ends by the same signal, without a core dump. A signal that this process holds back becomes an exit code.
fn end_by(signal: i32) -> u8 {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let (Ok(()), Some(signal)) = (setrlimit(Resource::Core, none), Signal::from_named_raw(signal)) {
        let _ = kill_process(getpid(), signal);
    }
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

fn start() -> Result<Outcome, (String, u8)> {
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json).map_err(|error| (format!("cannot read stdin: {error}"), 2))?;
    let spec: Spec =
        serde_json::from_str(&json).map_err(|error| (format!("the specification is wrong: {error}"), 2))?;
    let null = std::fs::File::open("/dev/null").map_err(|error| (format!("cannot open /dev/null: {error}"), 1))?;
    rustix::stdio::dup2_stdin(&null).map_err(|error| (format!("cannot replace stdin: {error}"), 1))?;
    run(&spec, Output::Inherit).map_err(|error| (explain(&error), error.exit()))
}

/// The whole sequence, with this program as the one inside.
fn check() -> Result<Outcome, (String, u8)> {
    let failed = |error: Error| (explain(&error), error.exit());
    let own = std::env::current_exe().map_err(|error| (format!("cannot find its own file: {error}"), 1))?;
    let mut spec = Spec::new("/check");
    spec.argv.push(INSIDE.to_owned());
    spec.mounts = closure(&own, &[]).map_err(failed)?;
    for mount in spec.mounts.iter_mut().filter(|mount| mount.target == own) {
        mount.target = PathBuf::from("/check");
    }
    spec.limits = Limits { cpus: Some(1.0), ..Limits::default() };
    let outcome = run(&spec, Output::Inherit).map_err(failed)?;
    match outcome.end {
        End::Exited(0) => Ok(outcome),
        end => Err((format!("the program in the jail ended with {end:?}"), 3)),
    }
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
