//! Lamports as a whole. There is no inflation and no stake but the validator's own, and the answers say so.

use serde::Deserialize;
use serde_json::{Value, json};

use super::in_context;
use crate::{
    node::Node,
    rpc::{Answer, Level, Params, address, to_json},
};

/// Accounts of `getLargestAccounts`.
const LARGEST: usize = 20;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LargestConfig {
    commitment: Option<Level>,
    filter: Option<LargestFilter>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum LargestFilter {
    Circulating,
    NonCirculating,
}

pub(super) fn largest_accounts(node: &Node, params: Params<'_>) -> Answer {
    let config: LargestConfig = params.between(0, 1)?.or_default(0)?;
    let (slot, accounts) = node.bank.largest_accounts(LARGEST, config.commitment.unwrap_or_default().into());
    let all_circulate = config.filter == Some(LargestFilter::NonCirculating);
    let accounts: Vec<Value> = accounts
        .iter()
        .take(if all_circulate { 0 } else { LARGEST })
        .map(|(address, lamports)| json!({ "address": address.to_string(), "lamports": lamports }))
        .collect();
    in_context(slot, &accounts)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LevelConfig {
    commitment: Option<Level>,
}

pub(super) fn supply(node: &Node, params: Params<'_>) -> Answer {
    let config: LevelConfig = params.between(0, 1)?.or_default(0)?;
    let at = node.at(config.commitment, None)?;
    let total = at.view.capitalization(at.commitment);
    let none: [String; 0] = [];
    in_context(
        at.slot(),
        &json!({ "circulating": total, "nonCirculating": 0, "nonCirculatingAccounts": none, "total": total }),
    )
}

pub(super) fn inflation_governor(_: &Node, params: Params<'_>) -> Answer {
    params.between(0, 1)?.level(0)?;
    to_json(&json!({ "foundation": 0.0, "foundationTerm": 0.0, "initial": 0.0, "taper": 0.0, "terminal": 0.0 }))
}

pub(super) fn inflation_rate(node: &Node, params: Params<'_>) -> Answer {
    params.between(0, 0)?;
    let at = node.at(None, None)?;
    let epoch = at.view.epoch_info(at.commitment).epoch;
    to_json(&json!({ "epoch": epoch, "foundation": 0.0, "total": 0.0, "validator": 0.0 }))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RewardConfig {
    epoch: Option<u64>,
    commitment: Option<Level>,
    min_context_slot: Option<u64>,
}

pub(super) fn inflation_reward(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let addresses: Vec<String> = params.get(0)?;
    for text in &addresses {
        address(text)?;
    }
    let config: RewardConfig = params.or_default(1)?;
    let at = node.at(config.commitment, config.min_context_slot)?;
    let now = at.view.epoch_info(at.commitment).epoch;
    let epoch = config.epoch.unwrap_or_else(|| now.saturating_sub(1));
    // Rewards of an epoch are paid in the first block of the next one, so that block must be there.
    let first = epoch.saturating_add(1).saturating_mul(osvm_bank::SLOTS_PER_EPOCH);
    if first > at.slot() {
        return Err(crate::rpc::RpcError::block_not_available(first));
    }
    to_json(&vec![Value::Null; addresses.len()])
}
