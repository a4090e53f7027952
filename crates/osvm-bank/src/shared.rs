//! What the writer's thread, the readers and the snapshot thread share.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use osvm_model::handover::Role;
use parking_lot::{Mutex, RwLock};
use solana_account::AccountSharedData;
use solana_address::Address;

use crate::{
    Commitment, Observer,
    engine::Engine,
    fence::Fence,
    state::State,
    store::{Index, SHARDS, Store},
};

/// Addresses read before the lock is let go for a moment.
const SCAN_STEP: usize = 1024;
/// Simulations that keep their engine for the next one.
const SPARE_ENGINES: usize = 4;

pub(crate) struct Shared {
    pub(crate) state: RwLock<State>,
    /// Slots whose undo maps somebody needs, with how many do.
    pins: Mutex<BTreeMap<u64, usize>>,
    pub(crate) observers: RwLock<Vec<Observer>>,
    pub(crate) role: Mutex<Role>,
    /// Whether writes are taken. False on a standby, during a hand-over and after shutdown.
    pub(crate) taking: AtomicBool,
    pub(crate) closed: AtomicBool,
    pub(crate) pending: AtomicU64,
    pub(crate) in_sync: AtomicBool,
    pub(crate) disk_error: Mutex<Option<String>>,
    pub(crate) fence: Fence,
    /// The ledger's folder, unless it ends with the bank.
    pub(crate) kept: Option<PathBuf>,
    engines: Mutex<Vec<Engine>>,
}

/// Keeps the undo maps of the slots after one until it is dropped.
pub(crate) struct Pin<'a> {
    shared: &'a Shared,
    pub(crate) slot: u64,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let mut pins = self.shared.pins.lock();
        if let Some(count) = pins.get_mut(&self.slot) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.slot);
            }
        }
    }
}

impl Shared {
    pub(crate) fn new(state: State, role: Role, kept: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::new(state),
            pins: Mutex::default(),
            observers: RwLock::default(),
            role: Mutex::new(role),
            taking: AtomicBool::new(role == Role::Leader),
            closed: AtomicBool::new(false),
            pending: AtomicU64::new(0),
            in_sync: AtomicBool::new(false),
            disk_error: Mutex::new(None),
            fence: Fence::default(),
            kept,
            engines: Mutex::default(),
        })
    }

    /// Pins a commitment's slot. It is looked up and pinned under the state's lock, so that the writer cannot trim in between.
    pub(crate) fn pin(&self, commitment: Commitment) -> Pin<'_> {
        let state = self.state.read();
        let slot = state.slot_of(commitment);
        *self.pins.lock().entry(slot).or_default() += 1;
        Pin { shared: self, slot }
    }

    /// The oldest pinned slot.
    pub(crate) fn pinned(&self) -> Option<u64> {
        self.pins.lock().keys().next().copied()
    }

    /// Accounts with `key` in an index that `keep` accepts, in the order of their addresses.
    pub(crate) fn scan(
        &self,
        index: Index,
        key: &Address,
        commitment: Commitment,
        keep: &mut dyn FnMut(&Address, &AccountSharedData) -> bool,
    ) -> (u64, Vec<(Address, AccountSharedData)>) {
        let pin = self.pin(commitment);
        let mut found = Vec::new();
        if index == Index::Program && *key == solana_sdk_ids::system_program::ID {
            // Nearly all accounts are of this one, so it has no index.
            for part in 0..SHARDS {
                let accounts = self.state.read().store.shard_at(part, pin.slot);
                found.extend(accounts.into_iter().filter(|(address, account)| {
                    solana_account::ReadableAccount::owner(account) == key && keep(address, account)
                }));
            }
        } else {
            let candidates = self.state.read().store.candidates(index, key, pin.slot);
            for step in candidates.chunks(SCAN_STEP) {
                let state = self.state.read();
                let accounts: Vec<_> = step
                    .iter()
                    .filter_map(|address| Some((*address, state.store.get_at(address, pin.slot)?.clone())))
                    .collect();
                drop(state);
                found.extend(
                    accounts
                        .into_iter()
                        .filter(|(address, account)| Store::matches(index, key, account) && keep(address, account)),
                );
            }
        }
        found.sort_unstable_by_key(|(address, _)| *address);
        (pin.slot, found)
    }

    /// An engine for a simulation; give it back by [`Shared::put_engine`].
    pub(crate) fn take_engine(&self) -> Engine {
        let spare = self.engines.lock().pop();
        spare.unwrap_or_else(Engine::new)
    }

    pub(crate) fn put_engine(&self, engine: Engine) {
        let mut spare = self.engines.lock();
        if spare.len() < SPARE_ENGINES {
            spare.push(engine);
        }
    }
}
