//! Rollouts: how one revision follows another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Generation, RevisionNumber, RolloutId, ServiceName, defaults};

/// Deadlines of a rollout, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutPolicy {
    /// For the new instance to start and pass its checks.
    pub health_timeout_ms: u64,
    /// For the old instance to finish what is in flight.
    pub drain_timeout_ms: u64,
    /// How long the new instance is watched, with the old one ready to take over.
    pub watch_ms: u64,
}

impl Default for RolloutPolicy {
    fn default() -> Self {
        Self {
            health_timeout_ms: defaults::HEALTH_TIMEOUT.as_millis() as u64,
            drain_timeout_ms: defaults::DRAIN_TIMEOUT.as_millis() as u64,
            watch_ms: defaults::WATCH_WINDOW.as_millis() as u64,
        }
    }
}

/// The phases of a rollout, in order. A rollout that dies between two phases is finished or undone by the next control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The new instance starts in parallel.
    Start,
    /// It is checked against the old one.
    Check,
    /// The state goes over, and with it the right to write.
    HandOver,
    /// The route changes.
    Shift,
    /// The old instance finishes what it has.
    Drain,
    /// The new instance is watched; the old one follows it.
    Watch,
    /// The old instance is ended.
    Retire,
}

impl Phase {
    /// The word for it in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Check => "check",
            Self::HandOver => "hand over",
            Self::Shift => "shift",
            Self::Drain => "drain",
            Self::Watch => "watch",
            Self::Retire => "retire",
        }
    }
}

/// One phase that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseReport {
    /// Which.
    pub phase: Phase,
    /// What was done, or why it failed, in one line.
    pub detail: String,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// Whether it did what it is there for.
    pub ok: bool,
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutOutcome {
    /// Still under way.
    Running,
    /// The new revision serves.
    Done,
    /// It failed before the shift: the old instance served all the time.
    Kept,
    /// It failed after the shift: the old instance took over again.
    RolledBack,
}

/// A rollout and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutStatus {
    /// Its number.
    pub id: RolloutId,
    /// The service.
    pub service: ServiceName,
    /// The revision and instance that served before.
    pub from: (RevisionNumber, Generation),
    /// The revision and instance that are to serve.
    pub to: (RevisionNumber, Generation),
    /// How it ended.
    pub outcome: RolloutOutcome,
    /// Why, in one line, if it failed.
    pub error: Option<String>,
    /// The phases that ended.
    pub phases: Vec<PhaseReport>,
    /// The longest that a request waited at the gateway, in microseconds.
    pub longest_wait_us: Option<u64>,
    /// Requests that the gateway answered with an error of its own since the rollout began.
    pub failed_requests: Option<u64>,
}
