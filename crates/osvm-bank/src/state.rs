//! All that readers see, and how an entry changes it. A leader, a standby and a start from disk all come through here.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use solana_account::{AccountSharedData, ReadableAccount, WritableAccount};
use solana_address::Address;
use solana_hash::Hash;

use crate::{
    Commitment, MAX_PROCESSING_AGE,
    codec::Malformed,
    entry::{Entry, Image, TxHead},
    genesis::empty_account,
    history::{History, Location, TxPlace},
    info::LedgerInfo,
    segments::SegmentFiles,
    store::Store,
    sysvar,
    types::BlockRecord,
};

/// Accounts after a change.
pub(crate) type Writes = Vec<(Address, AccountSharedData)>;

pub(crate) struct State {
    /// None on a standby that has not received it.
    pub(crate) info: Option<Arc<LedgerInfo>>,
    pub(crate) store: Store,
    pub(crate) history: History,
    pub(crate) files: SegmentFiles,
    pub(crate) finality: u64,
    /// The slot being filled.
    pub(crate) slot: u64,
    /// Number of the last entry.
    pub(crate) seq: u64,
    /// Transactions in the slot being filled.
    pub(crate) in_slot: u32,
    failed_in_slot: u32,
    fees: u64,
    burned: u64,
    signatures: Sha256,
    pub(crate) capitalization: u64,
    /// Whether all of the ledger is here.
    pub(crate) complete: bool,
}

impl State {
    /// With nothing in it.
    pub(crate) fn empty(finality: u64) -> Self {
        Self {
            info: None,
            store: Store::new(),
            history: History::default(),
            files: SegmentFiles::default(),
            finality,
            slot: 0,
            seq: 0,
            in_slot: 0,
            failed_in_slot: 0,
            fees: 0,
            burned: 0,
            signatures: Sha256::new(),
            capitalization: 0,
            complete: false,
        }
    }

    pub(crate) fn confirmed(&self) -> u64 {
        self.slot.saturating_sub(1)
    }

    pub(crate) fn finalized(&self) -> u64 {
        self.confirmed().saturating_sub(self.finality)
    }

    pub(crate) fn slot_of(&self, commitment: Commitment) -> u64 {
        match commitment {
            Commitment::Processed => self.slot,
            Commitment::Confirmed => self.confirmed(),
            Commitment::Finalized => self.finalized(),
        }
    }

    /// The height of the block being filled.
    pub(crate) fn height(&self) -> u64 {
        self.history.last_block().map_or(0, |block| block.height + 1)
    }

    /// Whether a transaction with this blockhash may go into the block being filled.
    pub(crate) fn is_hash_valid(&self, hash: &Hash) -> bool {
        self.history.hash_height(hash).is_some_and(|height| self.height() <= height + MAX_PROCESSING_AGE)
    }

    /// Begins the slot after `parent`. Undo maps up to `keep_after` go. Returns what was written.
    pub(crate) fn begin_slot(&mut self, parent: &BlockRecord, keep_after: u64) -> Writes {
        self.slot = parent.slot + 1;
        self.in_slot = 0;
        self.failed_in_slot = 0;
        self.fees = 0;
        self.burned = 0;
        self.signatures = Sha256::new();
        self.store.begin_slot(self.slot, keep_after);
        let writes = sysvar::at_start(&self.store, parent);
        for (address, account) in &writes {
            self.store.write(*address, account.clone());
        }
        writes
    }

    /// What sealing the slot being filled gives, `time` seconds after 1970.
    pub(crate) fn seal(&self, time: i64) -> (BlockRecord, u32) {
        let parent = self.history.last_block().cloned().unwrap_or_default();
        let leader = self.info.as_ref().map(|info| info.identity()).unwrap_or_default();
        let reward = self.fees - self.burned;
        let mut hash = Sha256::new();
        hash.update(parent.blockhash);
        hash.update(self.slot.to_le_bytes());
        hash.update(self.signatures.clone().finalize());
        let record = BlockRecord {
            slot: self.slot,
            parent_slot: parent.slot,
            height: parent.height + 1,
            blockhash: Hash::from(<[u8; 32]>::from(hash.finalize())),
            previous_blockhash: parent.blockhash,
            time: time.max(parent.time),
            transactions: self.in_slot,
            transaction_count: parent.transaction_count + u64::from(self.in_slot),
            capitalization: self.capitalization - self.burned,
            reward,
            leader,
            leader_post_balance: self.store.get(&leader).map_or(0, |account| account.lamports()) + reward,
        };
        (record, self.failed_in_slot)
    }

    /// A transaction of the slot being filled.
    pub(crate) fn apply_transaction(&mut self, seq: u64, at: Location, head: TxHead, writes: Writes) {
        self.signatures.update(head.signature);
        self.in_slot += 1;
        self.failed_in_slot += u32::from(head.failed);
        self.fees += head.fee;
        self.burned += head.burned;
        let place = TxPlace { at, slot: head.slot, index: head.index, failed: head.failed };
        self.history.push_transaction(place, &head.signature, head.message_hash, head.keys);
        self.write(seq, writes);
    }

    /// Accounts set from outside, in the slot being filled.
    pub(crate) fn apply_accounts(&mut self, seq: u64, writes: Writes) {
        for (address, account) in &writes {
            let old = self.store.get(address).map_or(0, |old| old.lamports());
            self.capitalization = (self.capitalization + account.lamports()).saturating_sub(old);
        }
        self.write(seq, writes);
    }

    fn write(&mut self, seq: u64, writes: Writes) {
        for (address, account) in writes {
            self.store.write(address, account);
        }
        self.seq = seq;
    }

    /// Seals the slot being filled and begins the next one. Undo maps up to `keep_after` go. Returns what sealing wrote and what the
    /// beginning wrote.
    pub(crate) fn apply_block(
        &mut self,
        seq: u64,
        record: BlockRecord,
        failed: u32,
        keep_after: u64,
    ) -> (Writes, Writes) {
        let mut sealed = Writes::new();
        if record.reward > 0 {
            let mut account = self.store.get(&record.leader).cloned().unwrap_or_else(empty_account);
            account.set_lamports(record.leader_post_balance);
            self.store.write(record.leader, account.clone());
            sealed.push((record.leader, account));
        }
        self.capitalization = record.capitalization;
        self.history.push_block(record.clone(), failed, seq);
        self.seq = seq;
        (sealed, self.begin_slot(&record, keep_after))
    }

    /// An entry from the disk or from a leader, checked against where this state is.
    pub(crate) fn apply(&mut self, seq: u64, at: Location, entry: Entry, pinned: Option<u64>) -> Result<(), Malformed> {
        if seq != self.seq + 1 {
            return Err(Malformed("an entry is missing"));
        }
        match entry {
            Entry::Transaction { head, writes } => {
                if head.slot != self.slot || head.index != self.in_slot {
                    return Err(Malformed("a transaction is not of the slot being filled"));
                }
                let writes = self.resolve(writes)?;
                self.apply_transaction(seq, at, head, writes);
            }
            Entry::Accounts { slot, writes } => {
                if slot != self.slot {
                    return Err(Malformed("a set account is not of the slot being filled"));
                }
                let writes = self.resolve(writes)?;
                self.apply_accounts(seq, writes);
            }
            Entry::Block { record, failed } => {
                if record.slot != self.slot || record.transactions != self.in_slot {
                    return Err(Malformed("a block is not of the slot being filled"));
                }
                let keep_after = self.keep_after(pinned);
                self.apply_block(seq, record, failed, keep_after);
            }
        }
        Ok(())
    }

    /// Up to which slot undo maps can go when the slot being filled is sealed.
    pub(crate) fn keep_after(&self, pinned: Option<u64>) -> u64 {
        let finalized = self.slot.saturating_sub(self.finality);
        pinned.map_or(finalized, |slot| slot.min(finalized))
    }

    /// An entry from before the state that is held: only history.
    pub(crate) fn note(&mut self, seq: u64, at: Location, entry: Entry) {
        match entry {
            Entry::Transaction { head, .. } => {
                let place = TxPlace { at, slot: head.slot, index: head.index, failed: head.failed };
                self.history.push_transaction(place, &head.signature, head.message_hash, head.keys);
            }
            Entry::Block { record, failed } => self.history.push_block(record, failed, seq),
            Entry::Accounts { .. } => {}
        }
        self.seq = seq;
    }

    fn resolve(&self, writes: Vec<(Address, Image)>) -> Result<Writes, Malformed> {
        writes.into_iter().map(|(address, image)| Ok((address, image.resolve(self.store.get(&address))?))).collect()
    }
}
