//! `osvm run`: one program in a jail, its output, its exit code and what it used.
//!
//! This process is the jail's monitor itself, so it stays single-threaded. Exit codes: the program's own; 128 + the number of the
//! signal that ended it; 124 when it ran longer than `--timeout`; 2 for a wrong command line; 3 when the isolation asked for cannot be
//! given; 127 when the program cannot be executed.
#![forbid(unsafe_code)]

mod args;
mod microvm;
mod report;
mod unikernel;

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use args::{Args, Format};
use clap::Parser;
use osvm_jail::{End, Error, Limits, Network, Outcome, Output, Spec, closure, run};
use osvm_model::{IsolationLevel, IsolationRequest};
use report::{Failure, Run, json};

/// The exit code of a program that was ended for running too long, as `timeout` has it.
const TIMED_OUT: u8 = 124;
/// Where a program in a jail looks for others.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

fn main() -> ExitCode {
    let args = Args::parse();
    let as_json = args.output == Format::Json;
    match start(&args) {
        Ok((level, outcome)) => {
            if as_json {
                json(&Run::new(&args.command[0], level, &outcome));
            } else if outcome.timed_out {
                eprintln!("note: it ran longer than --timeout and was ended");
            } else if outcome.oom {
                eprintln!("note: the kernel ended a process of it: it used more than --memory");
            }
            ExitCode::from(code(&outcome))
        }
        Err(failure) => {
            failure.print(as_json);
            ExitCode::from(failure.exit)
        }
    }
}

fn code(outcome: &Outcome) -> u8 {
    match outcome.end {
        _ if outcome.timed_out => TIMED_OUT,
        End::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
        End::Signalled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
    }
}

fn start(args: &Args) -> Result<(IsolationLevel, Outcome), Failure> {
    let output = if args.output == Format::Json { Output::Capture } else { Output::Inherit };
    let level = level(args.isolation)?;
    if level == IsolationLevel::Microvm {
        return Err(microvm::become_it(args));
    }
    if args.image.is_some() || args.require_hardware {
        let help = Some("leave them out, or choose --isolation microvm".to_owned());
        let line = format!("--image and --require-hardware mean nothing at level {level}");
        return Err(Failure { lines: vec![line], help, exit: 2 });
    }
    let spec = if level == IsolationLevel::Unikernel { unikernel::spec(args)? } else { spec(args)? };
    Ok((level, run(&spec, output)?))
}

/// The jail of level `process`.
fn spec(args: &Args) -> Result<Spec, Failure> {
    let program = find(&args.command[0], args)?;
    let mut mounts = args.mount.clone();
    mounts.extend(closure(&program, &args.mount)?);
    let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    env.extend(args.env.iter().cloned());
    Ok(Spec {
        program,
        argv: args.command.clone(),
        env,
        cwd: args.cwd.clone(),
        mounts,
        read_only: args.read_only,
        proc: args.proc,
        kvm: false,
        limits: Limits {
            memory: args.memory,
            cpus: args.cpus,
            pids: args.pids,
            timeout: args.timeout,
            ..Limits::default()
        },
        network: Network { allow: args.allow.clone(), inbound: args.publish.clone() },
    })
}

/// Exactly the level that was asked for, or a refusal. `auto` is told on stderr.
fn level(request: IsolationRequest) -> Result<IsolationLevel, Failure> {
    match request {
        IsolationRequest::Level(
            level @ (IsolationLevel::Process | IsolationLevel::Microvm | IsolationLevel::Unikernel),
        ) => Ok(level),
        IsolationRequest::Auto => {
            eprintln!(
                "isolation process (auto: it shares the host's kernel; level unikernel does not run every program yet, and is taken when \
                 asked for)"
            );
            Ok(IsolationLevel::Process)
        }
        IsolationRequest::Level(IsolationLevel::None) => Err(Failure {
            lines: vec!["osvm run does not run a program without isolation".to_owned()],
            help: Some("start the program itself, without osvm run".to_owned()),
            exit: 3,
        }),
    }
}

/// The program's path, as the jail will see it.
pub(crate) fn find(name: &str, args: &Args) -> Result<PathBuf, Failure> {
    let path = Path::new(name);
    if name.contains('/') {
        let covered = args.mount.iter().any(|mount| path.starts_with(&mount.target));
        let absolute = if covered { Ok(path.to_owned()) } else { std::path::absolute(path) };
        let normal = absolute.map_err(|error| error.to_string()).and_then(|path| {
            // A path with `..` in it, or through a link, is named by where it really is.
            if covered { Ok(path) } else { std::fs::canonicalize(&path).map_err(|error| error.to_string()) }
        });
        return normal.map_err(|why| Error::Execute { program: path.to_owned(), why }.into());
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| {
        let why = "there is no such program in PATH".to_owned();
        Error::Execute { program: PathBuf::from(name), why }.into()
    })
}
