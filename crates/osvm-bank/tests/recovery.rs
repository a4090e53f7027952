//! What is on the disk after a crash, a full disk, damage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use common::*;
use osvm_bank::{Bank, Commitment, Config, Error, MIN_HISTORY_SLOTS, SubmitError, Tuning};
use solana_address::Address;
use solana_signature::Signature;
use solana_signer::Signer;

fn on(dir: &Path) -> Config {
    Config { state_dir: Some(dir.into()), ..still() }
}

fn log(dir: &Path) -> PathBuf {
    dir.join("log-0000000000")
}

/// A copy of a ledger as a crash would leave it: the bank is not asked to end.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

#[test]
fn a_restart_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let to = Address::new_unique();
    let bank = Bank::open(Config { slot: config().slot, ..on(dir.path()) }).unwrap();
    let from = funded(&bank, 10 * SOL);
    wait_sealed(&bank, 10);
    let tx = transfer(&bank, &from, &to, SOL);
    let signature = submit(&bank, tx.clone()).unwrap();
    let (genesis, identity) = (bank.view().genesis_hash(), bank.view().identity());
    bank.shutdown().unwrap();
    assert!(matches!(submit(&bank, tx.clone()), Err(SubmitError::Closed)));
    let slot = bank.view().slot(Commitment::Processed);
    drop(bank);
    let bank = Bank::open(on(dir.path())).unwrap();
    let view = bank.view();
    assert_eq!((view.genesis_hash(), view.identity(), view.slot(Commitment::Processed)), (genesis, identity, slot));
    assert_eq!(view.first_available_block(), 0);
    assert!(view.transaction(&signature).unwrap().block_time.is_some());
    drop(view);
    assert_eq!(lamports(&bank, &to, Commitment::Confirmed), SOL);
    assert!(matches!(submit(&bank, tx), Err(SubmitError::AlreadyProcessed)));
}

#[test]
fn a_log_cut_at_any_byte_loses_only_what_is_behind_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Bank::open(on(dir.path())).unwrap();
    let from = funded(&bank, 10 * SOL);
    let mut sent: Vec<(u64, Signature, Address)> = Vec::new();
    for n in 0..2 {
        let to = Address::new_unique();
        let signature = submit(&bank, transfer(&bank, &from, &to, SOL + n)).unwrap();
        // It was acknowledged when the log was so long.
        sent.push((fs::metadata(log(dir.path())).unwrap().len(), signature, to));
    }
    let whole = copy(dir.path());
    drop(bank);
    let bytes = fs::read(log(whole.path())).unwrap();
    // Every byte of the last entry, and the end of the one before.
    for cut in sent[0].0 - 30..=bytes.len() as u64 {
        fs::write(log(whole.path()), &bytes[..cut as usize]).unwrap();
        let bank = Bank::open(on(whole.path())).unwrap();
        for (n, (end, signature, to)) in sent.iter().enumerate() {
            let there = *end <= cut;
            assert_eq!(bank.view().signature_status(signature).is_some(), there, "cut at {cut}");
            assert_eq!(lamports(&bank, to, Commitment::Processed), if there { SOL + n as u64 } else { 0 });
        }
        if cut % 97 == 0 {
            // It goes on from there.
            submit(&bank, transfer(&bank, &from, &Address::new_unique(), SOL)).unwrap();
        }
    }
}

#[test]
fn damage_in_the_middle_is_an_error_that_names_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Bank::open(on(dir.path())).unwrap();
    let from = funded(&bank, 10 * SOL);
    let place = fs::metadata(log(dir.path())).unwrap().len();
    for _ in 0..3 {
        submit(&bank, transfer(&bank, &from, &Address::new_unique(), SOL)).unwrap();
    }
    let damaged = copy(dir.path());
    drop(bank);
    let mut bytes = fs::read(log(damaged.path())).unwrap();
    bytes[place as usize + 100] ^= 1;
    fs::write(log(damaged.path()), bytes).unwrap();
    let Err(err @ Error::Corrupt { .. }) = Bank::open(on(damaged.path())) else { panic!("it must be refused") };
    let text = err.to_string();
    assert!(text.contains("log-0000000000") && text.contains(&place.to_string()) && text.contains("--reset"), "{text}");
    // And --reset does what the error says.
    let bank = Bank::open(Config { reset: true, ..on(damaged.path()) }).unwrap();
    assert_eq!(lamports(&bank, &from.pubkey(), Commitment::Processed), 0);
}

#[test]
fn a_damaged_or_half_written_snapshot_is_no_loss_as_long_as_there_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Bank::open(on(dir.path())).unwrap();
    let from = funded(&bank, 10 * SOL);
    let left = copy(dir.path());
    drop(bank);
    fs::write(left.path().join("snapshot.tmp"), b"half of it").unwrap();
    fs::write(left.path().join("snapshot-00000000000000000002"), b"OSVMSNP1 and then nothing").unwrap();
    let bank = Bank::open(on(left.path())).unwrap();
    assert_eq!(lamports(&bank, &from.pubkey(), Commitment::Processed), 10 * SOL);
    assert!(!left.path().join("snapshot.tmp").exists());
    drop(bank);
    // The only one is damaged: an error, not an empty ledger.
    fs::remove_file(left.path().join("snapshot-00000000000000000002")).unwrap();
    let only = left.path().join("snapshot-00000000000000000001");
    let mut bytes = fs::read(&only).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&only, bytes).unwrap();
    assert!(matches!(Bank::open(on(left.path())), Err(Error::Corrupt { .. })));
}

#[test]
fn a_full_disk_refuses_writes_and_the_node_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let quota = Arc::new(AtomicU64::new(u64::MAX));
    let bank = Bank::open(Config {
        tuning: Tuning { disk_quota: Some(quota.clone()), ..Tuning::default() },
        slot: config().slot,
        ..on(dir.path())
    })
    .unwrap();
    let (from, to) = (funded(&bank, 10 * SOL), Address::new_unique());
    quota.store(10, Ordering::SeqCst);
    let tx = transfer(&bank, &from, &to, SOL);
    for _ in 0..3 {
        assert!(matches!(submit(&bank, tx.clone()), Err(SubmitError::Disk(_))));
        assert_eq!(lamports(&bank, &to, Commitment::Processed), 0);
    }
    assert!(bank.status().disk_error.is_some());
    quota.store(u64::MAX, Ordering::SeqCst);
    submit(&bank, tx).unwrap();
    assert_eq!(lamports(&bank, &to, Commitment::Processed), SOL);
    let slot = bank.view().slot(Commitment::Processed);
    wait_sealed(&bank, slot + 2);
    assert!(bank.status().disk_error.is_none());
    let crashed = copy(dir.path());
    drop(bank);
    let bank = Bank::open(on(crashed.path())).unwrap();
    assert_eq!(lamports(&bank, &to, Commitment::Processed), SOL);
}

#[test]
fn a_ledger_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Bank::open(on(dir.path())).unwrap();
    assert!(matches!(Bank::open(on(dir.path())), Err(Error::InUse(_))));
    drop(bank);
    Bank::open(on(dir.path())).unwrap();
}

#[test]
fn the_key_files_of_a_test_ledger_are_there_and_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Bank::open(on(dir.path())).unwrap();
    let read = |name: &str| -> Address {
        let bytes: Vec<u8> = serde_json::from_slice(&fs::read(dir.path().join(name)).unwrap()).unwrap();
        solana_keypair::Keypair::try_from(bytes.as_slice()).unwrap().pubkey()
    };
    assert_eq!(read("validator-keypair.json"), bank.view().identity());
    assert_eq!(read("faucet-keypair.json"), bank.view().faucet());
    assert_eq!(read("vote-account-keypair.json"), bank.view().vote_account());
    assert_eq!(read("stake-account-keypair.json"), bank.view().stake_account());
    let (identity, genesis) = (bank.view().identity(), bank.view().genesis_hash());
    drop(bank);
    let bank = Bank::open(Config { reset: true, ..on(dir.path()) }).unwrap();
    assert_eq!(bank.view().identity(), identity);
    assert_ne!(bank.view().genesis_hash(), genesis);
}

#[test]
fn snapshots_are_taken_and_old_history_goes() {
    let dir = tempfile::tempdir().unwrap();
    let tuning = Tuning { segment_bytes: Some(20_000), snapshot_work: Some(200), ..Tuning::default() };
    let slot = std::time::Duration::from_millis(2);
    let config = Config { history_slots: MIN_HISTORY_SLOTS, tuning, slot, ..on(dir.path()) };
    let bank = Bank::open(config.clone()).unwrap();
    let (from, to) = (funded(&bank, 100 * SOL), Address::new_unique());
    let first = submit(&bank, transfer(&bank, &from, &to, SOL)).unwrap();
    let mut last = first;
    for round in 1..=15u64 {
        for n in 0..10 {
            last = submit(&bank, transfer(&bank, &from, &to, SOL / 100 + n)).unwrap();
        }
        wait_sealed(&bank, round * 100);
    }
    let check = |bank: &Bank| {
        let view = bank.view();
        assert_eq!(view.signature_status(&first), None);
        assert_eq!(view.transaction(&first), None);
        let oldest = view.first_available_block();
        assert!(oldest > 0 && oldest + MIN_HISTORY_SLOTS <= view.slot(Commitment::Processed), "{oldest}");
        assert_eq!(view.block(oldest - 1), None);
        for slot in oldest..=view.slot(Commitment::Confirmed) {
            let block = view.block(slot).unwrap();
            assert_eq!(block.transactions as usize, view.block_transactions(slot).len());
        }
        assert!(view.transaction(&last).is_some());
    };
    check(&bank);
    let is_log =
        |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().to_str().unwrap().starts_with("log-");
    let logs = fs::read_dir(dir.path()).unwrap().map(is_log).filter(|is| *is).count();
    assert!(!log(dir.path()).exists() && logs < 40, "{logs}");
    let balance = lamports(&bank, &to, Commitment::Processed);
    bank.shutdown().unwrap();
    let crashed = copy(dir.path());
    drop(bank);
    let bank = Bank::open(Config { slot: still().slot, state_dir: Some(crashed.path().into()), ..config }).unwrap();
    check(&bank);
    assert_eq!(lamports(&bank, &to, Commitment::Processed), balance);
    assert_eq!(sum(&bank, Commitment::Confirmed), bank.view().capitalization(Commitment::Confirmed));
}
