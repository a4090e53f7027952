//! What differs between the protocol's versions, in one place.

use serde_json::{Map, Value, json};

/// The version without a handshake.
pub const MODERN: &str = "2026-07-28";
/// Versions with a handshake, the newest first.
pub const LEGACY: [&str; 2] = ["2025-11-25", "2025-06-18"];
/// The key under which a request says its version.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// Which of the two ways a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Each request says its version.
    Modern,
    /// `initialize` said it once.
    Legacy,
}

/// Who this is.
pub fn own_info() -> Value {
    json!({ "name": "osvm-mcp", "version": env!("CARGO_PKG_VERSION") })
}

/// Puts this program's own `_meta` on a request to a modern server. What a client said of itself does not go through.
pub fn add_meta(params: &mut Value) {
    let Value::Object(fields) = params else { return };
    let meta = fields.entry("_meta").or_insert_with(|| Value::Object(Map::new()));
    if !meta.is_object() {
        *meta = Value::Object(Map::new());
    }
    meta[META_VERSION] = json!(MODERN);
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    meta["io.modelcontextprotocol/clientInfo"] = own_info();
}

/// Puts on a result what the modern version wants on it.
pub fn complete(method: &str, result: &mut Value) {
    result["resultType"] = json!("complete");
    let cacheable = method.ends_with("/list") || method == "resources/read" || method == "server/discover";
    // The gateway is not told of changes, so nothing may be kept.
    if cacheable {
        result["ttlMs"] = json!(0);
        result["cacheScope"] = json!("private");
    }
}
