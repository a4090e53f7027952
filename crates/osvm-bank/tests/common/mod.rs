//! What the bank's tests share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    os::unix::net::UnixStream,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use osvm_bank::{Bank, BankEvent, Commitment, Config, Link, Role, SubmitError, SubmitOptions};
use solana_address::Address;
use solana_keypair::Keypair;
use solana_message::{Message, VersionedMessage};
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const SOL: u64 = 1_000_000_000;

pub fn config() -> Config {
    Config { slot: Duration::from_millis(20), finality_slots: 4, ..Config::default() }
}

/// A configuration whose slots do not end by themselves within a test.
pub fn still() -> Config {
    Config { slot: Duration::from_secs(3600), ..config() }
}

pub fn sign(
    instructions: &[solana_instruction::Instruction],
    keys: &[&Keypair],
    blockhash: solana_hash::Hash,
) -> VersionedTransaction {
    let message = Message::new_with_blockhash(instructions, Some(&keys[0].pubkey()), &blockhash);
    VersionedTransaction::try_new(VersionedMessage::Legacy(message), keys).unwrap()
}

pub fn blockhash(bank: &Bank) -> solana_hash::Hash {
    bank.view().latest_blockhash(Commitment::Processed).0
}

pub fn transfer(bank: &Bank, from: &Keypair, to: &Address, lamports: u64) -> VersionedTransaction {
    let instruction = solana_system_interface::instruction::transfer(&from.pubkey(), to, lamports);
    sign(&[instruction], &[from], blockhash(bank))
}

pub fn send(bank: &Bank, tx: VersionedTransaction, options: SubmitOptions) -> Receiver<Result<Signature, SubmitError>> {
    let (reply, answer) = sync_channel(1);
    bank.submit(tx, options, Box::new(move |result| drop(reply.send(result))));
    answer
}

pub fn submit(bank: &Bank, tx: VersionedTransaction) -> Result<Signature, SubmitError> {
    send(bank, tx, SubmitOptions::default()).recv_timeout(PATIENCE).unwrap()
}

pub fn submit_with(bank: &Bank, tx: VersionedTransaction, options: SubmitOptions) -> Result<Signature, SubmitError> {
    send(bank, tx, options).recv_timeout(PATIENCE).unwrap()
}

pub fn airdrop(bank: &Bank, to: &Address, lamports: u64) -> Signature {
    let (reply, answer) = sync_channel(1);
    bank.airdrop(*to, lamports, Box::new(move |result| drop(reply.send(result))));
    answer.recv_timeout(PATIENCE).unwrap().unwrap()
}

pub fn funded(bank: &Bank, lamports: u64) -> Keypair {
    let key = Keypair::new();
    airdrop(bank, &key.pubkey(), lamports);
    key
}

pub fn lamports(bank: &Bank, address: &Address, commitment: Commitment) -> u64 {
    bank.view().account(address, commitment).map_or(0, |account| solana_account::ReadableAccount::lamports(&account))
}

/// Waits for slots to be sealed until the sealed one is at least `slot`.
pub fn wait_sealed(bank: &Bank, slot: u64) {
    let (sender, events) = sync_channel(1024);
    bank.subscribe(Box::new(move |event: &Arc<BankEvent>| {
        if let BankEvent::Slot(event) = &**event {
            let _ = sender.try_send(event.slot);
        }
    }));
    while bank.view().slot(Commitment::Confirmed) < slot {
        events.recv_timeout(PATIENCE).unwrap();
    }
}

/// All lamports there are, counted.
pub fn sum(bank: &Bank, commitment: Commitment) -> u64 {
    bank.largest_accounts(usize::MAX, commitment).1.iter().map(|(_, lamports)| lamports).sum()
}

pub fn standby() -> Bank {
    Bank::open(Config { role: Role::Standby, ..config() }).unwrap()
}

/// Joins two banks. The stream that is returned cuts them apart when it is shut down.
pub fn join(a: &Bank, b: &Bank) -> UnixStream {
    let (left, right) = UnixStream::pair().unwrap();
    let knife = left.try_clone().unwrap();
    b.attach(Link::from_unix(right).unwrap());
    a.attach(Link::from_unix(left).unwrap());
    knife
}

/// Polls for what has no event of its own.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        thread::sleep(Duration::from_millis(2));
    }
}

pub fn in_sync(a: &Bank, b: &Bank) {
    until("in sync", || a.status().in_sync && b.status().in_sync);
}
