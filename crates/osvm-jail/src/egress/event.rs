//! What the proxy tells: refusals, to the monitor and, in words, to the user.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

/// The longest target that is told, in characters.
const LONGEST_TARGET: usize = 300;
/// Refusals that an [`crate::Outcome`] holds; further ones are only counted.
pub const MOST_REFUSALS: usize = 100;

/// A connection that the egress proxy did not make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What the program asked for, as it wrote it, escaped and cut off at 300 characters; empty where that could not be made out.
    pub target: String,
    /// Why it was refused.
    pub reason: Reason,
    /// The address that the target's name led to, where that was the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The reason in words.
    pub detail: String,
}

/// Why the egress proxy refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The destination is not on the list.
    NotAllowed,
    /// The name is on the list, and leads to an address that is not public and not on the list itself.
    ForbiddenAddress,
    /// What was said to the proxy is no request, or could be read in two ways.
    BadRequest,
    /// There are as many connections as there may be.
    TooMany,
}

impl Refusal {
    pub(crate) fn new(target: &str, reason: Reason, detail: impl Into<String>) -> Self {
        let target = target.chars().flat_map(char::escape_default).take(LONGEST_TARGET).collect();
        Self { target, reason, address: None, detail: detail.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::NotAllowed => "not-allowed",
            Self::ForbiddenAddress => "forbidden-address",
            Self::BadRequest => "bad-request",
            Self::TooMany => "too-many",
        })
    }
}

/// The line on stderr: `egress refused: TARGET: REASON: words`.
impl fmt::Display for Refusal {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = if self.target.is_empty() { "-" } else { &self.target };
        write!(to, "egress refused: {target}: {}: {}", self.reason, self.detail)
    }
}

/// What the egress proxy did for a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Egress {
    /// Connections that it refused.
    pub refused: u64,
    /// The first [`MOST_REFUSALS`] of them.
    pub refusals: Vec<Refusal>,
    /// Whether it ended before the program did, which then had no network any more.
    pub lost: bool,
}

/// A line from the proxy to the monitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// It is confined, and waits for the jail's listener.
    Ready,
    /// It could not be confined.
    Failed { step: String, why: String },
    /// It refused a connection.
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_neither_be_broken_nor_be_longer_than_a_pipe_takes_at_once() {
        let target = "\u{1b}[2J\n\"\0\u{fffd}".repeat(500);
        let refusal = Refusal::new(&target, Reason::BadRequest, "x");
        let text = refusal.to_string();
        assert!(text.chars().all(|c| (' '..='~').contains(&c)), "{text}");
        assert!(text.len() < 512);
        assert!(serde_json::to_vec(&Message::Refused(refusal)).unwrap().len() < 4096);
    }

    #[test]
    fn the_line_has_one_form() {
        let refusal = Refusal::new("evil.test:443", Reason::NotAllowed, "it is not on the list");
        assert_eq!(refusal.to_string(), "egress refused: evil.test:443: not-allowed: it is not on the list");
        assert_eq!(
            serde_json::to_string(&refusal).unwrap(),
            r#"{"target":"evil.test:443","reason":"not-allowed","detail":"it is not on the list"}"#
        );
    }
}
