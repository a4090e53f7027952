//! How a command ends when it does not end well: one line that says what failed, with which thing, why, and what to do.

use std::{error::Error, io};

use osvm_control::ClientError;
use osvm_model::api::{ErrorBody, SCHEMA};

/// The command failed.
pub(crate) const FAILED: u8 = 1;
/// The command line was wrong.
pub(crate) const USAGE: u8 = 2;

/// Why a command did not do what it is there for.
#[derive(Debug)]
pub(crate) struct Failure {
    /// 1 failed, 2 usage, 3 refused for isolation.
    pub(crate) exit: u8,
    /// What failed, with which thing.
    pub(crate) error: String,
    /// Why, the nearest cause first.
    pub(crate) causes: Vec<String>,
    /// What to do about it.
    pub(crate) help: Option<String>,
    /// Everything was said already, or nobody reads any more.
    pub(crate) quiet: bool,
}

impl Failure {
    pub(crate) fn new(error: impl Into<String>) -> Self {
        Self { exit: FAILED, error: error.into(), causes: Vec::new(), help: None, quiet: false }
    }

    /// A command line that clap took but that makes no sense.
    pub(crate) fn usage(error: impl Into<String>) -> Self {
        Self { exit: USAGE, ..Self::new(error) }
    }

    /// The output has told it all; only the exit code is left.
    pub(crate) fn told(exit: u8) -> Self {
        Self { exit, quiet: true, ..Self::new("") }
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

    /// The failure as `--output json` prints it.
    pub(crate) fn body(&self) -> ErrorBody {
        let mut error = self.error.clone();
        for cause in &self.causes {
            error.push_str(": ");
            error.push_str(cause);
        }
        ErrorBody { schema: SCHEMA.to_owned(), error, help: self.help.clone(), exit: self.exit }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let failure = Self { exit: error.exit(), ..Self::new(error.to_string()) };
        match &error {
            ClientError::NotRunning { .. } => failure.help("start a service: osvm rpc local"),
            _ => {
                let failure = match error.source() {
                    Some(source) => failure.because(source),
                    None => failure,
                };
                Self { help: error.help().map(str::to_owned), ..failure }
            }
        }
    }
}

impl From<osvm_control::Error> for Failure {
    fn from(error: osvm_control::Error) -> Self {
        let failure = Self::new(error.to_string());
        let failure = match error.source() {
            Some(source) => failure.because(source),
            None => failure,
        };
        Self { help: error.help(), ..failure }
    }
}

/// Writing to stdout: a reader that went away (`| head`) is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::told(0)
        } else {
            Self::new("cannot write the output").because(&error)
        }
    }
}
