//! What the host may ask, and what the guest answers. Checked before anything is done.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The most arguments, and the most variables of the environment.
const MOST_WORDS: usize = 1024;
/// The highest signal.
const LAST_SIGNAL: i32 = 64;
/// The bits of a file's mode that may be asked for.
const MODE_BITS: u32 = 0o7777;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Who are you, and since when: [`Reply::Info`].
    Info,
    /// Run a program: [`Reply::Started`], then its output and [`End`]. The program's whole process group is killed when the
    /// connection ends.
    Exec(Exec),
    /// Send a signal to the process group of a program that runs: [`Reply::Done`].
    Signal {
        /// The number of [`Reply::Started`].
        exec: u64,
        /// The signal's number.
        signal: i32,
    },
    /// Read a file of the guest: [`Reply::File`], then its bytes.
    Read {
        /// Absolute.
        path: PathBuf,
    },
    /// Write a file of the guest: [`Reply::Done`], the bytes, [`Reply::Done`] again once they are on its disk under that name.
    Write {
        /// Absolute. Its folder has to be there.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// How many bytes come.
        size: u64,
    },
    /// Join this connection to a TCP port of the guest's loopback: [`Reply::Done`], then plain bytes.
    Forward {
        /// The port.
        port: u16,
    },
    /// End the guest: [`Reply::Done`], then the machine resets.
    Shutdown,
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: PathBuf,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// To [`Request::Info`].
    Info(Info),
    /// The program runs.
    Started {
        /// Its number, for signals.
        exec: u64,
    },
    /// The file is there.
    File {
        /// How many bytes come.
        size: u64,
        /// Its permissions.
        mode: u32,
    },
    /// It is done, or the rest may come.
    Done,
}

/// What the agent tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// The agent's own version.
    pub agent: String,
    /// The kernel's release.
    pub kernel: String,
    /// Milliseconds from the kernel's start to the moment when the agent could be asked.
    pub ready_ms: u64,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum End {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// Why the guest did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{what}")]
pub struct Failure {
    /// The sort of reason, for programs.
    pub code: Code,
    /// The reason, for people. It comes from the guest.
    pub what: String,
}

/// The sort of a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request broke a rule.
    Bad,
    /// A file, program, port or running program is not there.
    Missing,
    /// The guest's disk or memory is full.
    Full,
    /// As many connections as there may be.
    Busy,
    /// Something else.
    Other,
}

/// A request that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRequest(pub &'static str);

impl Request {
    /// Whether it may be done at all.
    pub fn check(&self) -> Result<(), BadRequest> {
        match self {
            Self::Info | Self::Shutdown => Ok(()),
            Self::Exec(exec) => exec.check(),
            Self::Signal { signal: 1..=LAST_SIGNAL, .. } => Ok(()),
            Self::Signal { .. } => Err(BadRequest("a signal is a number from 1 to 64")),
            Self::Read { path } => plain(path),
            Self::Write { mode, .. } if mode & !MODE_BITS != 0 => Err(BadRequest("a mode has no bits but 7777")),
            Self::Write { path, .. } => plain(path),
            Self::Forward { port: 0 } => Err(BadRequest("a port is a number from 1 to 65535")),
            Self::Forward { .. } => Ok(()),
        }
    }
}

impl Exec {
    fn check(&self) -> Result<(), BadRequest> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(BadRequest("a program has a name"));
        }
        if self.argv.len() > MOST_WORDS || self.env.len() > MOST_WORDS {
            return Err(BadRequest("1024 arguments and 1024 variables are the most"));
        }
        if self.argv.iter().chain(self.env.keys()).chain(self.env.values()).any(|text| text.contains('\0')) {
            return Err(BadRequest("a zero byte cannot be passed to a program"));
        }
        if self.env.keys().any(|name| name.is_empty() || name.contains('=')) {
            return Err(BadRequest("a variable's name is not empty and has no ="));
        }
        plain(&self.cwd)
    }
}

/// An absolute path without `..` and zero bytes.
fn plain(path: &Path) -> Result<(), BadRequest> {
    let parts = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && parts && !path.as_os_str().as_encoded_bytes().contains(&0) {
        Ok(())
    } else {
        Err(BadRequest("a path in the guest is absolute, without `..`"))
    }
}
