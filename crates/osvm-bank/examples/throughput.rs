//! Prints how many transfers a second one bank takes, with the log on disk, alone and with a standby in sync; and how long a start takes.
//!
//! `cargo run --release -p osvm-bank --example throughput [TRANSFERS] [ACCOUNTS]`
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "an example ends at the first surprise")]

use std::{
    os::unix::net::UnixStream,
    sync::mpsc::sync_channel,
    time::{Duration, Instant},
};

use osvm_bank::{Bank, Commitment, Config, Link, Role, SubmitOptions};
use solana_account::AccountSharedData;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_message::{Message, VersionedMessage};
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;

/// Transfers that wait at once.
const IN_FLIGHT: usize = 2_000;
/// Accounts set with one entry.
const STEP: usize = 10_000;

fn transfers(bank: &Bank, from: &Keypair, count: usize) -> Vec<VersionedTransaction> {
    let blockhash = bank.view().latest_blockhash(Commitment::Processed).0;
    let make = |_| {
        let transfer =
            solana_system_interface::instruction::transfer(&from.pubkey(), &Address::new_unique(), 1_000_000);
        let message = Message::new_with_blockhash(&[transfer], Some(&from.pubkey()), &blockhash);
        VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[from]).unwrap()
    };
    (0..count).map(make).collect()
}

fn run(what: &str, bank: &Bank, from: &Keypair, count: usize, verified: bool) {
    let txs = transfers(bank, from, count);
    let (reply, answers) = sync_channel(count);
    let start = Instant::now();
    let mut waiting = 0;
    for tx in txs {
        let reply = reply.clone();
        let options = SubmitOptions { verified, ..SubmitOptions::default() };
        bank.submit(tx, options, Box::new(move |result| drop(reply.send(result))));
        waiting += 1;
        if waiting > IN_FLIGHT {
            answers.recv().unwrap().unwrap();
            waiting -= 1;
        }
    }
    for _ in 0..waiting {
        answers.recv().unwrap().unwrap();
    }
    let took = start.elapsed();
    println!("{what}: {count} transfers in {took:.2?}, {:.0} a second", count as f64 / took.as_secs_f64());
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().unwrap());
    let (count, accounts) = (args.next().unwrap_or(20_000), args.next().unwrap_or(100_000));
    let dir = tempfile::tempdir().unwrap();
    let config = Config { state_dir: Some(dir.path().into()), slot: Duration::from_millis(400), ..Config::default() };
    let timed = |what: &str| {
        let start = Instant::now();
        let bank = Bank::open(config.clone()).unwrap();
        println!("{what}: open after {:.2?}", start.elapsed());
        bank
    };
    let bank = timed("a new ledger");
    let from = bank.faucet().unwrap();
    run("alone, with signatures verified on one thread", &bank, &from, count, false);
    run("alone, with signatures verified elsewhere", &bank, &from, count, true);
    let standby = Bank::open(Config { role: Role::Standby, ..Config::default() }).unwrap();
    let (left, right) = UnixStream::pair().unwrap();
    standby.attach(Link::from_unix(right).unwrap());
    let start = Instant::now();
    bank.attach(Link::from_unix(left).unwrap());
    while !bank.status().in_sync {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("a standby is in sync after {:.2?}", start.elapsed());
    run("with a standby in sync", &bank, &from, count, true);
    let moved = bank.hand_over(Duration::from_secs(10)).unwrap();
    println!("hand-over: {} accounts, pause {} us", moved.accounts, moved.pause_us);
    standby.hand_over(Duration::from_secs(10)).unwrap();
    drop(standby);
    for step in 0..accounts / STEP {
        let new = (0..STEP)
            .map(|_| (Address::new_unique(), AccountSharedData::new(890_880, 0, &Address::default())))
            .collect();
        bank.set_accounts(new).unwrap();
        if step == 0 {
            println!("setting {accounts} accounts");
        }
    }
    let start = Instant::now();
    bank.shutdown().unwrap();
    println!("shut down after {:.2?}", start.elapsed());
    drop(bank);
    let bank = timed("the same ledger");
    println!("{} accounts, slot {}", bank.status().accounts, bank.status().slot);
}
