//! What changes the ledger: `sendTransaction` and `requestAirdrop`.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use osvm_bank::{Simulated, SubmitError, SubmitOptions};
use serde::Deserialize;
use serde_json::Value;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;
use solana_transaction_status::{TransactionBinaryEncoding, UiTransactionEncoding};
use tokio::sync::oneshot;

use super::simulate::simulation_value;
use crate::{
    node::Node,
    rpc::{Level, Params, Pending, RpcError, WriteError, to_json},
};

/// Bytes of a transaction on the wire.
const PACKET: usize = 1_232;
const MAX_BASE58_TRANSACTION: usize = 1_683;
pub(super) const MAX_BASE64_TRANSACTION: usize = 1_644;
const TYPE: &str = "solana_transaction::versioned::VersionedTransaction";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SendConfig {
    skip_preflight: bool,
    /// Checked; preflight always runs on the newest state, which is where the transaction will run.
    #[serde(rename = "preflightCommitment")]
    _preflight_commitment: Option<Level>,
    encoding: Option<UiTransactionEncoding>,
    /// Taken and not needed: nothing is sent on, so nothing is sent again.
    #[serde(rename = "maxRetries")]
    _max_retries: Option<u64>,
    min_context_slot: Option<u64>,
}

pub(super) fn send(node: &Arc<Node>, params: Params<'_>, retry: bool) -> Result<Pending, RpcError> {
    let params = params.between(1, 2)?;
    let text: String = params.get(0)?;
    let config: SendConfig = params.or_default(1)?;
    let transaction = decode(&text, config.encoding)?;
    let signature = transaction.signatures.first().copied().unwrap_or_default();
    let options = SubmitOptions {
        skip_preflight: config.skip_preflight,
        min_context_slot: config.min_context_slot,
        retry,
        verified: false,
    };
    let (reply, pending) = oneshot::channel();
    let skipped = config.skip_preflight;
    let answer = move |result: Result<Signature, SubmitError>| {
        let result = match result {
            // Without a preflight agave takes it again and drops it silently: it is done already.
            Err(SubmitError::AlreadyProcessed) if skipped => Ok(signature),
            result => result,
        };
        // The client may be gone.
        let _ = reply.send(result.map_err(refused).and_then(|signature| signed(&signature)));
    };
    node.bank.submit(transaction, options, Box::new(answer));
    Ok(pending)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AirdropConfig {
    #[serde(rename = "commitment")]
    _commitment: Option<Level>,
}

pub(super) fn airdrop(node: &Arc<Node>, params: Params<'_>, _retry: bool) -> Result<Pending, RpcError> {
    let params = params.between(2, 3)?;
    let address = params.address(0)?;
    let lamports: u64 = params.get(1)?;
    params.or_default::<AirdropConfig>(2)?;
    let (reply, pending) = oneshot::channel();
    let answer = move |result: Result<Signature, SubmitError>| {
        let _ = reply.send(result.map_err(refused).and_then(|signature| signed(&signature)));
    };
    node.bank.airdrop(address, lamports, Box::new(answer));
    Ok(pending)
}

fn signed(signature: &Signature) -> Result<Vec<u8>, WriteError> {
    to_json(&signature.to_string()).map_err(WriteError::Rpc)
}

/// A transaction from its text.
pub(super) fn decode(text: &str, encoding: Option<UiTransactionEncoding>) -> Result<VersionedTransaction, RpcError> {
    let encoding = encoding.unwrap_or(UiTransactionEncoding::Base58);
    let binary = encoding.into_binary_encoding().ok_or_else(|| {
        RpcError::invalid_params(format!("unsupported encoding: {encoding}. Supported encodings: base58, base64"))
    })?;
    let (name, max) = match binary {
        TransactionBinaryEncoding::Base58 => ("base58", MAX_BASE58_TRANSACTION),
        TransactionBinaryEncoding::Base64 => ("base64", MAX_BASE64_TRANSACTION),
    };
    if text.len() > max {
        return Err(RpcError::invalid_params(format!(
            "{name} encoded {TYPE} too large: {} bytes (max: encoded/raw {max}/{PACKET})",
            text.len()
        )));
    }
    let wire = match binary {
        TransactionBinaryEncoding::Base58 => bs58::decode(text).into_vec().map_err(|error| format!("{error:?}")),
        TransactionBinaryEncoding::Base64 => BASE64_STANDARD.decode(text).map_err(|error| format!("{error:?}")),
    };
    let wire = wire.map_err(|error| RpcError::invalid_params(format!("invalid {name} encoding: {error}")))?;
    if wire.len() > PACKET {
        return Err(RpcError::invalid_params(format!(
            "decoded {TYPE} too large: {} bytes (max: {PACKET} bytes)",
            wire.len()
        )));
    }
    let transaction: VersionedTransaction = wincode::deserialize(&wire)
        .map_err(|error| RpcError::invalid_params(format!("failed to deserialize {TYPE}: {error}")))?;
    transaction.sanitize().map_err(|error| RpcError::invalid_params(format!("invalid transaction: {error}")))?;
    Ok(transaction)
}

/// A simulation that ended before it began.
fn preflight(err: TransactionError) -> RpcError {
    let simulated = Simulated { err: Some(err), ..Simulated::default() };
    preflight_failure(&simulated)
}

fn preflight_failure(simulated: &Simulated) -> RpcError {
    let reason = simulated.err.as_ref().map(ToString::to_string).unwrap_or_default();
    let value = simulation_value(simulated, None, false, false);
    RpcError::preflight(format!("Transaction simulation failed: {reason}"), value.unwrap_or(Value::Null))
}

/// What a client reads when the bank did not take the transaction.
pub(super) fn refused(error: SubmitError) -> WriteError {
    WriteError::Rpc(match error {
        // A bank that ends has not taken it either.
        SubmitError::NotLeader | SubmitError::Closed => return WriteError::NotLeader,
        SubmitError::Sanitize(error) => RpcError::invalid_params(format!("invalid transaction: {error}")),
        SubmitError::SigVerify => preflight(TransactionError::SignatureFailure),
        SubmitError::BlockhashNotFound => preflight(TransactionError::BlockhashNotFound),
        SubmitError::AlreadyProcessed => preflight(TransactionError::AlreadyProcessed),
        SubmitError::Dropped(error) => preflight(error),
        SubmitError::Preflight(simulated) => preflight_failure(&simulated),
        SubmitError::MinContextSlot { slot } => RpcError::min_context_slot(slot),
        SubmitError::Overloaded => RpcError::overloaded("too many transactions are waiting"),
        other => RpcError::internal(other.to_string()),
    })
}
