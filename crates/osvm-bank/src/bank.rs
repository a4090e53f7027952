//! The handle through which everything goes in.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use osvm_model::handover::{HandedOver, Role};
use parking_lot::Mutex;
use solana_account::{AccountSharedData, ReadableAccount};
use solana_address::Address;
use solana_keypair::Keypair;
use solana_message::VersionedMessage;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;

use crate::{
    Commitment, Config, Error, Observer, Reply, SimOptions, Simulated, Status, SubmitError, SubmitOptions, View,
    engine::{Engine, is_nonce_valid},
    marker,
    open::{self, Holds},
    shared::Shared,
    store::{Index, SHARDS},
    sync::Syncer,
    writer::{Command, QUEUE, Submission, Writer, simulated},
};

/// The largest transaction on the wire; a version 1 message may be larger.
const PACKET: usize = 1232;
const PACKET_V1: usize = 4096;

/// A node's state machine. A cheap handle: clones share one bank, which ends with the last of them.
#[derive(Clone)]
pub struct Bank {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    queue: SyncSender<Command>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    holds: Mutex<Option<Holds>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let (reply, _) = sync_channel(1);
        drop(self.queue.send(Command::Shutdown { reply }));
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != thread::current().id()
        {
            drop(thread.join());
        }
    }
}

/// A replication stream, cut into what the two threads that serve it need.
pub struct Link {
    /// Blocking reads; end of file is the loss of the other end.
    pub reader: Box<dyn Read + Send>,
    /// Blocking writes.
    pub writer: Box<dyn Write + Send>,
    /// Makes both of the above fail or end at once (`shutdown(2)`); called more than once.
    pub close: Box<dyn Fn() + Send + Sync>,
}

impl Link {
    /// From a unix stream in blocking mode.
    pub fn from_unix(stream: std::os::unix::net::UnixStream) -> std::io::Result<Self> {
        let (reader, closer) = (stream.try_clone()?, stream.try_clone()?);
        Ok(Self {
            reader: Box::new(reader),
            writer: Box::new(stream),
            close: Box::new(move || drop(closer.shutdown(std::net::Shutdown::Both))),
        })
    }

    /// From a TCP stream in blocking mode.
    pub fn from_tcp(stream: std::net::TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        let (reader, closer) = (stream.try_clone()?, stream.try_clone()?);
        Ok(Self {
            reader: Box::new(reader),
            writer: Box::new(stream),
            close: Box::new(move || drop(closer.shutdown(std::net::Shutdown::Both))),
        })
    }
}

impl Bank {
    /// Opens the ledger, or makes a new one, and starts the writer's thread. A leader seals its first block one slot later.
    pub fn open(config: Config) -> Result<Self, Error> {
        let opened = open::open(&config)?;
        let shared = Shared::new(opened.state, config.role, config.state_dir.clone());
        let (queue, receiver) = sync_channel(QUEUE);
        let spawn_failed = |source| Error::Io { what: "start a thread for", path: opened.dir.clone(), source };
        let writer = Writer {
            shared: shared.clone(),
            queue: receiver,
            sender: queue.clone(),
            dir: opened.dir.clone(),
            role: config.role,
            next_tick: Instant::now() + config.slot,
            config,
            engine: Engine::new(),
            log: opened.log,
            syncer: Syncer::start().map_err(spawn_failed)?,
            peer: None,
            next_peer: 0,
            work_since_snapshot: opened.replayed,
            snapshot: None,
            airdrops: 0,
            receiving: None,
        };
        let thread = thread::Builder::new().name("bank-writer".into()).spawn(move || writer.run());
        let thread = thread.map_err(spawn_failed)?;
        let holds = Mutex::new(Some(opened.holds));
        Ok(Self { inner: Arc::new(Inner { shared, queue, thread: Mutex::new(Some(thread)), holds }) })
    }

    /// Takes a transaction. Verifies its signatures on this thread, unless the caller did, and returns; `reply` is called once, on
    /// another thread if the transaction got into the queue. Preflight is the execution itself: the result is kept if it succeeds.
    pub fn submit(&self, tx: VersionedTransaction, options: SubmitOptions, reply: Reply) {
        match prepare(tx, options.verified) {
            Ok((tx, wire, message_hash)) => {
                let submission = Submission { tx, wire, message_hash, options, reply };
                self.enqueue(Command::Submit(Box::new(submission)));
            }
            Err(err) => reply(Err(err)),
        }
    }

    /// Transfers from the faucet, as a transaction.
    pub fn airdrop(&self, to: Address, lamports: u64, reply: Reply) {
        self.enqueue(Command::Airdrop { to, lamports, reply });
    }

    fn enqueue(&self, command: Command) {
        let shared = &self.inner.shared;
        let refused = |command: Command, err: SubmitError| match command {
            Command::Submit(submission) => (submission.reply)(Err(err)),
            Command::Airdrop { reply, .. } => reply(Err(err)),
            _ => {}
        };
        if shared.closed.load(Ordering::SeqCst) {
            return refused(command, SubmitError::Closed);
        }
        if !shared.taking.load(Ordering::SeqCst) {
            return refused(command, SubmitError::NotLeader);
        }
        shared.pending.fetch_add(1, Ordering::Relaxed);
        let (command, err) = match self.inner.queue.try_send(command) {
            Ok(()) => return,
            Err(TrySendError::Full(command)) => (command, SubmitError::Overloaded),
            Err(TrySendError::Disconnected(command)) => (command, SubmitError::Closed),
        };
        shared.pending.fetch_sub(1, Ordering::Relaxed);
        refused(command, err);
    }

    /// Runs a transaction without keeping what it does. Blocks for as long as it runs; needs no leader.
    pub fn simulate(&self, mut tx: VersionedTransaction, options: &SimOptions) -> Result<Simulated, SubmitError> {
        tx.sanitize().map_err(|_| SubmitError::Sanitize(TransactionError::SanitizeFailure))?;
        if options.sig_verify && !tx.verify_with_results().into_iter().all(|valid| valid) {
            return Err(SubmitError::SigVerify);
        }
        let shared = &self.inner.shared;
        let pin = shared.pin(options.commitment);
        let source = |address: &Address| shared.state.read().store.get_at(address, pin.slot).cloned();
        let mut replacement = None;
        {
            let view = self.view();
            if options.replace_recent_blockhash {
                let latest = view.latest_blockhash(options.commitment);
                tx.message.set_recent_blockhash(latest.0);
                replacement = Some(latest);
            }
            let valid = view.is_blockhash_valid(tx.message.recent_blockhash(), options.commitment);
            drop(view);
            let failed = |err| Simulated { slot: pin.slot, err: Some(err), ..Simulated::default() };
            if !valid && !is_nonce_valid(&tx.message, &source) {
                return Ok(failed(TransactionError::BlockhashNotFound));
            }
            if !options.replace_recent_blockhash && shared.state.read().history.has_message(&tx.message.hash()) {
                return Ok(failed(TransactionError::AlreadyProcessed));
            }
        }
        let mut engine = shared.take_engine();
        engine.begin_slot(&source);
        let run = engine.execute(&tx, &source);
        let mut result = simulated(run, &tx, pin.slot, &engine, &source);
        result.replacement_blockhash = replacement;
        engine.forget();
        shared.put_engine(engine);
        Ok(result)
    }

    /// Sets accounts from outside (`lamports` 0 deletes). Blocks until it is in the log. Only a leader can.
    pub fn set_accounts(&self, accounts: Vec<(Address, AccountSharedData)>) -> Result<(), Error> {
        self.ask(|reply| Command::SetAccounts { accounts, reply })?
    }

    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = sync_channel(1);
        self.inner.queue.send(command(reply)).map_err(|_| Error::Closed)?;
        answer.recv().map_err(|_| Error::Closed)
    }

    /// Reads. Hold the guard for microseconds: the writer waits for it. Scans have functions of their own below.
    pub fn view(&self) -> View<'_> {
        View { state: self.inner.shared.state.read() }
    }

    /// All accounts of an owner that `keep` accepts, with the slot they are from, in the order of their addresses. Goes through
    /// an index of owners in pieces, so that the writer is never held up for long; `Confirmed` and `Finalized` are exact,
    /// `Processed` may see transactions that come in meanwhile. Blocks.
    pub fn program_accounts(
        &self,
        owner: &Address,
        commitment: Commitment,
        keep: &mut dyn FnMut(&Address, &AccountSharedData) -> bool,
    ) -> (u64, Vec<(Address, AccountSharedData)>) {
        self.inner.shared.scan(Index::Program, owner, commitment, keep)
    }

    /// All token accounts (of both token programs) that belong to `owner`.
    pub fn token_accounts_by_owner(
        &self,
        owner: &Address,
        commitment: Commitment,
    ) -> (u64, Vec<(Address, AccountSharedData)>) {
        self.inner.shared.scan(Index::TokenOwner, owner, commitment, &mut |_, _| true)
    }

    /// All token accounts whose delegate is `delegate`.
    pub fn token_accounts_by_delegate(
        &self,
        delegate: &Address,
        commitment: Commitment,
    ) -> (u64, Vec<(Address, AccountSharedData)>) {
        self.inner.shared.scan(Index::TokenDelegate, delegate, commitment, &mut |_, _| true)
    }

    /// All token accounts of a mint.
    pub fn token_accounts_by_mint(
        &self,
        mint: &Address,
        commitment: Commitment,
    ) -> (u64, Vec<(Address, AccountSharedData)>) {
        self.inner.shared.scan(Index::TokenMint, mint, commitment, &mut |_, _| true)
    }

    /// The accounts with the most lamports, most first, with the slot they are from. Looks at every account.
    pub fn largest_accounts(&self, limit: usize, commitment: Commitment) -> (u64, Vec<(Address, u64)>) {
        let shared = &self.inner.shared;
        let pin = shared.pin(commitment);
        let mut found: Vec<(Address, u64)> = Vec::new();
        for part in 0..SHARDS {
            let accounts = shared.state.read().store.shard_at(part, pin.slot);
            found.extend(accounts.into_iter().map(|(address, account)| (address, account.lamports())));
            found.sort_unstable_by_key(|(address, lamports)| (std::cmp::Reverse(*lamports), *address));
            found.truncate(limit);
        }
        (pin.slot, found)
    }

    /// Adds an observer. It gets what happens from now on and is kept as long as the bank.
    pub fn subscribe(&self, observer: Observer) {
        self.inner.shared.observers.write().push(observer);
    }

    /// Numbers for the control plane.
    pub fn status(&self) -> Status {
        let shared = &self.inner.shared;
        let role = *shared.role.lock();
        let disk_error = shared.disk_error.lock().clone();
        let state = shared.state.read();
        Status {
            role,
            genesis_hash: state.info.as_ref().map(|info| info.genesis_hash).unwrap_or_default(),
            slot: state.slot,
            accounts: state.store.len() as u64,
            pending: shared.pending.load(Ordering::Relaxed),
            applied: state.seq,
            in_sync: shared.in_sync.load(Ordering::SeqCst),
            disk_error,
        }
    }

    /// The key of the faucet, whose balance airdrops come from. None on a standby that has no state yet.
    pub fn faucet(&self) -> Option<Keypair> {
        self.inner.shared.state.read().info.as_ref().map(|info| info.faucet_key())
    }

    /// Takes a replication stream. A leader serves the standby at its other end, a standby follows the leader there; after a
    /// hand-over it goes on the other way round. A new stream replaces the one before. Returns at once.
    pub fn attach(&self, link: Link) {
        if let Err(refused) = self.inner.queue.send(Command::Attach(Box::new(link)))
            && let Command::Attach(link) = refused.0
        {
            (link.close)();
        }
    }

    /// Makes the standby lead: stops taking writes, executes what waits, seals the block, sends the rest and the token, waits for
    /// its acknowledgement. After an error other than [`Error::Uncertain`] this bank still leads. Blocks.
    ///
    /// Before that it notes in the ledger's folder that it was handed over; see [`Config::sole`].
    pub fn hand_over(&self, timeout: Duration) -> Result<HandedOver, Error> {
        let called = Instant::now();
        let shared = &self.inner.shared;
        if *shared.role.lock() != Role::Leader {
            return Err(Error::NotLeader);
        }
        if !shared.in_sync.load(Ordering::SeqCst) {
            return Err(Error::NotInSync);
        }
        // While writes are still taken: it waits for the disk. The writer takes it away if nothing comes of the hand-over.
        if let Some(dir) = &shared.kept
            && let Err(err) = marker::put(dir)
        {
            drop(marker::remove(dir));
            return Err(err);
        }
        let asked = Instant::now();
        let timeout = timeout.saturating_sub(asked - called);
        // What comes from here on is refused; what is in the queue is still done.
        shared.taking.store(false, Ordering::SeqCst);
        let waiting = shared.pending.load(Ordering::Relaxed);
        self.ask(|reply| Command::HandOver { asked, waiting, timeout, reply })?
    }

    /// Makes this bank lead without a token; the caller knows that no other does. Ends the stream to the other. Nothing happens to a
    /// bank that leads. Blocks.
    pub fn lead(&self) -> Result<(), Error> {
        self.ask(|reply| Command::Lead { reply })?
    }

    /// Makes this leader go on alone: it ends the stream to its standby, if there is one, and does not wait for
    /// [`ALONE_AFTER`](osvm_model::handover::ALONE_AFTER) before it acknowledges what that standby does not have. The caller sees to it
    /// that no standby is told to lead any more. Blocks.
    pub fn alone(&self) -> Result<(), Error> {
        let shared = &self.inner.shared;
        if *shared.role.lock() != Role::Leader {
            return Err(Error::NotLeader);
        }
        shared.fence.dismiss();
        self.ask(|reply| Command::Alone { reply })?
    }

    /// Seals the block, writes a snapshot and ends the threads. Later calls that write answer `Closed`. Blocks.
    pub fn shutdown(&self) -> Result<(), Error> {
        let result = self.ask(|reply| Command::Shutdown { reply })?;
        if let Some(thread) = self.inner.thread.lock().take() {
            drop(thread.join());
        }
        drop(self.inner.holds.lock().take());
        result
    }
}

/// Checks what can be checked without the state, on the caller's thread.
fn prepare(
    tx: VersionedTransaction,
    verified: bool,
) -> Result<(VersionedTransaction, Vec<u8>, solana_hash::Hash), SubmitError> {
    let malformed = || SubmitError::Sanitize(TransactionError::SanitizeFailure);
    tx.sanitize().map_err(|_| malformed())?;
    let wire = wincode::serialize(&tx).map_err(|_| malformed())?;
    let max = if matches!(tx.message, VersionedMessage::V1(_)) { PACKET_V1 } else { PACKET };
    if wire.len() > max {
        return Err(malformed());
    }
    if !verified && !tx.verify_with_results().into_iter().all(|valid| valid) {
        return Err(SubmitError::SigVerify);
    }
    let message_hash = tx.message.hash();
    Ok((tx, wire, message_hash))
}
