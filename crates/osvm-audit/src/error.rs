//! Why an audit could not be made at all.

use std::{io, path::PathBuf};

/// A file that can't be read or parsed is no error but a [`crate::NotAnalysed`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The root is not there or may not be read.
    #[error("cannot read {path}: is it there, and may you read it?", path = path.display())]
    Root {
        /// What was asked for.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// A rule was asked for that does not exist.
    #[error("there is no rule {rule}; `rules` lists them")]
    NoSuchRule {
        /// What was asked for.
        rule: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread to parse with")]
    Thread {
        /// The system's word.
        #[source]
        source: io::Error,
    },
}
