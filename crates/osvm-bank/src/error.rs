//! What can go wrong, in the words a user sees.

use std::{io, path::PathBuf};

use solana_transaction_error::TransactionError;
use thiserror::Error;

use crate::types::Simulated;

/// The bank could not be opened, or a request to the bank itself failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the folder.
    #[error("the ledger in {} is in use by another process: stop that one or choose another folder", .0.display())]
    InUse(PathBuf),
    /// The ledger is to be led on, but another node got the right to.
    #[error(
        "the ledger in {} was handed over to another node, which may have gone on with it: start with --sole if that node cannot lead any more, or with --reset to delete the ledger and begin anew",
        .0.display()
    )]
    HandedOver(PathBuf),
    /// A file operation failed.
    #[error("cannot {what} {}", .path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ledger is damaged.
    #[error("the ledger is damaged: {} at byte {offset}: {why}; start with --reset to delete it and begin anew", .path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// A program that was given is no program.
    #[error("program {address} cannot be loaded: {why}")]
    Program {
        /// Which.
        address: solana_address::Address,
        /// Why.
        why: String,
    },
    /// An account that was given cannot be set.
    #[error("account {address} cannot be set: {why}")]
    Account {
        /// Which.
        address: solana_address::Address,
        /// Why.
        why: String,
    },
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
    /// This bank follows another one.
    #[error("this node does not lead")]
    NotLeader,
    /// There is no standby that has everything.
    #[error("no standby is in sync")]
    NotInSync,
    /// A standby that has not received all of the leader's state was told to lead.
    #[error("this standby has not received the whole state yet, so it cannot lead")]
    Incomplete,
    /// The token was sent and nothing came back. The other end may lead; this one does not.
    #[error("the token was sent but not acknowledged: the other node may lead; end it before this one is told to lead")]
    Uncertain,
    /// The operation did not end in time and was given up; this bank still leads.
    #[error("the standby did not keep up within {0:?}")]
    Timeout(std::time::Duration),
    /// The bank was shut down.
    #[error("the bank was shut down")]
    Closed,
}

/// Why a transaction was not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// This bank follows another one: nothing was done, ask the other.
    #[error("this node does not lead")]
    NotLeader,
    /// The transaction is malformed.
    #[error("invalid transaction: {0}")]
    Sanitize(TransactionError),
    /// A signature does not verify.
    #[error("Transaction signature verification failure")]
    SigVerify,
    /// The blockhash is unknown or too old, and the transaction has no valid nonce.
    #[error("Blockhash not found")]
    BlockhashNotFound,
    /// The same transaction is already in a block.
    #[error("This transaction has already been processed")]
    AlreadyProcessed,
    /// The bank is behind the slot that the caller asked for.
    #[error("Minimum context slot has not been reached")]
    MinContextSlot {
        /// The slot in which it was checked.
        slot: u64,
    },
    /// It fails, found before it was put into a block. Nothing was charged.
    #[error("Transaction simulation failed: {}", .0.err.as_ref().map(ToString::to_string).unwrap_or_default())]
    Preflight(Box<Simulated>),
    /// It fails in a way that no block can hold (preflight was skipped). Nothing was charged.
    #[error("transaction dropped: {0}")]
    Dropped(TransactionError),
    /// Too many transactions wait.
    #[error("too many transactions are waiting: try again")]
    Overloaded,
    /// The log cannot be written.
    #[error("the ledger cannot be written ({0}): free some space on its disk; the node goes on by itself then")]
    Disk(String),
    /// The bank was shut down.
    #[error("the node is shutting down")]
    Closed,
}
