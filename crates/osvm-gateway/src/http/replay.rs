//! Which requests may be sent once more after an instance may have seen them.

use std::{borrow::Cow, collections::HashMap};

use http::Method;
use osvm_model::route::ReplayPolicy;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The one call that does something anew each time it is sent.
const NOT_TWICE: &str = "requestAirdrop";

/// Whether a request that may have been processed may be sent again.
pub(crate) fn may_repeat(policy: ReplayPolicy, method: &Method, body: &[u8]) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match policy {
        ReplayPolicy::Unsent => false,
        ReplayPolicy::Idempotent => reads,
        ReplayPolicy::SolanaRpc => reads || (*method == Method::POST && calls_may_repeat(body)),
    }
}

/// Whether answers are held back until they are whole, so that a request may still be repeated.
pub(crate) fn collects(policy: ReplayPolicy, method: &Method) -> bool {
    policy == ReplayPolicy::SolanaRpc && (*method == Method::POST || *method == Method::GET)
}

/// Whether the body is JSON-RPC and holds no call that must not be sent twice. What is not understood is not repeated: an
/// instance might understand it.
fn calls_may_repeat(body: &[u8]) -> bool {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        Some(b'{') => may_repeat_call(body),
        Some(b'[') => match serde_json::from_slice::<Vec<&RawValue>>(body) {
            Ok(calls) => calls.iter().all(|call| may_repeat_call(call.get().as_bytes())),
            Err(_) => false,
        },
        _ => false,
    }
}

fn may_repeat_call(call: &[u8]) -> bool {
    // Serde refuses an object that names a field of a struct twice, so there is one method or none.
    #[derive(Deserialize)]
    struct Call<'a> {
        #[serde(borrow)]
        method: Cow<'a, str>,
    }
    // A name that is `method` only to readers that ignore case would slip through otherwise.
    let odd_names = |fields: HashMap<Cow<'_, str>, &RawValue>| {
        fields.keys().any(|name| name != "method" && name.eq_ignore_ascii_case("method"))
    };
    match (serde_json::from_slice::<Call<'_>>(call), serde_json::from_slice(call)) {
        (Ok(call), Ok(fields)) => call.method != NOT_TWICE && !odd_names(fields),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_airdrop_is_never_repeated_however_it_is_written() {
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"requestAirdrop","params":[]}"#,
            r#"{"method":"request\u0041irdrop"}"#,
            r#"{"m\u0065thod":"requestAirdrop"}"#,
            r#"[{"method":"getSlot"},{"method":"requestAirdrop"}]"#,
            r#" [ {"method":"requestAirdrop"} ]"#,
            r#"{"method":"getSlot","method":"requestAirdrop"}"#,
            r#"{"method":"getSlot","Method":"requestAirdrop"}"#,
            r#"{"method":"getSlot"} {"method":"requestAirdrop"}"#,
            r#"[[{"method":"requestAirdrop"}]]"#,
            r#"{"params":[]}"#,
            "",
            "null",
        ] {
            assert!(!may_repeat(ReplayPolicy::SolanaRpc, &Method::POST, body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn other_calls_are_repeated() {
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"getSlot"}"#,
            r#"{"method":"sendTransaction","params":["requestAirdrop"]}"#,
            r#"[{"method":"getSlot"},{"method":"getHealth"}]"#,
            "[]",
        ] {
            assert!(may_repeat(ReplayPolicy::SolanaRpc, &Method::POST, body.as_bytes()), "{body}");
            assert!(!may_repeat(ReplayPolicy::Idempotent, &Method::POST, body.as_bytes()));
        }
    }

    #[test]
    fn reads_are_repeated_but_where_nothing_may_be() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert!(may_repeat(ReplayPolicy::Idempotent, &method, b""));
            assert!(may_repeat(ReplayPolicy::SolanaRpc, &method, b""));
            assert!(!may_repeat(ReplayPolicy::Unsent, &method, b""));
        }
        assert!(!may_repeat(ReplayPolicy::SolanaRpc, &Method::PUT, br#"{"method":"getSlot"}"#));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = may_repeat(ReplayPolicy::SolanaRpc, &Method::POST, &body);
        }

        #[test]
        fn an_airdrop_is_found_at_any_place_of_a_batch(before in 0usize..20, after in 0usize..20) {
            let repeats = |calls: &[&str]| {
                let body = format!("[{}]", calls.join(","));
                may_repeat(ReplayPolicy::SolanaRpc, &Method::POST, body.as_bytes())
            };
            let mut calls = vec![r#"{"method":"getSlot"}"#; before + after];
            prop_assert!(repeats(&calls));
            calls.insert(before, r#"{"method":"requestAirdrop"}"#);
            prop_assert!(!repeats(&calls));
        }
    }
}
