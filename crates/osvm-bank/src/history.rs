//! What is known of past blocks and transactions without reading the disk: where each transaction is, and who it names.

use std::collections::{HashMap, VecDeque};

use solana_address::Address;
use solana_hash::Hash;
use solana_signature::Signature;

use crate::{
    MAX_PROCESSING_AGE,
    codec::{KeyMap, KeySet},
    types::BlockRecord,
};

/// Where an entry is: segment and byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

/// A transaction's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TxPlace {
    pub(crate) at: Location,
    pub(crate) slot: u64,
    pub(crate) index: u32,
    pub(crate) failed: bool,
}

#[derive(Debug)]
struct BlockPlace {
    record: BlockRecord,
    failed: u32,
    /// Its entry.
    seq: u64,
    /// The number of its first transaction.
    first: u64,
}

/// Transactions are numbered as they come in, from 0 at the ledger's beginning or wherever this history begins.
#[derive(Default)]
pub(crate) struct History {
    blocks: VecDeque<BlockPlace>,
    txs: VecDeque<TxPlace>,
    /// Number of `txs[0]`.
    base: u64,
    by_signature: KeyMap<SignatureKey, u64>,
    by_address: KeyMap<Address, Vec<u64>>,
    /// Blockhashes that are valid, with their heights.
    hashes: HashMap<Hash, u64>,
    /// Messages processed in the last slots.
    messages: KeySet<Hash>,
    messages_by_slot: VecDeque<(u64, Vec<Hash>)>,
}

/// Half of a signature's second half: as good as random, and readers check the whole one.
type SignatureKey = [u8; 16];

fn signature_key(signature: &Signature) -> SignatureKey {
    let mut key = [0; 16];
    key.copy_from_slice(&signature.as_ref()[32..48]);
    key
}

impl History {
    pub(crate) fn push_transaction(
        &mut self,
        place: TxPlace,
        signature: &Signature,
        message: Hash,
        keys: impl IntoIterator<Item = Address>,
    ) {
        let number = self.base + self.txs.len() as u64;
        self.txs.push_back(place);
        self.by_signature.insert(signature_key(signature), number);
        for key in keys {
            self.by_address.entry(key).or_default().push(number);
        }
        self.messages.insert(message);
        match self.messages_by_slot.back_mut() {
            Some((slot, list)) if *slot == place.slot => list.push(message),
            _ => self.messages_by_slot.push_back((place.slot, vec![message])),
        }
    }

    pub(crate) fn push_block(&mut self, record: BlockRecord, failed: u32, seq: u64) {
        let first = self.next_number() - u64::from(record.transactions).min(self.txs.len() as u64);
        self.hashes.insert(record.blockhash, record.height);
        self.hashes.retain(|_, height| *height + MAX_PROCESSING_AGE >= record.height);
        while self.messages_by_slot.front().is_some_and(|(slot, _)| slot + MAX_PROCESSING_AGE < record.slot) {
            for message in self.messages_by_slot.pop_front().into_iter().flat_map(|(_, list)| list) {
                self.messages.remove(&message);
            }
        }
        self.blocks.push_back(BlockPlace { record, failed, seq, first });
    }

    /// Drops all of segments below `segment`, which hold the slots up to `last_slot`.
    pub(crate) fn drop_before(&mut self, segment: u32, last_slot: u64) {
        let gone = self.txs.iter().take_while(|tx| tx.at.segment < segment).count();
        self.txs.drain(..gone);
        self.base += gone as u64;
        let base = self.base;
        self.by_signature.retain(|_, number| *number >= base);
        self.by_address.retain(|_, numbers| {
            let keep_from = numbers.partition_point(|number| *number < base);
            numbers.drain(..keep_from);
            numbers.shrink_to(numbers.len() * 2);
            !numbers.is_empty()
        });
        while self.blocks.len() > 1 && self.blocks.front().is_some_and(|block| block.record.slot <= last_slot) {
            self.blocks.pop_front();
        }
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.base + self.txs.len() as u64
    }

    pub(crate) fn place(&self, number: u64) -> Option<&TxPlace> {
        self.txs.get(usize::try_from(number.checked_sub(self.base)?).ok()?)
    }

    pub(crate) fn number(&self, signature: &Signature) -> Option<u64> {
        self.by_signature.get(&signature_key(signature)).copied()
    }

    /// Numbers of the transactions that name `address`, oldest first.
    pub(crate) fn of_address(&self, address: &Address) -> &[u64] {
        self.by_address.get(address).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn has_message(&self, message: &Hash) -> bool {
        self.messages.contains(message)
    }

    pub(crate) fn hash_height(&self, hash: &Hash) -> Option<u64> {
        self.hashes.get(hash).copied()
    }

    fn block_place(&self, slot: u64) -> Option<&BlockPlace> {
        let at = self.blocks.binary_search_by_key(&slot, |block| block.record.slot).ok()?;
        self.blocks.get(at)
    }

    pub(crate) fn block(&self, slot: u64) -> Option<&BlockRecord> {
        Some(&self.block_place(slot)?.record)
    }

    pub(crate) fn failed(&self, slot: u64) -> Option<u32> {
        Some(self.block_place(slot)?.failed)
    }

    /// The sequence number of a block's entry.
    pub(crate) fn block_seq(&self, slot: u64) -> Option<u64> {
        Some(self.block_place(slot)?.seq)
    }

    /// Numbers of a sealed block's transactions.
    pub(crate) fn block_numbers(&self, slot: u64) -> std::ops::Range<u64> {
        let Some(place) = self.block_place(slot) else { return 0..0 };
        place.first..place.first + u64::from(place.record.transactions)
    }

    pub(crate) fn first_slot(&self) -> u64 {
        self.blocks.front().map_or(0, |block| block.record.slot)
    }

    pub(crate) fn last_block(&self) -> Option<&BlockRecord> {
        self.blocks.back().map(|block| &block.record)
    }

    /// Slots with a block in a range.
    pub(crate) fn slots(&self, from: u64, to: u64) -> impl Iterator<Item = u64> {
        let start = self.blocks.partition_point(|block| block.record.slot < from);
        self.blocks.range(start..).map(|block| block.record.slot).take_while(move |slot| *slot <= to)
    }
}
