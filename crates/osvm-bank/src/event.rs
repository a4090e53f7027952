//! What a bank tells its observers.

use std::sync::Arc;

use osvm_model::handover::Role;
use solana_account::AccountSharedData;
use solana_address::Address;
use solana_hash::Hash;
use solana_signature::Signature;
use solana_transaction_error::TransactionError;

/// Called on the writer's thread, in order, after the change can be read. It must return at once.
pub type Observer = Box<dyn Fn(&Arc<BankEvent>) + Send + Sync>;

/// What happened. Nothing comes from a bank that follows; a new leader begins with [`BankEvent::Role`].
#[derive(Clone, Debug)]
pub enum BankEvent {
    /// A transaction is in the block being filled.
    Transaction(TransactionEvent),
    /// A block was sealed and the next slot has begun.
    Slot(SlotEvent),
    /// Accounts were set from outside.
    AccountSet {
        /// The slot being filled.
        slot: u64,
        /// What was written.
        writes: Writes,
    },
    /// This bank leads from now on, or has stopped to lead. When it stops, all events up to the last sealed slot have come before.
    Role(Role),
}

/// Accounts after a change; one with zero lamports is gone.
pub type Writes = Arc<[(Address, AccountSharedData)]>;

/// A transaction is in the block being filled.
#[derive(Clone, Debug)]
pub struct TransactionEvent {
    /// The slot being filled.
    pub slot: u64,
    /// Its place in the block.
    pub index: u32,
    /// Its first signature.
    pub signature: Signature,
    /// Why it failed.
    pub err: Option<TransactionError>,
    /// What the programs logged.
    pub logs: Arc<[String]>,
    /// The accounts it changed.
    pub writes: Writes,
    /// All accounts it names, with those from lookup tables.
    pub keys: Arc<[Address]>,
}

/// A block was sealed and the next slot, `slot` + 1, has begun.
#[derive(Clone, Debug)]
pub struct SlotEvent {
    /// The sealed slot: it is confirmed now.
    pub slot: u64,
    /// The slot before it.
    pub parent: u64,
    /// The newest finalized slot.
    pub root: u64,
    /// The block's hash.
    pub blockhash: Hash,
    /// The block's height.
    pub height: u64,
    /// The block's time, in seconds since 1970.
    pub time: i64,
    /// Transactions in the block.
    pub transactions: u32,
    /// How many of them failed.
    pub failed: u32,
    /// What sealing wrote in `slot`: the leader's share of the fees.
    pub writes: Writes,
    /// What the beginning of `slot` + 1 wrote: the sysvars.
    pub next_writes: Writes,
}
