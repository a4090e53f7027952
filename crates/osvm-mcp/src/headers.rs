//! The headers of a modern request. Whoever stands between reads them, so they have to say what the message says.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderMap;
use serde_json::Value;

use crate::{
    version::META_VERSION,
    wire::{HEADER_MISMATCH, RpcError},
};

/// The protocol's version.
pub(crate) const VERSION: &str = "mcp-protocol-version";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";

/// Whether each header is there once and says what the message says.
pub(crate) fn agree(headers: &HeaderMap, method: &str, params: &Value) -> bool {
    let version = params["_meta"][META_VERSION].as_str();
    let name = match method {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        _ => None,
    };
    once(headers, VERSION).as_deref() == version
        && once(headers, METHOD).as_deref() == Some(method)
        && (name.is_none() || once(headers, NAME).as_deref() == name)
}

/// The answer when they do not.
pub(crate) fn mismatch() -> RpcError {
    RpcError::new(HEADER_MISMATCH, format!("{VERSION}, {METHOD} and {NAME} have to say what the message says"))
}

/// A header's value, decoded, if it is there exactly once.
fn once(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut all = headers.get_all(name).iter();
    let text = all.next().filter(|_| all.next().is_none())?.to_str().ok()?;
    match text.strip_prefix("=?base64?").and_then(|text| text.strip_suffix("?=")) {
        Some(coded) => String::from_utf8(STANDARD.decode(coded).ok()?).ok(),
        None => Some(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::version::MODERN;

    #[test]
    fn headers_that_say_something_else_or_twice_do_not_agree() {
        let params = json!({ "name": "delete", "_meta": { META_VERSION: MODERN } });
        let check = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            agree(&headers, "tools/call", &params)
        };
        let (version, method) = ((VERSION, MODERN), (METHOD, "tools/call"));
        assert!(check(&[version, method, (NAME, "delete")]));
        assert!(check(&[version, method, (NAME, "=?base64?ZGVsZXRl?=")]));
        assert!(!check(&[version, method, (NAME, "read")]));
        assert!(!check(&[version, method]));
        assert!(!check(&[version, method, (NAME, "delete"), (NAME, "read")]));
        assert!(!check(&[version, (METHOD, "tools/list"), (NAME, "delete")]));
        assert!(!check(&[(VERSION, "2025-11-25"), method, (NAME, "delete")]));
    }
}
