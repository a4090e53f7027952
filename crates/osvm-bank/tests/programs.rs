//! Programs: those that are there, those that are deployed, and those that are given at the start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use osvm_bank::{Bank, Commitment, Config, Error, Program, ProgramLoader, SubmitError, SubmitOptions};
use solana_account::ReadableAccount;
use solana_address::{Address, address};
use solana_instruction::{AccountMeta, Instruction, error::InstructionError};
use solana_keypair::Keypair;
use solana_loader_v3_interface::instruction as loader;
use solana_signer::Signer;
use solana_transaction_error::TransactionError;

const MEMO: Address = address!("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
const LOOKUP: Address = address!("AddressLookupTab1e1111111111111111111111111");
const TOKEN: Address = address!("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
const PATIENT: SubmitOptions =
    SubmitOptions { skip_preflight: false, min_context_slot: None, retry: false, verified: false };

fn memo(program: Address, text: &str) -> Instruction {
    Instruction { program_id: program, accounts: vec![], data: text.as_bytes().to_vec() }
}

fn memo_elf(bank: &Bank) -> Vec<u8> {
    bank.view().account(&MEMO, Commitment::Processed).unwrap().data().to_vec()
}

/// The ELF of the lookup table program, which lies in its data account.
fn lookup_elf(bank: &Bank) -> Vec<u8> {
    let data = Address::find_program_address(&[LOOKUP.as_ref()], &solana_sdk_ids::bpf_loader_upgradeable::ID).0;
    bank.view().account(&data, Commitment::Processed).unwrap().data()[45..].to_vec()
}

fn write_buffer(bank: &Bank, payer: &Keypair, elf: &[u8]) -> Keypair {
    let buffer = Keypair::new();
    let rent = bank.view().rent_minimum(elf.len() + 37);
    let create = loader::create_buffer(&payer.pubkey(), &buffer.pubkey(), &payer.pubkey(), rent, elf.len()).unwrap();
    submit(bank, sign(&create, &[payer, &buffer], blockhash(bank))).unwrap();
    let answers: Vec<_> = elf
        .chunks(1000)
        .enumerate()
        .map(|(n, chunk)| {
            let write = loader::write(&buffer.pubkey(), &payer.pubkey(), n as u32 * 1000, chunk.to_vec());
            send(bank, sign(&[write], &[payer], blockhash(bank)), PATIENT)
        })
        .collect();
    for answer in answers {
        answer.recv_timeout(PATIENCE).unwrap().unwrap();
    }
    buffer
}

fn logs(bank: &Bank, tx: solana_transaction::versioned::VersionedTransaction) -> Vec<String> {
    let signature = submit(bank, tx).unwrap();
    bank.view().transaction(&signature).unwrap().meta.logs
}

#[test]
fn a_program_is_deployed_called_upgraded_and_closed() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { state_dir: Some(dir.path().into()), ..config() };
    let bank = Bank::open(config.clone()).unwrap();
    let (payer, program) = (funded(&bank, 100 * SOL), Keypair::new());
    let (first, second) = (memo_elf(&bank), lookup_elf(&bank));
    let buffer = write_buffer(&bank, &payer, &first);
    let rent = bank.view().rent_minimum(36);
    let deploy = loader::deploy_with_max_program_len(
        &payer.pubkey(),
        &program.pubkey(),
        &buffer.pubkey(),
        &payer.pubkey(),
        rent,
        second.len().max(first.len()),
        true,
    )
    .unwrap();
    submit(&bank, sign(&deploy, &[&payer, &program], blockhash(&bank))).unwrap();
    let call = |text: &str| sign(&[memo(program.pubkey(), text)], &[&payer], blockhash(&bank));
    assert!(logs(&bank, call("hello")).iter().any(|line| line.contains("hello")));

    // A restart compiles it from the accounts.
    let slot = bank.view().slot(Commitment::Processed);
    wait_sealed(&bank, slot + 1);
    let buffer = write_buffer(&bank, &payer, &second);
    let upgrade = loader::upgrade(&program.pubkey(), &buffer.pubkey(), &payer.pubkey(), &payer.pubkey(), true);
    submit(&bank, sign(&[upgrade], &[&payer], blockhash(&bank))).unwrap();
    assert!(matches!(submit(&bank, call("now it is another program")), Err(SubmitError::Preflight(_))));
    drop(bank);

    let bank = Bank::open(config).unwrap();
    let call = |text: &str| sign(&[memo(program.pubkey(), text)], &[&payer], blockhash(&bank));
    assert!(matches!(submit(&bank, call("it still is")), Err(SubmitError::Preflight(_))));
    let slot = bank.view().slot(Commitment::Processed);
    wait_sealed(&bank, slot + 1);
    let data =
        Address::find_program_address(&[program.pubkey().as_ref()], &solana_sdk_ids::bpf_loader_upgradeable::ID).0;
    let close = loader::close_any(&data, &payer.pubkey(), Some(&payer.pubkey()), Some(&program.pubkey()), false);
    submit(&bank, sign(&[close], &[&payer], blockhash(&bank))).unwrap();
    let Err(SubmitError::Preflight(found)) = submit(&bank, call("gone")) else { panic!("it is closed") };
    assert!(found.err.is_some());
}

#[test]
fn programs_given_at_the_start_can_be_called_and_a_wrong_one_is_an_error() {
    let elf = memo_elf(&Bank::open(still()).unwrap());
    let (fixed, upgradeable) = (Address::new_unique(), Address::new_unique());
    let authority = Some(Address::new_unique());
    let programs = vec![
        Program { address: fixed, elf: elf.clone(), loader: ProgramLoader::V2 },
        Program { address: upgradeable, elf, loader: ProgramLoader::Upgradeable { authority } },
    ];
    let bank = Bank::open(Config { programs, ..still() }).unwrap();
    let payer = funded(&bank, SOL);
    for program in [fixed, upgradeable] {
        let lines = logs(&bank, sign(&[memo(program, "given")], &[&payer], blockhash(&bank)));
        assert!(lines.iter().any(|line| line.contains("given")));
    }
    let wrong = Program { address: fixed, elf: b"no ELF".to_vec(), loader: ProgramLoader::V2 };
    let Err(err) = Bank::open(Config { programs: vec![wrong], ..still() }) else { panic!("it is no program") };
    assert!(matches!(err, Error::Program { address, .. } if address == fixed));
}

#[test]
fn token_accounts_are_found_by_owner_mint_and_delegate() {
    let bank = Bank::open(still()).unwrap();
    let (payer, mint, account, owner, delegate) =
        (funded(&bank, 10 * SOL), Keypair::new(), Keypair::new(), Keypair::new(), Address::new_unique());
    let create = |key: &Keypair, size: usize| {
        let rent = bank.view().rent_minimum(size);
        solana_system_interface::instruction::create_account(&payer.pubkey(), &key.pubkey(), rent, size as u64, &TOKEN)
    };
    let token = |data: Vec<u8>, accounts: Vec<AccountMeta>| Instruction { program_id: TOKEN, accounts, data };
    // InitializeMint2, InitializeAccount3, MintTo, Approve.
    let init_mint =
        token([&[20, 6][..], payer.pubkey().as_ref(), &[0]].concat(), vec![AccountMeta::new(mint.pubkey(), false)]);
    let init_account = token(
        [&[18][..], owner.pubkey().as_ref()].concat(),
        vec![AccountMeta::new(account.pubkey(), false), AccountMeta::new_readonly(mint.pubkey(), false)],
    );
    let mint_to = token(
        [&[7][..], &77u64.to_le_bytes()].concat(),
        vec![
            AccountMeta::new(mint.pubkey(), false),
            AccountMeta::new(account.pubkey(), false),
            AccountMeta::new_readonly(payer.pubkey(), true),
        ],
    );
    let approve = token(
        [&[4][..], &5u64.to_le_bytes()].concat(),
        vec![
            AccountMeta::new(account.pubkey(), false),
            AccountMeta::new_readonly(delegate, false),
            AccountMeta::new_readonly(owner.pubkey(), true),
        ],
    );
    let tx = sign(
        &[create(&mint, 82), init_mint, create(&account, 165), init_account, mint_to, approve],
        &[&payer, &mint, &account, &owner],
        blockhash(&bank),
    );
    let signature = submit(&bank, tx).unwrap();
    let balances = bank.view().transaction(&signature).unwrap().meta.post_token_balances;
    assert_eq!(balances.len(), 1);
    assert_eq!((balances[0].amount, balances[0].decimals, balances[0].owner), (77, 6, owner.pubkey()));
    let c = Commitment::Processed;
    for found in [
        bank.token_accounts_by_owner(&owner.pubkey(), c),
        bank.token_accounts_by_mint(&mint.pubkey(), c),
        bank.token_accounts_by_delegate(&delegate, c),
    ] {
        assert_eq!(found.1.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [account.pubkey()]);
    }
    assert!(bank.token_accounts_by_owner(&owner.pubkey(), Commitment::Confirmed).1.is_empty());
    let all = bank.program_accounts(&TOKEN, c, &mut |_, account| account.data().len() == 165).1;
    assert_eq!(all.len(), 1);
}

#[test]
fn a_durable_nonce_outlives_blockhashes_and_is_used_up_by_a_failure_too() {
    use solana_system_interface::instruction as system;
    let bank = Bank::open(still()).unwrap();
    let (payer, nonce) = (funded(&bank, 10 * SOL), Keypair::new());
    let rent = bank.view().rent_minimum(80);
    let create = system::create_nonce_account(&payer.pubkey(), &nonce.pubkey(), &payer.pubkey(), rent);
    submit(&bank, sign(&create, &[&payer, &nonce], blockhash(&bank))).unwrap();
    let value = || {
        let account = bank.view().account(&nonce.pubkey(), Commitment::Processed).unwrap();
        solana_hash::Hash::from(<[u8; 32]>::try_from(&account.data()[40..72]).unwrap())
    };
    let with = |lamports, hash| {
        let advance = system::advance_nonce_account(&nonce.pubkey(), &payer.pubkey());
        sign(&[advance, system::transfer(&payer.pubkey(), &Address::new_unique(), lamports)], &[&payer], hash)
    };
    let first = value();
    submit(&bank, with(SOL, first)).unwrap();
    assert!(matches!(submit(&bank, with(SOL, first)), Err(SubmitError::BlockhashNotFound)));
    let second = value();
    assert_ne!(first, second);
    let skip = SubmitOptions { skip_preflight: true, ..PATIENT };
    let signature = submit_with(&bank, with(100 * SOL, second), skip).unwrap();
    assert!(bank.view().signature_status(&signature).unwrap().err.is_some());
    assert_ne!(value(), second);
    submit(&bank, with(SOL, value())).unwrap();
}

#[test]
fn a_signature_in_an_instruction_is_verified_and_paid_for() {
    let bank = Bank::open(still()).unwrap();
    let payer = funded(&bank, 10 * SOL);
    // A signature of the payer over a message, with all parts in the instruction: 16 bytes of offsets, 64, 32, the message.
    let message = b"a message that no transaction signs";
    let verify = |signature: &[u8]| {
        let fields = [16, u16::MAX, 80, u16::MAX, 112, message.len() as u16, u16::MAX];
        let mut data = vec![1, 0];
        data.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
        data.extend_from_slice(signature);
        data.extend_from_slice(payer.pubkey().as_ref());
        data.extend_from_slice(message);
        Instruction { program_id: solana_sdk_ids::ed25519_program::ID, accounts: vec![], data }
    };
    let before = lamports(&bank, &payer.pubkey(), Commitment::Processed);
    let right = verify(payer.sign_message(message).as_ref());
    submit(&bank, sign(&[memo(MEMO, "first"), right], &[&payer], blockhash(&bank))).unwrap();
    let after = lamports(&bank, &payer.pubkey(), Commitment::Processed);
    assert_eq!(before - after, 2 * osvm_bank::LAMPORTS_PER_SIGNATURE);

    let wrong = verify(payer.sign_message(b"another message").as_ref());
    let refused = submit(&bank, sign(&[memo(MEMO, "first"), wrong], &[&payer], blockhash(&bank)));
    let Err(SubmitError::Preflight(found)) = refused else { panic!("{refused:?}") };
    // agave's code for a signature that does not fit.
    let expected = TransactionError::InstructionError(1, InstructionError::Custom(2));
    assert_eq!(found.err, Some(expected));
}
