//! What two banks that are joined promise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::Duration,
};

use common::*;
use osvm_bank::{Bank, BankEvent, Commitment, Config, Error, Link, Role, SubmitError, SubmitOptions};
use solana_account::ReadableAccount;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;

/// Both have the same: accounts at each commitment, blocks, transactions, statuses, blockhashes.
fn assert_same(a: &Bank, b: &Bank) {
    let (x, y) = (a.view(), b.view());
    for c in [Commitment::Processed, Commitment::Confirmed, Commitment::Finalized] {
        assert_eq!(x.slot(c), y.slot(c));
        assert_eq!(x.latest_blockhash(c), y.latest_blockhash(c));
        assert_eq!(x.transaction_count(c), y.transaction_count(c));
        assert_eq!(x.capitalization(c), y.capitalization(c));
    }
    assert_eq!(x.genesis_hash(), y.genesis_hash());
    for slot in 0..=x.slot(Commitment::Confirmed) {
        assert_eq!(x.block(slot), y.block(slot));
        assert_eq!(x.block_transactions(slot), y.block_transactions(slot));
        for signature in x.block_signatures(slot) {
            assert_eq!(x.signature_status(&signature), y.signature_status(&signature));
        }
    }
    drop((x, y));
    for c in [Commitment::Processed, Commitment::Confirmed, Commitment::Finalized] {
        let all = |bank: &Bank| {
            let addresses = bank.largest_accounts(usize::MAX, c).1;
            let view = bank.view();
            let mut all: Vec<_> = addresses.iter().map(|(address, _)| (*address, view.account(address, c))).collect();
            all.sort_unstable_by_key(|(address, _)| *address);
            all
        };
        assert_eq!(all(a), all(b), "{c:?}");
    }
}

#[test]
fn a_standby_becomes_equal_and_leads_after_the_hand_over() {
    let (a, b) = (Bank::open(config()).unwrap(), standby());
    let from = funded(&a, 100 * SOL);
    for n in 0..60 {
        submit(&a, transfer(&a, &from, &Address::new_unique(), SOL / 100 + n)).unwrap();
    }
    wait_sealed(&a, 12);
    let _link = join(&a, &b);
    for n in 0..60 {
        submit(&a, transfer(&a, &from, &Address::new_unique(), SOL / 100 + n)).unwrap();
    }
    in_sync(&a, &b);
    assert!(matches!(submit(&b, transfer(&a, &from, &Address::new_unique(), SOL)), Err(SubmitError::NotLeader)));
    let moved = a.hand_over(PATIENCE).unwrap();
    assert_eq!((a.status().role, b.status().role), (Role::Standby, Role::Leader));
    assert_eq!(moved.slot + 1, a.view().slot(Commitment::Processed));
    assert!(matches!(submit(&a, transfer(&a, &from, &Address::new_unique(), SOL)), Err(SubmitError::NotLeader)));
    submit(&b, transfer(&b, &from, &Address::new_unique(), SOL)).unwrap();
    b.hand_over(PATIENCE).unwrap();
    assert_eq!(a.status().role, Role::Leader);
}

#[test]
fn a_standby_has_all_that_the_leader_has() {
    // Slots end only by hand-overs here, so both stand still while they are compared.
    let (a, b) = (Bank::open(still()).unwrap(), Bank::open(Config { role: Role::Standby, ..still() }).unwrap());
    let link = join(&a, &b);
    in_sync(&a, &b);
    let from = funded(&a, 100 * SOL);
    let (mut leader, mut other) = (&a, &b);
    for round in 0..14 {
        for n in 0..5 {
            submit(leader, transfer(leader, &from, &Address::new_unique(), SOL / 100 + round * 100 + n)).unwrap();
        }
        let skip = SubmitOptions { skip_preflight: true, ..SubmitOptions::default() };
        submit_with(leader, transfer(leader, &from, &Address::new_unique(), 1_000 * SOL), skip).unwrap();
        leader.hand_over(PATIENCE).unwrap();
        std::mem::swap(&mut leader, &mut other);
        assert_same(leader, other);
    }
    drop(link);
    // A third one gets it all by snapshot and history.
    let c = Bank::open(Config { role: Role::Standby, ..still() }).unwrap();
    let _link = join(leader, &c);
    in_sync(leader, &c);
    assert_same(leader, &c);
}

#[test]
fn a_large_account_written_piece_by_piece_arrives_whole() {
    let (a, b) = (Bank::open(still()).unwrap(), Bank::open(Config { role: Role::Standby, ..still() }).unwrap());
    let _link = join(&a, &b);
    in_sync(&a, &b);
    let address = Address::new_unique();
    let mut account = solana_account::AccountSharedData::new(SOL, 100_000, &solana_sdk_ids::stake::ID);
    for n in 0..5usize {
        solana_account::WritableAccount::data_as_mut_slice(&mut account)[n * 20_000 + 7] = n as u8 + 1;
        a.set_accounts(vec![(address, account.clone())]).unwrap();
    }
    assert_eq!(b.view().account(&address, Commitment::Processed), Some(account));
}

#[test]
fn hand_overs_under_load_lose_nothing_and_execute_nothing_twice() {
    let (a, b) = (Bank::open(config()).unwrap(), standby());
    let _link = join(&a, &b);
    in_sync(&a, &b);
    let banks = Arc::new([a, b]);
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (banks, stop) = (banks.clone(), stop.clone());
            let from = funded(leader(&banks), 1_000 * SOL);
            thread::spawn(move || {
                let mut done = Vec::new();
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    n += 1;
                    let to = Address::new_unique();
                    let tx = transfer(leader(&banks), &from, &to, SOL / 100 + n);
                    // As the gateway does: whoever does not lead is no reason to fail, ask the other.
                    let signature = loop {
                        let options = SubmitOptions { retry: true, ..SubmitOptions::default() };
                        match submit_with(leader(&banks), tx.clone(), options) {
                            Ok(signature) => break signature,
                            Err(SubmitError::NotLeader) => thread::yield_now(),
                            Err(err) => panic!("{err}"),
                        }
                    };
                    done.push((signature, to, SOL / 100 + n));
                }
                (from, done)
            })
        })
        .collect();
    for round in 0..20 {
        in_sync(&banks[0], &banks[1]);
        banks[round % 2].hand_over(PATIENCE).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    stop.store(true, Ordering::SeqCst);
    let now = leader(&banks);
    let mut all = 0;
    for worker in workers {
        let (from, done) = worker.join().unwrap();
        let spent: u64 = done.iter().map(|(_, _, lamports)| lamports + 5_000).sum();
        assert_eq!(lamports(now, &from.pubkey(), Commitment::Processed), 1_000 * SOL - spent);
        for (signature, to, sent) in &done {
            assert!(now.view().transaction(signature).is_some());
            assert_eq!(lamports(now, to, Commitment::Processed), *sent);
        }
        all += done.len();
    }
    assert!(all > 100, "only {all} transactions: no load");
}

fn leader(banks: &[Bank; 2]) -> &Bank {
    if banks[0].status().role == Role::Leader { &banks[0] } else { &banks[1] }
}

#[test]
fn never_two_lead() {
    let (a, b) = (Bank::open(config()).unwrap(), standby());
    let _link = join(&a, &b);
    in_sync(&a, &b);
    // Each bank's own word, in the order in which it was said.
    let leading = Arc::new(AtomicUsize::new(1));
    for bank in [&a, &b] {
        let leading = leading.clone();
        bank.subscribe(Box::new(move |event| {
            if let BankEvent::Role(role) = &**event {
                let before = match role {
                    Role::Leader => leading.fetch_add(1, Ordering::SeqCst),
                    Role::Standby => leading.fetch_sub(1, Ordering::SeqCst),
                };
                assert_eq!(before, usize::from(*role == Role::Standby), "two led at once");
            }
        }));
    }
    for round in 0..30 {
        in_sync(&a, &b);
        [&a, &b][round % 2].hand_over(PATIENCE).unwrap();
    }
    assert_eq!(leading.load(Ordering::SeqCst), 1);
}

#[test]
fn after_the_leaders_end_the_standby_can_be_told_to_lead() {
    let (a, b) = (Bank::open(config()).unwrap(), standby());
    assert!(matches!(b.lead(), Err(Error::Incomplete)));
    let link = join(&a, &b);
    in_sync(&a, &b);
    let from = funded(&a, 10 * SOL);
    let signature = submit(&a, transfer(&a, &from, &Address::new_unique(), SOL)).unwrap();
    drop(a);
    until("the loss is seen", || !b.status().in_sync);
    b.lead().unwrap();
    assert!(b.view().transaction(&signature).is_some());
    submit(&b, transfer(&b, &from, &Address::new_unique(), SOL)).unwrap();
    drop(link);
}

#[test]
fn a_leader_goes_on_alone_when_its_standby_is_cut_off_or_hangs() {
    let (a, b) = (Bank::open(config()).unwrap(), standby());
    let link = join(&a, &b);
    in_sync(&a, &b);
    let from = funded(&a, 10 * SOL);
    link.shutdown(std::net::Shutdown::Both).unwrap();
    submit(&a, transfer(&a, &from, &Address::new_unique(), SOL)).unwrap();
    assert!(matches!(a.hand_over(PATIENCE), Err(Error::NotInSync)));
    submit(&a, transfer(&a, &from, &Address::new_unique(), SOL)).unwrap();
    // Again, and now the other end takes everything and says nothing.
    let (left, mut right) = UnixStream::pair().unwrap();
    a.attach(Link::from_unix(left).unwrap());
    let mute = thread::spawn(move || std::io::copy(&mut right, &mut std::io::sink()));
    submit(&a, transfer(&a, &from, &Address::new_unique(), SOL)).unwrap();
    assert!(!a.status().in_sync);
    drop(a);
    mute.join().unwrap().unwrap();
}

#[test]
fn garbage_on_the_stream_ends_the_stream_and_nothing_else() {
    let a = Bank::open(config()).unwrap();
    let b = standby();
    for bank in [&a, &b] {
        let (left, mut right) = UnixStream::pair().unwrap();
        bank.attach(Link::from_unix(left).unwrap());
        std::io::Write::write_all(&mut right, &[0xA5; 4096]).unwrap();
        drop(std::io::copy(&mut right, &mut std::io::sink()));
    }
    funded(&a, SOL);
    let _link = join(&a, &b);
    in_sync(&a, &b);
}

#[test]
fn a_standby_says_nothing_until_it_leads() {
    let (a, b) = (Bank::open(config()).unwrap(), standby());
    let (sender, events) = sync_channel(4096);
    b.subscribe(Box::new(move |event| drop(sender.send(event.clone()))));
    let _link = join(&a, &b);
    in_sync(&a, &b);
    funded(&a, SOL);
    let last = a.hand_over(PATIENCE).unwrap().slot;
    assert!(matches!(*events.recv_timeout(PATIENCE).unwrap(), BankEvent::Role(Role::Leader)));
    let BankEvent::Slot(slot) = &*events.recv_timeout(PATIENCE).unwrap().clone() else { panic!("no slot") };
    assert_eq!(slot.slot, last + 1);
}

#[test]
fn a_follower_survives_a_restart_as_a_leader() {
    let dir = tempfile::tempdir().unwrap();
    let a = Bank::open(config()).unwrap();
    let b = Bank::open(Config { role: Role::Standby, state_dir: Some(dir.path().into()), ..config() }).unwrap();
    let from: Keypair = funded(&a, 10 * SOL);
    let _link = join(&a, &b);
    in_sync(&a, &b);
    let to = Address::new_unique();
    let signature = submit(&a, transfer(&a, &from, &to, SOL)).unwrap();
    drop(a);
    drop(b);
    let b = Bank::open(Config { state_dir: Some(dir.path().into()), ..config() }).unwrap();
    assert_eq!(b.view().account(&to, Commitment::Processed).unwrap().lamports(), SOL);
    assert!(b.view().transaction(&signature).is_some());
}

/// Passes bytes on until a budget is spent; then it cuts the stream.
struct Cut {
    stream: UnixStream,
    left: Arc<AtomicUsize>,
}

impl std::io::Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let left = self.left.load(Ordering::SeqCst);
        if left == 0 {
            self.stream.shutdown(std::net::Shutdown::Both)?;
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        let n = self.stream.write(&bytes[..bytes.len().min(left)])?;
        self.left.fetch_sub(n, Ordering::SeqCst);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn cut_link(stream: UnixStream) -> (Link, Arc<AtomicUsize>) {
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    let mut link = Link::from_unix(stream.try_clone().unwrap()).unwrap();
    link.writer = Box::new(Cut { stream, left: left.clone() });
    (link, left)
}

#[test]
fn a_hand_over_that_is_cut_at_any_byte_never_makes_two_leaders() {
    // From the leader: the block and the token. From the standby: two acknowledgements of 17 bytes.
    let cuts = (0..400).step_by(9).map(|n| (n, usize::MAX)).chain((0..36).map(|n| (usize::MAX, n)));
    let cuts = Mutex::new(cuts);
    let [none, old, new] = [const { AtomicUsize::new(0) }; 3];
    let work = || {
        while let Some((from_leader, from_standby)) = { cuts.lock().unwrap().next() } {
            let (a, b) = (Bank::open(still()).unwrap(), Bank::open(Config { role: Role::Standby, ..still() }).unwrap());
            let (left, right) = UnixStream::pair().unwrap();
            let (left, a_left) = cut_link(left);
            let (right, b_left) = cut_link(right);
            b.attach(right);
            a.attach(left);
            in_sync(&a, &b);
            let from = funded(&a, 10 * SOL);
            let signature = submit(&a, transfer(&a, &from, &Address::new_unique(), SOL)).unwrap();
            a_left.store(from_leader, Ordering::SeqCst);
            b_left.store(from_standby, Ordering::SeqCst);
            // A cut that falls between two messages is only noticed when time is up.
            let seen = match (a.hand_over(Duration::from_millis(1500)), a.status().role, b.status().role) {
                (Ok(_) | Err(Error::Uncertain), Role::Standby, Role::Leader) => &new,
                (Err(Error::Uncertain), Role::Standby, Role::Standby) => &none,
                (Err(Error::NotInSync), Role::Leader, Role::Standby) => &old,
                other => panic!("{other:?} after {from_leader} and {from_standby} bytes"),
            };
            seen.fetch_add(1, Ordering::SeqCst);
            // Whoever is told to lead then has all that was acknowledged.
            for bank in [&a, &b] {
                bank.lead().unwrap();
                assert!(bank.view().transaction(&signature).is_some());
            }
        }
    };
    // Most of the time it waits.
    thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(work))));
    let [none, old, new] = [none, old, new].map(AtomicUsize::into_inner);
    assert!(none > 0 && old > 0 && new > 0, "{none} {old} {new}: the cuts missed a case");
}
