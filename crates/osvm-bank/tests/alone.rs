//! What a lost standby and a token that left mean for a leader: when it may acknowledge, and when it may lead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use common::*;
use osvm_bank::{Bank, BankEvent, Commitment, Config, Error, Link, Role, SubmitOptions};
use osvm_model::handover::ALONE_AFTER;
use solana_address::Address;
use solana_keypair::Keypair;

/// How long it takes until a transfer is acknowledged.
fn write(bank: &Bank, from: &Keypair) -> Duration {
    let tx = transfer(bank, from, &Address::new_unique(), SOL);
    let began = Instant::now();
    submit(bank, tx).unwrap();
    began.elapsed()
}

/// Whether a write is acknowledged in less than the wait. A busy machine gets more than one try.
fn at_once(mut write: impl FnMut() -> Duration) -> bool {
    (0..5).any(|_| write() < ALONE_AFTER / 2)
}

#[test]
fn after_a_lost_standby_nothing_is_acknowledged_or_seen_before_the_wait_is_over() {
    let (a, b) = (Bank::open(config()).unwrap(), standby());
    let link = join(&a, &b);
    in_sync(&a, &b);
    let from = funded(&a, 100 * SOL);
    let (sender, events) = std::sync::mpsc::channel();
    a.subscribe(Box::new(move |event| {
        if let BankEvent::Transaction(event) = &**event {
            let _ = sender.send((event.signature, Instant::now()));
        }
    }));
    let to = Address::new_unique();
    let tx = transfer(&a, &from, &to, SOL);
    let lost = Instant::now();
    link.shutdown(Shutdown::Both).unwrap();
    let answer = send(&a, tx, SubmitOptions::default());
    // No reader sees it either.
    let seen = loop {
        let now = Instant::now();
        if a.view().account(&to, Commitment::Processed).is_some() {
            break now;
        }
        assert!(lost.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(1));
    };
    let signature = answer.recv_timeout(PATIENCE).unwrap().unwrap();
    let acknowledged = Instant::now();
    let (told, at) = events.recv_timeout(PATIENCE).unwrap();
    assert_eq!(told, signature);
    for (what, at) in [("seen", seen), ("acknowledged", acknowledged), ("told", at)] {
        // A look takes a moment, in which the wait may end.
        let after = at.duration_since(lost) + Duration::from_millis(20);
        assert!(after >= ALONE_AFTER, "{what} after {after:?}");
    }
    assert!(at_once(|| write(&a, &from)), "the wait goes on");
}

#[test]
fn a_standby_that_hangs_is_lost_as_well() {
    let (a, b) = (Bank::open(still()).unwrap(), Bank::open(Config { role: Role::Standby, ..still() }).unwrap());
    // A relay that stops to relay acknowledgements.
    let (left, mut relay_left) = UnixStream::pair().unwrap();
    let (mut relay_right, right) = UnixStream::pair().unwrap();
    let (mut from_a, mut to_a) = (relay_left.try_clone().unwrap(), relay_left.try_clone().unwrap());
    let (mut from_b, mut to_b) = (relay_right.try_clone().unwrap(), relay_right.try_clone().unwrap());
    let deaf = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let hears = deaf.clone();
    let there = thread::spawn(move || drop(std::io::copy(&mut from_a, &mut to_b)));
    let back = thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = std::io::Read::read(&mut from_b, &mut bytes) {
            if !hears.load(std::sync::atomic::Ordering::SeqCst) {
                std::io::Write::write_all(&mut to_a, &bytes[..n]).unwrap();
            }
        }
    });
    b.attach(Link::from_unix(right).unwrap());
    a.attach(Link::from_unix(left).unwrap());
    in_sync(&a, &b);
    let from = funded(&a, 100 * SOL);
    deaf.store(true, std::sync::atomic::Ordering::SeqCst);
    let tx = transfer(&a, &from, &Address::new_unique(), SOL);
    let answer = send(&a, tx, SubmitOptions::default());
    until("the loss is seen", || !a.status().in_sync);
    let lost = Instant::now();
    answer.recv_timeout(PATIENCE).unwrap().unwrap();
    let after = lost.elapsed() + Duration::from_millis(20);
    assert!(after >= ALONE_AFTER, "acknowledged after {after:?}");
    for stream in [&mut relay_left, &mut relay_right] {
        drop(stream.shutdown(Shutdown::Both));
    }
    there.join().unwrap();
    back.join().unwrap();
}

#[test]
fn without_a_standby_nothing_waits() {
    let a = Bank::open(config()).unwrap();
    let from = funded(&a, 100 * SOL);
    assert!(at_once(|| write(&a, &from)));
    // One that never was in sync is none.
    let (left, right) = UnixStream::pair().unwrap();
    a.attach(Link::from_unix(left).unwrap());
    drop(right);
    assert!(at_once(|| write(&a, &from)));
}

#[test]
fn a_leader_that_is_told_to_go_on_alone_does_not_wait() {
    let (a, b) = (Bank::open(config()).unwrap(), standby());
    let from = funded(&a, 100 * SOL);
    let joined = || {
        let link = join(&a, &b);
        in_sync(&a, &b);
        link
    };
    // Told while the standby is there.
    let dismissed = || {
        let _link = joined();
        a.alone().unwrap();
        assert!(!a.status().in_sync);
        write(&a, &from)
    };
    assert!(at_once(dismissed));
    // Told while it waits for one that is gone.
    let given_up = || {
        let link = joined();
        link.shutdown(Shutdown::Both).unwrap();
        let answer = send(&a, transfer(&a, &from, &Address::new_unique(), SOL), SubmitOptions::default());
        until("the loss is seen", || !a.status().in_sync);
        let told = Instant::now();
        a.alone().unwrap();
        answer.recv_timeout(PATIENCE).unwrap().unwrap();
        told.elapsed()
    };
    assert!(at_once(given_up));
    // The loss of the next one is a loss again.
    let link = joined();
    link.shutdown(Shutdown::Both).unwrap();
    let began = Instant::now();
    write(&a, &from);
    assert!(began.elapsed() + Duration::from_millis(20) >= ALONE_AFTER);
    assert!(matches!(b.alone(), Err(Error::NotLeader)));
}

fn kept(dir: &Path, role: Role) -> Config {
    Config { role, state_dir: Some(dir.into()), ..config() }
}

#[test]
fn a_ledger_that_was_handed_over_is_not_led_on_by_accident() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = Bank::open(kept(one.path(), Role::Leader)).unwrap();
    let b = Bank::open(kept(two.path(), Role::Standby)).unwrap();
    let link = join(&a, &b);
    in_sync(&a, &b);
    let from = funded(&a, 100 * SOL);
    a.hand_over(PATIENCE).unwrap();
    write(&b, &from);
    drop((a, b, link));
    for _ in 0..2 {
        let Err(refused) = Bank::open(kept(one.path(), Role::Leader)) else { panic!("it leads") };
        assert!(matches!(refused, Error::HandedOver(_)));
        let line = refused.to_string();
        assert!(line.contains("--sole") && line.contains("--reset") && !line.contains('\n'), "{line}");
    }
    // The one that got it is a leader as any other.
    drop(Bank::open(kept(two.path(), Role::Leader)).unwrap());
    // Who knows that no other can lead may say so, once.
    let a = Bank::open(Config { sole: true, ..kept(one.path(), Role::Leader) }).unwrap();
    write(&a, &from);
    drop(a);
    drop(Bank::open(kept(one.path(), Role::Leader)).unwrap());
    // And a new ledger is not a ledger that was handed over.
    let (a, b) = (Bank::open(kept(one.path(), Role::Leader)).unwrap(), standby());
    let _link = join(&a, &b);
    in_sync(&a, &b);
    a.hand_over(PATIENCE).unwrap();
    drop(a);
    drop(Bank::open(Config { reset: true, ..kept(one.path(), Role::Leader) }).unwrap());
    drop(Bank::open(kept(one.path(), Role::Leader)).unwrap());
}

#[test]
fn a_ledger_that_is_led_on_can_be_opened_as_any_other() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = |role| (Bank::open(kept(one.path(), Role::Leader)), Bank::open(kept(two.path(), role)));
    let joined = |a: &Bank, b: &Bank| {
        let link = join(a, b);
        in_sync(a, b);
        link
    };
    // Told to, after the other's end.
    let (Ok(a), Ok(b)) = open(Role::Standby) else { panic!("they do not open") };
    let from = funded(&a, 100 * SOL);
    let link = joined(&a, &b);
    a.hand_over(PATIENCE).unwrap();
    drop((b, link));
    a.lead().unwrap();
    write(&a, &from);
    drop(a);
    // The token came back.
    let (Ok(a), Ok(b)) = open(Role::Standby) else { panic!("they do not open") };
    let link = joined(&a, &b);
    a.hand_over(PATIENCE).unwrap();
    in_sync(&a, &b);
    b.hand_over(PATIENCE).unwrap();
    write(&a, &from);
    drop((a, b, link));
    assert!(matches!(open(Role::Leader), (Ok(_), Err(Error::HandedOver(_)))));
    // Nothing came of the hand-over.
    let (Ok(a), Ok(b)) = open(Role::Standby) else { panic!("they do not open") };
    let link = joined(&a, &b);
    assert!(matches!(a.hand_over(Duration::ZERO), Err(Error::Timeout(_))));
    write(&a, &from);
    link.shutdown(Shutdown::Both).unwrap();
    assert!(matches!(a.hand_over(PATIENCE), Err(Error::NotInSync)));
    drop((a, b));
    assert!(open(Role::Standby).0.is_ok());
}
