//! A Solana node's state machine: LiteSVM plus slots, a ledger on disk, history, commitments and replication. No async, no network.
//!
//! # Design
//!
//! One thread, the writer, is the only place where the ledger changes. It takes what waits in a bounded queue, executes it, appends
//! the results to the log with one `write(2)`, ships them to the standby and waits for its acknowledgement, and only then changes
//! what readers see and answers. When a slot's time is over it seals the block. A transaction is executed once: preflight is that
//! execution, and its result is kept if it succeeds or if preflight was not asked for and the payer can be charged.
//!
//! LiteSVM holds only the accounts that the transactions at hand name (`engine.rs`). The accounts themselves are in a store that
//! readers share (`store.rs`); so readers wait only while the writer publishes, never for an execution.
//!
//! - *Processed* is the slot being filled, *confirmed* the last sealed one, *finalized* [`Config::finality_slots`] behind that. For the
//!   slots that are not finalized the store keeps what each account was before, so reads of the past are exact.
//! - A blockhash is valid for [`MAX_PROCESSING_AGE`] blocks, as is the memory of what was processed. Durable nonces work; a failed
//!   transaction uses its nonce up.
//! - A signature costs [`LAMPORTS_PER_SIGNATURE`]. Half of that is burned; the other half and all of a priority fee go to the
//!   identity when the block is sealed. The sum of all accounts is the capitalization of the last block, always.
//! - A program is usable right after the transaction that deploys or upgrades it, and fails right after it is closed.
//!
//! # The ledger on disk
//!
//! A folder with key files, snapshots and log segments, locked while it is open. An entry of the log is a transaction with the
//! accounts it changed, a block, or accounts set from outside; it holds results, so replaying it executes nothing. A start loads the
//! newest snapshot, which is of a finalized slot, and replays the log from there. History is read from the segments; memory holds an
//! index of it. Segments go when all in them is older than [`Config::history_slots`].
//!
//! - A killed process loses nothing that was acknowledged: it is in the log, in the kernel's hands. A torn end is cut off at the next
//!   start, with a warning that says how many bytes.
//! - Power loss can take what came after the last `fdatasync`, which starts on another thread when a block is sealed: about one slot
//!   and the time of one sync.
//! - Damage anywhere else is an error that names file and byte. A damaged snapshot is passed over if there is an older one.
//! - While the disk is full, writes are refused and no slot ends; nothing is visible that is not in the log.
//!
//! # Replication
//!
//! A standby gets the leader's history, the accounts of its finalized slot and then every entry (`feed.rs`, `follow.rs`). Once it
//! has caught up it is in sync: nothing is acknowledged that it has not written. If it does not answer for a second, or is gone, the
//! leader goes on alone, but not before [`ALONE_AFTER`](osvm_model::handover::ALONE_AFTER): until then nothing is published, so that
//! whoever might tell the lost standby to lead notices that it no longer has everything (`fence.rs`). [`Bank::alone`] ends that wait.
//!
//! Who leads is decided by a token (`peer.rs`). A ledger whose token has left is marked (`marker.rs`), and is not opened by a leader until
//! it is led on. The keys of the ledger go along, so the stream must be private.
//!
//! # Limits
//!
//! - The precompiles (`precompile/`) log two lines and cost one compute unit a call, where agave has neither.
//! - SlotHistory, StakeHistory and rewards stand still; there is one epoch after the other, without stake changes.
//! - Preflight and simulation at an older commitment read accounts of that slot, but programs as they are there, compiled anew
//!   if they differ.
//! - The features are those of mainnet-beta as LiteSVM knows them.
#![forbid(unsafe_code)]

mod bank;
mod codec;
mod config;
mod engine;
mod entry;
mod error;
mod event;
mod feed;
mod fence;
mod follow;
mod genesis;
mod history;
mod info;
mod marker;
mod message;
mod open;
mod outbox;
mod peer;
mod precompile;
mod priority;
mod segments;
mod shared;
mod snapshot;
mod snapshots;
mod state;
mod store;
mod sync;
mod sysvar;
mod token;
mod types;
mod view;
mod writer;

pub use bank::{Bank, Link};
#[doc(hidden)]
pub use config::Tuning;
pub use config::{
    Config, DEFAULT_FAUCET_LAMPORTS, DEFAULT_FINALITY_SLOTS, DEFAULT_HISTORY_SLOTS, MIN_HISTORY_SLOTS, Program,
    ProgramLoader,
};
pub use error::{Error, SubmitError};
pub use event::{BankEvent, Observer, SlotEvent, TransactionEvent, Writes};
pub use osvm_model::handover::{HandedOver, Role};
pub use types::{
    BlockRecord, Commitment, EpochInfo, PerformanceSample, Reply, SignatureInfo, SignatureQuery, SignatureStatus,
    SimOptions, Simulated, Status, SubmitOptions, TokenBalance, TransactionMeta, TransactionRecord,
};
pub use view::View;

/// Slots of an epoch. There is no warm-up.
pub const SLOTS_PER_EPOCH: u64 = 432_000;
/// How many blocks a blockhash is valid for.
pub const MAX_PROCESSING_AGE: u64 = 150;
/// The fee of a signature.
pub const LAMPORTS_PER_SIGNATURE: u64 = 5_000;

/// Lamports that make an account of so many bytes exempt from rent.
pub fn rent_minimum(bytes: usize) -> u64 {
    /// Bytes that an account counts besides its data.
    const OVERHEAD: u64 = 128;
    const LAMPORTS_PER_BYTE: u64 = 6_960;
    (bytes as u64 + OVERHEAD) * LAMPORTS_PER_BYTE
}
