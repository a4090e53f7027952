//! The words of the house: what a service, a revision, an instance, a route and an event are.
//!
//! Pure data with serde and JSON-schema derives. No I/O, no async, no clock: whoever needs those lives on a higher floor.
//! The JSON schemas that users see are generated from these types.
#![forbid(unsafe_code)]

pub mod api;
pub mod defaults;
pub mod event;
mod figures;
pub mod gateway;
pub mod handover;
pub mod id;
pub mod level;
pub mod rollout;
pub mod route;
pub mod service;

pub use event::{Event, EventKind};
pub use figures::{NoDuration, NoSize, hex, number, parse_duration, parse_size};
pub use id::{Digest, Generation, InvalidName, RevisionNumber, RolloutId, ServiceName};
pub use level::{IsolationLevel, IsolationRequest, UnknownLevel};
pub use rollout::{Phase, PhaseReport, RolloutOutcome, RolloutPolicy, RolloutStatus};
pub use route::{Backend, BackendRole, Endpoint, Listener, ListenerProtocol, Pool, RouteTable};
pub use service::{InstanceState, InstanceStatus, PortSpec, ResourceUse, ServiceSpec, ServiceStatus};
