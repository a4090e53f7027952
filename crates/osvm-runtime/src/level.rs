//! Which levels this build can give, and which one `auto` means.

use std::sync::OnceLock;

use osvm_model::{IsolationLevel, IsolationRequest, ResourceUse};

use crate::{
    Driver,
    jailed::{self, Jailed},
    none::Plain,
    unikernel::{self, Unikernel},
};

/// A level that cannot be given. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("level {level} is not available on this host: {reason}")]
pub struct Refused {
    /// The level asked for.
    pub level: IsolationLevel,
    /// Why not.
    pub reason: String,
    /// What to do.
    pub help: String,
}

/// A level in force, and why that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The level.
    pub level: IsolationLevel,
    /// One line for people.
    pub why: String,
}

/// The level for a request: exactly the one asked for, or, for `auto`, a jail where there can be one. May take some milliseconds: the first
/// time, a jail, or a VM in one, is made to see whether one can be.
pub fn choose(request: IsolationRequest) -> Result<Chosen, Refused> {
    match request {
        IsolationRequest::Auto => Ok(match driver(IsolationLevel::Process) {
            Ok(_) => Chosen {
                level: IsolationLevel::Process,
                why: "auto: process, a jail on the host's kernel; level unikernel, a VM, is used only when asked for"
                    .to_owned(),
            },
            Err(refused) => Chosen {
                level: IsolationLevel::None,
                why: format!(
                    "auto: none, so nothing isolates the instance; level process is not available: {}",
                    refused.reason
                ),
            },
        }),
        IsolationRequest::Level(level) => {
            driver(level)?;
            Ok(Chosen { level, why: "as asked for".to_owned() })
        }
    }
}

/// The driver of a level.
pub fn driver(level: IsolationLevel) -> Result<&'static dyn Driver, Refused> {
    /// Set once a jail was made. (What this host lacks may come: a refusal is looked at again each time.)
    static JAILS: OnceLock<()> = OnceLock::new();
    /// The same once a program ran in a VM.
    static VMS: OnceLock<()> = OnceLock::new();
    match level {
        IsolationLevel::None => Ok(&Plain),
        IsolationLevel::Process => {
            if JAILS.get().is_none() {
                jailed::check()?;
                let _ = JAILS.set(());
            }
            Ok(&Jailed)
        }
        IsolationLevel::Unikernel => {
            if VMS.get().is_none() {
                unikernel::check()?;
                let _ = VMS.set(());
            }
            Ok(&Unikernel)
        }
        IsolationLevel::Microvm => Err(Refused {
            level,
            reason: "this version of osvm has no driver for it".to_owned(),
            help: "choose `--isolation process` (weaker: shares the host's kernel)".to_owned(),
        }),
    }
}

/// What an instance of that level uses, by its process; none if it is gone.
pub fn stats(level: IsolationLevel, pid: u32) -> Option<ResourceUse> {
    match level {
        IsolationLevel::Process | IsolationLevel::Unikernel => Jailed.stats(pid),
        _ => Plain.stats(pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_not_there_is_refused_and_never_replaced_by_a_weaker_one() {
        let level = IsolationLevel::Microvm;
        let refused = choose(IsolationRequest::Level(level)).unwrap_err();
        assert_eq!(refused.level, level);
        assert!(refused.help.contains("--isolation process"));
    }
}
