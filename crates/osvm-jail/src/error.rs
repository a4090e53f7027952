//! Why a program does not run in a jail. Every one of these means that it did not run at all.

use std::{io, path::PathBuf};

use crate::spec::BadSpec;

/// The step of the sequence that failed, in the words of the crate's documentation.
pub type Step = &'static str;

/// Why a jail was not made. The program was not started, or was ended before its first instruction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The specification makes no sense.
    #[error("the jail's specification is wrong")]
    Spec(#[from] BadSpec),
    /// The host cannot give what the level consists of.
    #[error("this host cannot give it: {what}")]
    Unavailable {
        /// What is missing, and its consequence.
        what: String,
        /// What to do.
        help: String,
    },
    /// A declared mount cannot be made.
    #[error("cannot mount {}: {why}", path.display())]
    Mount {
        /// The source or the target.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// One of stdin, stdout and stderr is something that a jail may not be handed.
    #[error("file descriptor {fd} is {what}: a jailed program could leave the jail through it")]
    Handed {
        /// Its number.
        fd: i32,
        /// What it is.
        what: &'static str,
    },
    /// A step outside the jail failed.
    #[error("{step} failed")]
    Host {
        /// Which.
        step: Step,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A step inside the jail failed.
    #[error("{step} failed in the jail: {why}")]
    Inside {
        /// Which.
        step: String,
        /// Why.
        why: String,
    },
    /// The egress proxy could not be confined.
    #[error("{step} failed in the egress proxy: {why}")]
    Egress {
        /// Which step.
        step: String,
        /// Why.
        why: String,
    },
    /// The jail is there, the program is not, or it is not one.
    #[error("cannot execute {}: {why}", program.display())]
    Execute {
        /// The program.
        program: PathBuf,
        /// Why.
        why: String,
    },
    /// The jail's first process ended without a word.
    #[error("the jail ended before the program was started")]
    Lost,
}

impl Error {
    /// The exit code for it: 2 for a wrong request, 3 for isolation that cannot be given, 127 for a program that cannot be executed, 1 else.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Spec(_) => 2,
            Self::Unavailable { .. } | Self::Host { .. } | Self::Inside { .. } | Self::Egress { .. } | Self::Lost => 3,
            Self::Mount { .. } | Self::Handed { .. } => 1,
            Self::Execute { .. } => 127,
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Unavailable { help, .. } => Some(help),
            Self::Handed { .. } => Some("redirect it to a file, a pipe, a terminal or /dev/null"),
            Self::Execute { .. } => Some("declare the program and what it needs with --mount SRC:DST:ro"),
            _ => None,
        }
    }
}

/// Puts the step's name on an error of the host.
pub(crate) trait At<T> {
    fn at(self, step: Step) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: Step) -> Result<T, Error> {
        self.map_err(|source| Error::Host { step, source: source.into() })
    }
}
