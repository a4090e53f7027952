//! Why there is no microVM, or not the one that was asked for.

use std::{fmt::Write as _, io, path::PathBuf, time::Duration};

/// What a caller meets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program, a device or a file that is needed is not there.
    #[error("{what} is not there")]
    Missing {
        /// Which.
        what: String,
        /// Where to get it.
        help: &'static str,
    },
    /// A file or a process.
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
    /// A name that no microVM may have.
    #[error("a microVM's name has 1 to 32 small letters, digits and hyphens, and begins with a letter: {0:?} does not")]
    Name(String),
    /// Another microVM of that name is there.
    #[error("a microVM {0} runs already")]
    Taken(String),
    /// A figure that no VM can have.
    #[error("{0}")]
    Config(&'static str),
    /// A file is not what it is used as.
    #[error("{} is {why}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file's content is not what was recorded.
    #[error("{} has digest {found}, and {due} was recorded", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// Recorded.
        due: String,
        /// Seen.
        found: String,
    },
    /// The VMM said no.
    #[error("{vmm} refused {what}: {said}")]
    Refused {
        /// Which VMM.
        vmm: &'static str,
        /// What was asked of it.
        what: String,
        /// Its own words.
        said: String,
    },
    /// The VMM's control socket broke or talked nonsense.
    #[error("{vmm} gave no answer to {what}")]
    NoAnswer {
        /// Which VMM.
        vmm: &'static str,
        /// What was asked of it.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The driver cannot do that.
    #[error("{vmm} {what}")]
    Unable {
        /// Which VMM.
        vmm: &'static str,
        /// What.
        what: &'static str,
    },
    /// The VMM ended by itself.
    #[error("{vmm} ended: {status}{}", tail(console))]
    Ended {
        /// Which VMM.
        vmm: &'static str,
        /// How.
        status: String,
        /// The last lines of the console and of the VMM's log.
        console: Vec<String>,
    },
    /// The guest's kernel gave up.
    #[error("the guest's kernel panicked{}", tail(console))]
    Panicked {
        /// The last lines of the console.
        console: Vec<String>,
    },
    /// The guest did not say that it is ready.
    #[error("the guest was not ready within {} s{}", after.as_secs(), tail(console))]
    NotReady {
        /// How long was waited.
        after: Duration,
        /// The last lines of the console.
        console: Vec<String>,
    },
    /// What isolates is weaker than what was asked for.
    #[error("hardware isolation was required, and {found} is all there is: nothing was started")]
    NotHardware {
        /// What there is.
        found: &'static str,
    },
    /// The guest could not be reached.
    #[error("cannot reach port {port} of the guest")]
    Vsock {
        /// Which port.
        port: u32,
        /// Why.
        #[source]
        source: osvm_vsock::Error,
    },
    /// The agent.
    #[error("the guest's agent did not do it")]
    Agent(#[from] osvm_agent::Error),
}

impl Error {
    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Missing { help, .. } => Some(help),
            Self::NotHardware { .. } => {
                Some("leave out --require-hardware, or use a machine with kvm_intel or kvm_amd")
            }
            Self::Taken(_) => Some("choose another --name, or stop that one"),
            _ => None,
        }
    }
}

/// For `map_err`: a file and what was tried with it.
pub(crate) fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { verb, path: path.into(), source }
}

/// The console's last lines, each below the message and indented.
fn tail(console: &[String]) -> String {
    console.iter().fold(String::new(), |mut text, line| {
        // Writing to a string does not fail.
        let _ = write!(text, "\n  | {line}");
        text
    })
}
