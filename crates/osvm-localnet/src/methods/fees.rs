//! Prioritization fees: the lowest price that a block's transactions paid per compute unit.
//!
//! Worked out from the ledger when somebody asks, and kept for sealed blocks, which never change.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Value, json};
use solana_address::Address;
use solana_message::VersionedMessage;
use solana_transaction::versioned::VersionedTransaction;

use crate::{
    node::Node,
    rpc::{Answer, Level, Params, RpcError, address, to_json},
};

/// Blocks that are answered for.
const BLOCKS: u64 = 150;
/// Addresses of one call: as many accounts as a transaction may lock.
const MAX_ADDRESSES: usize = 128;
const COMPUTE_BUDGET: Address = Address::from_str_const("ComputeBudget111111111111111111111111111111");
/// Which of the keys are sysvars and programs does not matter here.
const NO_RESERVED: Option<&std::collections::BTreeSet<Address>> = None;
/// First byte of the instruction that sets the price, before the price in eight bytes.
const SET_COMPUTE_UNIT_PRICE: u8 = 3;

/// Micro-lamports per compute unit.
#[derive(Debug, Default)]
pub(crate) struct SlotFees {
    /// The lowest of the block; zero without transactions.
    lowest: u64,
    /// The lowest among those that write an account.
    by_account: HashMap<Address, u64>,
}

pub(super) fn recent(node: &Node, params: Params<'_>) -> Answer {
    let texts: Vec<String> = params.between(0, 1)?.or_default(0)?;
    if texts.len() > MAX_ADDRESSES {
        return Err(RpcError::invalid_params(format!("Too many inputs provided; max {MAX_ADDRESSES}")));
    }
    let addresses = texts.iter().map(|text| address(text)).collect::<Result<Vec<_>, _>>()?;
    let (last, slots) = {
        let at = node.at(Some(Level::Confirmed), None)?;
        let last = at.slot();
        (last, at.view.blocks(last.saturating_sub(BLOCKS - 1), last, BLOCKS as usize, at.commitment))
    };
    let mut answer: Vec<Value> = Vec::with_capacity(slots.len());
    for slot in slots {
        let fees = of_slot(node, slot)?;
        // A transaction competes for each account that it writes: the dearest one decides.
        let fee = addresses
            .iter()
            .filter_map(|address| fees.by_account.get(address))
            .fold(fees.lowest, |fee, &own| fee.max(own));
        answer.push(json!({ "prioritizationFee": fee, "slot": slot }));
    }
    let oldest = last.saturating_sub(BLOCKS);
    node.fees.lock().retain(|slot, _| *slot > oldest);
    to_json(&answer)
}

fn of_slot(node: &Node, slot: u64) -> Result<Arc<SlotFees>, RpcError> {
    if let Some(known) = node.fees.lock().get(&slot) {
        return Ok(Arc::clone(known));
    }
    let records = {
        let view = node.bank.view();
        match view.block(slot) {
            Some(block) if block.transactions > 0 => view.block_transactions(slot),
            _ => Vec::new(),
        }
    };
    let mut fees = SlotFees { lowest: u64::MAX, ..SlotFees::default() };
    for record in &records {
        let transaction: VersionedTransaction = wincode::deserialize(&record.wire).map_err(|_| {
            RpcError::internal(format!("the ledger holds no valid transaction for {}", record.signature))
        })?;
        let message = &transaction.message;
        let price = price(message);
        fees.lowest = fees.lowest.min(price);
        let keys = message.static_account_keys().iter().enumerate();
        let written = keys
            .filter(|(index, _)| message.is_maybe_writable_with_reserved_addresses(*index, NO_RESERVED))
            .map(|(_, key)| key);
        for key in written.chain(&record.meta.loaded_addresses.writable) {
            let lowest = fees.by_account.entry(*key).or_insert(price);
            *lowest = price.min(*lowest);
        }
    }
    if records.is_empty() {
        fees.lowest = 0;
    }
    let fees = Arc::new(fees);
    node.fees.lock().insert(slot, Arc::clone(&fees));
    Ok(fees)
}

fn price(message: &VersionedMessage) -> u64 {
    let keys = message.static_account_keys();
    let mut prices = message.instructions().iter().filter_map(|instruction| {
        let program = keys.get(usize::from(instruction.program_id_index))?;
        match instruction.data.split_first() {
            Some((&SET_COMPUTE_UNIT_PRICE, price)) if *program == COMPUTE_BUDGET => {
                price.try_into().ok().map(u64::from_le_bytes)
            }
            _ => None,
        }
    });
    prices.next_back().unwrap_or(0)
}
