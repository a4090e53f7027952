//! The sysvars that change with each slot: Clock, SlotHashes and RecentBlockhashes, as accounts.
//!
//! SlotHistory is there but stays as it was at genesis: 128 KiB a slot for something that no program here reads.

use solana_account::{AccountSharedData, ReadableAccount};
use solana_address::Address;
use solana_sdk_ids::sysvar::{clock, epoch_schedule, recent_blockhashes, slot_hashes};

use crate::{
    LAMPORTS_PER_SIGNATURE, SLOTS_PER_EPOCH,
    codec::{Dec, Enc},
    store::Store,
    types::BlockRecord,
};

/// Entries of SlotHashes.
const SLOT_HASHES: usize = 512;
/// Entries of RecentBlockhashes.
const RECENT_BLOCKHASHES: usize = 150;
/// Addresses of the sysvars that programs read and that [`at_start`] writes.
pub(crate) const MOVING: [Address; 3] = [slot_hashes::ID, recent_blockhashes::ID, clock::ID];

fn with_data(store: &Store, address: &Address, data: Vec<u8>) -> AccountSharedData {
    let mut account =
        store.get(address).cloned().unwrap_or_else(|| AccountSharedData::new(1, 0, &solana_sdk_ids::sysvar::ID));
    account.set_data_from_slice(&data);
    account
}

/// Puts `first` before the entries of a list sysvar (`length u64`, entries of `first`'s size) and cuts the list at `max` entries. The
/// account has always the size of the full list.
fn prepend(old: Option<&AccountSharedData>, first: &[u8], max: usize) -> Vec<u8> {
    let size = first.len();
    let (count, entries) = old
        .and_then(|account| {
            let mut d = Dec(account.data());
            let count = usize::try_from(d.u64().ok()?).ok()?.min(max - 1);
            Some((count, d.take(count * size).ok()?))
        })
        .unwrap_or_default();
    let mut e = Enc(Vec::with_capacity(8 + max * size));
    e.u64(count as u64 + 1);
    e.raw(first);
    e.raw(entries);
    e.0.resize(8 + max * size, 0);
    e.0
}

/// What the sysvars are when the slot after `parent` begins.
pub(crate) fn at_start(store: &Store, parent: &BlockRecord) -> Vec<(Address, AccountSharedData)> {
    let slot = parent.slot + 1;
    let epoch = slot / SLOTS_PER_EPOCH;
    let old_start = store.get(&clock::ID).and_then(|account| {
        let mut d = Dec(account.data());
        let (_, start, old_epoch) = (d.u64().ok()?, d.i64().ok()?, d.u64().ok()?);
        (old_epoch == epoch && start != 0).then_some(start)
    });
    let mut e = Enc::default();
    e.u64(slot);
    e.i64(old_start.unwrap_or(parent.time));
    e.u64(epoch);
    e.u64(epoch + 1);
    e.i64(parent.time);
    let clock_account = with_data(store, &clock::ID, e.0);

    let mut e = Enc::default();
    e.u64(parent.slot);
    e.raw(parent.blockhash.as_ref());
    let hashes = prepend(store.get(&slot_hashes::ID), &e.0, SLOT_HASHES);

    let mut e = Enc::default();
    e.raw(parent.blockhash.as_ref());
    e.u64(LAMPORTS_PER_SIGNATURE);
    let recent = prepend(store.get(&recent_blockhashes::ID), &e.0, RECENT_BLOCKHASHES);

    vec![
        (slot_hashes::ID, with_data(store, &slot_hashes::ID, hashes)),
        (recent_blockhashes::ID, with_data(store, &recent_blockhashes::ID, recent)),
        (clock::ID, clock_account),
    ]
}

/// Sysvars that genesis sets to something else than LiteSVM does: epochs without warm-up, lists that are empty.
pub(crate) fn genesis() -> Vec<(Address, Vec<u8>)> {
    let mut schedule = Enc::default();
    schedule.u64(SLOTS_PER_EPOCH);
    schedule.u64(SLOTS_PER_EPOCH);
    schedule.u8(0);
    schedule.u64(0);
    schedule.u64(0);
    vec![
        (epoch_schedule::ID, schedule.0),
        (slot_hashes::ID, vec![0; 8 + SLOT_HASHES * 40]),
        (recent_blockhashes::ID, vec![0; 8 + RECENT_BLOCKHASHES * 40]),
        (clock::ID, vec![0; 40]),
    ]
}
