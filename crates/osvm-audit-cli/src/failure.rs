//! Why a command could not do its work: one line that says what, with which thing, why, and what to do.

use std::{error::Error, io};

/// The audit is clean, or the command did what it is there for.
pub(crate) const CLEAN: u8 = 0;
/// Findings at or over the bar.
pub(crate) const FINDINGS: u8 = 1;
/// A wrong command line, or work that could not be done. Never a statement about the program that was audited.
pub(crate) const USAGE: u8 = 2;
/// Something was not analysed, and `--strict` was given.
pub(crate) const NOT_ANALYSED: u8 = 4;

/// What failed. Always exits with [`USAGE`], so that it is never taken for findings.
#[derive(Debug)]
pub(crate) struct Failure {
    error: String,
    causes: Vec<String>,
    help: Option<String>,
    quiet: bool,
}

impl Failure {
    pub(crate) fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), causes: Vec::new(), help: None, quiet: false }
    }

    /// Adds `source` and all below it.
    pub(crate) fn because(mut self, source: &dyn Error) -> Self {
        let mut cause = Some(source);
        while let Some(error) = cause {
            self.causes.push(error.to_string());
            cause = error.source();
        }
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says it on stderr. Returns the exit code.
    pub(crate) fn tell(&self) -> u8 {
        if self.quiet {
            return CLEAN;
        }
        eprintln!("error: {}", self.error);
        for cause in &self.causes {
            eprintln!("  {cause}");
        }
        if let Some(help) = &self.help {
            eprintln!("  help: {help}");
        }
        USAGE
    }

    /// The first line, for places that have room for one.
    pub(crate) fn line(&self) -> String {
        match self.causes.first() {
            Some(cause) => format!("{}: {cause}", self.error),
            None => self.error.clone(),
        }
    }
}

impl From<osvm_audit::Error> for Failure {
    fn from(error: osvm_audit::Error) -> Self {
        let failure = Self::new(error.to_string());
        match error.source() {
            Some(source) => failure.because(source),
            None => failure,
        }
    }
}

/// Writing to stdout: a reader that went away (`| head`) is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let quiet = error.kind() == io::ErrorKind::BrokenPipe;
        Self { quiet, ..Self::new("cannot write the output").because(&error) }
    }
}
