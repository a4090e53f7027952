//! Level `none`: an ordinary process in a process group of its own, with nothing of the daemon's environment.
//!
//! It is not told to die with its parent: the daemon may be killed and the next one adopts it.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use osvm_model::{
    IsolationLevel,
    handover::{ENV_GENERATION, ENV_ROLE, ENV_STATE, ENV_VSOCK, Role},
};

use crate::{Driver, Process, StartError, StartSpec};

/// How often a program is tried again that is still open for writing.
const BUSY_TRIES: u32 = 50;
/// The pause between two such tries. The kernel offers no event for it.
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// The driver of level `none`.
#[derive(Debug)]
pub(crate) struct Plain;

impl Driver for Plain {
    fn level(&self) -> IsolationLevel {
        IsolationLevel::None
    }

    fn start(&self, spec: &StartSpec) -> Result<Process, StartError> {
        let file = |path: &std::path::Path, source| StartError::File { path: path.to_owned(), source };
        fs::create_dir_all(&spec.state).map_err(|source| file(&spec.state, source))?;
        if let Some(folder) = spec.log.parent() {
            fs::create_dir_all(folder).map_err(|source| file(folder, source))?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&spec.log);
        let log = log.map_err(|source| file(&spec.log, source))?;
        let stderr = log.try_clone().map_err(|source| file(&spec.log, source))?;
        let role = match spec.role {
            Role::Leader => "leader",
            Role::Standby => "standby",
        };
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.args)
            .env_clear()
            .envs(&spec.env)
            .env(ENV_VSOCK, &spec.uds)
            .env(ENV_STATE, &spec.state)
            .env(ENV_GENERATION, spec.generation.to_string())
            .env(ENV_ROLE, role)
            .current_dir(&spec.state)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(stderr)
            .process_group(0);
        let child = spawn(&mut command).map_err(|source| explain(spec, source))?;
        Ok(Process::watch(child)?)
    }
}

/// A freshly copied program may be open for writing for a moment more: a process that was forked meanwhile holds the copy's file
/// until it executes its own program.
fn spawn(command: &mut Command) -> io::Result<std::process::Child> {
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                thread::sleep(BUSY_PAUSE);
            }
            done => return done,
        }
    }
}

fn explain(spec: &StartSpec, source: io::Error) -> StartError {
    let program = spec.program.clone();
    match rustix::io::Errno::from_io_error(&source) {
        Some(rustix::io::Errno::NOENT) => StartError::Missing { program },
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => StartError::NotExecutable { program, source },
        Some(rustix::io::Errno::NOEXEC) => StartError::WrongFormat { program },
        _ => StartError::Spawn { program, source },
    }
}
