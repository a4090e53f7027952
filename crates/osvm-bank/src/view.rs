//! Reads of one moment.

use std::marker::PhantomData;

use solana_account::AccountSharedData;
use solana_address::Address;
use solana_hash::Hash;
use solana_message::VersionedMessage;
use solana_signature::Signature;

use crate::{
    BlockRecord, Commitment, EpochInfo, PerformanceSample, SignatureInfo, SignatureQuery, SignatureStatus,
    TransactionRecord,
};

/// Reads of one moment: a guard that the writer waits for.
pub struct View<'a> {
    _state: PhantomData<&'a ()>,
}

impl View<'_> {
    /// The slot of a commitment.
    pub fn slot(&self, _c: Commitment) -> u64 {
        unimplemented!()
    }

    /// How many blocks are below that slot.
    pub fn block_height(&self, _c: Commitment) -> u64 {
        unimplemented!()
    }

    /// An account. Its data is shared, not copied.
    pub fn account(&self, _address: &Address, _c: Commitment) -> Option<AccountSharedData> {
        unimplemented!()
    }

    /// How many accounts there are.
    pub fn account_count(&self) -> usize {
        unimplemented!()
    }

    /// The newest blockhash at a commitment and the last block height at which it is valid.
    pub fn latest_blockhash(&self, _c: Commitment) -> (Hash, u64) {
        unimplemented!()
    }

    /// Whether a transaction with this blockhash could still go into a block.
    pub fn is_blockhash_valid(&self, _hash: &Hash, _c: Commitment) -> bool {
        unimplemented!()
    }

    /// The fee of a message in lamports; None if its blockhash is not valid.
    pub fn fee_for_message(&self, _message: &VersionedMessage, _c: Commitment) -> Option<u64> {
        unimplemented!()
    }

    /// What is known of a signature, in all the history that is kept.
    pub fn signature_status(&self, _signature: &Signature) -> Option<SignatureStatus> {
        unimplemented!()
    }

    /// An address's transactions, newest first. Reads the disk.
    pub fn signatures_for_address(&self, _address: &Address, _query: &SignatureQuery) -> Vec<SignatureInfo> {
        unimplemented!()
    }

    /// A transaction. Reads the disk. Look at its slot for whether it is confirmed.
    pub fn transaction(&self, _signature: &Signature) -> Option<TransactionRecord> {
        unimplemented!()
    }

    /// A sealed block. None: not sealed yet, or no longer kept.
    pub fn block(&self, _slot: u64) -> Option<BlockRecord> {
        unimplemented!()
    }

    /// A block's transactions, in order. Reads the disk.
    pub fn block_transactions(&self, _slot: u64) -> Vec<TransactionRecord> {
        unimplemented!()
    }

    /// A block's signatures, in order. Reads the disk.
    pub fn block_signatures(&self, _slot: u64) -> Vec<Signature> {
        unimplemented!()
    }

    /// A sealed block's time.
    pub fn block_time(&self, _slot: u64) -> Option<i64> {
        unimplemented!()
    }

    /// The slots from `from` to `to` that have a block, `to` cut at the commitment's slot, at most `limit`.
    pub fn blocks(&self, _from: u64, _to: u64, _limit: usize, _c: Commitment) -> Vec<u64> {
        unimplemented!()
    }

    /// The oldest slot whose block is kept.
    pub fn first_available_block(&self) -> u64 {
        unimplemented!()
    }

    /// Transactions in the ledger since genesis.
    pub fn transaction_count(&self, _c: Commitment) -> u64 {
        unimplemented!()
    }

    /// All lamports.
    pub fn capitalization(&self, _c: Commitment) -> u64 {
        unimplemented!()
    }

    /// Where the epoch is.
    pub fn epoch_info(&self, _c: Commitment) -> EpochInfo {
        unimplemented!()
    }

    /// The lamports that an account with so many bytes needs.
    pub fn rent_minimum(&self, _bytes: usize) -> u64 {
        unimplemented!()
    }

    /// The validator's identity, which leads every slot.
    pub fn identity(&self) -> Address {
        unimplemented!()
    }

    /// The vote account.
    pub fn vote_account(&self) -> Address {
        unimplemented!()
    }

    /// The stake account, delegated to the vote account.
    pub fn stake_account(&self) -> Address {
        unimplemented!()
    }

    /// The faucet's address.
    pub fn faucet(&self) -> Address {
        unimplemented!()
    }

    /// The genesis hash.
    pub fn genesis_hash(&self) -> Hash {
        unimplemented!()
    }

    /// When the ledger was made, in seconds since 1970.
    pub fn genesis_time(&self) -> i64 {
        unimplemented!()
    }

    /// Samples of a minute each, newest first.
    pub fn performance_samples(&self, _limit: usize) -> Vec<PerformanceSample> {
        unimplemented!()
    }
}
