//! Level `none`: an ordinary process in a process group of its own, with nothing of the daemon's environment.
//!
//! It is not told to die with its parent: the daemon may be killed and the next one adopts it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use osvm_model::{
    IsolationLevel, ResourceUse,
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
        if spec.memory.is_some() {
            return Err(StartError::NoLimit { level: self.level() });
        }
        let log = prepare(spec)?;
        let stderr = log.try_clone().map_err(|source| StartError::File { path: spec.log.clone(), source })?;
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.args)
            .env_clear()
            .envs(&spec.env)
            .env(ENV_VSOCK, &spec.uds)
            .env(ENV_STATE, &spec.state)
            .env(ENV_GENERATION, spec.generation.to_string())
            .env(ENV_ROLE, role(spec.role))
            .current_dir(&spec.state)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(stderr)
            .process_group(0);
        let child = spawn(&mut command).map_err(|source| explain(spec, source))?;
        Ok(Process::watch(child)?)
    }

    fn stats(&self, pid: u32) -> Option<ResourceUse> {
        crate::procfs::stats(pid)
    }
}

/// Makes the instance's folders and opens its log.
pub(crate) fn prepare(spec: &StartSpec) -> Result<File, StartError> {
    let file = |path: &Path, source| StartError::File { path: path.to_owned(), source };
    let folders = [Some(spec.state.as_path()), spec.uds.parent(), spec.log.parent()];
    for folder in folders.into_iter().flatten() {
        fs::create_dir_all(folder).map_err(|source| file(folder, source))?;
    }
    OpenOptions::new().create(true).append(true).open(&spec.log).map_err(|source| file(&spec.log, source))
}

/// The word for a role in the environment.
pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Standby => "standby",
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

/// Whether the program is there and may be executed, as the kernel would find it.
pub(crate) fn executable(program: &Path) -> Result<(), StartError> {
    let program = program.to_owned();
    match rustix::fs::access(&program, rustix::fs::Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOENT) => Err(StartError::Missing { program }),
        Err(error) => Err(StartError::NotExecutable { program, source: error.into() }),
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
