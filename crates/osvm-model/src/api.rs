//! Requests and answers of the control plane's HTTP interface (JSON over a unix socket).
//!
//! Every answer of a command with `--output json` is one of these, with `schema` = [`SCHEMA`].

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Event, Generation, InstanceStatus, IsolationLevel, Phase, PhaseReport, RolloutStatus, ServiceStatus};

/// The version of every JSON shape below. It changes when a field is removed or changes its meaning, not when one is added.
pub const SCHEMA: &str = "osvm/v1";

/// `GET /v1/instances`, `osvm ps --output json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceList {
    /// [`SCHEMA`]
    pub schema: String,
    /// All instances whose process should be alive, by name and generation.
    pub instances: Vec<InstanceStatus>,
}

/// `osvm stats --output json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatsList {
    /// [`SCHEMA`]
    pub schema: String,
    /// The time between the two looks from which the share of CPU comes, in milliseconds.
    pub over_ms: u64,
    /// The instances, by name and generation.
    pub instances: Vec<InstanceStats>,
}

/// What an instance uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceStats {
    /// The instance, as in `osvm ps`.
    #[serde(flatten)]
    pub instance: InstanceStatus,
    /// CPUs in use between the two looks: 1.5 is one CPU and a half. None for an instance that was not there at the first.
    pub cpus: Option<f64>,
}

/// `GET /v1/services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceList {
    /// [`SCHEMA`]
    pub schema: String,
    /// All services, by name.
    pub services: Vec<ServiceStatus>,
}

/// `POST /v1/services/{name}/swap`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SwapRequest {
    /// The new artifact; none means the same path again, whatever it holds now.
    pub artifact: Option<PathBuf>,
    /// Overrides the service's policy.
    pub health_timeout_ms: Option<u64>,
    /// Overrides the service's policy.
    pub drain_timeout_ms: Option<u64>,
    /// Overrides the service's policy.
    pub watch_ms: Option<u64>,
}

/// `GET /v1/daemon`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonStatus {
    /// [`SCHEMA`]
    pub schema: String,
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The gateway's process.
    pub gateway_pid: Option<u32>,
    /// The state folder.
    pub state_dir: PathBuf,
}

/// The line that `osvm rpc local --output json` prints when the node serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// [`SCHEMA`]
    pub schema: String,
    /// Always `ready`.
    pub event: String,
    /// The service's name.
    pub name: String,
    /// JSON-RPC over HTTP.
    pub rpc_url: String,
    /// Subscriptions.
    pub ws_url: String,
    /// The isolation in force.
    pub isolation: IsolationLevel,
    /// The instance's process.
    pub pid: u32,
    /// The revision that serves.
    pub revision: u64,
    /// From the command's start to the first passed check, in milliseconds.
    pub ready_ms: u64,
    /// The state folder.
    pub state_dir: PathBuf,
    /// How to stop it.
    pub stop: String,
}

/// An answer with a status of 400 or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// [`SCHEMA`]
    pub schema: String,
    /// What failed, with which thing, why: one line.
    pub error: String,
    /// What to do about it: one line.
    pub help: Option<String>,
    /// Which exit code the command ends with.
    pub exit: u8,
}

/// `GET /v1/events`, `osvm events --output json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventList {
    /// [`SCHEMA`]
    pub schema: String,
    /// The events asked for, oldest first.
    pub events: Vec<Event>,
}

/// One line of the stream that a swap or a rollback answers with (NDJSON). The last one is `ended` or `refused`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// A phase began.
    Began(Phase),
    /// A phase ended, well or not.
    Phase(PhaseReport),
    /// The rollout ended.
    Ended(Box<RolloutStatus>),
    /// The rollout did not begin, or what became of it cannot be told.
    Refused(ErrorBody),
}

/// One line of the stream `GET /v1/services/{name}/logs` (NDJSON).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// The instance that wrote it.
    pub generation: Generation,
    /// The line without its end.
    pub line: String,
}
