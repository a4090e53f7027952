//! Slots and blocks, without their transactions.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use solana_account::ReadableAccount;

use super::{at_least_confirmed, in_context};
use crate::{
    node::{At, Node},
    rpc::{Answer, ContextConfig, Level, Params, RpcError, address, to_json},
};

/// Slots that one call may cover.
const MAX_RANGE: u64 = 500_000;
/// Levels of a vote's lockout, plus one: the length of a commitment's array.
const LOCKOUTS: usize = 32;
/// Where the delegated lamports are in a stake account.
const DELEGATED: std::ops::Range<usize> = 156..164;

pub(super) fn first_available(node: &Node, params: Params<'_>) -> Answer {
    params.between(0, 0)?;
    to_json(&node.bank.view().first_available_block())
}

/// `[start, end?, config?]` or `[start, config?]`.
pub(super) fn range(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 3)?;
    let start: u64 = params.get(0)?;
    let second: Value = params.or_default(1)?;
    let (end, config) = if second.is_object() {
        (None, params.or_default::<ContextConfig>(1)?)
    } else {
        (params.get::<Option<u64>>(1)?, params.or_default(2)?)
    };
    let level = at_least_confirmed(config.commitment)?;
    let at = node.at(Some(level), config.min_context_slot)?;
    let end = end.unwrap_or_else(|| start.saturating_add(MAX_RANGE)).min(at.slot());
    if end < start {
        return Ok(b"[]".to_vec());
    }
    if end - start > MAX_RANGE {
        return Err(RpcError::invalid_params(format!("Slot range too large; max {MAX_RANGE}")));
    }
    to_json(&at.view.blocks(start, end, MAX_RANGE as usize + 1, at.commitment))
}

pub(super) fn with_limit(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(2, 3)?;
    let start: u64 = params.get(0)?;
    let limit: u64 = params.get(1)?;
    let config: ContextConfig = params.or_default(2)?;
    let level = at_least_confirmed(config.commitment)?;
    if limit > MAX_RANGE {
        return Err(RpcError::invalid_params(format!("Limit too large; max {MAX_RANGE}")));
    }
    let at = node.at(Some(level), config.min_context_slot)?;
    to_json(&at.view.blocks(start, u64::MAX, limit as usize, at.commitment))
}

pub(super) fn time(node: &Node, params: Params<'_>) -> Answer {
    let slot: u64 = params.between(1, 1)?.get(0)?;
    let view = node.bank.view();
    if slot == 0 {
        return to_json(&view.genesis_time());
    }
    match view.block_time(slot) {
        Some(time) => to_json(&time),
        None => Err(absent(slot, &At { view, commitment: Level::Confirmed.into() })),
    }
}

/// Why there is no block at a slot.
pub(super) fn absent(slot: u64, at: &At<'_>) -> RpcError {
    let first = at.view.first_available_block();
    if slot > at.slot() {
        RpcError::block_not_available(slot)
    } else if slot < first {
        RpcError::block_cleaned_up(slot, first)
    } else {
        RpcError::slot_skipped(slot)
    }
}

/// The stake delegated to the validator's vote account.
pub(super) fn total_stake(at: &At<'_>) -> u64 {
    let account = at.view.account(&at.view.stake_account(), at.commitment);
    let bytes =
        account.as_ref().and_then(|account| account.data().get(DELEGATED)).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

pub(super) fn commitment(node: &Node, params: Params<'_>) -> Answer {
    let slot: u64 = params.between(1, 1)?.get(0)?;
    let at = node.at(Some(Level::Confirmed), None)?;
    let stake = total_stake(&at);
    let (confirmed, finalized) = (at.slot(), at.view.slot(Level::Finalized.into()));
    // A sealed block that is not final yet has the whole stake at the depth it is buried in.
    let array = (slot > finalized && slot <= confirmed).then(|| {
        let depth = usize::try_from(confirmed - slot).unwrap_or(LOCKOUTS).min(LOCKOUTS - 1);
        let mut array = [0; LOCKOUTS];
        array[depth] = stake;
        array
    });
    to_json(&json!({ "commitment": array.map(|array| array.to_vec()), "totalStake": stake }))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProductionConfig {
    identity: Option<String>,
    range: Option<ProductionRange>,
    commitment: Option<Level>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProductionRange {
    first_slot: u64,
    #[serde(default)]
    last_slot: Option<u64>,
}

pub(super) fn production(node: &Node, params: Params<'_>) -> Answer {
    let config: ProductionConfig = params.between(0, 1)?.or_default(0)?;
    let wanted = config.identity.as_deref().map(address).transpose()?;
    let at = node.at(config.commitment, None)?;
    let newest = at.slot();
    let (first, last) = match config.range {
        None => (newest - at.view.epoch_info(at.commitment).slot_index.min(newest), newest),
        Some(range) => (range.first_slot, range.last_slot.unwrap_or(newest)),
    };
    if last < first {
        return Err(RpcError::invalid_params(format!("lastSlot, {last}, cannot be less than firstSlot, {first}")));
    }
    if last > newest {
        return Err(RpcError::invalid_params(format!("lastSlot, {last}, is too large; max {newest}")));
    }
    let identity = at.view.identity();
    let mut by_identity = BTreeMap::new();
    if wanted.is_none_or(|wanted| wanted == identity) {
        let slots = last - first + 1;
        by_identity.insert(identity.to_string(), [slots, slots]);
    }
    in_context(newest, &json!({ "byIdentity": by_identity, "range": { "firstSlot": first, "lastSlot": last } }))
}
