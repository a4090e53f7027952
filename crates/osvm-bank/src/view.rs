//! Reads of one moment.

use parking_lot::RwLockReadGuard;
use solana_account::AccountSharedData;
use solana_address::Address;
use solana_hash::Hash;
use solana_message::VersionedMessage;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;

use crate::{
    BlockRecord, Commitment, EpochInfo, MAX_PROCESSING_AGE, PerformanceSample, SLOTS_PER_EPOCH, SignatureInfo,
    SignatureQuery, SignatureStatus, TransactionRecord,
    engine::{base_fee, is_nonce_valid},
    entry::parse_frame,
    history::TxPlace,
    priority, rent_minimum,
    state::State,
    types::TransactionMeta,
};

/// Slots in a performance sample are as many as fit into this.
const SAMPLE_SECONDS: i64 = 60;

/// Reads of one moment: a guard that the writer waits for.
pub struct View<'a> {
    pub(crate) state: RwLockReadGuard<'a, State>,
}

impl View<'_> {
    /// The slot of a commitment.
    pub fn slot(&self, c: Commitment) -> u64 {
        self.state.slot_of(c)
    }

    /// How many blocks are below that slot.
    pub fn block_height(&self, c: Commitment) -> u64 {
        match c {
            Commitment::Processed => self.state.height(),
            c => self.state.history.block(self.slot(c)).map_or(0, |block| block.height),
        }
    }

    /// An account. Its data is shared, not copied.
    pub fn account(&self, address: &Address, c: Commitment) -> Option<AccountSharedData> {
        match c {
            Commitment::Processed => self.state.store.get(address).cloned(),
            c => self.state.store.get_at(address, self.slot(c)).cloned(),
        }
    }

    /// How many accounts there are.
    pub fn account_count(&self) -> usize {
        self.state.store.len()
    }

    /// The newest blockhash at a commitment and the last block height at which it is valid.
    pub fn latest_blockhash(&self, c: Commitment) -> (Hash, u64) {
        // The slot being filled has no hash yet.
        let slot = self.slot(c).min(self.state.confirmed());
        self.state
            .history
            .block(slot)
            .map_or_else(Default::default, |block| (block.blockhash, block.height + MAX_PROCESSING_AGE))
    }

    /// Whether a transaction with this blockhash could still go into a block.
    pub fn is_blockhash_valid(&self, hash: &Hash, c: Commitment) -> bool {
        let known_by = self.slot(c).min(self.state.confirmed());
        let newest = self.state.history.block(known_by).map_or(0, |block| block.height);
        self.state.is_hash_valid(hash) && self.state.history.hash_height(hash).is_some_and(|height| height <= newest)
    }

    /// The fee of a message in lamports; None if its blockhash is not valid.
    pub fn fee_for_message(&self, message: &VersionedMessage, c: Commitment) -> Option<u64> {
        let valid = self.is_blockhash_valid(message.recent_blockhash(), c)
            || is_nonce_valid(message, &|address| self.account(address, c));
        valid.then(|| base_fee(message) + priority::fee(message))
    }

    fn commitment_of(&self, slot: u64) -> Commitment {
        if slot <= self.state.finalized() {
            Commitment::Finalized
        } else if slot <= self.state.confirmed() {
            Commitment::Confirmed
        } else {
            Commitment::Processed
        }
    }

    fn read(&self, place: &TxPlace) -> Option<(Signature, Vec<u8>, TransactionMeta)> {
        let frame = self.state.files.read(place.at).inspect_err(|err| tracing::error!("cannot read the ledger: {err}"));
        let frame = frame.ok()?;
        let parsed = parse_frame(&frame).and_then(|frame| frame.transaction());
        let (head, wire, meta) = parsed.inspect_err(|err| tracing::error!("the ledger is damaged: {err}")).ok()?;
        Some((head.signature, wire, meta))
    }

    /// What is known of a signature, in all the history that is kept.
    pub fn signature_status(&self, signature: &Signature) -> Option<SignatureStatus> {
        let place = *self.state.history.place(self.state.history.number(signature)?)?;
        let commitment = self.commitment_of(place.slot);
        Some(SignatureStatus {
            slot: place.slot,
            confirmations: match commitment {
                Commitment::Finalized => None,
                _ => Some(self.state.slot - place.slot),
            },
            err: if place.failed { self.read(&place)?.2.err } else { None },
            commitment,
        })
    }

    /// An address's transactions, newest first. Reads the disk.
    pub fn signatures_for_address(&self, address: &Address, query: &SignatureQuery) -> Vec<SignatureInfo> {
        let history = &self.state.history;
        let numbers = history.of_address(address);
        let newest = self.slot(query.commitment);
        let end = match &query.before {
            Some(before) => match history.number(before) {
                Some(before) => numbers.partition_point(|number| *number < before),
                None => return Vec::new(),
            },
            None => numbers.len(),
        };
        let until = query.until.as_ref().and_then(|until| history.number(until));
        let in_range = numbers[..end].iter().rev().take_while(|number| until.is_none_or(|until| **number > until));
        let places = in_range.filter_map(|number| history.place(*number)).filter(|place| place.slot <= newest);
        places
            .take(query.limit)
            .filter_map(|place| {
                let (signature, wire, meta) = self.read(place)?;
                let tx: Option<VersionedTransaction> = wincode::deserialize(&wire).ok();
                Some(SignatureInfo {
                    signature,
                    slot: place.slot,
                    index: place.index,
                    err: meta.err,
                    memo: tx.and_then(|tx| memo(&tx.message)),
                    block_time: self.block_time(place.slot),
                    commitment: self.commitment_of(place.slot),
                })
            })
            .collect()
    }

    fn record(&self, place: &TxPlace) -> Option<TransactionRecord> {
        let (signature, wire, meta) = self.read(place)?;
        let block_time = self.block_time(place.slot);
        Some(TransactionRecord { slot: place.slot, index: place.index, block_time, signature, wire, meta })
    }

    /// A transaction. Reads the disk. Look at its slot for whether it is confirmed.
    pub fn transaction(&self, signature: &Signature) -> Option<TransactionRecord> {
        let record = self.record(self.state.history.place(self.state.history.number(signature)?)?)?;
        (record.signature == *signature).then_some(record)
    }

    /// A sealed block. None: not sealed yet, or no longer kept.
    pub fn block(&self, slot: u64) -> Option<BlockRecord> {
        self.state.history.block(slot).cloned()
    }

    /// A block's transactions, in order. Reads the disk.
    pub fn block_transactions(&self, slot: u64) -> Vec<TransactionRecord> {
        let numbers = self.state.history.block_numbers(slot);
        numbers.filter_map(|number| self.record(self.state.history.place(number)?)).collect()
    }

    /// A block's signatures, in order. Reads the disk.
    pub fn block_signatures(&self, slot: u64) -> Vec<Signature> {
        let numbers = self.state.history.block_numbers(slot);
        numbers.filter_map(|number| Some(self.read(self.state.history.place(number)?)?.0)).collect()
    }

    /// A sealed block's time.
    pub fn block_time(&self, slot: u64) -> Option<i64> {
        self.state.history.block(slot).map(|block| block.time)
    }

    /// How many of a sealed block's transactions failed.
    pub fn block_failed(&self, slot: u64) -> Option<u32> {
        self.state.history.failed(slot)
    }

    /// The slots from `from` to `to` that have a block, `to` cut at the commitment's slot, at most `limit`.
    pub fn blocks(&self, from: u64, to: u64, limit: usize, c: Commitment) -> Vec<u64> {
        let to = to.min(self.slot(c)).min(self.state.confirmed());
        self.state.history.slots(from, to).take(limit).collect()
    }

    /// The oldest slot whose block is kept.
    pub fn first_available_block(&self) -> u64 {
        self.state.history.first_slot()
    }

    /// Transactions in the ledger since genesis.
    pub fn transaction_count(&self, c: Commitment) -> u64 {
        let sealed = self.slot(c).min(self.state.confirmed());
        let now = if c == Commitment::Processed { u64::from(self.state.in_slot) } else { 0 };
        self.state.history.block(sealed).map_or(0, |block| block.transaction_count) + now
    }

    /// All lamports. Fees that are to be burned count until their block is sealed.
    pub fn capitalization(&self, c: Commitment) -> u64 {
        match c {
            Commitment::Processed => self.state.capitalization,
            c => self.state.history.block(self.slot(c)).map_or(0, |block| block.capitalization),
        }
    }

    /// Where the epoch is.
    pub fn epoch_info(&self, c: Commitment) -> EpochInfo {
        let slot = self.slot(c);
        EpochInfo {
            epoch: slot / SLOTS_PER_EPOCH,
            slot_index: slot % SLOTS_PER_EPOCH,
            slots_in_epoch: SLOTS_PER_EPOCH,
            absolute_slot: slot,
            block_height: self.block_height(c),
            transaction_count: self.transaction_count(c),
        }
    }

    /// The lamports that an account with so many bytes needs.
    pub fn rent_minimum(&self, bytes: usize) -> u64 {
        rent_minimum(bytes)
    }

    /// The validator's identity, which leads every slot.
    pub fn identity(&self) -> Address {
        self.state.info.as_ref().map(|info| info.identity()).unwrap_or_default()
    }

    /// The vote account.
    pub fn vote_account(&self) -> Address {
        self.state.info.as_ref().map(|info| info.vote_account()).unwrap_or_default()
    }

    /// The stake account, delegated to the vote account.
    pub fn stake_account(&self) -> Address {
        self.state.info.as_ref().map(|info| info.stake_account()).unwrap_or_default()
    }

    /// The faucet's address.
    pub fn faucet(&self) -> Address {
        self.state.info.as_ref().map(|info| info.faucet()).unwrap_or_default()
    }

    /// The genesis hash.
    pub fn genesis_hash(&self) -> Hash {
        self.state.info.as_ref().map(|info| info.genesis_hash).unwrap_or_default()
    }

    /// When the ledger was made, in seconds since 1970.
    pub fn genesis_time(&self) -> i64 {
        self.state.info.as_ref().map_or(0, |info| info.genesis_time)
    }

    /// Samples of up to a minute each, newest first; the newest is of the time up to now.
    pub fn performance_samples(&self, limit: usize) -> Vec<PerformanceSample> {
        let mut samples: Vec<PerformanceSample> = Vec::new();
        let mut end = 0;
        for slot in (self.state.history.first_slot()..=self.state.confirmed()).rev() {
            let Some(block) = self.state.history.block(slot) else { break };
            if let Some(sample) = samples.last_mut().filter(|_| end - block.time < SAMPLE_SECONDS) {
                sample.slots += 1;
                sample.transactions += u64::from(block.transactions);
                sample.seconds = u16::try_from(end - block.time).unwrap_or(u16::MAX).max(1);
                continue;
            }
            if samples.len() == limit {
                break;
            }
            end = block.time;
            samples.push(PerformanceSample { slot, transactions: block.transactions.into(), slots: 1, seconds: 1 });
        }
        samples
    }
}

/// What the memo instructions of a message say.
fn memo(message: &VersionedMessage) -> Option<String> {
    const MEMO: [Address; 2] = [
        solana_address::address!("Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo"),
        solana_address::address!("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"),
    ];
    let memos: Vec<String> = message
        .instructions()
        .iter()
        .filter(|instruction| {
            message
                .static_account_keys()
                .get(usize::from(instruction.program_id_index))
                .is_some_and(|program| MEMO.contains(program))
        })
        .map(|instruction| {
            let text = std::str::from_utf8(&instruction.data).unwrap_or("(unparseable)");
            format!("[{}] {text}", instruction.data.len())
        })
        .collect();
    (!memos.is_empty()).then(|| memos.join("; "))
}
