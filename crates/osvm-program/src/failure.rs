//! How `osvm program` ends when it does not end well.

use std::error::Error;

use osvm_solana::Error as RpcError;

/// The command failed.
pub(crate) const FAILED: u8 = 1;
/// The command line was wrong.
pub(crate) const USAGE: u8 = 2;

/// What failed, with which thing, why, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: u8,
    pub(crate) error: String,
    pub(crate) causes: Vec<String>,
    pub(crate) help: Vec<String>,
}

impl Failure {
    pub(crate) fn new(error: impl Into<String>) -> Self {
        Self { exit: FAILED, error: error.into(), causes: Vec::new(), help: Vec::new() }
    }

    pub(crate) fn usage(error: impl Into<String>) -> Self {
        Self { exit: USAGE, ..Self::new(error) }
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

    /// Adds what can be done; several are several ways.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        let mut failure = Self::new(error.to_string());
        if let Some(source) = error.source() {
            failure = failure.because(source);
        }
        match &error {
            RpcError::Connect { .. } => failure.help("is a node there? Start a local one: osvm rpc local"),
            RpcError::Rpc { data: Some(data), .. } => {
                // What the program itself logged is the nearest thing to a reason.
                let logs = data.get("logs").and_then(|logs| logs.as_array()).into_iter().flatten();
                failure.causes.extend(logs.filter_map(|log| log.as_str()).map(str::to_owned));
                failure
            }
            _ => failure,
        }
    }
}
