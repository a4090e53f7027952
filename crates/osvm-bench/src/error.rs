//! Why a bench could not be run, or what it found wrong.

use std::{error::Error as _, io};

/// A bench's failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The system said no.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        #[source]
        source: io::Error,
    },
    /// A program of the product or of the comparison did not do what it was asked.
    #[error("{0}")]
    Program(String),
    /// An HTTP or JSON-RPC exchange failed.
    #[error("{what}: {why}")]
    Exchange { what: String, why: String },
    /// The bench ran, and what it was to show is not so.
    #[error("{} of the checks failed:\n  {}", .0.len(), .0.join("\n  "))]
    Checks(Vec<String>),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    pub(crate) fn exchange(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Exchange { what: what.into(), why: why.to_string() }
    }
}

/// The error with its sources in one line.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = text + ": " + &cause.to_string();
        source = cause.source();
    }
    text
}

/// What a bench is to show, collected so that all that is wrong is told at once.
#[derive(Default)]
pub(crate) struct Checks {
    failed: Vec<String>,
}

impl Checks {
    /// Notes and prints a check.
    pub(crate) fn that(&mut self, holds: bool, what: impl Into<String>) {
        let what = what.into();
        println!("{} {what}", if holds { "ok  " } else { "FAIL" });
        if !holds {
            self.failed.push(what);
        }
    }

    /// Whether all held.
    pub(crate) fn result(self) -> Result<(), Error> {
        if self.failed.is_empty() { Ok(()) } else { Err(Error::Checks(self.failed)) }
    }
}
