//! Events: what happened, kept in the store and shown by `osvm events`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Generation, RevisionNumber, RolloutId, ServiceName};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Grows by one with each event on this machine.
    pub id: u64,
    /// When, in milliseconds of Unix time.
    pub unix_ms: u64,
    /// What kind of thing.
    pub kind: EventKind,
    /// Which service it concerns.
    pub service: Option<ServiceName>,
    /// Which revision.
    pub revision: Option<RevisionNumber>,
    /// Which instance.
    pub generation: Option<Generation>,
    /// Which rollout.
    pub rollout: Option<RolloutId>,
    /// One line for people.
    pub message: String,
    /// Figures for programs (`duration_us`, `pid`).
    pub fields: BTreeMap<String, serde_json::Value>,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The control plane started, adopted what runs, or stopped.
    Daemon,
    /// The gateway started, was adopted, restarted or stopped.
    Gateway,
    /// An instance changed its state.
    Instance,
    /// A phase of a rollout ended.
    Phase,
    /// A rollout began or ended.
    Rollout,
    /// A service was declared, stopped, started or removed.
    Service,
}
