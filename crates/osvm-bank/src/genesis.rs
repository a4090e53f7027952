//! The accounts of a new ledger.

use litesvm::LiteSVM;
use solana_account::{Account, AccountSharedData, ReadableAccount, WritableAccount};
use solana_address::{Address, address};
use solana_sdk_ids::{bpf_loader, bpf_loader_upgradeable, native_loader, stake, system_program, vote};

use crate::{
    Config, Error, Program, ProgramLoader,
    codec::Enc,
    info::LedgerInfo,
    rent_minimum, sysvar,
    token::{TOKEN, TOKEN_2022},
};

/// What the validator has to begin with, and what it has at stake.
const IDENTITY_LAMPORTS: u64 = 500_000_000_000;
const STAKE_LAMPORTS: u64 = 1_000_000_000_000;
const VOTE_SIZE: usize = 3762;
const STAKE_SIZE: usize = 200;
const STAKE_HISTORY_SIZE: usize = 16_392;
const NATIVE_MINT: Address = address!("So11111111111111111111111111111111111111112");
const NATIVE_MINT_2022: Address = address!("9pan9bMn5HatX4EJdBwg9VgCa7Uz5HL8N1m5D3NdXej9");

/// All accounts of a new ledger.
pub(crate) fn accounts(config: &Config, info: &LedgerInfo) -> Result<Vec<(Address, AccountSharedData)>, Error> {
    let mut svm = LiteSVM::default().with_mainnet_features().with_builtins().with_sysvars();
    // LiteSVM begins at a slot far up. Programs that it loads then would not be visible at slot 1.
    for (address, data) in sysvar::genesis() {
        set(&mut svm, address, Account { lamports: 1, data, owner: solana_sdk_ids::sysvar::ID, ..Account::default() })?;
    }
    let mut svm = svm.with_feature_accounts().with_default_programs();
    let plain = |lamports| Account { lamports, rent_epoch: u64::MAX, ..Account::default() };
    for (address, account) in [
        (info.faucet(), plain(config.faucet_lamports)),
        (info.identity(), plain(IDENTITY_LAMPORTS)),
        (info.vote_account(), vote_account(info)),
        (info.stake_account(), stake_account(info)),
        (NATIVE_MINT, native_mint(TOKEN)),
        (NATIVE_MINT_2022, native_mint(TOKEN_2022)),
    ] {
        set(&mut svm, address, account)?;
    }
    if let Some(mint) = config.mint {
        set(&mut svm, mint, plain(config.faucet_lamports))?;
    }
    for program in &config.programs {
        add_program(&mut svm, program)?;
    }
    for (address, account) in &config.accounts {
        check(address, account)?;
        set(&mut svm, *address, account.clone().into())?;
    }
    let all = svm.accounts_db().inner.iter().map(|(address, account)| (*address, account.clone()));
    Ok(all.filter(|(_, account)| account.lamports() != 0).map(with_rent).collect())
}

/// A sysvar holds what an account of its size needs, and the stake history has its full size from the beginning, as on a cluster.
fn with_rent((address, mut account): (Address, AccountSharedData)) -> (Address, AccountSharedData) {
    if *account.owner() == solana_sdk_ids::sysvar::ID {
        if address == solana_sdk_ids::sysvar::stake_history::ID {
            account.resize(STAKE_HISTORY_SIZE, 0);
        }
        account.set_lamports(rent_minimum(account.data().len()));
    }
    (address, account)
}

fn set(svm: &mut LiteSVM, address: Address, account: Account) -> Result<(), Error> {
    svm.set_account(address, account).map_err(|err| Error::Account { address, why: err.to_string() })
}

/// Refuses accounts that the node itself writes.
pub(crate) fn check(address: &Address, account: &AccountSharedData) -> Result<(), Error> {
    let why = if sysvar::MOVING.contains(address) {
        "the node writes it in every slot"
    } else if *account.owner() == native_loader::ID {
        "it is built in"
    } else {
        return Ok(());
    };
    Err(Error::Account { address: *address, why: why.into() })
}

fn add_program(svm: &mut LiteSVM, program: &Program) -> Result<(), Error> {
    let address = program.address;
    let failed = |why: String| Error::Program { address, why };
    match program.loader {
        ProgramLoader::V2 => {
            svm.add_program_with_loader(address, &program.elf, bpf_loader::ID).map_err(|err| failed(err.to_string()))
        }
        ProgramLoader::Upgradeable { authority } => {
            svm.add_program(address, &program.elf).map_err(|err| failed(err.to_string()))?;
            let data_address = Address::find_program_address(&[address.as_ref()], &bpf_loader_upgradeable::ID).0;
            let mut account = svm.get_account(&data_address).ok_or_else(|| failed("it has no data account".into()))?;
            if let (Some(authority), Some(head)) = (authority, account.data.get_mut(12..45)) {
                head[0] = 1;
                head[1..].copy_from_slice(authority.as_ref());
            }
            set(svm, data_address, account)
        }
    }
}

fn native_mint(owner: Address) -> Account {
    let mut data = vec![0; 82];
    data[44] = 9;
    data[45] = 1;
    // As `solana-test-validator` makes it.
    Account { lamports: 1_000_000_000, data, owner, executable: false, rent_epoch: 1 }
}

/// A vote account that has never voted (`VoteStateVersions::Current`). As with `solana-test-validator`, its own key is its voter and its
/// withdrawer, so that `vote-account-keypair.json` may sign for both.
fn vote_account(info: &LedgerInfo) -> Account {
    let mut e = Enc::default();
    e.u32(2);
    e.address(&info.identity());
    e.address(&info.vote_account());
    e.u8(0); // commission
    e.u64(0); // votes
    e.u8(0); // no root
    e.u64(1); // one authorized voter, since epoch 0
    e.u64(0);
    e.address(&info.vote_account());
    e.raw(&[0; 32 * 48]); // prior voters: none
    e.u64(31);
    e.u8(1);
    e.u64(0); // epoch credits
    e.raw(&[0; 16]); // last timestamp
    e.0.resize(VOTE_SIZE, 0);
    Account { lamports: rent_minimum(VOTE_SIZE), data: e.0, owner: vote::ID, executable: false, rent_epoch: u64::MAX }
}

/// A stake account delegated to the vote account since before the first epoch (`StakeStateV2::Stake`).
fn stake_account(info: &LedgerInfo) -> Account {
    let reserve = rent_minimum(STAKE_SIZE);
    let mut e = Enc::default();
    e.u32(2);
    e.u64(reserve);
    e.address(&info.identity()); // staker
    e.address(&info.identity()); // withdrawer
    e.raw(&[0; 16 + 32]); // no lockup
    e.address(&info.vote_account());
    e.u64(STAKE_LAMPORTS - reserve);
    e.u64(u64::MAX); // active from the beginning
    e.u64(u64::MAX); // never deactivated
    e.raw(&0.25_f64.to_le_bytes());
    e.u64(0); // credits observed
    e.0.resize(STAKE_SIZE, 0);
    Account { lamports: STAKE_LAMPORTS, data: e.0, owner: stake::ID, executable: false, rent_epoch: u64::MAX }
}

/// An account that was created empty, owned by the system program.
pub(crate) fn empty_account() -> AccountSharedData {
    let mut account = AccountSharedData::default();
    account.set_owner(system_program::ID);
    account.set_rent_epoch(u64::MAX);
    account
}
