//! From the bank's events to notifications, on one thread.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, mpsc::Receiver},
    time::{SystemTime, UNIX_EPOCH},
};

use osvm_bank::{Bank, BankEvent, Role, SlotEvent, TransactionEvent, Writes};
use serde_json::json;
use solana_account::{AccountSharedData, ReadableAccount};
use solana_account_decoder::{UiAccount, UiAccountEncoding, encode_ui_account};
use solana_address::Address;
use solana_transaction::versioned::VersionedTransaction;

use super::{
    hub::{Hub, Message, Notification, Subscriptions, concerns, received_notification, signature_notification},
    request::{BlockShape, Mentions, Shape, Topic},
};
use crate::{
    encode::{Keyed, additional},
    methods::{BlockEncoding, block_value},
    node::At,
    rpc::Level,
};

/// Works through the bank's events in order.
pub(super) struct Engine {
    hub: Arc<Hub>,
    bank: Bank,
    /// Whether notifications are sent.
    leads: bool,
    /// What happened in slots that are not final yet.
    recent: BTreeMap<u64, SlotLog>,
    /// The newest slot that was told to be final.
    root: Option<u64>,
}

/// What happened in one slot, in order.
#[derive(Default)]
struct SlotLog {
    transactions: Vec<Arc<BankEvent>>,
    writes: Vec<Writes>,
    /// Accounts that were written before this node led; they are read when the slot is final.
    unread: Vec<Address>,
}

impl SlotLog {
    fn transactions(&self) -> impl Iterator<Item = &TransactionEvent> {
        self.transactions.iter().filter_map(|event| match &**event {
            BankEvent::Transaction(transaction) => Some(transaction),
            _ => None,
        })
    }

    /// Each account that was written, as it was at the slot's end.
    fn last_writes(&self) -> HashMap<Address, AccountSharedData> {
        let all = self.writes.iter().flat_map(|writes| writes.iter());
        all.map(|(address, account)| (*address, account.clone())).collect()
    }
}

impl Engine {
    pub(super) fn new(hub: Arc<Hub>, bank: Bank, leads: bool) -> Self {
        Self { hub, bank, leads, recent: BTreeMap::new(), root: None }
    }

    /// Until it is told to stop.
    pub(super) fn run(mut self, events: &Receiver<Message>) {
        while let Ok(Message::Event(event)) = events.recv() {
            match &*event {
                BankEvent::Transaction(transaction) => self.transaction(&event, transaction),
                BankEvent::AccountSet { slot, writes } => self.wrote(*slot, writes),
                BankEvent::Slot(slot) => self.slot(slot),
                BankEvent::Role(role) => {
                    self.leads = *role == Role::Leader;
                    self.recent.clear();
                    self.root = None;
                }
            }
        }
    }

    fn transaction(&mut self, event: &Arc<BankEvent>, transaction: &TransactionEvent) {
        let slot = transaction.slot;
        self.recent.entry(slot).or_default().transactions.push(Arc::clone(event));
        self.wrote(slot, &transaction.writes);
        if !self.leads {
            return;
        }
        let hub = Arc::clone(&self.hub);
        let mut all = hub.lock();
        let waiting = all.signatures.get(&transaction.signature).cloned().unwrap_or_default();
        for id in waiting {
            if let Some(Topic::Signature { received: true, .. }) = all.by_id.get(&id).map(|own| &*own.topic) {
                all.send(id, &received_notification(slot));
            }
        }
        tell_transaction(&mut all, Level::Processed, slot, transaction);
    }

    fn wrote(&mut self, slot: u64, writes: &Writes) {
        if writes.is_empty() {
            return;
        }
        self.recent.entry(slot).or_default().writes.push(Arc::clone(writes));
        if self.leads {
            let hub = Arc::clone(&self.hub);
            let mut all = hub.lock();
            for (address, account) in writes.iter() {
                self.tell_account(&mut all, Level::Processed, slot, address, account);
            }
        }
    }

    fn slot(&mut self, event: &SlotEvent) {
        self.wrote(event.slot, &event.writes);
        self.wrote(event.slot + 1, &event.next_writes);
        let first_root = self.root.map_or(event.root, |root| root + 1);
        self.root = Some(event.root);
        if self.leads {
            let hub = Arc::clone(&self.hub);
            self.tell_slot(&hub.lock(), event);
            self.reached(Level::Confirmed, event.slot);
            for root in first_root..=event.root {
                self.reached(Level::Finalized, root);
                tell_all(&hub.lock(), &Notification::plain("rootNotification", &root), |topic| {
                    matches!(topic, Topic::Root)
                });
                tell_update(&hub.lock(), &json!({ "slot": root, "timestamp": now_ms(), "type": "root" }));
            }
        }
        self.recent = self.recent.split_off(&(event.root + 1));
    }

    /// `slot` is now at `level`.
    fn reached(&mut self, level: Level, slot: u64) {
        let hub = Arc::clone(&self.hub);
        let past = if self.recent.contains_key(&slot) || !hub.lock().need_slot(level) {
            None
        } else {
            Some(self.read_slot(slot))
        };
        let log = past.as_ref().or_else(|| self.recent.get(&slot));
        let mut all = hub.lock();
        if let Some(log) = log.filter(|_| all.need_slot(level)) {
            for transaction in log.transactions() {
                tell_transaction(&mut all, level, slot, transaction);
            }
            if !(all.accounts.is_empty() && all.programs.is_empty()) {
                let mut writes = log.last_writes();
                let view = (!log.unread.is_empty()).then(|| self.bank.view());
                for address in &log.unread {
                    let account = view.as_ref().and_then(|view| view.account(address, level.into()));
                    writes.insert(*address, account.unwrap_or_default());
                }
                drop(view);
                for (address, account) in &writes {
                    self.tell_account(&mut all, level, slot, address, account);
                }
            }
        }
        drop(all);
        self.tell_block(level, slot);
    }

    /// What the ledger knows of a slot from before this node led, or before it was started.
    fn read_slot(&self, slot: u64) -> SlotLog {
        let records = self.bank.view().block_transactions(slot);
        let mut log = SlotLog::default();
        for record in records {
            let Ok(transaction) = wincode::deserialize::<VersionedTransaction>(&record.wire) else { continue };
            let loaded = &record.meta.loaded_addresses;
            let fixed = transaction.message.static_account_keys();
            let keys: Vec<Address> = fixed.iter().chain(&loaded.writable).chain(&loaded.readonly).copied().collect();
            log.unread.extend_from_slice(&keys);
            log.transactions.push(Arc::new(BankEvent::Transaction(TransactionEvent {
                slot,
                index: record.index,
                signature: record.signature,
                err: record.meta.err,
                logs: record.meta.logs.into(),
                writes: Arc::new([]),
                keys: keys.into(),
            })));
        }
        log.unread.sort_unstable();
        log.unread.dedup();
        log
    }

    /// An account after a change. A subscription to it hears of it only if it differs from what the client knows.
    fn tell_account(
        &self,
        all: &mut Subscriptions,
        level: Level,
        slot: u64,
        address: &Address,
        account: &AccountSharedData,
    ) {
        let mut written: Vec<(Shape, UiAccount)> = Vec::new();
        for id in all.accounts.get(address).cloned().unwrap_or_default() {
            let Some(subscription) = all.by_id.get_mut(&id) else { continue };
            let Topic::Account { shape, level: own, .. } = *subscription.topic else { continue };
            let gone = AccountSharedData::default();
            let account = if account.lamports() == 0 { &gone } else { account };
            if own != level || subscription.last.as_ref().unwrap_or(&gone) == account {
                continue;
            }
            subscription.last = Some(account.clone());
            let value = self.encode(&mut written, level, shape, address, account);
            all.send(id, &Notification::at("accountNotification", slot, value));
        }
        for id in all.programs.get(account.owner()).cloned().unwrap_or_default() {
            let Some(topic) = all.by_id.get(&id).map(|own| Arc::clone(&own.topic)) else { continue };
            let Topic::Program { filters, shape, level: own, .. } = &*topic else { continue };
            if *own != level || account.lamports() == 0 || !filters.iter().all(|filter| filter.allows(account)) {
                continue;
            }
            let value = self.encode(&mut written, level, *shape, address, account).clone();
            let keyed = Keyed { pubkey: address.to_string(), account: value };
            all.send(id, &Notification::at("programNotification", slot, &keyed));
        }
    }

    /// Encodes once for all subscriptions that want the same shape.
    fn encode<'a>(
        &self,
        written: &'a mut Vec<(Shape, UiAccount)>,
        level: Level,
        shape: Shape,
        address: &Address,
        account: &AccountSharedData,
    ) -> &'a UiAccount {
        let at = written.iter().position(|(known, _)| *known == shape).unwrap_or_else(|| {
            let extra = if shape.encoding == UiAccountEncoding::JsonParsed {
                additional(&At { view: self.bank.view(), commitment: level.into() }, account)
            } else {
                None
            };
            written.push((shape, encode_ui_account(address, account, shape.encoding, extra, shape.slice)));
            written.len() - 1
        });
        &written[at].1
    }

    fn tell_slot(&self, all: &Subscriptions, event: &SlotEvent) {
        let next = json!({ "parent": event.slot, "root": event.root, "slot": event.slot + 1 });
        tell_all(all, &Notification::plain("slotNotification", &next), |topic| matches!(topic, Topic::Slot));
        let timestamp = now_ms();
        let succeeded = event.transactions.saturating_sub(event.failed);
        let stats = json!({
            "maxTransactionsPerEntry": event.transactions,
            "numFailedTransactions": event.failed,
            "numSuccessfulTransactions": succeeded,
            "numTransactionEntries": u32::from(event.transactions > 0),
        });
        tell_update(all, &json!({ "slot": event.slot, "stats": stats, "timestamp": timestamp, "type": "frozen" }));
        tell_update(all, &json!({ "slot": event.slot, "timestamp": timestamp, "type": "optimisticConfirmation" }));
        let (slot, parent) = (event.slot + 1, event.slot);
        tell_update(all, &json!({ "parent": parent, "slot": slot, "timestamp": timestamp, "type": "createdBank" }));
    }

    fn tell_block(&self, level: Level, slot: u64) {
        let wanted: Vec<(u64, Mentions, BlockShape)> = {
            let all = self.hub.lock();
            let blocks = all.others.iter().filter_map(|id| match &*all.by_id.get(id)?.topic {
                Topic::Block { mentions, level: own, shape } if *own == level => Some((*id, mentions.clone(), *shape)),
                _ => None,
            });
            blocks.collect()
        };
        if wanted.is_empty() {
            return;
        }
        let Some(record) = self.bank.view().block(slot) else { return };
        for (id, mentions, shape) in wanted {
            let encoding = BlockEncoding {
                encoding: shape.encoding,
                details: shape.details,
                show_rewards: shape.show_rewards,
                max_version: shape.max_version,
            };
            let address = match &mentions {
                Mentions::All => None,
                Mentions::Address(address) => Some(address),
            };
            let value = match block_value(&self.bank, &record, &encoding, address) {
                // Blocks that do not name the address are not sent.
                Ok(block) if address.is_some() && is_empty(&block) => continue,
                Ok(block) => json!({ "block": block, "err": null, "slot": slot }),
                // As in agave: the client cannot read the version of a transaction in the block.
                Err(error) => {
                    json!({ "block": null, "err": { "UnsupportedTransactionVersion": error.message }, "slot": slot })
                }
            };
            self.hub.lock().send(id, &Notification::at("blockNotification", slot, &value));
        }
    }
}

fn is_empty(block: &solana_transaction_status::UiConfirmedBlock) -> bool {
    block.transactions.as_ref().is_none_or(Vec::is_empty) && block.signatures.as_ref().is_none_or(Vec::is_empty)
}

/// Logs and signatures of a transaction whose slot is at `level`.
fn tell_transaction(all: &mut Subscriptions, level: Level, slot: u64, transaction: &TransactionEvent) {
    let mut logs = None;
    for id in &all.logs {
        let Some(Topic::Logs { mentions, level: own }) = all.by_id.get(id).map(|own| &*own.topic) else { continue };
        if *own == level && concerns(mentions, &transaction.keys) {
            let notification = logs.get_or_insert_with(|| {
                let signature = transaction.signature.to_string();
                let value = json!({ "err": transaction.err, "logs": &*transaction.logs, "signature": signature });
                Notification::at("logsNotification", slot, &value)
            });
            all.send(*id, notification);
        }
    }
    for id in all.signatures.get(&transaction.signature).cloned().unwrap_or_default() {
        if matches!(all.by_id.get(&id).map(|own| &*own.topic), Some(Topic::Signature { level: own, .. }) if *own == level)
        {
            all.send(id, &signature_notification(slot, transaction.err.as_ref()));
            all.remove(id);
        }
    }
}

fn tell_all(all: &Subscriptions, notification: &Notification, wanted: fn(&Topic) -> bool) {
    for id in &all.others {
        if all.by_id.get(id).is_some_and(|own| wanted(&own.topic)) {
            all.send(*id, notification);
        }
    }
}

fn tell_update(all: &Subscriptions, update: &serde_json::Value) {
    let notification = Notification::plain("slotsUpdatesNotification", update);
    tell_all(all, &notification, |topic| matches!(topic, Topic::SlotsUpdates));
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
