//! Which levels this build can give, and which one `auto` means.

use osvm_model::{IsolationLevel, IsolationRequest};

use crate::{Driver, none::Plain};

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
    pub why: &'static str,
}

/// The level for a request: exactly the one asked for, or the strongest there is for `auto`.
pub fn choose(request: IsolationRequest) -> Result<Chosen, Refused> {
    match request {
        IsolationRequest::Auto => Ok(Chosen {
            level: IsolationLevel::None,
            why: "auto: none is the strongest level of this version; nothing isolates the instance from the host",
        }),
        IsolationRequest::Level(level) => {
            driver(level)?;
            Ok(Chosen { level, why: "as asked for" })
        }
    }
}

/// The driver of a level.
pub fn driver(level: IsolationLevel) -> Result<&'static dyn Driver, Refused> {
    match level {
        IsolationLevel::None => Ok(&Plain),
        IsolationLevel::Process | IsolationLevel::Microvm | IsolationLevel::Unikernel => Err(Refused {
            level,
            reason: "this version of osvm has no driver for it".to_owned(),
            help: "choose `--isolation none` (weaker: an ordinary process, nothing isolates it)".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_not_there_is_refused_and_never_replaced_by_a_weaker_one() {
        for level in [IsolationLevel::Process, IsolationLevel::Microvm, IsolationLevel::Unikernel] {
            let refused = choose(IsolationRequest::Level(level)).unwrap_err();
            assert_eq!(refused.level, level);
            assert!(refused.help.contains("--isolation none"));
        }
        assert_eq!(choose(IsolationRequest::Auto).unwrap().level, IsolationLevel::None);
    }
}
