//! Isolation levels: what stands between an instance and the host.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What isolates an instance from the host. `None < Process < Microvm = Unikernel` by [`IsolationLevel::strength`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IsolationLevel {
    /// An ordinary process of the user's: nothing isolates it.
    None,
    /// A jailed process: it shares the host's kernel.
    Process,
    /// A Linux guest in its own VM.
    Microvm,
    /// A program in its own VM without a guest kernel.
    Unikernel,
}

/// A word that names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an isolation level: use auto, none, process, microvm or unikernel")]
pub struct UnknownLevel(String);

impl IsolationLevel {
    /// A rank to compare levels by. Two levels of the same rank are equally strong.
    pub fn strength(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Process => 1,
            Self::Microvm | Self::Unikernel => 2,
        }
    }

    /// The word for it in commands and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Process => "process",
            Self::Microvm => "microvm",
            Self::Unikernel => "unikernel",
        }
    }
}

impl fmt::Display for IsolationLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for IsolationLevel {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        match text {
            "none" => Ok(Self::None),
            "process" => Ok(Self::Process),
            "microvm" => Ok(Self::Microvm),
            "unikernel" => Ok(Self::Unikernel),
            _ => Err(UnknownLevel(text.to_owned())),
        }
    }
}

/// What a user asks for: a level, or what osvm takes by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IsolationRequest {
    /// A jail where the host can give one, else none; the choice is always printed.
    #[default]
    Auto,
    /// Exactly this level, or a refusal.
    #[serde(untagged)]
    Level(IsolationLevel),
}

impl FromStr for IsolationRequest {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        match text {
            "auto" => Ok(Self::Auto),
            level => level.parse().map(Self::Level),
        }
    }
}

impl fmt::Display for IsolationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Level(level) => level.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microvm_and_unikernel_are_equally_strong() {
        assert_eq!(IsolationLevel::Microvm.strength(), IsolationLevel::Unikernel.strength());
        assert!(IsolationLevel::Process.strength() < IsolationLevel::Microvm.strength());
        assert!(IsolationLevel::None.strength() < IsolationLevel::Process.strength());
    }

    #[test]
    fn a_request_is_one_word_in_json() {
        for word in ["auto", "none", "process", "microvm", "unikernel"] {
            let request: IsolationRequest = word.parse().unwrap();
            let json = serde_json::to_string(&request).unwrap();
            assert_eq!(json, format!("\"{word}\""));
            assert_eq!(serde_json::from_str::<IsolationRequest>(&json).unwrap(), request);
        }
        assert!(serde_json::from_str::<IsolationRequest>("\"jail\"").is_err());
    }
}
