//! Accounts: their present state, what they were in the slots that are not finalized, and the indexes over them.
//!
//! The past is kept as an undo map for each slot: what an account was before the slot's first write to it. A read at slot S takes
//! the oldest such image that is younger than S, else the present state.

use std::collections::VecDeque;

use solana_account::{AccountSharedData, ReadableAccount};
use solana_address::Address;

use crate::{
    codec::{KeyMap, KeySet},
    token::{self, TokenAccount},
};

/// Parts of the map, so that a snapshot holds the lock for one of them at a time and growing moves one of them at a time.
pub(crate) const SHARDS: usize = 256;

type Undo = KeyMap<Address, Option<AccountSharedData>>;

/// Which index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Index {
    /// By the program that owns the account; the system program's accounts are not in it.
    Program,
    TokenOwner,
    TokenMint,
    TokenDelegate,
}

#[derive(Default)]
pub(crate) struct Store {
    shards: Vec<KeyMap<Address, AccountSharedData>>,
    count: usize,
    /// Oldest slot first; the last one is the slot being filled.
    undo: VecDeque<(u64, Undo)>,
    indexes: [KeyMap<Address, KeySet<Address>>; 4],
}

fn shard(address: &Address) -> usize {
    // Not the first bytes: vanity addresses share those.
    usize::from(address.as_ref()[24])
}

fn index_keys(account: &AccountSharedData) -> [Option<Address>; 4] {
    let program = Some(*account.owner()).filter(|owner| *owner != solana_sdk_ids::system_program::ID);
    match token::token_account(account) {
        Some(TokenAccount { mint, owner, delegate, .. }) => [program, Some(owner), Some(mint), delegate],
        None => [program, None, None, None],
    }
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| KeyMap::default()).collect(), ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The present state.
    pub(crate) fn get(&self, address: &Address) -> Option<&AccountSharedData> {
        self.shards[shard(address)].get(address)
    }

    /// The state at the end of `slot`.
    pub(crate) fn get_at(&self, address: &Address, slot: u64) -> Option<&AccountSharedData> {
        for (at, undo) in &self.undo {
            if *at > slot
                && let Some(old) = undo.get(address)
            {
                return old.as_ref();
            }
        }
        self.get(address)
    }

    /// The slot being filled is `slot` from now on. Undo maps of slots up to `keep_after` go.
    pub(crate) fn begin_slot(&mut self, slot: u64, keep_after: u64) {
        while self.undo.front().is_some_and(|(at, _)| *at <= keep_after) {
            self.undo.pop_front();
        }
        self.undo.push_back((slot, Undo::default()));
    }

    /// Writes in the slot being filled; an account with no lamports is removed.
    pub(crate) fn write(&mut self, address: Address, account: AccountSharedData) {
        let old = self.put(address, account);
        if let Some((_, undo)) = self.undo.back_mut() {
            undo.entry(address).or_insert(old);
        }
    }

    /// Writes with no memory of what was there; for the start from a snapshot.
    pub(crate) fn put(&mut self, address: Address, account: AccountSharedData) -> Option<AccountSharedData> {
        let new_keys = if account.lamports() == 0 { [None; 4] } else { index_keys(&account) };
        let map = &mut self.shards[shard(&address)];
        let old = if account.lamports() == 0 { map.remove(&address) } else { map.insert(address, account.clone()) };
        self.count = self.count + usize::from(account.lamports() != 0) - usize::from(old.is_some());
        let old_keys = old.as_ref().map(index_keys).unwrap_or_default();
        for (index, (old, new)) in self.indexes.iter_mut().zip(old_keys.into_iter().zip(new_keys)) {
            if old == new {
                continue;
            }
            if let Some(key) = old
                && let Some(set) = index.get_mut(&key)
            {
                set.remove(&address);
                if set.is_empty() {
                    index.remove(&key);
                }
            }
            if let Some(key) = new {
                index.entry(key).or_default().insert(address);
            }
        }
        old
    }

    /// Addresses that may have `key` in `index` at the end of `slot`, each once.
    pub(crate) fn candidates(&self, index: Index, key: &Address, slot: u64) -> Vec<Address> {
        let mut found = Vec::new();
        let current = self.indexes[index as usize].get(key);
        found.extend(current.into_iter().flatten());
        let mut seen = KeySet::<Address>::default();
        for (address, old) in self.undo.iter().filter(|(at, _)| *at > slot).flat_map(|(_, undo)| undo) {
            let had = old.as_ref().is_some_and(|old| index_keys(old)[index as usize] == Some(*key));
            if had && current.is_none_or(|set| !set.contains(address)) && seen.insert(*address) {
                found.push(*address);
            }
        }
        found
    }

    /// Whether `account` has `key` in `index`.
    pub(crate) fn matches(index: Index, key: &Address, account: &AccountSharedData) -> bool {
        index_keys(account)[index as usize] == Some(*key)
    }

    /// All accounts of one part at the end of `slot`.
    pub(crate) fn shard_at(&self, part: usize, slot: u64) -> Vec<(Address, AccountSharedData)> {
        let mut past = KeyMap::<Address, Option<&AccountSharedData>>::default();
        for (_, undo) in self.undo.iter().filter(|(at, _)| *at > slot) {
            for (address, old) in undo.iter().filter(|(address, _)| shard(address) == part) {
                past.entry(*address).or_insert(old.as_ref());
            }
        }
        let present = self.shards[part].iter().filter(|(address, _)| !past.contains_key(*address));
        let mut all: Vec<_> = present.map(|(address, account)| (*address, account.clone())).collect();
        all.extend(past.iter().filter_map(|(address, old)| Some((*address, (*old)?.clone()))));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Copy = BTreeMap<Address, u64>;

    fn account(lamports: u64) -> AccountSharedData {
        // Two owners, so that the index changes too.
        AccountSharedData::new(lamports, 0, &Address::from([lamports as u8 % 2 + 1; 32]))
    }

    proptest! {
        /// Against a model that keeps a whole copy of each slot.
        #[test]
        fn the_past_reads_as_it_was(
            slots in proptest::collection::vec(proptest::collection::vec((0u8..12, 0u64..4), 0..8), 1..12),
            keep in 0usize..6,
        ) {
            let (mut store, mut copies) = (Store::new(), Vec::<Copy>::new());
            for (slot, writes) in slots.iter().enumerate() {
                store.begin_slot(slot as u64, (slot as u64).saturating_sub(keep as u64 + 1));
                let mut copy = copies.last().cloned().unwrap_or_default();
                for (key, lamports) in writes {
                    let address = Address::from([*key; 32]);
                    store.write(address, account(*lamports));
                    if *lamports == 0 { copy.remove(&address) } else { copy.insert(address, *lamports) };
                }
                copies.push(copy);
                prop_assert_eq!(store.len(), copies[slot].len());
                for (past, copy) in copies.iter().enumerate().skip((slot + 1).saturating_sub(keep + 1)) {
                    for key in 0..12 {
                        let address = Address::from([key; 32]);
                        let found = store.get_at(&address, past as u64).map(|account| account.lamports());
                        prop_assert_eq!(found, copy.get(&address).copied(), "key {} at slot {} of {}", key, past, slot);
                    }
                    let mut all = Copy::new();
                    for part in 0..12 {
                        all.extend(store.shard_at(part, past as u64).iter().map(|(address, account)| (*address, account.lamports())));
                    }
                    prop_assert_eq!(&all, copy);
                    for owner in [1, 2] {
                        let owner = Address::from([owner; 32]);
                        let candidates = store.candidates(Index::Program, &owner, past as u64);
                        let owned: KeySet<Address> = candidates.iter().copied().filter(|address| {
                            store.get_at(address, past as u64).is_some_and(|account| *account.owner() == owner)
                        }).collect();
                        let expected = copy.iter().filter(|(_, lamports)| *account(**lamports).owner() == owner).count();
                        prop_assert_eq!(owned.len(), expected);
                        prop_assert_eq!(candidates.iter().collect::<KeySet<_>>().len(), candidates.len());
                    }
                }
            }
        }
    }
}
