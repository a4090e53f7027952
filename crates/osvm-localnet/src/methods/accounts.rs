//! Single accounts.

use solana_account::ReadableAccount;
use solana_account_decoder::{UiAccount, UiAccountEncoding};
use solana_address::Address;

use super::in_context;
use crate::{
    encode::{AccountConfig, additional, encode_account, encoded_size},
    node::Node,
    rpc::{Answer, ContextConfig, Params, RpcError, address, too_large},
};

/// Addresses of one `getMultipleAccounts`.
const MAX_MULTIPLE_ACCOUNTS: usize = 100;

pub(super) fn account_info(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let address = params.address(0)?;
    let config: AccountConfig = params.or_default(1)?;
    let encoding = config.encoding.unwrap_or(UiAccountEncoding::Binary);
    let (slot, found) = {
        let at = node.at(config.commitment, config.min_context_slot)?;
        let account = at.view.account(&address, at.commitment);
        let parsed = encoding == UiAccountEncoding::JsonParsed;
        (at.slot(), account.map(|account| (parsed.then(|| additional(&at, &account)).flatten(), account)))
    };
    let account = found
        .map(|(additional, account)| encode_account(&address, &account, encoding, config.data_slice, additional))
        .transpose()?;
    in_context(slot, &account)
}

pub(super) fn multiple(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let texts: Vec<String> = params.get(0)?;
    if texts.len() > MAX_MULTIPLE_ACCOUNTS {
        return Err(RpcError::invalid_params(format!("Too many inputs provided; max {MAX_MULTIPLE_ACCOUNTS}")));
    }
    let addresses = texts.iter().map(|text| address(text)).collect::<Result<Vec<Address>, _>>()?;
    let config: AccountConfig = params.or_default(1)?;
    let encoding = config.encoding.unwrap_or(UiAccountEncoding::Base64);
    let parsed = encoding == UiAccountEncoding::JsonParsed;
    let (slot, found) = {
        let at = node.at(config.commitment, config.min_context_slot)?;
        let find = |address: &Address| {
            let account = at.view.account(address, at.commitment)?;
            Some((parsed.then(|| additional(&at, &account)).flatten(), account))
        };
        (at.slot(), addresses.iter().map(find).collect::<Vec<_>>())
    };
    let mut size = 0;
    let mut accounts: Vec<Option<UiAccount>> = Vec::with_capacity(found.len());
    for (address, found) in addresses.iter().zip(found) {
        let account = found
            .map(|(additional, account)| encode_account(address, &account, encoding, config.data_slice, additional))
            .transpose()?;
        size += account.as_ref().map_or(4, encoded_size);
        if size > node.limits.response_bytes {
            return Err(too_large(node.limits.response_bytes));
        }
        accounts.push(account);
    }
    in_context(slot, &accounts)
}

pub(super) fn balance(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let address = params.address(0)?;
    let config: ContextConfig = params.or_default(1)?;
    let at = node.at(config.commitment, config.min_context_slot)?;
    let lamports = at.view.account(&address, at.commitment).map_or(0, |account| account.lamports());
    in_context(at.slot(), &lamports)
}
