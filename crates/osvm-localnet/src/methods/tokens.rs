//! Token accounts and mints, of both token programs.

use serde::Deserialize;
use solana_account::{AccountSharedData, ReadableAccount};
use solana_account_decoder::{UiAccountEncoding, parse_account_data::SplTokenAdditionalDataV2};
use solana_address::Address;
use spl_token_2022_interface::{
    extension::StateWithExtensions,
    state::{Account as TokenAccount, Mint},
};

use super::{
    in_context,
    scan::{AddressedAmount, check_slot, encode_all},
};
use crate::{
    encode::{AccountConfig, AccountsAt, additional_mint_data, is_token_program, token_amount},
    node::{At, Node},
    rpc::{Answer, Params, RpcError, address},
};

/// Accounts of `getTokenLargestAccounts`.
const LARGEST: usize = 20;
const NO_ACCOUNT: &str = "Invalid param: could not find account";
const NO_TOKEN_ACCOUNT: &str = "Invalid param: not a Token account";
const NO_MINT: &str = "Invalid param: not a Token mint";

fn wrong(message: &'static str) -> RpcError {
    RpcError::invalid_params(message)
}

/// A mint's program and how its amounts are shown.
fn mint(at: &At<'_>, address: &Address) -> Result<(Address, SplTokenAdditionalDataV2), RpcError> {
    let account = at.account(address).ok_or_else(|| wrong("Invalid param: could not find mint"))?;
    let data = additional_mint_data(account.data(), at.unix_time())
        .filter(|_| is_token_program(account.owner()))
        .ok_or_else(|| wrong("Invalid param: Token mint could not be unpacked"))?;
    Ok((*account.owner(), data))
}

pub(super) fn account_balance(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let address = params.address(0)?;
    let at = node.at(Some(params.level(1)?), None)?;
    let account = at.account(&address).ok_or_else(|| wrong(NO_ACCOUNT))?;
    if !is_token_program(account.owner()) {
        return Err(wrong(NO_TOKEN_ACCOUNT));
    }
    let token = StateWithExtensions::<TokenAccount>::unpack(account.data()).map_err(|_| wrong(NO_TOKEN_ACCOUNT))?;
    let (_, data) = mint(&at, &token.base.mint)?;
    in_context(at.slot(), &token_amount(token.base.amount, &data))
}

pub(super) fn supply(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let address = params.address(0)?;
    let at = node.at(Some(params.level(1)?), None)?;
    let account = at.account(&address).ok_or_else(|| wrong(NO_ACCOUNT))?;
    if !is_token_program(account.owner()) {
        return Err(wrong(NO_MINT));
    }
    let unpacked = StateWithExtensions::<Mint>::unpack(account.data())
        .map_err(|_| wrong("Invalid param: mint could not be unpacked"))?;
    let (_, data) = mint(&at, &address)?;
    in_context(at.slot(), &token_amount(unpacked.base.supply, &data))
}

pub(super) fn largest(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let address = params.address(0)?;
    let level = params.level(1)?;
    let (program, data) = mint(&node.at(Some(level), None)?, &address)?;
    let (slot, accounts) = node.bank.token_accounts_by_mint(&address, level.into());
    let mut amounts: Vec<(u64, Address)> = accounts
        .iter()
        .filter(|(_, account)| *account.owner() == program)
        .map(|(address, account)| {
            let unpacked = StateWithExtensions::<TokenAccount>::unpack(account.data());
            (unpacked.map_or(0, |account| account.base.amount), *address)
        })
        .collect();
    amounts.sort_unstable_by(|a, b| b.cmp(a));
    amounts.truncate(LARGEST);
    let amounts: Vec<_> = amounts
        .into_iter()
        .map(|(amount, address)| AddressedAmount { address: address.to_string(), amount: token_amount(amount, &data) })
        .collect();
    in_context(slot, &amounts)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum TokenFilter {
    Mint(String),
    ProgramId(String),
}

pub(super) fn by_owner(node: &Node, params: Params<'_>) -> Answer {
    by(node, params, osvm_bank::Bank::token_accounts_by_owner)
}

pub(super) fn by_delegate(node: &Node, params: Params<'_>) -> Answer {
    by(node, params, osvm_bank::Bank::token_accounts_by_delegate)
}

type Index = fn(&osvm_bank::Bank, &Address, osvm_bank::Commitment) -> (u64, Vec<(Address, AccountSharedData)>);

fn by(node: &Node, params: Params<'_>, index: Index) -> Answer {
    let params = params.between(2, 3)?;
    let key = params.address(0)?;
    let filter: TokenFilter = params.get(1)?;
    let config: AccountConfig = params.or_default(2)?;
    let level = config.commitment.unwrap_or_default();
    check_slot(node, level, config.min_context_slot)?;
    let (program, of_mint) = match filter {
        TokenFilter::Mint(text) => {
            let address = address(&text)?;
            let (program, _) = mint(&node.at(Some(level), None)?, &address)?;
            (program, Some(address))
        }
        TokenFilter::ProgramId(text) => {
            let program = address(&text)?;
            if !is_token_program(&program) {
                return Err(wrong("Invalid param: unrecognized Token program id"));
            }
            (program, None)
        }
    };
    let (slot, mut accounts) = index(&node.bank, &key, level.into());
    accounts.retain(|(_, account)| {
        *account.owner() == program && of_mint.is_none_or(|mint| account.data().get(..32) == Some(mint.as_ref()))
    });
    in_context(slot, &encode_all(node, &accounts, &config, UiAccountEncoding::Binary)?)
}
