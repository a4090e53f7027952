//! `simulateTransaction`, and the shape that a failed preflight shares with it.

use osvm_bank::{SimOptions, Simulated, SubmitError};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use solana_account::AccountSharedData;
use solana_account_decoder::UiAccountEncoding;
use solana_address::Address;
use solana_message::{AccountKeys, v0::LoadedAddresses};
use solana_transaction_error::TransactionError;
use solana_transaction_status::{
    UiLoadedAddresses, UiTransactionEncoding, UiTransactionReturnData, UiTransactionTokenBalance,
    parse_ui_inner_instructions,
};

use super::{
    in_context,
    scan::check_slot,
    write::{decode, refused},
};
use crate::{
    encode::{AccountsAt, additional, encode_account, inner_instructions, return_data, token_balances},
    node::{At, Node},
    rpc::{Answer, Level, Params, RpcError, WriteError, address},
};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SimulateConfig {
    sig_verify: bool,
    replace_recent_blockhash: bool,
    commitment: Option<Level>,
    encoding: Option<UiTransactionEncoding>,
    accounts: Option<AccountsConfig>,
    min_context_slot: Option<u64>,
    inner_instructions: bool,
}

#[derive(Deserialize)]
struct AccountsConfig {
    #[serde(default)]
    encoding: Option<UiAccountEncoding>,
    addresses: Vec<String>,
}

pub(super) fn simulate(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let text: String = params.get(0)?;
    let config: SimulateConfig = params.or_default(1)?;
    let transaction = decode(&text, config.encoding)?;
    if config.sig_verify && config.replace_recent_blockhash {
        return Err(RpcError::invalid_params("sigVerify may not be used with replaceRecentBlockhash"));
    }
    let level = config.commitment.unwrap_or_default();
    check_slot(node, level, config.min_context_slot)?;
    let options = SimOptions {
        sig_verify: config.sig_verify,
        replace_recent_blockhash: config.replace_recent_blockhash,
        commitment: level.into(),
    };
    let simulated = match node.bank.simulate(transaction, &options) {
        Ok(simulated) => simulated,
        Err(error) => match before_it_ran(&error) {
            Some(err) => Simulated { slot: node.at(Some(level), None)?.slot(), err: Some(err), ..Simulated::default() },
            None => {
                return Err(match refused(error) {
                    WriteError::Rpc(error) => error,
                    WriteError::NotLeader => RpcError::unhealthy(None),
                });
            }
        },
    };
    let accounts = config.accounts.map(|config| accounts(node, level, &simulated, &config)).transpose()?;
    let value = simulation_value(&simulated, accounts, config.inner_instructions, true)
        .ok_or_else(|| RpcError::internal("Internal error"))?;
    in_context(simulated.slot, &value)
}

/// Refusals that a simulation reports as its result.
fn before_it_ran(error: &SubmitError) -> Option<TransactionError> {
    match error {
        SubmitError::SigVerify => Some(TransactionError::SignatureFailure),
        SubmitError::BlockhashNotFound => Some(TransactionError::BlockhashNotFound),
        SubmitError::AlreadyProcessed => Some(TransactionError::AlreadyProcessed),
        SubmitError::Dropped(error) => Some(error.clone()),
        _ => None,
    }
}

/// The state at a level with a simulation's changes on top.
struct After<'a> {
    at: At<'a>,
    simulated: &'a Simulated,
}

impl AccountsAt for After<'_> {
    fn account(&self, address: &Address) -> Option<AccountSharedData> {
        let changed = self.simulated.account_keys.iter().position(|key| key == address);
        match changed.and_then(|index| self.simulated.post_accounts.get(index)) {
            Some(account) => account.clone(),
            None => self.at.account(address),
        }
    }

    fn unix_time(&self) -> i64 {
        self.at.unix_time()
    }
}

fn accounts(node: &Node, level: Level, simulated: &Simulated, config: &AccountsConfig) -> Result<Value, RpcError> {
    let encoding = config.encoding.unwrap_or(UiAccountEncoding::Base64);
    if matches!(encoding, UiAccountEncoding::Binary | UiAccountEncoding::Base58) {
        return Err(RpcError::invalid_params("base58 encoding not supported"));
    }
    if config.addresses.len() > simulated.account_keys.len() && !simulated.account_keys.is_empty() {
        return Err(RpcError::invalid_params(format!(
            "Too many accounts provided; max {}",
            simulated.account_keys.len()
        )));
    }
    if simulated.err.is_some() {
        return Ok(Value::Array(vec![Value::Null; config.addresses.len()]));
    }
    let addresses = config.addresses.iter().map(|text| address(text)).collect::<Result<Vec<_>, _>>()?;
    let after = After { at: node.at(Some(level), None)?, simulated };
    let mut values = Vec::with_capacity(addresses.len());
    for address in &addresses {
        let account = after
            .account(address)
            .map(|account| encode_account(address, &account, encoding, None, additional(&after, &account)))
            .transpose()?;
        values.push(serde_json::to_value(account).map_err(|_| RpcError::internal("Internal error"))?);
    }
    Ok(Value::Array(values))
}

/// The result as clients read it. `balances`: with what a preflight's failure leaves out.
pub(super) fn simulation_value(
    simulated: &Simulated,
    accounts: Option<Value>,
    inner: bool,
    balances: bool,
) -> Option<Value> {
    let (fixed, loaded) = split_keys(simulated);
    let ran = balances && simulated.fee.is_some();
    // A payer that is not there or cannot pay ends it before anything is loaded.
    let started = !matches!(
        simulated.err,
        Some(
            TransactionError::AccountNotFound
                | TransactionError::InsufficientFundsForFee
                | TransactionError::InvalidAccountForFee
        )
    );
    let inner = inner.then(|| {
        let keys = AccountKeys::new(&fixed, Some(&loaded));
        let lists = inner_instructions(simulated.inner_instructions.clone());
        lists.into_iter().map(|list| parse_ui_inner_instructions(list, &keys)).collect::<Vec<_>>()
    });
    let tokens = |balances: &[osvm_bank::TokenBalance]| {
        let list: Vec<UiTransactionTokenBalance> = token_balances(balances).into_iter().map(Into::into).collect();
        ran.then_some(list)
    };
    let replacement = simulated
        .replacement_blockhash
        .map(|(hash, height)| json!({ "blockhash": hash.to_string(), "lastValidBlockHeight": height }));
    let returned = simulated.return_data.clone().map(|data| UiTransactionReturnData::from(return_data(data)));
    let mut value = Map::new();
    let mut put =
        |name: &str, part: serde_json::Result<Value>| part.ok().map(|part| value.insert(name.to_owned(), part));
    put("accounts", Ok(accounts.unwrap_or(Value::Null)))?;
    put("err", serde_json::to_value(&simulated.err))?;
    put("fee", Ok(json!(if ran { simulated.fee } else { None })))?;
    put("innerInstructions", serde_json::to_value(inner))?;
    put("loadedAccountsDataSize", Ok(json!(if started { simulated.loaded_accounts_data_size } else { 0 })))?;
    put("loadedAddresses", serde_json::to_value(ran.then(|| UiLoadedAddresses::from(&simulated.loaded_addresses))))?;
    put("logs", Ok(json!(simulated.logs)))?;
    put("postBalances", Ok(json!(ran.then_some(&simulated.post_balances))))?;
    put("postTokenBalances", serde_json::to_value(tokens(&simulated.post_token_balances)))?;
    put("preBalances", Ok(json!(ran.then_some(&simulated.pre_balances))))?;
    put("preTokenBalances", serde_json::to_value(tokens(&simulated.pre_token_balances)))?;
    put("replacementBlockhash", Ok(replacement.unwrap_or(Value::Null)))?;
    put("returnData", serde_json::to_value(returned))?;
    put("unitsConsumed", Ok(json!(simulated.units)))?;
    Some(Value::Object(value))
}

fn split_keys(simulated: &Simulated) -> (Vec<Address>, LoadedAddresses) {
    let loaded = simulated.loaded_addresses.clone();
    let count = loaded.writable.len() + loaded.readonly.len();
    let fixed = simulated.account_keys.len().saturating_sub(count);
    (simulated.account_keys[..fixed].to_vec(), loaded)
}
