//! Transactions of the ledger as the types that agave's encoders take.

use osvm_bank::{TokenBalance, TransactionMeta, TransactionRecord};
use solana_account_decoder::parse_account_data::SplTokenAdditionalDataV2;
use solana_address::Address;
use solana_message::{compiled_instruction::CompiledInstruction, inner_instruction::InnerInstructionsList};
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_context::transaction::TransactionReturnData;
use solana_transaction_status::{
    InnerInstruction, InnerInstructions, TransactionStatusMeta, TransactionTokenBalance,
    VersionedTransactionWithStatusMeta,
};

use super::token_amount;
use crate::rpc::RpcError;

/// A transaction with what it did.
pub(crate) fn with_meta(record: TransactionRecord) -> Result<VersionedTransactionWithStatusMeta, RpcError> {
    let transaction: VersionedTransaction = wincode::deserialize(&record.wire)
        .map_err(|_| RpcError::internal(format!("the ledger holds no valid transaction for {}", record.signature)))?;
    Ok(VersionedTransactionWithStatusMeta { transaction, meta: status_meta(record.meta) })
}

fn status_meta(meta: TransactionMeta) -> TransactionStatusMeta {
    TransactionStatusMeta {
        status: meta.err.map_or(Ok(()), Err),
        fee: meta.fee,
        pre_balances: meta.pre_balances,
        post_balances: meta.post_balances,
        inner_instructions: Some(inner_instructions(meta.inner_instructions)),
        log_messages: Some(meta.logs),
        pre_token_balances: Some(token_balances(&meta.pre_token_balances)),
        post_token_balances: Some(token_balances(&meta.post_token_balances)),
        rewards: Some(Vec::new()),
        loaded_addresses: meta.loaded_addresses,
        return_data: meta.return_data.map(return_data),
        compute_units_consumed: Some(meta.units),
        // What a block's cost limit would have counted: this node has none.
        cost_units: None,
    }
}

/// The data that a program returned.
pub(crate) fn return_data((program_id, data): (Address, Vec<u8>)) -> TransactionReturnData {
    TransactionReturnData { program_id, data }
}

/// The calls that instructions made, without those that made none.
pub(crate) fn inner_instructions(lists: InnerInstructionsList) -> Vec<InnerInstructions> {
    let numbered = lists.into_iter().enumerate().filter(|(_, list)| !list.is_empty());
    numbered
        .map(|(index, list)| InnerInstructions {
            // A transaction has fewer than 256 instructions.
            index: index as u8,
            instructions: list
                .into_iter()
                .map(|inner| InnerInstruction {
                    instruction: CompiledInstruction { ..inner.instruction },
                    stack_height: Some(u32::from(inner.stack_height)),
                })
                .collect(),
        })
        .collect()
}

/// Balances of token accounts, with the mint's decimals as they were.
pub(crate) fn token_balances(balances: &[TokenBalance]) -> Vec<TransactionTokenBalance> {
    balances
        .iter()
        .map(|balance| TransactionTokenBalance {
            account_index: balance.account_index,
            mint: balance.mint.to_string(),
            ui_token_amount: token_amount(balance.amount, &SplTokenAdditionalDataV2::with_decimals(balance.decimals)),
            owner: balance.owner.to_string(),
            program_id: balance.program_id.to_string(),
        })
        .collect()
}
