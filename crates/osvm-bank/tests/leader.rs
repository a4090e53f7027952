//! What a leader promises to those who send and read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use osvm_bank::{Bank, Commitment, SignatureQuery, SimOptions, SubmitError, SubmitOptions};
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use solana_transaction_error::TransactionError;

#[test]
fn a_transfer_moves_lamports_and_is_found_afterwards() {
    let bank = Bank::open(config()).unwrap();
    let (from, to) = (funded(&bank, 10 * SOL), Address::new_unique());
    let signature = submit(&bank, transfer(&bank, &from, &to, SOL)).unwrap();
    assert_eq!(lamports(&bank, &to, Commitment::Processed), SOL);
    assert_eq!(lamports(&bank, &from.pubkey(), Commitment::Processed), 9 * SOL - 5_000);
    let slot = bank.view().signature_status(&signature).unwrap().slot;
    wait_sealed(&bank, slot + 4);
    let view = bank.view();
    let record = view.transaction(&signature).unwrap();
    assert_eq!((record.slot, record.meta.fee, record.meta.err.clone()), (slot, 5_000, None));
    assert_eq!(record.meta.pre_balances[0] - record.meta.post_balances[0], SOL + 5_000);
    assert!(record.block_time.is_some());
    assert!(view.block_signatures(slot).contains(&signature));
    let query = SignatureQuery { limit: 10, commitment: Commitment::Finalized, ..SignatureQuery::default() };
    assert_eq!(view.signatures_for_address(&to, &query)[0].signature, signature);
    let status = view.signature_status(&signature).unwrap();
    assert_eq!((status.confirmations, status.commitment), (None, Commitment::Finalized));
}

#[test]
fn the_three_commitments_see_their_own_slots() {
    let bank = Bank::open(config()).unwrap();
    let to = Address::new_unique();
    airdrop(&bank, &to, SOL);
    let slot = bank.view().slot(Commitment::Processed);
    let view = bank.view();
    if view.slot(Commitment::Processed) == slot {
        assert_eq!(view.account(&to, Commitment::Finalized), None);
    }
    drop(view);
    wait_sealed(&bank, slot);
    assert_eq!(lamports(&bank, &to, Commitment::Confirmed), SOL);
    wait_sealed(&bank, slot + 5);
    assert_eq!(lamports(&bank, &to, Commitment::Finalized), SOL);
}

#[test]
fn a_second_copy_is_refused_unless_it_is_a_retry() {
    let bank = Bank::open(still()).unwrap();
    let from = funded(&bank, SOL);
    let tx = transfer(&bank, &from, &Address::new_unique(), SOL / 10);
    let signature = submit(&bank, tx.clone()).unwrap();
    assert!(matches!(submit(&bank, tx.clone()), Err(SubmitError::AlreadyProcessed)));
    let retry = SubmitOptions { retry: true, ..SubmitOptions::default() };
    assert_eq!(submit_with(&bank, tx, retry).unwrap(), signature);
}

#[test]
fn a_blockhash_is_valid_for_150_blocks() {
    let bank = Bank::open(osvm_bank::Config { slot: std::time::Duration::from_millis(4), ..config() }).unwrap();
    let from = funded(&bank, SOL);
    let (hash, last) = bank.view().latest_blockhash(Commitment::Processed);
    let to = Address::new_unique();
    let make =
        |n| sign(&[solana_system_interface::instruction::transfer(&from.pubkey(), &to, SOL / 100 + n)], &[&from], hash);
    submit(&bank, make(1)).unwrap();
    assert_eq!(last, bank.view().block(last - 150).unwrap().height + 150);
    wait_sealed(&bank, last);
    assert!(matches!(submit(&bank, make(2)), Err(SubmitError::BlockhashNotFound)));
    assert!(!bank.view().is_blockhash_valid(&hash, Commitment::Processed));
}

#[test]
fn a_failure_is_told_by_preflight_and_charged_without_it() {
    let bank = Bank::open(still()).unwrap();
    let from = funded(&bank, SOL);
    let tx = transfer(&bank, &from, &Address::new_unique(), 5 * SOL);
    let Err(SubmitError::Preflight(found)) = submit(&bank, tx.clone()) else { panic!("it cannot succeed") };
    assert!(matches!(found.err, Some(TransactionError::InstructionError(0, _))));
    assert!(!found.logs.is_empty());
    assert_eq!(lamports(&bank, &from.pubkey(), Commitment::Processed), SOL);
    let skip = SubmitOptions { skip_preflight: true, ..SubmitOptions::default() };
    let signature = submit_with(&bank, tx, skip).unwrap();
    assert_eq!(lamports(&bank, &from.pubkey(), Commitment::Processed), SOL - 5_000);
    assert_eq!(bank.view().signature_status(&signature).unwrap().err, found.err);
}

#[test]
fn a_wrong_signature_and_a_pauper_are_refused() {
    let bank = Bank::open(still()).unwrap();
    let from = funded(&bank, SOL);
    let mut tx = transfer(&bank, &from, &Address::new_unique(), 1_000_000);
    tx.signatures[0] = Keypair::new().sign_message(b"another");
    assert!(matches!(submit(&bank, tx), Err(SubmitError::SigVerify)));
    let poor = transfer(&bank, &Keypair::new(), &Address::new_unique(), 1);
    let skip = SubmitOptions { skip_preflight: true, ..SubmitOptions::default() };
    assert!(matches!(submit_with(&bank, poor, skip), Err(SubmitError::Dropped(TransactionError::AccountNotFound))));
}

#[test]
fn simulation_keeps_nothing() {
    let bank = Bank::open(still()).unwrap();
    let (from, to) = (funded(&bank, SOL), Address::new_unique());
    let options = SimOptions { sig_verify: true, commitment: Commitment::Processed, ..SimOptions::default() };
    for _ in 0..2 {
        let result = bank.simulate(transfer(&bank, &from, &to, SOL / 2), &options).unwrap();
        assert_eq!((result.err, result.fee), (None, Some(5_000)));
        assert_eq!(result.post_balances[..2], [SOL / 2 - 5_000, SOL / 2]);
    }
    assert_eq!(lamports(&bank, &to, Commitment::Processed), 0);
}

#[test]
fn lamports_are_conserved_but_for_burned_fees() {
    let bank = Bank::open(config()).unwrap();
    let before = bank.view().capitalization(Commitment::Confirmed);
    let people: Vec<Keypair> = (0..5).map(|_| funded(&bank, 10 * SOL)).collect();
    let mut taken = people.len() as u64;
    // Any amounts between any two, with a priority fee or without, failing or not.
    let mut runner = proptest::test_runner::TestRunner::default();
    let steps = proptest::collection::vec((0usize..5, 0usize..5, 1u64..12 * SOL, proptest::bool::ANY), 120);
    let steps = proptest::strategy::Strategy::new_tree(&steps, &mut runner).unwrap();
    for (n, (from, to, lamports, priority)) in proptest::strategy::ValueTree::current(&steps).into_iter().enumerate() {
        let (from, to) = (&people[from], people[to].pubkey());
        let mut instructions =
            vec![solana_system_interface::instruction::transfer(&from.pubkey(), &to, lamports + n as u64)];
        if priority {
            let data = [&[3u8][..], &1_000_000u64.to_le_bytes()].concat();
            let program_id = solana_sdk_ids::compute_budget::ID;
            instructions.insert(0, solana_instruction::Instruction { program_id, accounts: vec![], data });
        }
        let skip = SubmitOptions { skip_preflight: true, ..SubmitOptions::default() };
        let tx = sign(&instructions, &[from], blockhash(&bank));
        let asked = bank.view().fee_for_message(&tx.message, Commitment::Processed).unwrap();
        match submit_with(&bank, tx, skip) {
            Ok(signature) => {
                taken += 1;
                assert_eq!(bank.view().transaction(&signature).unwrap().meta.fee, asked);
            }
            Err(SubmitError::Dropped(_)) => {}
            Err(err) => panic!("{err}"),
        }
    }
    let slot = bank.view().slot(Commitment::Processed);
    wait_sealed(&bank, slot + 5);
    assert_eq!(sum(&bank, Commitment::Finalized), bank.view().capitalization(Commitment::Finalized));
    assert_eq!(bank.view().capitalization(Commitment::Finalized), before - taken * 2_500);
    assert!(taken > 40, "only {taken} were taken");
}

#[test]
fn two_equal_airdrops_are_two() {
    let bank = Bank::open(still()).unwrap();
    let to = Address::new_unique();
    assert_ne!(airdrop(&bank, &to, SOL), airdrop(&bank, &to, SOL));
    assert_eq!(lamports(&bank, &to, Commitment::Processed), 2 * SOL);
}
