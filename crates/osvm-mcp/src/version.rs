//! What differs between the protocol's versions, in one place.

use serde_json::{Map, Value, json};

/// The version without a handshake.
pub const MODERN: &str = "2026-07-28";
/// Versions with a handshake, the newest first.
pub const LEGACY: [&str; 2] = ["2025-11-25", "2025-06-18"];
/// The key under which a request says its version.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The key under which a request says what its client can do.
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// The key under which a request says which log messages its client wants.
pub const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

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

/// Puts this program's own `_meta` on a request to a modern server.
pub fn add_meta(meta: &mut Map<String, Value>) {
    meta.insert(META_VERSION.to_owned(), json!(MODERN));
    meta.insert("io.modelcontextprotocol/clientInfo".to_owned(), own_info());
}

/// Methods whose result may be that the client has to give input first.
pub fn may_ask(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

/// Puts on a result what the modern version wants on it.
pub fn complete(method: &str, result: &mut Value) {
    if result["resultType"] != "input_required" {
        result["resultType"] = json!("complete");
    }
    result["_meta"]["io.modelcontextprotocol/serverInfo"] = own_info();
    let cacheable = method.ends_with("/list") || method == "resources/read" || method == "server/discover";
    // The gateway is not told of changes, so nothing may be kept.
    if cacheable {
        result["ttlMs"] = json!(0);
        result["cacheScope"] = json!("private");
    }
}
