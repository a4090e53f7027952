//! What every isolation level can do.

use std::{collections::BTreeMap, io, path::PathBuf};

use osvm_model::{Generation, IsolationLevel, ResourceUse, handover::Role};

use crate::{AdoptError, Process, WatchError};

/// Everything that an instance is started with.
#[derive(Clone, Debug)]
pub struct StartSpec {
    /// The stored copy of the artifact.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment, beside what [`osvm_model::handover`] names.
    pub env: BTreeMap<String, String>,
    /// Where it listens. The folder is the instance's alone.
    pub uds: PathBuf,
    /// The folder of its state, which is its working directory too.
    pub state: PathBuf,
    /// Which instance it is.
    pub generation: Generation,
    /// Whether it leads from the beginning.
    pub role: Role,
    /// Where stdout and stderr go, appended.
    pub log: PathBuf,
    /// Files and folders of the host that it may read. Without isolation it may read all that the user may.
    pub read: Vec<PathBuf>,
    /// The most memory that it may use, in bytes.
    pub memory: Option<u64>,
}

/// Why an instance did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program is gone, or the interpreter that it names is.
    #[error("{} does not exist, or the interpreter that it names does not", program.display())]
    Missing {
        /// The program.
        program: PathBuf,
    },
    /// The program may not be executed.
    #[error("{} may not be executed", program.display())]
    NotExecutable {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel does not know the program's format.
    #[error("{} is not a program for this machine", program.display())]
    WrongFormat {
        /// The program.
        program: PathBuf,
    },
    /// A file or folder of the instance could not be used.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process could not be made.
    #[error("cannot start {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The level does not keep what was asked for.
    #[error("level {level} keeps no memory limit, and one was asked for")]
    NoLimit {
        /// The level.
        level: IsolationLevel,
    },
    /// It runs but cannot be watched; it was killed.
    #[error("cannot watch the new process")]
    Watch(#[from] WatchError),
}

/// One isolation level. An instance is a process of the host at every level: the service itself, its jailer, or its VM's monitor.
pub trait Driver: Send + Sync {
    /// Which level.
    fn level(&self) -> IsolationLevel;

    /// Starts an instance. Must be called within a tokio runtime.
    fn start(&self, spec: &StartSpec) -> Result<Process, StartError>;

    /// What an instance uses, by its process; none if it is gone.
    fn stats(&self, pid: u32) -> Option<ResourceUse>;

    /// Takes over an instance that an earlier control plane started; none if that very process is gone. Must be called within a
    /// tokio runtime.
    fn adopt(&self, pid: u32, start_time: u64) -> Result<Option<Process>, AdoptError> {
        Process::adopt(pid, start_time)
    }
}
