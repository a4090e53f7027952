//! LiteSVM as an executor: it holds only what the transactions at hand touch, loaded from the store when they name it.
//!
//! So the store is not kept twice, readers never wait for an execution, and a start does not compile programs that nobody calls.
//! What an execution changed is returned, not kept; [`Engine::apply`] keeps it for the next transaction of a batch.

use std::panic::{AssertUnwindSafe, catch_unwind};

use litesvm::{LiteSVM, types::TransactionMetadata};
use sha2::{Digest, Sha256};
use solana_account::{Account, AccountSharedData, ReadableAccount, WritableAccount};
use solana_address::Address;
use solana_hash::Hash;
use solana_message::{VersionedMessage, inner_instruction::InnerInstructionsList, v0::LoadedAddresses};
use solana_sdk_ids::{
    bpf_loader_upgradeable, ed25519_program, native_loader, secp256k1_program, secp256r1_program, system_program,
    sysvar::instructions,
};
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;

use crate::{LAMPORTS_PER_SIGNATURE, codec::KeySet, precompile, sysvar, token, types::TokenBalance};

/// Accounts kept between transactions; more are dropped when a slot ends.
const MAX_RESIDENT: usize = 100_000;
/// Bytes of a lookup table's head.
const TABLE_HEAD: usize = 56;

/// Where accounts come from.
pub(crate) type Source<'a> = &'a dyn Fn(&Address) -> Option<AccountSharedData>;

/// What an execution found.
#[derive(Debug, Default)]
pub(crate) struct Execution {
    pub(crate) keys: Vec<Address>,
    pub(crate) loaded: LoadedAddresses,
    pub(crate) err: Option<TransactionError>,
    /// Whether a block can hold it: it succeeded, or its payer can be charged for the failure.
    pub(crate) included: bool,
    pub(crate) fee: Option<u64>,
    pub(crate) burned: u64,
    pub(crate) logs: Vec<String>,
    pub(crate) inner_instructions: InnerInstructionsList,
    pub(crate) return_data: Option<(Address, Vec<u8>)>,
    pub(crate) units: u64,
    /// In the order of the keys.
    pub(crate) pre: Vec<Option<AccountSharedData>>,
    pub(crate) post: Vec<Option<AccountSharedData>>,
    /// What changes: address, new, old.
    pub(crate) writes: Vec<(Address, AccountSharedData, Option<AccountSharedData>)>,
}

pub(crate) struct Engine {
    svm: LiteSVM,
    /// Addresses whose state here is the present one, there or not.
    resident: KeySet<Address>,
    /// Built-in programs and sysvars.
    fixed: KeySet<Address>,
}

impl Engine {
    pub(crate) fn new() -> Self {
        let mut svm = LiteSVM::default()
            .with_mainnet_features()
            .with_builtins()
            .with_sysvars()
            .with_sigverify(false)
            .with_blockhash_check(false)
            .with_transaction_history(0);
        precompile::add(&mut svm);
        let fixed = svm.accounts_db().inner.keys().copied().collect();
        Self { svm, resident: KeySet::default(), fixed }
    }

    /// Forgets all accounts but keeps programs; those are compared with the store when they are used next.
    pub(crate) fn forget(&mut self) {
        for address in std::mem::take(&mut self.resident) {
            if self.get(&address).is_some_and(|account| !account.executable() && !is_program_data(account)) {
                // An account without lamports is removed; there is nothing in it that could be refused.
                drop(self.svm.set_account(address, Account::default()));
            }
        }
    }

    /// Takes the sysvars as they are at the beginning of a slot.
    pub(crate) fn begin_slot(&mut self, source: Source<'_>) {
        if self.resident.len() > MAX_RESIDENT {
            self.forget();
        }
        let all = sysvar::genesis().into_iter().map(|(address, _)| address);
        for address in all.filter(|address| !sysvar::MOVING.contains(address)).chain(sysvar::MOVING) {
            let Some(account) = source(&address) else { continue };
            if self.get(&address).is_some_and(|old| same(old, &account)) {
                continue;
            }
            // Setting the clock, the last one, rebuilds LiteSVM's cache from the accounts. Once a slot is enough.
            if address == solana_sdk_ids::sysvar::clock::ID {
                if let Err(err) = self.svm.set_account(address, account.into()) {
                    tracing::error!("the clock sysvar is malformed: {err}");
                }
            } else {
                self.svm.set_account_no_checks(address, account);
            }
        }
    }

    pub(crate) fn get(&self, address: &Address) -> Option<&AccountSharedData> {
        self.svm.accounts_db().get_account_ref(address)
    }

    /// An account as the next transaction would find it.
    pub(crate) fn peek(&self, address: &Address, source: Source<'_>) -> Option<AccountSharedData> {
        if self.resident.contains(address) { self.get(address).cloned() } else { source(address) }
    }

    /// Makes an account present, if there is one.
    fn load(&mut self, address: &Address, source: Source<'_>) {
        if self.fixed.contains(address) || !self.resident.insert(*address) {
            return;
        }
        match source(address) {
            Some(account) if account.executable() && *account.owner() != native_loader::ID => {
                let data_address = program_data_address(&account);
                let data_changed = data_address.is_some_and(|data_address| {
                    let old = self.get(&data_address).cloned();
                    self.resident.remove(&data_address);
                    self.load(&data_address, source);
                    !same_option(old.as_ref(), self.get(&data_address))
                });
                // What was compiled before is still right if nothing changed.
                if data_changed || !self.get(address).is_some_and(|old| same(old, &account)) {
                    self.set_program(*address, account);
                }
            }
            Some(account) => self.svm.set_account_no_checks(*address, account),
            None if self.get(address).is_some() => drop(self.svm.set_account(*address, Account::default())),
            None => {}
        }
    }

    fn set_program(&mut self, address: Address, account: AccountSharedData) {
        if let Err(err) = self.svm.set_account(address, account.clone().into()) {
            tracing::debug!("program {address} cannot be loaded: {err}");
            self.svm.set_account_no_checks(address, account);
        }
    }

    /// Keeps what an execution changed.
    pub(crate) fn apply(&mut self, writes: &[(Address, AccountSharedData, Option<AccountSharedData>)]) {
        // Program data before the programs: these are compiled from it.
        for executable in [false, true] {
            for (address, account, _) in writes {
                if account.executable() != executable || self.fixed.contains(address) {
                    continue;
                }
                self.resident.insert(*address);
                if account.lamports() == 0 {
                    drop(self.svm.set_account(*address, Account::default()));
                } else if executable {
                    self.set_program(*address, account.clone());
                } else {
                    self.svm.set_account_no_checks(*address, account.clone());
                }
            }
        }
    }

    fn lookup(&mut self, message: &VersionedMessage, source: Source<'_>) -> LoadedAddresses {
        let mut loaded = LoadedAddresses::default();
        for lookup in message.address_table_lookups().unwrap_or_default() {
            self.load(&lookup.account_key, source);
            let Some(table) = self.get(&lookup.account_key) else { continue };
            let at = |index: &u8| {
                let start = TABLE_HEAD + usize::from(*index) * 32;
                Some(Address::from(*table.data().get(start..)?.first_chunk::<32>()?))
            };
            loaded.writable.extend(lookup.writable_indexes.iter().filter_map(at));
            loaded.readonly.extend(lookup.readonly_indexes.iter().filter_map(at));
        }
        loaded
    }

    /// Runs a sanitised transaction. Nothing is kept.
    pub(crate) fn execute(&mut self, tx: &VersionedTransaction, source: Source<'_>) -> Execution {
        let loaded = self.lookup(&tx.message, source);
        let keys: Vec<Address> =
            tx.message.static_account_keys().iter().chain(&loaded.writable).chain(&loaded.readonly).copied().collect();
        for key in &keys {
            self.load(key, source);
        }
        let pre: Vec<_> = keys.iter().map(|key| self.get(key).cloned()).collect();
        // A panic in there must not take the node down. It reads only.
        let result = catch_unwind(AssertUnwindSafe(|| self.svm.simulate_transaction(tx.clone()).map_err(Box::new)));
        let mut run = Execution { keys, loaded, post: pre.clone(), pre, ..Execution::default() };
        match result {
            Ok(Ok(done)) => {
                run.take_meta(done.meta);
                run.included = true;
                run.take_posts(done.post_accounts);
            }
            Ok(Err(failed)) => {
                let executed = failed.meta.signature != Signature::default();
                run.take_meta(failed.meta);
                run.charge(tx, failed.err, executed);
            }
            Err(_) => {
                tracing::error!(signature = %tx.signatures.first().copied().unwrap_or_default(), "the virtual machine panicked");
                run.err = Some(TransactionError::ClusterMaintenance);
            }
        }
        run.burned = base_fee(&tx.message).min(run.fee.unwrap_or(0)) / 2;
        run
    }

    /// Token balances among accounts.
    pub(crate) fn token_balances(
        &self,
        keys: &[Address],
        accounts: &[Option<AccountSharedData>],
        source: Source<'_>,
    ) -> Vec<TokenBalance> {
        let mut found = Vec::new();
        for (index, account) in accounts.iter().enumerate() {
            let Some(account) = account else { continue };
            let Some(held) = token::token_account(account) else { continue };
            let mint = keys.iter().position(|key| *key == held.mint).and_then(|at| accounts.get(at)?.clone());
            let Some(mint) = mint.or_else(|| self.get(&held.mint).cloned()).or_else(|| source(&held.mint)) else {
                continue;
            };
            let Some(decimals) = token::mint_decimals(&mint) else { continue };
            found.push(TokenBalance {
                account_index: index as u8,
                mint: held.mint,
                owner: held.owner,
                program_id: *account.owner(),
                amount: held.amount,
                decimals,
            });
        }
        found
    }
}

impl Execution {
    fn take_meta(&mut self, meta: TransactionMetadata) {
        self.fee = (meta.fee > 0).then_some(meta.fee);
        self.logs = meta.logs;
        self.inner_instructions = meta.inner_instructions;
        self.units = meta.compute_units_consumed;
        if !meta.return_data.data.is_empty() {
            self.return_data = Some((meta.return_data.program_id, meta.return_data.data));
        }
    }

    /// After success: finds what changed.
    fn take_posts(&mut self, posts: Vec<(Address, AccountSharedData)>) {
        // A program is compiled again whenever its data changed, though its own account did not.
        let code_changed = posts.iter().any(|(address, new)| {
            let old = self.old(address);
            (is_program_data(new) || old.is_some_and(is_program_data)) && !same_option(old, Some(new))
        });
        for (address, new) in posts {
            let Some(at) = self.keys.iter().position(|key| *key == address) else { continue };
            let old = self.pre[at].clone();
            let gone = new.lamports() == 0;
            let forced = code_changed && new.executable() && *new.owner() == bpf_loader_upgradeable::ID;
            let changed = match &old {
                Some(old) => gone || !same(old, &new),
                None => !gone,
            };
            let new = if gone { AccountSharedData::default() } else { new };
            self.post[at] = (!gone).then(|| new.clone());
            if changed || forced {
                self.writes.push((address, new, old));
            }
        }
    }

    fn old(&self, address: &Address) -> Option<&AccountSharedData> {
        self.pre.get(self.keys.iter().position(|key| key == address)?)?.as_ref()
    }

    /// After failure: what a block that holds it would charge. A failed transaction still uses up its nonce.
    fn charge(&mut self, tx: &VersionedTransaction, err: TransactionError, executed: bool) {
        let program_missing = tx
            .message
            .instructions()
            .iter()
            .any(|instruction| self.pre.get(usize::from(instruction.program_id_index)).is_none_or(Option::is_none));
        let err = match err {
            TransactionError::InvalidProgramForExecution if program_missing => TransactionError::ProgramAccountNotFound,
            err => err,
        };
        let loading_failed = matches!(
            err,
            TransactionError::ProgramAccountNotFound
                | TransactionError::InvalidProgramForExecution
                | TransactionError::MaxLoadedAccountsDataSizeExceeded
        );
        self.err = Some(err);
        let (Some(fee), Some(Some(payer))) = (self.fee, self.pre.first().cloned()) else { return };
        let solvent = *payer.owner() == system_program::ID && payer.lamports() >= fee;
        if !(executed || loading_failed) || !solvent {
            return;
        }
        self.included = true;
        let mut new = payer.clone();
        new.set_lamports(payer.lamports() - fee);
        self.post[0] = Some(new);
        if let Some(at) = nonce_index(&tx.message)
            && let Some(nonce) = self.post.get_mut(at).and_then(Option::as_mut)
            && is_nonce_with(nonce, tx.message.recent_blockhash())
        {
            nonce.data_as_mut_slice()[40..72].copy_from_slice(&next_nonce(tx.message.recent_blockhash()));
        }
        for at in 0..self.keys.len() {
            if same_option(self.pre[at].as_ref(), self.post[at].as_ref()) {
                continue;
            }
            let new = self.post[at].clone().filter(|account| account.lamports() > 0);
            self.post[at].clone_from(&new);
            self.writes.push((self.keys[at], new.unwrap_or_default(), self.pre[at].clone()));
        }
    }

    /// Bytes that loading counts: 64 an account, its data, and a lookup table at its largest.
    pub(crate) fn loaded_size(&self, message: &VersionedMessage) -> u32 {
        let tables = message.address_table_lookups().unwrap_or_default().len() * 8248;
        let accounts = self.keys.iter().zip(&self.pre).filter(|(key, _)| **key != instructions::ID);
        let sum: usize =
            accounts.map(|(_, account)| account.as_ref().map_or(0, |account| 64 + account.data().len())).sum();
        u32::try_from(tables + sum).unwrap_or(u32::MAX)
    }
}

/// The fee of the signatures, of which half is burned; a priority fee is not.
pub(crate) fn base_fee(message: &VersionedMessage) -> u64 {
    let keys = message.static_account_keys();
    let checked: u64 = message
        .instructions()
        .iter()
        .filter(|instruction| {
            keys.get(usize::from(instruction.program_id_index)).is_some_and(|program| {
                [ed25519_program::ID, secp256k1_program::ID, secp256r1_program::ID].contains(program)
            })
        })
        .map(|instruction| u64::from(instruction.data.first().copied().unwrap_or(0)))
        .sum();
    (u64::from(message.header().num_required_signatures) + checked) * LAMPORTS_PER_SIGNATURE
}

/// Where in the keys the nonce account is, if the first instruction advances one.
pub(crate) fn nonce_index(message: &VersionedMessage) -> Option<usize> {
    let first = message.instructions().first()?;
    let program = message.static_account_keys().get(usize::from(first.program_id_index))?;
    (*program == system_program::ID && first.data.get(..4)? == [4, 0, 0, 0]).then_some(())?;
    let at = usize::from(*first.accounts.first()?);
    message.is_maybe_writable_with_reserved_addresses(at, None::<&std::collections::HashSet<Address>>).then_some(at)
}

/// Whether a nonce account holds `nonce`.
fn is_nonce_with(account: &AccountSharedData, nonce: &Hash) -> bool {
    let data = account.data();
    *account.owner() == system_program::ID
        && data.len() == 80
        && data[..8] == [1, 0, 0, 0, 1, 0, 0, 0]
        && data[40..72] == *nonce.as_ref()
}

/// Whether the message's blockhash is the value of the nonce that it advances, and the nonce's authority signs.
pub(crate) fn is_nonce_valid(message: &VersionedMessage, source: Source<'_>) -> bool {
    let check = || {
        let account = source(message.static_account_keys().get(nonce_index(message)?)?)?;
        let authority = Address::from(*account.data().get(8..)?.first_chunk::<32>()?);
        let signs = message.instructions().first()?.accounts.iter().any(|at| {
            message.is_signer(usize::from(*at))
                && message.static_account_keys().get(usize::from(*at)) == Some(&authority)
        });
        Some(signs && is_nonce_with(&account, message.recent_blockhash()))
    };
    check().unwrap_or(false)
}

/// The value after `nonce`: what the system program sets when it runs with this as its blockhash.
fn next_nonce(nonce: &Hash) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"DURABLE_NONCE");
    hash.update(nonce);
    hash.finalize().into()
}

fn is_program_data(account: &AccountSharedData) -> bool {
    *account.owner() == bpf_loader_upgradeable::ID && account.data().first() == Some(&3)
}

fn program_data_address(program: &AccountSharedData) -> Option<Address> {
    let data = program.data();
    let is_program = *program.owner() == bpf_loader_upgradeable::ID && data.get(..4)? == [2, 0, 0, 0];
    is_program.then(|| Some(Address::from(*data.get(4..)?.first_chunk::<32>()?)))?
}

/// Equality that is quick for shared data.
fn same(a: &AccountSharedData, b: &AccountSharedData) -> bool {
    let (x, y) = (a.data(), b.data());
    a.lamports() == b.lamports()
        && a.owner() == b.owner()
        && a.executable() == b.executable()
        && a.rent_epoch() == b.rent_epoch()
        && (std::ptr::eq(x, y) || x == y)
}

fn same_option(a: Option<&AccountSharedData>, b: Option<&AccountSharedData>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (None, None) => true,
        _ => false,
    }
}
