//! A Solana node's state machine: LiteSVM plus slots, a ledger on disk, history, commitments and replication. No async, no network.
#![forbid(unsafe_code)]

mod bank;
mod codec;
mod config;
mod engine;
mod entry;
mod error;
mod event;
mod feed;
mod follow;
mod genesis;
mod history;
mod info;
mod message;
mod open;
mod outbox;
mod peer;
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
