//! Services as users declare them, and what is known of their instances.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Digest, Generation, IsolationLevel, IsolationRequest, ListenerProtocol, RevisionNumber, RolloutPolicy, ServiceName,
    route::{ReplayPolicy, TlsFiles},
};

/// What the user declares. A revision is one of these plus the digest of its artifact, and never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// Its name; instances, routes, logs and events carry it.
    pub name: ServiceName,
    /// The program to run.
    pub artifact: PathBuf,
    /// Its arguments, without the program's own name.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its whole environment, beside what the runtime sets (see [`crate::handover`]).
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The isolation asked for.
    #[serde(default)]
    pub isolation: IsolationRequest,
    /// Files and folders of this machine that it reads, beside its artifact and its state. An isolated instance sees them at the same
    /// path, read-only, and no others.
    #[serde(default)]
    pub read: Vec<PathBuf>,
    /// The most memory that an instance may use, in bytes. By default half of the machine's at level process, and no limit at level
    /// none, which cannot keep one and refuses it.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Where clients reach it.
    pub ports: Vec<PortSpec>,
    /// How it is checked before it may take traffic.
    pub health: HealthCheck,
    /// Whether a new instance takes its state from the old one through the hand-over contract ([`crate::handover`]).
    #[serde(default)]
    pub handover: bool,
    /// How one revision follows another.
    #[serde(default)]
    pub rollout: RolloutPolicy,
}

/// A port of the service, and the address on this machine that the gateway serves it at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortSpec {
    /// `rpc`, `ws`: unique within the service.
    pub name: String,
    /// The port inside the sandbox, reached over vsock.
    pub port: u32,
    /// The gateway's listening address.
    pub listen: SocketAddr,
    /// What clients speak there.
    pub protocol: ListenerProtocol,
    /// PEM files; with them the gateway speaks TLS on this port.
    #[serde(default)]
    pub tls: Option<TlsFiles>,
    /// Which requests may be sent once more when an instance dies under them.
    #[serde(default)]
    pub replay: ReplayPolicy,
}

/// How an instance shows that it may take traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum HealthCheck {
    /// A connection to the port is taken.
    Connect {
        /// The port's name.
        port: String,
    },
    /// `GET path` answers 200.
    Http {
        /// The port's name.
        port: String,
        /// `/health`
        path: String,
    },
    /// The Solana checklist over JSON-RPC: genesis, version, health, slots that move on, blockhash, reads.
    Solana {
        /// The port's name.
        port: String,
    },
}

/// The life of an instance, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// Its process runs, its checks have not passed yet.
    Starting,
    /// It passed its checks and may take traffic.
    Ready,
    /// It follows the serving instance and can take over.
    Standby,
    /// It takes no new requests and finishes those it has.
    Draining,
    /// It was ended on purpose.
    Stopped,
    /// It ended by itself.
    Failed,
}

impl InstanceState {
    /// Whether its process should be alive.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Starting | Self::Ready | Self::Standby | Self::Draining)
    }
}

/// One running copy of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceStatus {
    /// The service's name.
    pub name: ServiceName,
    /// Which instance of the service this is.
    pub generation: Generation,
    /// What it runs.
    pub revision: RevisionNumber,
    /// The isolation in force.
    pub level: IsolationLevel,
    /// Where it is in its life.
    pub state: InstanceState,
    /// Its process on the host.
    pub pid: Option<u32>,
    /// When its process started, in milliseconds of Unix time.
    pub started_unix_ms: u64,
    /// How often it was restarted after it ended by itself.
    pub restarts: u32,
    /// What it uses of the machine.
    #[serde(flatten)]
    pub used: ResourceUse,
}

/// What an instance uses. At level `none` only CPU time and resident memory are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceUse {
    /// CPU time used, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Memory in use, in bytes: resident at level `none`, else all that counts against the limit but idle file pages.
    pub memory_bytes: Option<u64>,
    /// The most memory at one time, file pages included, in bytes.
    pub memory_peak_bytes: Option<u64>,
    /// The most memory that it may use, in bytes. None without a limit.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// How many of its processes the kernel killed because the memory limit was reached.
    pub oom_kills: Option<u64>,
}

/// A service and what runs of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceStatus {
    /// The service's name.
    pub name: ServiceName,
    /// Whether it should run.
    pub wanted: bool,
    /// The revision that serves.
    pub revision: RevisionNumber,
    /// The digest of that revision's artifact.
    pub digest: Digest,
    /// What was declared.
    pub spec: ServiceSpec,
    /// Its instances, the serving one first.
    pub instances: Vec<InstanceStatus>,
    /// The rollout under way, or the last one.
    pub rollout: Option<crate::RolloutStatus>,
}
