//! Names and numbers that identify things.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A service's name: 1 to 48 characters of `a-z`, `0-9`, `-` and `/`, starting with a letter (`rpc-local`, `mcp/files`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ServiceName(String);

/// A string that is not a service name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a service name: use 1 to 48 of a-z, 0-9, '-' and '/', starting with a letter")]
pub struct InvalidName(String);

impl ServiceName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 48;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as one path component: `/` becomes `~`, which no name holds.
    pub fn as_component(&self) -> String {
        self.0.replace('/', "~")
    }
}

impl FromStr for ServiceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let starts_with_letter = text.starts_with(|c: char| c.is_ascii_lowercase());
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '/';
        let parts_filled = text.split('/').all(|part| !part.is_empty());
        if starts_with_letter && parts_filled && text.len() <= Self::MAX_LEN && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ServiceName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number that follows this one.
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// Counts the instances of a service. A restart, a swap and a rollback each take a new generation.
    Generation
);
number!(
    /// Counts the revisions of a service, from 1.
    RevisionNumber
);
number!(
    /// Counts the rollouts on one machine, from 1.
    RolloutId
);

/// The SHA-256 of an artifact, as 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Digest(pub String);

impl Digest {
    /// The first twelve digits, for output.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_fits_a_path_and_a_label() {
        for good in ["rpc-local", "mcp/files", "a", "a1-b2/c3"] {
            assert_eq!(good.parse::<ServiceName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "1a", "A", "a b", "a/../b", "a//b", "a/", "/a", "a~b", &"a".repeat(49)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_name_is_one_path_component() {
        let name: ServiceName = "mcp/files".parse().unwrap();
        assert_eq!(name.as_component(), "mcp~files");
    }
}
