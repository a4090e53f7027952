//! `getProgramAccounts`, and what it shares with the token scans.

use serde::{Deserialize, Serialize};
use solana_account::AccountSharedData;
use solana_account_decoder::{UiAccountEncoding, parse_account_data::AccountAdditionalDataV3};
use solana_address::Address;

use super::in_context;
use crate::{
    encode::{
        AccountConfig, Filter, Keyed, additional, encode_account, encoded_size, is_token_program, verify_filters,
    },
    node::Node,
    rpc::{Answer, Level, Params, RpcError, to_json, too_large},
};

/// Where a token account says whose it is, and of which mint.
const TOKEN_OWNER: usize = 32;
const TOKEN_MINT: usize = 0;
const TOKEN_ACCOUNT_SIZE: u64 = 165;
/// Mints looked up under one view, so that the writer is not kept waiting.
const LOOKUPS_AT_ONCE: usize = 256;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProgramConfig {
    filters: Option<Vec<Filter>>,
    with_context: Option<bool>,
    /// Taken and always obeyed: accounts come in the order of their addresses.
    #[serde(rename = "sortResults")]
    _sort_results: Option<bool>,
    #[serde(flatten)]
    account: AccountConfig,
}

pub(super) fn program_accounts(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let program = params.address(0)?;
    let config: ProgramConfig = params.or_default(1)?;
    let filters = config.filters.unwrap_or_default();
    verify_filters(&filters)?;
    let (slot, accounts) = find(node, &program, &filters, &config.account)?;
    let keyed = encode_all(node, &accounts, &config.account, UiAccountEncoding::Binary)?;
    if config.with_context.unwrap_or_default() { in_context(slot, &keyed) } else { to_json(&keyed) }
}

fn find(
    node: &Node,
    program: &Address,
    filters: &[Filter],
    config: &AccountConfig,
) -> Result<(u64, Vec<(Address, AccountSharedData)>), RpcError> {
    let level = config.commitment.unwrap_or_default();
    check_slot(node, level, config.min_context_slot)?;
    let allows = |account: &AccountSharedData| filters.iter().all(|filter| filter.allows(account));
    // Wallets ask for the token accounts of an owner or a mint with filters: the indexes know them.
    let token_accounts_only = is_token_program(program)
        && filters
            .iter()
            .any(|filter| matches!(filter, Filter::TokenAccountState | Filter::DataSize(TOKEN_ACCOUNT_SIZE)));
    let key_at = |offset| {
        let keys = || filters.iter().find_map(|filter| Address::try_from(filter.bytes_at(offset)?).ok());
        if token_accounts_only { keys() } else { None }
    };
    let indexed = if let Some(owner) = key_at(TOKEN_OWNER) {
        node.bank.token_accounts_by_owner(&owner, level.into())
    } else if let Some(mint) = key_at(TOKEN_MINT) {
        node.bank.token_accounts_by_mint(&mint, level.into())
    } else {
        return Ok(node.bank.program_accounts(program, level.into(), &mut |_, account| allows(account)));
    };
    let (slot, mut accounts) = indexed;
    accounts.retain(|(_, account)| solana_account::ReadableAccount::owner(account) == program && allows(account));
    Ok((slot, accounts))
}

/// Refuses if the node is behind what the client asks for.
pub(super) fn check_slot(node: &Node, level: Level, min_context_slot: Option<u64>) -> Result<(), RpcError> {
    node.at(Some(level), min_context_slot).map(drop)
}

/// Writes accounts, `limits.response_bytes` at most.
pub(super) fn encode_all(
    node: &Node,
    accounts: &[(Address, AccountSharedData)],
    config: &AccountConfig,
    default: UiAccountEncoding,
) -> Result<Vec<Keyed>, RpcError> {
    let encoding = config.encoding.unwrap_or(default);
    let mut keyed = Vec::with_capacity(accounts.len());
    let mut size = 0;
    for chunk in accounts.chunks(LOOKUPS_AT_ONCE) {
        let mut extra: Vec<Option<AccountAdditionalDataV3>> = Vec::new();
        if encoding == UiAccountEncoding::JsonParsed {
            let at = node.at(config.commitment, None)?;
            extra = chunk.iter().map(|(_, account)| additional(&at, account)).collect();
        }
        for (index, (address, account)) in chunk.iter().enumerate() {
            let extra = extra.get(index).copied().flatten();
            let account = encode_account(address, account, encoding, config.data_slice, extra)?;
            size += encoded_size(&account);
            if size > node.limits.response_bytes {
                return Err(too_large(node.limits.response_bytes));
            }
            keyed.push(Keyed { pubkey: address.to_string(), account });
        }
    }
    Ok(keyed)
}

/// A balance with the account that has it.
#[derive(Serialize)]
pub(super) struct AddressedAmount {
    pub(super) address: String,
    #[serde(flatten)]
    pub(super) amount: solana_account_decoder::parse_token::UiTokenAmount,
}
