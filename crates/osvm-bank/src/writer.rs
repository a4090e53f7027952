//! The writer's thread: the one place where the ledger changes.
//!
//! It takes what waits in the queue, executes it, appends the results to the log with one write, ships them to the standby and waits
//! for its acknowledgement, and only then changes what readers see and answers. When a slot's time is over it seals the block.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use osvm_model::handover::{HandedOver, Role};
use solana_account::{AccountSharedData, ReadableAccount};
use solana_address::Address;
use solana_hash::Hash;
use solana_message::Message;
use solana_transaction::versioned::VersionedTransaction;

use crate::{
    BankEvent, Error, Reply, SlotEvent, SubmitError, SubmitOptions, TransactionEvent,
    engine::{Engine, Execution, is_nonce_valid},
    entry::{TxEntry, TxHead, frame_accounts, frame_block, frame_transaction},
    genesis,
    history::Location,
    marker,
    peer::{Peer, PeerEvent},
    segments::Log,
    shared::Shared,
    state::Writes,
    sync::Syncer,
    types::{Simulated, TransactionMeta},
};

/// Commands that may wait; more are refused.
pub(crate) const QUEUE: usize = 16_384;
/// Transactions in one write to the log.
const MAX_BATCH: usize = 512;
/// Bytes in one write to the log, roughly.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// How long one batch may be executed before it is written.
const MAX_BATCH_TIME: Duration = Duration::from_millis(20);
/// While the disk is full, how often sealing is tried again.
const DISK_RETRY: Duration = Duration::from_millis(200);

/// A transaction that waits.
pub(crate) struct Submission {
    pub(crate) tx: VersionedTransaction,
    pub(crate) wire: Vec<u8>,
    pub(crate) message_hash: Hash,
    pub(crate) options: SubmitOptions,
    pub(crate) reply: Reply,
}

/// What the writer is asked to do.
pub(crate) enum Command {
    Submit(Box<Submission>),
    Airdrop { to: Address, lamports: u64, reply: Reply },
    SetAccounts { accounts: Vec<(Address, AccountSharedData)>, reply: SyncSender<Result<(), Error>> },
    Attach(Box<crate::Link>),
    Peer(PeerEvent),
    HandOver { asked: Instant, waiting: u64, timeout: Duration, reply: SyncSender<Result<HandedOver, Error>> },
    Lead { reply: SyncSender<Result<(), Error>> },
    Alone { reply: SyncSender<Result<(), Error>> },
    Shutdown { reply: SyncSender<Result<(), Error>> },
}

/// A transaction that was executed and waits for its batch to be written.
struct Executed {
    entry: TxEntry,
    offset: usize,
    writes: Writes,
    reply: Reply,
}

/// Executed and not yet in the log.
#[derive(Default)]
struct Batch {
    frames: Vec<u8>,
    done: Vec<Executed>,
    /// Answers that change nothing; they wait too, for they may rest on what is in the batch.
    refused: Vec<(Reply, Result<solana_signature::Signature, SubmitError>)>,
    messages: std::collections::HashSet<Hash>,
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Receiver<Command>,
    pub(crate) sender: SyncSender<Command>,
    pub(crate) dir: PathBuf,
    pub(crate) config: crate::Config,
    pub(crate) engine: Engine,
    pub(crate) log: Option<Log>,
    pub(crate) syncer: Syncer,
    pub(crate) peer: Option<Peer>,
    pub(crate) next_peer: u64,
    pub(crate) role: Role,
    pub(crate) next_tick: Instant,
    pub(crate) work_since_snapshot: u64,
    /// The thread that writes a snapshot; it gives the slot of the oldest snapshot kept.
    pub(crate) snapshot: Option<std::thread::JoinHandle<u64>>,
    pub(crate) airdrops: u32,
    pub(crate) receiving: Option<crate::follow::Receiving>,
}

fn unix_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

impl Writer {
    /// Runs until it is told to shut down.
    pub(crate) fn run(mut self) {
        if self.role == Role::Leader {
            self.begin_leading();
        }
        loop {
            let command = if self.role == Role::Leader {
                match self.queue.recv_timeout(self.next_tick.saturating_duration_since(Instant::now())) {
                    Ok(command) => Some(command),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            } else {
                match self.queue.recv() {
                    Ok(command) => Some(command),
                    Err(_) => return,
                }
            };
            let mut batch = Batch::default();
            let mut next = command;
            let started = Instant::now();
            // Gather what belongs in one write; another command comes after it.
            while let Some(command) = next.take() {
                match command {
                    Command::Submit(submission) => self.execute(*submission, &mut batch),
                    Command::Airdrop { to, lamports, reply } => self.airdrop(to, lamports, reply, &mut batch),
                    other => {
                        self.commit(std::mem::take(&mut batch));
                        if self.handle(other) {
                            return;
                        }
                        break;
                    }
                }
                let full = batch.done.len() >= MAX_BATCH
                    || batch.frames.len() >= MAX_BATCH_BYTES
                    || started.elapsed() >= MAX_BATCH_TIME;
                if full {
                    break;
                }
                next = self.queue.try_recv().ok();
            }
            self.commit(batch);
            if self.role == Role::Leader && Instant::now() >= self.next_tick {
                self.tick();
            }
        }
    }

    /// Handles a command that is no transaction. True: the end.
    fn handle(&mut self, command: Command) -> bool {
        match command {
            Command::Submit(_) | Command::Airdrop { .. } => {}
            Command::SetAccounts { accounts, reply } => drop(reply.send(self.set_accounts(accounts))),
            Command::Attach(link) => self.attach(*link),
            Command::Peer(event) => self.peer_event(event),
            Command::HandOver { asked, waiting, timeout, reply } => {
                drop(reply.send(self.hand_over(asked, waiting, timeout)));
            }
            Command::Lead { reply } => drop(reply.send(self.lead())),
            Command::Alone { reply } => drop(reply.send(self.alone())),
            Command::Shutdown { reply } => {
                let result = self.shutdown();
                drop(reply.send(result));
                return true;
            }
        }
        false
    }

    /// Takes up writing: slots go on from now.
    pub(crate) fn begin_leading(&mut self) {
        self.role = Role::Leader;
        self.unmark();
        self.engine.forget();
        let shared = self.shared.clone();
        self.engine.begin_slot(&|address| shared.state.read().store.get(address).cloned());
        self.next_tick = Instant::now() + self.config.slot;
        *self.shared.role.lock() = Role::Leader;
        self.shared.taking.store(true, Ordering::SeqCst);
        self.emit(BankEvent::Role(Role::Leader));
    }

    /// The ledger is led on here. If the note of the hand-over stays, the next start asks whether it may: no reason not to lead.
    pub(crate) fn unmark(&self) {
        if let Some(dir) = &self.shared.kept
            && let Err(err) = marker::remove(dir)
        {
            tracing::error!("{err}; it says that the ledger was handed over, which is not so any more");
        }
    }

    pub(crate) fn stop_leading(&mut self) {
        self.role = Role::Standby;
        self.shared.taking.store(false, Ordering::SeqCst);
        *self.shared.role.lock() = Role::Standby;
        self.emit(BankEvent::Role(Role::Standby));
    }

    fn emit(&self, event: BankEvent) {
        let observers = self.shared.observers.read();
        if !observers.is_empty() {
            let event = Arc::new(event);
            observers.iter().for_each(|observer| observer(&event));
        }
    }

    fn execute(&mut self, submission: Submission, batch: &mut Batch) {
        self.shared.pending.fetch_sub(1, Ordering::Relaxed);
        let Submission { tx, wire, message_hash, options, reply } = submission;
        let signature = tx.signatures.first().copied().unwrap_or_default();
        match self.try_execute(&tx, message_hash, options, batch) {
            Ok(run) => self.keep(tx, wire, message_hash, run, reply, batch),
            Err(SubmitError::AlreadyProcessed) if options.retry => batch.refused.push((reply, Ok(signature))),
            Err(err) => batch.refused.push((reply, Err(err))),
        }
    }

    fn try_execute(
        &mut self,
        tx: &VersionedTransaction,
        message_hash: Hash,
        options: SubmitOptions,
        batch: &Batch,
    ) -> Result<Execution, SubmitError> {
        if self.role != Role::Leader {
            return Err(SubmitError::NotLeader);
        }
        let shared = self.shared.clone();
        let source = |address: &Address| shared.state.read().store.get(address).cloned();
        {
            let state = shared.state.read();
            if options.min_context_slot.is_some_and(|slot| slot > state.slot) {
                return Err(SubmitError::MinContextSlot { slot: state.slot });
            }
            if batch.messages.contains(&message_hash) || state.history.has_message(&message_hash) {
                return Err(SubmitError::AlreadyProcessed);
            }
            let hash_valid = state.is_hash_valid(tx.message.recent_blockhash());
            drop(state);
            // The batch's own writes are in the engine only.
            let present = |address: &Address| self.engine.peek(address, &source);
            if !hash_valid && !is_nonce_valid(&tx.message, &present) {
                return Err(SubmitError::BlockhashNotFound);
            }
        }
        let run = self.engine.execute(tx, &source);
        match &run.err {
            Some(_) if !options.skip_preflight => {
                let slot = shared.state.read().slot;
                Err(SubmitError::Preflight(Box::new(simulated(run, tx, slot, &self.engine, &source))))
            }
            Some(err) if !run.included => Err(SubmitError::Dropped(err.clone())),
            _ => Ok(run),
        }
    }

    /// Puts an executed transaction into the batch.
    fn keep(
        &mut self,
        tx: VersionedTransaction,
        wire: Vec<u8>,
        message_hash: Hash,
        run: Execution,
        reply: Reply,
        batch: &mut Batch,
    ) {
        let shared = self.shared.clone();
        let source = |address: &Address| shared.state.read().store.get(address).cloned();
        let (slot, index, seq) = {
            let state = shared.state.read();
            (state.slot, state.in_slot + batch.done.len() as u32, state.seq + 1 + batch.done.len() as u64)
        };
        let offset = batch.frames.len();
        let pre_token_balances = self.engine.token_balances(&run.keys, &run.pre, &source);
        let post_token_balances = self.engine.token_balances(&run.keys, &run.post, &source);
        self.engine.apply(&run.writes);
        let entry = TxEntry {
            slot,
            index,
            signature: tx.signatures.first().copied().unwrap_or_default(),
            message_hash,
            failed: run.err.is_some(),
            burned: run.burned,
            keys: run.keys,
            wire,
            meta: TransactionMeta {
                err: run.err,
                fee: run.fee.unwrap_or(0),
                pre_balances: balances(&run.pre),
                post_balances: balances(&run.post),
                pre_token_balances,
                post_token_balances,
                inner_instructions: run.inner_instructions,
                logs: run.logs,
                return_data: run.return_data,
                units: run.units,
                loaded_addresses: run.loaded,
            },
        };
        let images = run.writes.iter().map(|(address, new, old)| (address, new, old.as_ref()));
        frame_transaction(&mut batch.frames, seq, &entry, images);
        batch.messages.insert(message_hash);
        let writes = run.writes.into_iter().map(|(address, new, _)| (address, new)).collect();
        batch.done.push(Executed { entry, offset, writes, reply });
    }

    fn airdrop(&mut self, to: Address, lamports: u64, reply: Reply, batch: &mut Batch) {
        let state = self.shared.state.read();
        let (Some(info), Some(block)) = (state.info.clone(), state.history.last_block()) else {
            drop(state);
            self.shared.pending.fetch_sub(1, Ordering::Relaxed);
            return batch.refused.push((reply, Err(SubmitError::NotLeader)));
        };
        let blockhash = block.blockhash;
        let faucet = info.faucet_key();
        let transfer = solana_system_interface::instruction::transfer(&info.faucet(), &to, lamports);
        let mut message =
            Message::new_with_blockhash(std::slice::from_ref(&transfer), Some(&info.faucet()), &blockhash);
        let taken = |message: &Message| {
            let hash = solana_message::VersionedMessage::Legacy(message.clone()).hash();
            batch.messages.contains(&hash) || state.history.has_message(&hash)
        };
        while taken(&message) {
            // The same airdrop once more in this slot: an own compute limit makes it another transaction.
            self.airdrops = self.airdrops.wrapping_add(1);
            let limit = solana_instruction::Instruction {
                program_id: solana_sdk_ids::compute_budget::ID,
                accounts: vec![],
                data: [&[2u8][..], &(AIRDROP_UNITS + self.airdrops % AIRDROP_VARIANTS).to_le_bytes()].concat(),
            };
            message = Message::new_with_blockhash(&[limit, transfer.clone()], Some(&info.faucet()), &blockhash);
        }
        drop(state);
        let message = solana_message::VersionedMessage::Legacy(message);
        let message_hash = message.hash();
        let tx = VersionedTransaction::try_new(message, &[&faucet]);
        match tx.ok().and_then(|tx| Some((wincode::serialize(&tx).ok()?, tx))) {
            Some((wire, tx)) => {
                let options = SubmitOptions::default();
                self.execute(Submission { tx, wire, message_hash, options, reply }, batch);
            }
            None => {
                self.shared.pending.fetch_sub(1, Ordering::Relaxed);
                batch.refused.push((reply, Err(SubmitError::Closed)));
            }
        }
    }

    /// Writes the batch, ships it, publishes it, answers.
    fn commit(&mut self, batch: Batch) {
        if batch.done.is_empty() && batch.refused.is_empty() {
            return;
        }
        if batch.done.is_empty() {
            return batch.refused.into_iter().for_each(|(reply, result)| reply(result));
        }
        let Some((segment, base)) = self.write_and_ship(batch.frames, batch.done.len() as u64) else {
            // What the engine holds is ahead of the log: it is loaded again from the store.
            self.engine.forget();
            let why = self.shared.disk_error.lock().clone().unwrap_or_default();
            batch.done.into_iter().for_each(|done| (done.reply)(Err(SubmitError::Disk(why.clone()))));
            return batch.refused.into_iter().for_each(|(reply, result)| match result {
                Ok(_) => reply(Err(SubmitError::Disk(why.clone()))),
                Err(err) => reply(Err(err)),
            });
        };
        let observed = !self.shared.observers.read().is_empty();
        let mut replies = Vec::with_capacity(batch.done.len());
        let mut events = Vec::new();
        {
            let mut state = self.shared.state.write();
            for Executed { entry, offset, writes, reply } in batch.done {
                let at = Location { segment, offset: (base + offset as u64) as u32 };
                let seq = state.seq + 1;
                replies.push((reply, entry.signature));
                if observed {
                    events.push(BankEvent::Transaction(TransactionEvent {
                        slot: entry.slot,
                        index: entry.index,
                        signature: entry.signature,
                        err: entry.meta.err.clone(),
                        logs: entry.meta.logs.into(),
                        writes: writes.as_slice().into(),
                        keys: entry.keys.as_slice().into(),
                    }));
                }
                let head = TxHead {
                    slot: entry.slot,
                    index: entry.index,
                    signature: entry.signature,
                    message_hash: entry.message_hash,
                    failed: entry.failed,
                    fee: entry.meta.fee,
                    burned: entry.burned,
                    keys: entry.keys,
                };
                state.apply_transaction(seq, at, head, writes);
            }
        }
        events.into_iter().for_each(|event| self.emit(event));
        replies.into_iter().for_each(|(reply, signature)| reply(Ok(signature)));
        batch.refused.into_iter().for_each(|(reply, result)| reply(result));
    }

    /// Appends frames to the log and has the standby acknowledge them, or waits until that need not be. None: they are not in the log.
    pub(crate) fn write_and_ship(&mut self, frames: Vec<u8>, count: u64) -> Option<(u32, u64)> {
        let place = self.append(&frames, count)?;
        let seq = self.shared.state.read().seq + count;
        self.ship(frames, seq);
        self.shared.fence.wait();
        Some(place)
    }

    /// Appends frames to the log. None: the disk refused, and says why in `disk_error`.
    pub(crate) fn append(&mut self, frames: &[u8], count: u64) -> Option<(u32, u64)> {
        let log = self.log.as_mut()?;
        let (seq, in_slot) = {
            let state = self.shared.state.read();
            (state.seq, state.in_slot)
        };
        match log.append(frames, seq + 1, in_slot == 0) {
            Ok(appended) => {
                if !appended.begun.is_empty() {
                    let mut state = self.shared.state.write();
                    for (id, file) in appended.begun {
                        state.files.push(id, file);
                    }
                }
                self.work_since_snapshot += work(count, frames.len());
                if self.shared.disk_error.lock().take().is_some() {
                    tracing::info!("the ledger can be written again");
                }
                Some((appended.segment, appended.offset))
            }
            Err(err) => {
                let why = err.to_string();
                let old = self.shared.disk_error.lock().replace(why.clone());
                if old.as_ref() != Some(&why) {
                    tracing::error!(
                        "cannot write the ledger in {}: {why}; writes are refused until it can",
                        self.dir.display()
                    );
                }
                None
            }
        }
    }

    fn set_accounts(&mut self, accounts: Vec<(Address, AccountSharedData)>) -> Result<(), Error> {
        if self.role != Role::Leader {
            return Err(Error::NotLeader);
        }
        accounts.iter().try_for_each(|(address, account)| genesis::check(address, account))?;
        let (seq, slot, old) = {
            let state = self.shared.state.read();
            let old: Vec<_> = accounts.iter().map(|(address, _)| state.store.get(address).cloned()).collect();
            (state.seq + 1, state.slot, old)
        };
        let mut frames = Vec::new();
        let images = accounts.iter().zip(&old).map(|((address, new), old)| (address, new, old.as_ref()));
        frame_accounts(&mut frames, seq, slot, images);
        if self.write_and_ship(frames, 1).is_none() {
            let why = self.shared.disk_error.lock().clone().unwrap_or_default();
            return Err(Error::Io { what: "write", path: self.dir.clone(), source: std::io::Error::other(why) });
        }
        self.shared.state.write().apply_accounts(seq, accounts.clone());
        self.engine.forget();
        self.emit(BankEvent::AccountSet { slot, writes: accounts.into() });
        Ok(())
    }

    /// A slot's time is over.
    fn tick(&mut self) {
        if self.seal().is_none() {
            self.next_tick = Instant::now() + DISK_RETRY;
            return;
        }
        let now = Instant::now();
        self.next_tick += self.config.slot;
        if self.next_tick < now {
            // Too late for a whole slot: do not hurry to catch up.
            self.next_tick = now + self.config.slot;
        }
        self.maybe_snapshot();
    }

    /// Seals the block and begins the next slot. None: the disk refused.
    pub(crate) fn seal(&mut self) -> Option<u64> {
        let (record, failed, seq) = {
            let state = self.shared.state.read();
            let (record, failed) = state.seal(unix_now());
            (record, failed, state.seq + 1)
        };
        let mut frames = Vec::new();
        frame_block(&mut frames, seq, &record, failed);
        self.write_and_ship(frames, 1)?;
        let slot = record.slot;
        if let Some(log) = &mut self.log {
            log.sealed(slot);
            self.syncer.sync(log.file());
        }
        let (writes, next_writes, root) = {
            let mut state = self.shared.state.write();
            // Under the lock: a reader pins under it too.
            let keep_after = state.keep_after(self.shared.pinned());
            let (writes, next_writes) = state.apply_block(seq, record.clone(), failed, keep_after);
            (writes, next_writes, state.finalized())
        };
        let changed: Vec<_> = writes.iter().map(|(address, new)| (*address, new.clone(), None)).collect();
        self.engine.apply(&changed);
        let shared = self.shared.clone();
        self.engine.begin_slot(&|address| shared.state.read().store.get(address).cloned());
        self.emit(BankEvent::Slot(SlotEvent {
            slot,
            parent: record.parent_slot,
            root,
            blockhash: record.blockhash,
            height: record.height,
            time: record.time,
            transactions: record.transactions,
            failed,
            writes: writes.into(),
            next_writes: next_writes.into(),
        }));
        Some(slot)
    }

    fn shutdown(&mut self) -> Result<(), Error> {
        self.shared.taking.store(false, Ordering::SeqCst);
        self.shared.closed.store(true, Ordering::SeqCst);
        self.refuse_waiting();
        let sealed = self.role != Role::Leader || self.seal().is_some();
        if let Some(peer) = self.peer.take() {
            peer.close();
        }
        if let Some(thread) = self.snapshot.take() {
            // It writes in the folder, which is somebody else's from now on.
            drop(thread.join());
        }
        let synced = match &self.log {
            Some(log) => log.file().sync_all(),
            None => Ok(()),
        };
        let io = |source| Error::Io { what: "write", path: self.dir.clone(), source };
        if !sealed {
            return Err(io(std::io::Error::other(self.shared.disk_error.lock().clone().unwrap_or_default())));
        }
        synced.map_err(io)?;
        let result = self.final_snapshot();
        // Those who looked just before it was closed.
        self.refuse_waiting();
        result
    }

    fn refuse_waiting(&mut self) {
        while let Ok(command) = self.queue.try_recv() {
            match command {
                Command::Submit(submission) => (submission.reply)(Err(SubmitError::Closed)),
                Command::Airdrop { reply, .. } => reply(Err(SubmitError::Closed)),
                _ => {}
            }
        }
    }
}

/// What replaying entries costs, in units of a small entry.
pub(crate) fn work(entries: u64, bytes: usize) -> u64 {
    /// Reading and copying so many bytes costs as much as an entry of its own.
    const BYTES: u64 = 4096;
    entries + bytes as u64 / BYTES
}

/// Compute limit of an airdrop that must differ from another one, and how many such there are.
const AIRDROP_UNITS: u32 = 10_000;
const AIRDROP_VARIANTS: u32 = 1_000_000;

pub(crate) fn balances(accounts: &[Option<AccountSharedData>]) -> Vec<u64> {
    accounts.iter().map(|account| account.as_ref().map_or(0, ReadableAccount::lamports)).collect()
}

/// What a client is told of an execution that is not kept.
pub(crate) fn simulated(
    run: Execution,
    tx: &VersionedTransaction,
    slot: u64,
    engine: &Engine,
    source: crate::engine::Source<'_>,
) -> Simulated {
    Simulated {
        slot,
        loaded_accounts_data_size: run.loaded_size(&tx.message),
        pre_balances: balances(&run.pre),
        post_balances: balances(&run.post),
        pre_token_balances: engine.token_balances(&run.keys, &run.pre, source),
        post_token_balances: engine.token_balances(&run.keys, &run.post, source),
        err: run.err,
        logs: run.logs,
        units: run.units,
        return_data: run.return_data,
        inner_instructions: run.inner_instructions,
        post_accounts: run.post,
        account_keys: run.keys,
        fee: run.fee,
        loaded_addresses: run.loaded,
        replacement_blockhash: None,
    }
}
