//! The cluster of one: identity, version, schedule, votes.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;
use serde_json::{Value, json};
use solana_account_decoder::UiAccountData;
use solana_address::Address;

use super::blocks::total_stake;
use crate::{
    encode::encode_account,
    node::{Health, Node, SOLANA_VERSION},
    rpc::{Answer, ContextConfig, Level, Params, RpcError, address, to_json},
};

const VOTE_PROGRAM: Address = Address::from_str_const("Vote111111111111111111111111111111111111111");
/// Leaders of one `getSlotLeaders`.
const MAX_SLOT_LEADERS: u64 = 5_000;
/// Samples of one call.
const MAX_SAMPLES: usize = 720;
/// A validator whose last vote is older counts as delinquent.
const DELINQUENT_SLOTS: u64 = 128;
/// Epochs of credits that are shown.
const SHOWN_EPOCH_CREDITS: usize = 5;

/// The set of features that the execution crates know, as four bytes of its hash.
static FEATURE_SET: LazyLock<u32> = LazyLock::new(|| {
    let hash = agave_feature_set::ID.to_bytes();
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
});

/// The set of features, as `getVersion` gives it.
pub(crate) fn feature_set() -> u32 {
    *FEATURE_SET
}

pub(super) fn version(_: &Node, params: Params<'_>) -> Answer {
    params.between(0, 0)?;
    to_json(&json!({ "feature-set": *FEATURE_SET, "solana-core": SOLANA_VERSION }))
}

pub(super) fn identity(node: &Node, params: Params<'_>) -> Answer {
    params.between(0, 0)?;
    to_json(&json!({ "identity": node.bank.view().identity().to_string() }))
}

pub(super) fn genesis_hash(node: &Node, params: Params<'_>) -> Answer {
    params.between(0, 0)?;
    to_json(&node.bank.view().genesis_hash().to_string())
}

pub(super) fn health(node: &Node, params: Params<'_>) -> Answer {
    params.between(0, 0)?;
    match node.health() {
        Health::Ok => to_json("ok"),
        Health::Unknown => Err(RpcError::unhealthy(None)),
    }
}

pub(super) fn snapshot_slot(_: &Node, params: Params<'_>) -> Answer {
    params.between(0, 0)?;
    Err(RpcError::no_snapshot())
}

pub(super) fn newest_slot(node: &Node, params: Params<'_>) -> Answer {
    params.between(0, 0)?;
    to_json(&node.at(Some(Level::Processed), None)?.slot())
}

pub(super) fn nodes(node: &Node, params: Params<'_>) -> Answer {
    params.between(0, 0)?;
    let (identity, genesis) = {
        let view = node.bank.view();
        (view.identity().to_string(), view.genesis_hash().to_bytes())
    };
    to_json(&json!([{
        "clientId": "Osvm",
        "featureSet": *FEATURE_SET,
        "gossip": null,
        "pubkey": identity,
        "pubsub": node.ws_address.map(|address| address.to_string()),
        "rpc": node.rpc_address.map(|address| address.to_string()),
        "serveRepair": null,
        "shredVersion": u16::from_le_bytes([genesis[0], genesis[1]]),
        "tpu": null,
        "tpuForwards": null,
        "tpuForwardsQuic": null,
        "tpuQuic": null,
        "tpuVote": null,
        "tvu": null,
        "version": SOLANA_VERSION,
    }]))
}

pub(super) fn slot_leader(node: &Node, params: Params<'_>) -> Answer {
    let config: ContextConfig = params.between(0, 1)?.or_default(0)?;
    to_json(&node.at(config.commitment, config.min_context_slot)?.view.identity().to_string())
}

pub(super) fn slot_leaders(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(2, 2)?;
    let (start, limit): (u64, u64) = (params.get(0)?, params.get(1)?);
    if limit > MAX_SLOT_LEADERS {
        return Err(RpcError::invalid_params(format!("Invalid limit; max {MAX_SLOT_LEADERS}")));
    }
    let view = node.bank.view();
    // As a cluster, only this epoch's and the next one's schedule is known.
    let known = view.epoch_info(Level::Processed.into()).epoch + 1;
    let last = start.saturating_add(limit.saturating_sub(1)) / osvm_bank::SLOTS_PER_EPOCH;
    if last > known {
        return Err(RpcError::invalid_params(format!(
            "Invalid slot range: leader schedule for epoch {} is unavailable",
            (known + 1).max(start / osvm_bank::SLOTS_PER_EPOCH)
        )));
    }
    to_json(&vec![view.identity().to_string(); limit as usize])
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ScheduleConfig {
    identity: Option<String>,
    commitment: Option<Level>,
}

/// `[slot?, config?]` or `[config?]`.
pub(super) fn leader_schedule(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(0, 2)?;
    let first: Value = params.or_default(0)?;
    let (slot, config) = if first.is_object() {
        (None, params.or_default::<ScheduleConfig>(0)?)
    } else {
        (params.get::<Option<u64>>(0)?, params.or_default(1)?)
    };
    let wanted = config.identity.as_deref().map(address).transpose()?;
    let (identity, epoch) = {
        let at = node.at(config.commitment, None)?;
        (at.view.identity(), at.view.epoch_info(at.commitment).epoch)
    };
    if slot.is_some_and(|slot| slot / osvm_bank::SLOTS_PER_EPOCH > epoch + 1) {
        return to_json(&Value::Null);
    }
    let mut schedule = BTreeMap::new();
    if wanted.is_none_or(|wanted| wanted == identity) {
        schedule.insert(identity.to_string(), (0..osvm_bank::SLOTS_PER_EPOCH).collect::<Vec<_>>());
    }
    to_json(&schedule)
}

pub(super) fn performance_samples(node: &Node, params: Params<'_>) -> Answer {
    let limit: usize = params.between(0, 1)?.get::<Option<usize>>(0)?.unwrap_or(MAX_SAMPLES);
    if limit > MAX_SAMPLES {
        return Err(RpcError::invalid_params(format!("Invalid limit; max {MAX_SAMPLES}")));
    }
    let samples = node.bank.view().performance_samples(limit);
    let samples: Vec<Value> = samples
        .iter()
        .map(|sample| {
            json!({
                "numNonVoteTransactions": sample.transactions,
                "numSlots": sample.slots,
                "numTransactions": sample.transactions,
                "samplePeriodSecs": sample.seconds,
                "slot": sample.slot,
            })
        })
        .collect();
    to_json(&samples)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VoteConfig {
    vote_pubkey: Option<String>,
    commitment: Option<Level>,
    keep_unstaked_delinquents: Option<bool>,
    delinquent_slot_distance: Option<u64>,
}

/// The validator casts no vote transactions: every block that it seals is confirmed, so its last vote is the newest sealed slot.
/// Vote accounts that were loaded from files are shown as they are.
pub(super) fn vote_accounts(node: &Node, params: Params<'_>) -> Answer {
    let config: VoteConfig = params.between(0, 1)?.or_default(0)?;
    let wanted = config.vote_pubkey.as_deref().map(address).transpose()?;
    let level = config.commitment.unwrap_or_default();
    let distance = config.delinquent_slot_distance.unwrap_or(DELINQUENT_SLOTS);
    let (own, stake, slot, root) = {
        let at = node.at(Some(level), None)?;
        (at.view.vote_account(), total_stake(&at), at.slot(), at.view.slot(Level::Finalized.into()))
    };
    let is_wanted = |address: &Address| wanted.is_none_or(|wanted| wanted == *address);
    let (_, accounts) = node.bank.program_accounts(&VOTE_PROGRAM, level.into(), &mut |address, _| is_wanted(address));
    let (mut current, mut delinquent) = (Vec::new(), Vec::new());
    for (address, account) in &accounts {
        let encoding = solana_account_decoder::UiAccountEncoding::JsonParsed;
        let UiAccountData::Json(parsed) = encode_account(address, account, encoding, None, None)?.data else {
            continue;
        };
        let info = &parsed.parsed["info"];
        let is_own = *address == own;
        let last_vote = if is_own {
            slot
        } else {
            info["votes"].as_array().and_then(|votes| votes.last()).and_then(|vote| vote["slot"].as_u64()).unwrap_or(0)
        };
        let staked = if is_own { stake } else { 0 };
        let is_current = if slot >= distance { last_vote > slot - distance } else { is_own || last_vote > 0 };
        if !is_current && staked == 0 && !config.keep_unstaked_delinquents.unwrap_or_default() {
            continue;
        }
        let list = if is_current { &mut current } else { &mut delinquent };
        list.push(json!({
            "activatedStake": staked,
            "commission": info["commission"],
            "epochCredits": epoch_credits(info),
            "epochVoteAccount": is_own,
            "inflationRewardsCommissionBps": info["commission"].as_u64().unwrap_or(0) * 100,
            "lastVote": last_vote,
            "nodePubkey": info["nodePubkey"],
            "rootSlot": if is_own { root } else { info["rootSlot"].as_u64().unwrap_or(0) },
            "votePubkey": address.to_string(),
        }));
    }
    to_json(&json!({ "current": current, "delinquent": delinquent }))
}

/// `[epoch, credits, previous credits]` of the last epochs. The parser writes credits as text.
fn epoch_credits(info: &Value) -> Vec<[u64; 3]> {
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0);
    let all = info["epochCredits"].as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = &all[all.len().saturating_sub(SHOWN_EPOCH_CREDITS)..];
    shown
        .iter()
        .map(|entry| [number(&entry["epoch"]), number(&entry["credits"]), number(&entry["previousCredits"])])
        .collect()
}
