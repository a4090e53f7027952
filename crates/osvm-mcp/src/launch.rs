//! Starts a server in a jail, with pipes.
//!
//! A jail's monitor has one thread, and this program has an async runtime; so it starts itself again as the monitor. The specification
//! goes first over the pipe that is the server's stdin afterwards: eight hexadecimal digits of length, then JSON. So it is in no
//! file, no argument list and no environment.

use std::{
    collections::BTreeMap,
    env, io,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use osvm_jail::{End, HostPort, Limits, Mount, Network, Output, Spec, closure, run};
use osvm_model::parse_size;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

use crate::{config::Server, packages};

/// The word by which this program is told that it is a monitor.
pub const MONITOR: &str = "in-jail";
/// Where a server looks for programs.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// The largest specification, bytes.
const LARGEST_SPEC: usize = 4 << 20;
/// Digits of its length.
const DIGITS: usize = 8;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is declared makes no sense on this host.
    #[error("{0}")]
    Declared(String),
    /// The jail refuses the declaration.
    #[error("the jail cannot be described")]
    Jail(#[from] osvm_jail::Error),
    /// A folder of a package cannot be read or written.
    #[error("cannot install into {}", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The monitor cannot be started.
    #[error("cannot start the jail's monitor")]
    Monitor(#[source] io::Error),
}

/// The jail of a server, as declared. `packages` is the folder of installed packages.
///
/// # Errors
/// When its program is not there or what is declared makes no sense.
pub fn spec(name: &str, server: &Server, packages: &Path) -> Result<Spec, Error> {
    let (server, libraries) = packages::resolve(name, server, packages)?;
    let name = server.command.first().map_or("", String::as_str);
    let program = find(name)?;
    let mount = |path: &PathBuf, writable| Mount { source: path.clone(), target: path.clone(), writable, owned: true };
    let mut mounts: Vec<_> = server.read.iter().map(|path| mount(path, false)).collect();
    mounts.extend(server.write.iter().map(|path| mount(path, true)));
    mounts.extend(closure(&program, &mounts)?);
    for library in libraries {
        if !mounts.iter().any(|mount| mount.target == library.target) {
            mounts.push(library);
        }
    }
    let mut variables = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    variables.extend(server.env.clone());
    let allow = server.allow.iter().map(|text| HostPort::parse(text));
    let allow = allow.collect::<Result<Vec<_>, _>>().map_err(|error| Error::Declared(error.to_string()))?;
    let defaults = Limits::default();
    let memory = match &server.memory {
        Some(text) => parse_size(text).map_err(|error| Error::Declared(format!("memory {text:?}: {error}")))?,
        None => defaults.memory,
    };
    let spec = Spec {
        argv: server.command.clone(),
        env: variables,
        cwd: server.cwd.clone().unwrap_or_else(|| PathBuf::from("/")),
        mounts,
        limits: Limits { memory, cpus: server.cpus, pids: server.pids.unwrap_or(defaults.pids), ..defaults },
        network: Network { allow, inbound: None },
        ..Spec::new(program)
    };
    spec.check().map_err(|error| Error::Declared(error.to_string()))?;
    Ok(spec)
}

/// A program by its path, or by its name in `PATH`.
pub(crate) fn find(name: &str) -> Result<PathBuf, Error> {
    let missing = || Error::Declared(format!("there is no program {name:?}: give its whole path"));
    if name.contains('/') {
        return std::fs::canonicalize(name).map_err(|_| missing());
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|file| file.is_file()).ok_or_else(missing)
}

/// Starts the monitor and hands it the specification. stdin and stdout are the server's; stderr is this program's.
///
/// The monitor ends with the thread that calls this: call it from one that stays.
///
/// # Errors
/// When the monitor cannot be started. Whether the jail was made is known from its first answer, or its end.
pub async fn start(monitor: &Path, spec: &Spec) -> Result<Child, Error> {
    let text = serde_json::to_string(spec).map_err(|error| Error::Declared(error.to_string()))?;
    if text.len() > LARGEST_SPEC {
        return Err(Error::Declared("its declaration is too large".to_owned()));
    }
    let mut command = Command::new(monitor);
    command.arg(MONITOR).arg(std::process::id().to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(Error::Monitor)?;
    if let Some(stdin) = &mut child.stdin {
        let framed = format!("{:0DIGITS$x}{text}", text.len());
        stdin.write_all(framed.as_bytes()).await.map_err(Error::Monitor)?;
        stdin.flush().await.map_err(Error::Monitor)?;
    }
    Ok(child)
}

/// The monitor's whole life. Must be called with a single thread.
pub fn monitor(parent: Option<&str>) -> ExitCode {
    match watch(parent) {
        Ok(End::Exited(code)) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Ok(End::Signalled(signal)) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        Err((line, exit)) => {
            eprintln!("error: {line}");
            ExitCode::from(exit)
        }
    }
}

fn watch(parent: Option<&str>) -> Result<End, (String, u8)> {
    let failed = |error: io::Error| (format!("the monitor was not started as it should be: {error}"), 2);
    // Without this, a killed gateway would leave servers behind. The parent may have ended before it took effect.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed(error.into()))?;
    let parent = parent.and_then(|text| text.parse().ok()).and_then(Pid::from_raw);
    if parent.is_none() || getppid() != parent {
        return Err(failed(io::Error::other("its parent is gone")));
    }
    let mut digits = [0; DIGITS];
    read_exactly(&mut digits).map_err(failed)?;
    let length = std::str::from_utf8(&digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    let length = length.filter(|length| *length <= LARGEST_SPEC);
    let length = length.ok_or_else(|| failed(io::Error::other("no length")))?;
    let mut text = vec![0; length];
    read_exactly(&mut text).map_err(failed)?;
    let spec: Spec = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
    let outcome = run(&spec, Output::Inherit).map_err(|error| (words(&error), error.exit()))?;
    if outcome.oom {
        eprintln!("note: the kernel ended a process of the server: it used more than its memory");
    }
    Ok(outcome.end)
}

/// Reads without a buffer: what follows is the server's.
fn read_exactly(bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::read(rustix::stdio::stdin(), &mut bytes[done..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// An error and its causes in one line.
pub fn words(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    line
}

/// Without control characters, so that what a server says cannot steer a terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
