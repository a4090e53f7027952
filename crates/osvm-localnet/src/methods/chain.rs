//! The chain's head: slots, heights, blockhashes, statuses.

use base64::{Engine, prelude::BASE64_STANDARD};
use osvm_bank::Commitment;
use serde::Serialize;
use serde_json::{Value, json};
use solana_message::VersionedMessage;
use solana_transaction_error::TransactionError;
use solana_transaction_status::TransactionConfirmationStatus;

use super::{in_context, write::MAX_BASE64_TRANSACTION};
use crate::{
    node::Node,
    rpc::{Answer, ContextConfig, Params, RpcError, hash, signature, to_json},
};

/// Signatures of one `getSignatureStatuses`.
const MAX_STATUSES: usize = 256;
/// Without a search of the history, statuses are known for this many slots, as agave's status cache holds.
const STATUS_CACHE_SLOTS: u64 = 300;
/// Bytes that an account may have.
const MAX_DATA_LENGTH: u64 = 10 * 1024 * 1024;
/// Lamports; as on a cluster without the feature that raises it to one SOL.
const MINIMUM_DELEGATION: u64 = 1;

pub(super) fn slot(node: &Node, params: Params<'_>) -> Answer {
    let config: ContextConfig = params.between(0, 1)?.or_default(0)?;
    to_json(&node.at(config.commitment, config.min_context_slot)?.slot())
}

pub(super) fn block_height(node: &Node, params: Params<'_>) -> Answer {
    let config: ContextConfig = params.between(0, 1)?.or_default(0)?;
    let at = node.at(config.commitment, config.min_context_slot)?;
    to_json(&at.view.block_height(at.commitment))
}

pub(super) fn transaction_count(node: &Node, params: Params<'_>) -> Answer {
    let config: ContextConfig = params.between(0, 1)?.or_default(0)?;
    let at = node.at(config.commitment, config.min_context_slot)?;
    to_json(&at.view.transaction_count(at.commitment))
}

pub(super) fn epoch_info(node: &Node, params: Params<'_>) -> Answer {
    let config: ContextConfig = params.between(0, 1)?.or_default(0)?;
    let at = node.at(config.commitment, config.min_context_slot)?;
    let info = at.view.epoch_info(at.commitment);
    to_json(&json!({
        "absoluteSlot": info.absolute_slot,
        "blockHeight": info.block_height,
        "epoch": info.epoch,
        "slotIndex": info.slot_index,
        "slotsInEpoch": info.slots_in_epoch,
        "transactionCount": info.transaction_count,
    }))
}

pub(super) fn epoch_schedule(_: &Node, params: Params<'_>) -> Answer {
    params.between(0, 0)?;
    to_json(&json!({
        "firstNormalEpoch": 0,
        "firstNormalSlot": 0,
        "leaderScheduleSlotOffset": osvm_bank::SLOTS_PER_EPOCH,
        "slotsPerEpoch": osvm_bank::SLOTS_PER_EPOCH,
        "warmup": false,
    }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blockhash {
    blockhash: String,
    last_valid_block_height: u64,
}

pub(super) fn latest_blockhash(node: &Node, params: Params<'_>) -> Answer {
    let config: ContextConfig = params.between(0, 1)?.or_default(0)?;
    let at = node.at(config.commitment, config.min_context_slot)?;
    let (hash, last_valid_block_height) = at.view.latest_blockhash(at.commitment);
    in_context(at.slot(), &Blockhash { blockhash: hash.to_string(), last_valid_block_height })
}

pub(super) fn is_blockhash_valid(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let hash = hash(&params.get::<String>(0)?)?;
    let config: ContextConfig = params.or_default(1)?;
    let at = node.at(config.commitment, config.min_context_slot)?;
    in_context(at.slot(), &at.view.is_blockhash_valid(&hash, at.commitment))
}

pub(super) fn fee_for_message(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let text: String = params.get(0)?;
    let config: ContextConfig = params.or_default(1)?;
    if text.len() > MAX_BASE64_TRANSACTION {
        return Err(RpcError::invalid_params(format!(
            "base64 encoded message too large: {} bytes (max: {MAX_BASE64_TRANSACTION} bytes)",
            text.len()
        )));
    }
    let bytes = BASE64_STANDARD
        .decode(&text)
        .map_err(|error| RpcError::invalid_params(format!("invalid base64 encoding: {error:?}")))?;
    let message: VersionedMessage = wincode::deserialize(&bytes)
        .map_err(|error| RpcError::invalid_params(format!("failed to deserialize VersionedMessage: {error}")))?;
    message.sanitize().map_err(|error| RpcError::invalid_params(format!("invalid transaction message: {error}")))?;
    let at = node.at(config.commitment, config.min_context_slot)?;
    in_context(at.slot(), &at.view.fee_for_message(&message, at.commitment))
}

pub(super) fn rent_minimum(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let bytes: u64 = params.get(0)?;
    params.level(1)?;
    if bytes > MAX_DATA_LENGTH {
        return Err(RpcError::invalid_request());
    }
    to_json(&node.bank.view().rent_minimum(bytes as usize))
}

pub(super) fn stake_minimum_delegation(node: &Node, params: Params<'_>) -> Answer {
    let config: ContextConfig = params.between(0, 1)?.or_default(0)?;
    in_context(node.at(config.commitment, config.min_context_slot)?.slot(), &MINIMUM_DELEGATION)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    slot: u64,
    confirmations: Option<u64>,
    status: Result<(), TransactionError>,
    err: Option<TransactionError>,
    confirmation_status: TransactionConfirmationStatus,
}

pub(super) fn signature_statuses(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let texts: Vec<String> = params.get(0)?;
    if texts.len() > MAX_STATUSES {
        return Err(RpcError::invalid_params(format!("Too many inputs provided; max {MAX_STATUSES}")));
    }
    let config: Value = params.or_default(1)?;
    let search = config.get("searchTransactionHistory").and_then(Value::as_bool).unwrap_or_default();
    let signatures = texts.iter().map(|text| signature(text)).collect::<Result<Vec<_>, _>>()?;
    let at = node.at(Some(crate::rpc::Level::Processed), None)?;
    let oldest = if search { 0 } else { at.slot().saturating_sub(STATUS_CACHE_SLOTS) };
    let statuses: Vec<Option<Status>> = signatures
        .iter()
        .map(|signature| {
            let found = at.view.signature_status(signature).filter(|found| found.slot >= oldest)?;
            Some(Status {
                slot: found.slot,
                confirmations: found.confirmations,
                status: found.err.clone().map_or(Ok(()), Err),
                err: found.err,
                confirmation_status: confirmation_status(found.commitment),
            })
        })
        .collect();
    in_context(at.slot(), &statuses)
}

/// The level as statuses name it.
pub(super) fn confirmation_status(commitment: Commitment) -> TransactionConfirmationStatus {
    match commitment {
        Commitment::Processed => TransactionConfirmationStatus::Processed,
        Commitment::Confirmed => TransactionConfirmationStatus::Confirmed,
        Commitment::Finalized => TransactionConfirmationStatus::Finalized,
    }
}
