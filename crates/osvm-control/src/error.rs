//! Why the daemon could not start or go on.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::store::StoreError;

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon has the state folder.
    #[error("another osvm daemon already runs for {}", state_dir.display())]
    Taken {
        /// The folder.
        state_dir: PathBuf,
    },
    /// A file or folder could not be used.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The state folder's path leaves no room for sockets in it.
    #[error("the state folder's path {} is too long for the unix sockets in it", state_dir.display())]
    PathTooLong {
        /// The folder.
        state_dir: PathBuf,
    },
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signal handlers could not be set.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
}

impl Error {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Taken { .. } => Some("use it, or stop it first: `osvm down`".to_owned()),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("choose a folder that you may write to: `--state-dir DIR` or OSVM_HOME".to_owned())
            }
            Self::PathTooLong { .. } => Some("choose a shorter one: `--state-dir DIR` or OSVM_HOME".to_owned()),
            Self::Store(error) => error.help(),
            _ => None,
        }
    }
}

/// Adds the file to an I/O error.
pub(crate) trait At<T> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { verb, path: path.to_owned(), source })
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line += ": ";
        line += &cause.to_string();
        source = cause.source();
    }
    line
}
