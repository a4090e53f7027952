//! JSON-RPC errors, with agave's codes and sentences: clients compare both.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Value, json};

/// The answer could not be given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RpcError {
    /// JSON-RPC's number, or agave's (-32001 and below).
    pub(crate) code: i64,
    /// One sentence.
    pub(crate) message: Cow<'static, str>,
    /// What programs read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Value>,
}

/// Code of [`RpcError::unhealthy`].
pub(crate) const NODE_UNHEALTHY: i64 = -32005;

impl RpcError {
    /// Any error.
    pub(crate) fn new(code: i64, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// With `data` for programs.
    pub(crate) fn with(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// The body is not JSON.
    pub(crate) fn parse() -> Self {
        Self::new(-32700, "Parse error")
    }

    /// JSON, but no JSON-RPC call.
    pub(crate) fn invalid_request() -> Self {
        Self::new(-32600, "Invalid request")
    }

    /// No such method.
    pub(crate) fn method_not_found() -> Self {
        Self::new(-32601, "Method not found")
    }

    /// A parameter does not fit.
    pub(crate) fn invalid_params(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(-32602, message)
    }

    /// The node's own fault.
    pub(crate) fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(-32603, message)
    }

    /// Older than the history kept.
    pub(crate) fn block_cleaned_up(slot: u64, first: u64) -> Self {
        Self::new(-32001, format!("Block {slot} cleaned up, does not exist on node. First available block: {first}"))
    }

    /// The simulation before sending failed; `result` is a simulation's result.
    pub(crate) fn preflight(message: String, result: Value) -> Self {
        Self::new(-32002, message).with(result)
    }

    /// Not sealed yet, or not at the commitment asked for.
    pub(crate) fn block_not_available(slot: u64) -> Self {
        Self::new(-32004, format!("Block not available for slot {slot}"))
    }

    /// Behind, or not following anybody.
    pub(crate) fn unhealthy(behind: Option<u64>) -> Self {
        match behind {
            Some(slots) => Self::new(NODE_UNHEALTHY, format!("Node is behind by {slots} slots")),
            None => Self::new(NODE_UNHEALTHY, "Node is unhealthy"),
        }
        .with(json!({ "numSlotsBehind": behind }))
    }

    /// A write reached an instance that does not lead.
    pub(crate) fn not_leader() -> Self {
        Self::new(NODE_UNHEALTHY, "this instance does not lead; the request was not processed")
            .with(json!({ "numSlotsBehind": null }))
    }

    /// No block at that slot.
    pub(crate) fn slot_skipped(slot: u64) -> Self {
        Self::new(-32007, format!("Slot {slot} was skipped, or missing due to ledger jump to recent snapshot"))
    }

    /// Snapshots for other nodes are not served.
    pub(crate) fn no_snapshot() -> Self {
        Self::new(-32008, "No snapshot")
    }

    /// A scan could not be done.
    pub(crate) fn scan(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(-32012, message)
    }

    /// The client did not say that it can read that version.
    pub(crate) fn unsupported_version(version: u8) -> Self {
        Self::new(
            -32015,
            format!(
                "Transaction version ({version}) is not supported by the requesting client. Please try the request again with the \
                 following configuration parameter: \"maxSupportedTransactionVersion\": {version}"
            ),
        )
    }

    /// The node is not as far as the client asks.
    pub(crate) fn min_context_slot(slot: u64) -> Self {
        Self::new(-32016, "Minimum context slot has not been reached").with(json!({ "contextSlot": slot }))
    }

    /// The queue is full.
    pub(crate) fn overloaded(what: &str) -> Self {
        Self::new(NODE_UNHEALTHY, format!("Node is overloaded: {what}; send the request again later"))
            .with(json!({ "numSlotsBehind": null }))
    }
}
