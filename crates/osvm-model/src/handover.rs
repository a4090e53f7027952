//! The contract between the control plane and an instance that keeps state (a Solana node).
//!
//! An instance is told by environment where its sockets and its state are: [`ENV_VSOCK`], [`ENV_STATE`], [`ENV_GENERATION`],
//! [`ENV_ROLE`]. It serves HTTP/1.1 with JSON on [`CONTROL_PORT`] and a byte stream on [`REPLICATION_PORT`].
//!
//! ```text
//!   control plane ── POST /v1/hand-over ──▶ leader ══ replication ══ standby
//!                    (both streams are joined by the control plane: an instance never dials out)
//! ```
//!
//! 1. The standby starts empty and reads a snapshot and then every entry from the leader, while the leader serves.
//! 2. `POST /v1/hand-over` to the leader: it stops taking writes, seals its block, sends the last entries and then a token. Who
//!    holds the token leads. After the token the old leader follows the new one on the same stream, so that it can take over.
//! 3. While a standby is connected and caught up, the leader acknowledges a write to a client only after the standby has it. Whoever
//!    led before is caught up with the one that got its token.
//! 4. `POST /v1/lead` makes an instance lead without a token. The caller has made sure that no other can lead (it killed it).
//! 5. A leader that loses a standby that was caught up acknowledges nothing for [`ALONE_AFTER`], in which the control plane notices and
//!    gives that standby up: were it told to lead later, it would not have what was acknowledged without it. `POST /v1/alone` says
//!    that it is given up already, and ends the wait.
//! 6. An instance that handed over and did not lead since does not start as a leader on its state, unless [`ENV_SOLE`] says that it
//!    may: another has the newer state.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Environment: the unix socket that the instance listens on, as the guest side of hybrid vsock. Absent: listen on TCP.
pub const ENV_VSOCK: &str = "OSVM_VSOCK";
/// Environment: where there is no [`ENV_VSOCK`], the TCP port of the contract's HTTP interface. So it is in a VM, whose monitor offers the
/// instance's ports as hybrid vsock.
pub const ENV_CONTROL_PORT: &str = "OSVM_CONTROL_PORT";
/// Environment: the same for the replication stream.
pub const ENV_REPLICATION_PORT: &str = "OSVM_REPLICATION_PORT";
/// Environment: the folder for the instance's state.
pub const ENV_STATE: &str = "OSVM_STATE";
/// Environment: the instance's generation.
pub const ENV_GENERATION: &str = "OSVM_GENERATION";
/// Environment: `leader` (default) or `standby`.
pub const ENV_ROLE: &str = "OSVM_ROLE";
/// Environment: `true` if no other instance can lead, so that a leader may go on with a state that was handed over. It is to an
/// instance that starts what [`PATH_LEAD`] is to one that runs.
pub const ENV_SOLE: &str = "OSVM_SOLE";

/// Port of the contract's HTTP interface.
pub const CONTROL_PORT: u32 = 8901;
/// Port of the replication stream.
pub const REPLICATION_PORT: u32 = 8902;

/// Response header of a 503: the request was not processed, another instance may take it.
pub const NOT_PROCESSED: &str = "x-osvm-not-processed";
/// Request header of a second try: what was already processed is to be answered as done.
pub const RETRY: &str = "x-osvm-retry";

/// `GET`: [`NodeStatus`].
pub const PATH_STATUS: &str = "/v1/status";
/// `POST`, no body: [`HandedOver`] once the standby has acknowledged the token; 409 with [`Refusal`] if there is no standby that
/// is caught up.
pub const PATH_HAND_OVER: &str = "/v1/hand-over";
/// `POST`, no body: [`NodeStatus`].
pub const PATH_LEAD: &str = "/v1/lead";
/// `POST`, no body: [`NodeStatus`] of a leader that has no standby from now on and waits for none; 409 with [`Refusal`] if it does
/// not lead. The caller tells no standby that it had to lead any more.
pub const PATH_ALONE: &str = "/v1/alone";

/// For so long a leader acknowledges nothing after it lost a standby that was caught up.
pub const ALONE_AFTER: Duration = Duration::from_millis(500);

/// Who takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes writes and seals blocks.
    Leader,
    /// Follows the leader.
    Standby,
}

/// What an instance says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStatus {
    /// Who takes writes.
    pub role: Role,
    /// The version of the node's code.
    pub version: String,
    /// The genesis hash, base58.
    pub genesis_hash: String,
    /// The slot being filled.
    pub slot: u64,
    /// Accounts held.
    pub accounts: u64,
    /// Transactions taken and not yet executed.
    pub pending: u64,
    /// Entries applied, counted from genesis.
    pub applied: u64,
    /// Whether the replication stream is connected and the standby has all entries but those in flight.
    pub in_sync: bool,
}

/// What a hand-over moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandedOver {
    /// The last slot that the old leader sealed.
    pub slot: u64,
    /// Accounts that the standby holds.
    pub accounts: u64,
    /// Transactions that were waiting and went along.
    pub pending: u64,
    /// From the last write taken here to the token's acknowledgement, in microseconds.
    pub pause_us: u64,
}

/// Why the contract refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// One line.
    pub error: String,
}
