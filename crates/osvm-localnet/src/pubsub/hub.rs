//! Who is subscribed to what.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
};

use osvm_bank::{Bank, BankEvent, Role};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use solana_account::AccountSharedData;
use solana_address::Address;
use solana_signature::Signature;
use solana_transaction_error::TransactionError;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    engine::Engine,
    outbox::Outbox,
    request::{Mentions, Topic},
};
use crate::rpc::{Level, RpcError};

/// Events that wait for the engine. Only a full queue makes the bank's writer wait.
const EVENTS: usize = 65_536;

/// What goes to the engine.
pub(super) enum Message {
    Event(Arc<BankEvent>),
    Stop,
}

/// All subscriptions of all connections.
pub(crate) struct Hub {
    bank: Bank,
    subscriptions: Mutex<Subscriptions>,
    limit: usize,
    next_id: AtomicU64,
    engine: SyncSender<Message>,
}

/// A subscription that has a number and is not active yet.
pub(super) struct Prepared {
    pub(super) id: u64,
    topic: Topic,
    last: Option<AccountSharedData>,
}

/// One subscription.
pub(super) struct Subscription {
    pub(super) topic: Arc<Topic>,
    pub(super) outbox: Outbox,
    /// The account as the client knows it, for [`Topic::Account`].
    pub(super) last: Option<AccountSharedData>,
}

/// Subscriptions with the ways to find those that something concerns.
#[derive(Default)]
pub(super) struct Subscriptions {
    pub(super) by_id: HashMap<u64, Subscription>,
    pub(super) accounts: HashMap<Address, Vec<u64>>,
    pub(super) programs: HashMap<Address, Vec<u64>>,
    pub(super) signatures: HashMap<Signature, Vec<u64>>,
    /// Logs, of any address: each transaction goes through all of them.
    pub(super) logs: HashSet<u64>,
    /// Blocks, slots, roots, slot updates: what happens once a slot.
    pub(super) others: HashSet<u64>,
}

impl Hub {
    /// Starts the engine on the bank's events.
    pub(crate) fn start(bank: Bank, limit: usize) -> std::io::Result<Arc<Self>> {
        let (engine, events) = sync_channel(EVENTS);
        let hub = Arc::new(Self {
            bank: bank.clone(),
            subscriptions: Mutex::default(),
            limit,
            next_id: AtomicU64::new(0),
            engine: engine.clone(),
        });
        let observed = engine;
        // The engine ends before the bank does only when the node stops.
        bank.subscribe(Box::new(move |event| drop(observed.send(Message::Event(Arc::clone(event))))));
        let leads = bank.status().role == Role::Leader;
        let own = Arc::clone(&hub);
        std::thread::Builder::new()
            .name("osvm-pubsub".to_owned())
            .spawn(move || Engine::new(own, bank, leads).run(&events))?;
        Ok(hub)
    }

    /// Ends the engine after what it has been told.
    pub(crate) fn stop(&self) {
        // It may have ended already.
        let _ = self.engine.send(Message::Stop);
    }

    pub(super) fn lock(&self) -> parking_lot::MutexGuard<'_, Subscriptions> {
        self.subscriptions.lock()
    }

    /// A subscription's number, before anything is sent under it.
    pub(super) fn prepare(&self, topic: Topic) -> Result<Prepared, RpcError> {
        if self.lock().by_id.len() >= self.limit {
            return Err(RpcError::internal(format!("too many subscriptions (limit {})", self.limit)));
        }
        // Before the subscription is there, so that a change in between is told rather than taken for known.
        let last = match &topic {
            Topic::Account { address, level, .. } => self.bank.view().account(address, (*level).into()),
            _ => None,
        };
        Ok(Prepared { id: self.next_id.fetch_add(1, Ordering::Relaxed), topic, last })
    }

    /// Begins to send, into a queue that the number's answer is in already.
    pub(super) fn activate(&self, Prepared { id, topic, last }: Prepared, outbox: &Outbox) {
        let topic = Arc::new(topic);
        self.lock().add(id, Subscription { topic: Arc::clone(&topic), outbox: outbox.clone(), last });
        if let Topic::Signature { signature, level, received } = &*topic {
            self.check_signature(id, signature, *level, *received);
        }
    }

    /// A transaction may be in the ledger before somebody subscribes to it. Not on a standby: there the leader has told it.
    fn check_signature(&self, id: u64, signature: &Signature, level: Level, received: bool) {
        if self.bank.status().role != Role::Leader {
            return;
        }
        let (found, slot) = {
            let view = self.bank.view();
            (view.signature_status(signature), view.slot(level.into()))
        };
        let Some(found) = found else { return };
        let mut all = self.lock();
        if received {
            all.send(id, &received_notification(found.slot));
        }
        if found.commitment >= level.into() {
            all.send(id, &signature_notification(slot.max(found.slot), found.err.as_ref()));
            all.remove(id);
        }
    }

    /// Forgets those that have ended by themselves.
    pub(super) fn retain_alive(&self, ids: &mut HashMap<u64, String>) {
        let all = self.lock();
        ids.retain(|id, _| all.by_id.contains_key(id));
    }

    /// Ends a subscription.
    pub(super) fn unsubscribe(&self, id: u64) {
        self.lock().remove(id);
    }
}

impl Subscriptions {
    fn add(&mut self, id: u64, subscription: Subscription) {
        match &*subscription.topic {
            Topic::Account { address, .. } => self.accounts.entry(*address).or_default().push(id),
            Topic::Program { program, .. } => self.programs.entry(*program).or_default().push(id),
            Topic::Signature { signature, .. } => self.signatures.entry(*signature).or_default().push(id),
            Topic::Logs { .. } => drop(self.logs.insert(id)),
            _ => drop(self.others.insert(id)),
        }
        self.by_id.insert(id, subscription);
    }

    pub(super) fn remove(&mut self, id: u64) {
        let Some(subscription) = self.by_id.remove(&id) else { return };
        match &*subscription.topic {
            Topic::Account { address, .. } => forget(&mut self.accounts, address, id),
            Topic::Program { program, .. } => forget(&mut self.programs, program, id),
            Topic::Signature { signature, .. } => forget(&mut self.signatures, signature, id),
            Topic::Logs { .. } => drop(self.logs.remove(&id)),
            _ => drop(self.others.remove(&id)),
        }
    }

    /// Whether anybody waits for something of the given kind at `level` that needs the transactions of a slot.
    pub(super) fn need_slot(&self, level: Level) -> bool {
        self.by_id.values().any(|subscription| match &*subscription.topic {
            Topic::Account { level: own, .. }
            | Topic::Program { level: own, .. }
            | Topic::Logs { level: own, .. }
            | Topic::Signature { level: own, .. } => *own == level,
            _ => false,
        })
    }

    /// Puts a notification into the queue of a subscription, if it is still there.
    pub(super) fn send(&self, id: u64, notification: &Notification) {
        if let Some(subscription) = self.by_id.get(&id) {
            subscription.outbox.push(notification.text(id));
        }
    }
}

fn forget<K: Eq + std::hash::Hash>(index: &mut HashMap<K, Vec<u64>>, key: &K, id: u64) {
    if let Some(ids) = index.get_mut(key) {
        ids.retain(|known| *known != id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

/// A notification without the subscription's id, serialised once for all that get it.
pub(super) struct Notification {
    method: &'static str,
    result: String,
}

impl Notification {
    /// With any result.
    pub(super) fn plain(method: &'static str, result: &impl Serialize) -> Self {
        // What goes in here is made of numbers, strings and maps with string keys.
        Self { method, result: serde_json::to_string(result).unwrap_or_else(|_| "null".to_owned()) }
    }

    /// With `{context: {slot}, value}`.
    pub(super) fn at(method: &'static str, slot: u64, value: &impl Serialize) -> Self {
        let value = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
        Self { method, result: format!(r#"{{"context":{{"slot":{slot}}},"value":{value}}}"#) }
    }

    fn text(&self, id: u64) -> Utf8Bytes {
        let Self { method, result } = self;
        format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"result":{result},"subscription":{id}}}}}"#).into()
    }
}

/// The node has the transaction.
pub(super) fn received_notification(slot: u64) -> Notification {
    Notification::at("signatureNotification", slot, &"receivedSignature")
}

/// The transaction reached the level.
pub(super) fn signature_notification(slot: u64, err: Option<&TransactionError>) -> Notification {
    Notification::at("signatureNotification", slot, &json!({ "err": err }))
}

/// Whether an address is among those that a subscription asks for.
pub(super) fn concerns(mentions: &Mentions, keys: &[Address]) -> bool {
    match mentions {
        Mentions::All => true,
        Mentions::Address(address) => keys.contains(address),
    }
}
