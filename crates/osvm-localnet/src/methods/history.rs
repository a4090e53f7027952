//! Transactions and blocks of the ledger. All of it reads the disk.

use osvm_bank::{Bank, BlockRecord, SignatureQuery};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use solana_transaction_error::TransactionError;
use solana_transaction_status::{
    BlockEncodingOptions, ConfirmedBlock, ConfirmedTransactionWithStatusMeta, EncodeError, Reward, RewardType,
    TransactionConfirmationStatus, TransactionDetails, TransactionWithStatusMeta, UiConfirmedBlock,
    UiTransactionEncoding,
};

use super::{at_least_confirmed, blocks::absent, chain::confirmation_status};
use crate::{
    encode::with_meta,
    node::Node,
    rpc::{Answer, Level, Params, Positional, RpcError, signature, to_json},
};

/// Lines of one `getSignaturesForAddress`.
const MAX_SIGNATURES: usize = 1_000;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HistoryConfig {
    encoding: Option<UiTransactionEncoding>,
    transaction_details: Option<TransactionDetails>,
    rewards: Option<bool>,
    commitment: Option<Level>,
    max_supported_transaction_version: Option<u8>,
}

/// A configuration, or, as in the old days, only the encoding's name.
fn config(params: &Positional<'_>) -> Result<HistoryConfig, RpcError> {
    if params.get::<Value>(1)?.is_string() {
        return Ok(HistoryConfig { encoding: params.get(1)?, ..HistoryConfig::default() });
    }
    params.or_default(1)
}

fn unsupported(error: EncodeError) -> RpcError {
    let EncodeError::UnsupportedTransactionVersion(version) = error;
    RpcError::unsupported_version(version)
}

pub(super) fn transaction(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let signature = signature(&params.get::<String>(0)?)?;
    let config = config(&params)?;
    let level = at_least_confirmed(config.commitment)?;
    let found = {
        let at = node.at(Some(level), None)?;
        let slot = at.slot();
        at.view.transaction(&signature).filter(|record| record.slot <= slot)
    };
    let Some(record) = found else { return Ok(b"null".to_vec()) };
    let (slot, block_time, index) = (record.slot, record.block_time, record.index);
    let confirmed = ConfirmedTransactionWithStatusMeta {
        slot,
        tx_with_meta: TransactionWithStatusMeta::Complete(with_meta(record)?),
        block_time,
        index,
    };
    let encoding = config.encoding.unwrap_or(UiTransactionEncoding::Json);
    to_json(&confirmed.encode(encoding, config.max_supported_transaction_version).map_err(unsupported)?)
}

/// How a block is written.
#[derive(Clone, Copy)]
pub(crate) struct BlockEncoding {
    pub(crate) encoding: UiTransactionEncoding,
    pub(crate) details: TransactionDetails,
    pub(crate) show_rewards: bool,
    pub(crate) max_version: Option<u8>,
}

pub(super) fn block(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let slot: u64 = params.get(0)?;
    let config = config(&params)?;
    let level = at_least_confirmed(config.commitment)?;
    let record = {
        let at = node.at(Some(level), None)?;
        let record = if slot <= at.slot() { at.view.block(slot) } else { None };
        record.ok_or_else(|| absent(slot, &at))?
    };
    let encoding = BlockEncoding {
        encoding: config.encoding.unwrap_or(UiTransactionEncoding::Json),
        details: config.transaction_details.unwrap_or_default(),
        show_rewards: config.rewards.unwrap_or(true),
        max_version: config.max_supported_transaction_version,
    };
    to_json(&block_value(&node.bank, &record, &encoding, None)?)
}

/// A block with its transactions; with `mentions` only those that name the address.
pub(crate) fn block_value(
    bank: &Bank,
    record: &BlockRecord,
    encoding: &BlockEncoding,
    mentions: Option<&solana_address::Address>,
) -> Result<UiConfirmedBlock, RpcError> {
    let records = match encoding.details {
        TransactionDetails::None => Vec::new(),
        _ => bank.view().block_transactions(record.slot),
    };
    let mut transactions = Vec::with_capacity(records.len());
    for record in records {
        let transaction = with_meta(record)?;
        if mentions.is_none_or(|address| transaction.account_keys().iter().any(|key| key == address)) {
            transactions.push(TransactionWithStatusMeta::Complete(transaction));
        }
    }
    let rewards = if record.reward == 0 {
        Vec::new()
    } else {
        vec![Reward {
            pubkey: record.leader.to_string(),
            lamports: i64::try_from(record.reward).unwrap_or(i64::MAX),
            post_balance: record.leader_post_balance,
            reward_type: Some(RewardType::Fee),
            commission: None,
            commission_bps: None,
        }]
    };
    let block = ConfirmedBlock {
        previous_blockhash: record.previous_blockhash.to_string(),
        blockhash: record.blockhash.to_string(),
        parent_slot: record.parent_slot,
        transactions,
        rewards,
        num_partitions: None,
        block_time: Some(record.time),
        block_height: Some(record.height),
    };
    let options = BlockEncodingOptions {
        transaction_details: encoding.details,
        show_rewards: encoding.show_rewards,
        max_supported_transaction_version: encoding.max_version,
    };
    block.encode_with_options(encoding.encoding, options).map_err(unsupported)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SignaturesConfig {
    before: Option<String>,
    until: Option<String>,
    limit: Option<usize>,
    commitment: Option<Level>,
    min_context_slot: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    signature: String,
    slot: u64,
    err: Option<TransactionError>,
    memo: Option<String>,
    block_time: Option<i64>,
    confirmation_status: TransactionConfirmationStatus,
    transaction_index: u32,
}

pub(super) fn signatures_for_address(node: &Node, params: Params<'_>) -> Answer {
    let params = params.between(1, 2)?;
    let address = params.address(0)?;
    let config: SignaturesConfig = params.or_default(1)?;
    let limit = config.limit.unwrap_or(MAX_SIGNATURES);
    let before = config.before.as_deref().map(signature).transpose()?;
    let until = config.until.as_deref().map(signature).transpose()?;
    if limit == 0 || limit > MAX_SIGNATURES {
        return Err(RpcError::invalid_params(format!("Invalid limit; max {MAX_SIGNATURES}")));
    }
    let level = at_least_confirmed(config.commitment)?;
    let query = SignatureQuery { before, until, limit, commitment: level.into() };
    let infos = node.at(Some(level), config.min_context_slot)?.view.signatures_for_address(&address, &query);
    let lines: Vec<Line> = infos
        .into_iter()
        .map(|info| Line {
            signature: info.signature.to_string(),
            slot: info.slot,
            err: info.err,
            memo: info.memo,
            block_time: info.block_time,
            confirmation_status: confirmation_status(info.commitment),
            transaction_index: info.index,
        })
        .collect();
    to_json(&lines)
}
