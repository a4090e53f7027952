//! The handle through which everything goes in.

use std::{
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};

use osvm_model::handover::HandedOver;
use solana_account::AccountSharedData;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_transaction::versioned::VersionedTransaction;

use crate::{
    Commitment, Config, Error, Observer, Reply, SimOptions, Simulated, Status, SubmitError, SubmitOptions, View,
};

/// A node's state machine. A cheap handle: clones share one bank, which ends with the last of them.
#[derive(Clone)]
pub struct Bank {
    _inner: Arc<()>,
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
    pub fn open(_config: Config) -> Result<Self, Error> {
        unimplemented!()
    }

    /// Takes a transaction. Returns at once; `reply` is called on another thread, once.
    pub fn submit(&self, _tx: VersionedTransaction, _options: SubmitOptions, _reply: Reply) {
        unimplemented!()
    }

    /// Transfers from the faucet, as a transaction.
    pub fn airdrop(&self, _to: Address, _lamports: u64, _reply: Reply) {
        unimplemented!()
    }

    /// Runs a transaction without keeping what it does. Blocks for as long as it runs; needs no leader.
    pub fn simulate(&self, _tx: VersionedTransaction, _options: &SimOptions) -> Result<Simulated, SubmitError> {
        unimplemented!()
    }

    /// Sets accounts from outside (`lamports` 0 deletes). Blocks until it is in the log. Only a leader can.
    pub fn set_accounts(&self, _accounts: Vec<(Address, AccountSharedData)>) -> Result<(), Error> {
        unimplemented!()
    }

    /// Reads. Hold the guard for microseconds: the writer waits for it. Scans have functions of their own below.
    pub fn view(&self) -> View<'_> {
        unimplemented!()
    }

    /// All accounts of an owner that `keep` accepts, with the slot they are from, in the order of their addresses. Goes through
    /// an index of owners in pieces, so that the writer is never held up for long; `Confirmed` and `Finalized` are exact,
    /// `Processed` may see transactions that come in meanwhile. Blocks.
    pub fn program_accounts(
        &self,
        _owner: &Address,
        _commitment: Commitment,
        _keep: &mut dyn FnMut(&Address, &AccountSharedData) -> bool,
    ) -> (u64, Vec<(Address, AccountSharedData)>) {
        unimplemented!()
    }

    /// All token accounts (of both token programs) that belong to `owner`.
    pub fn token_accounts_by_owner(
        &self,
        _owner: &Address,
        _commitment: Commitment,
    ) -> (u64, Vec<(Address, AccountSharedData)>) {
        unimplemented!()
    }

    /// All token accounts whose delegate is `delegate`.
    pub fn token_accounts_by_delegate(
        &self,
        _delegate: &Address,
        _commitment: Commitment,
    ) -> (u64, Vec<(Address, AccountSharedData)>) {
        unimplemented!()
    }

    /// All token accounts of a mint.
    pub fn token_accounts_by_mint(
        &self,
        _mint: &Address,
        _commitment: Commitment,
    ) -> (u64, Vec<(Address, AccountSharedData)>) {
        unimplemented!()
    }

    /// The accounts with the most lamports, most first, with the slot they are from. Looks at every account.
    pub fn largest_accounts(&self, _limit: usize, _commitment: Commitment) -> (u64, Vec<(Address, u64)>) {
        unimplemented!()
    }

    /// Adds an observer. It gets what happens from now on and is kept as long as the bank.
    pub fn subscribe(&self, _observer: Observer) {
        unimplemented!()
    }

    /// Numbers for the control plane.
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// The key of the faucet, whose balance airdrops come from.
    pub fn faucet(&self) -> Keypair {
        unimplemented!()
    }

    /// Takes a replication stream. A leader serves the standby at its other end, a standby follows the leader there; after a
    /// hand-over it goes on the other way round. A new stream replaces the one before. Returns at once.
    pub fn attach(&self, _link: Link) {
        unimplemented!()
    }

    /// Makes the standby lead: stops taking writes, executes what waits, seals the block, sends the rest and the token, waits for
    /// its acknowledgement. After an error other than [`Error::Uncertain`] this bank still leads. Blocks.
    pub fn hand_over(&self, _timeout: Duration) -> Result<HandedOver, Error> {
        unimplemented!()
    }

    /// Makes this bank lead without a token; the caller knows that no other does. Ends the stream to the other. Nothing happens to a
    /// bank that leads. Blocks.
    pub fn lead(&self) -> Result<(), Error> {
        unimplemented!()
    }

    /// Seals the block, writes a snapshot and ends the threads. Later calls that write answer `Closed`. Blocks.
    pub fn shutdown(&self) -> Result<(), Error> {
        unimplemented!()
    }
}
