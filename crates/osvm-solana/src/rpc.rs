//! JSON-RPC 2.0 framing: one question, and the check that what came is its answer.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Error, error::excerpt};

/// Agave's code of a node that says it is behind.
pub(crate) const NODE_UNHEALTHY: i64 = -32005;

/// A request's bytes.
pub(crate) fn request(id: u64, method: &str, params: &Value) -> Vec<u8> {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string().into_bytes()
}

#[derive(Deserialize)]
struct RpcError {
    code: i64,
    message: String,
    #[serde(default)]
    data: Option<Value>,
}

/// The result in `body`, if that is the well-formed answer to request `id`.
pub(crate) fn answer(id: u64, method: &str, body: &[u8]) -> Result<Value, Error> {
    let garbage =
        |reason: &str| Error::Garbage { method: method.to_owned(), reason: reason.to_owned(), excerpt: excerpt(body) };
    let parsed: Value = serde_json::from_slice(body).map_err(|_| garbage("no JSON"))?;
    let Value::Object(mut fields) = parsed else { return Err(garbage("no object")) };
    if fields.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(garbage("no \"jsonrpc\": \"2.0\""));
    }
    let error = fields.remove("error").filter(|error| !error.is_null());
    let answered = fields.get("id").and_then(Value::as_u64);
    // A server that cannot read a request answers with an error and the id null.
    let unread = error.is_some() && fields.get("id").is_some_and(Value::is_null);
    if answered != Some(id) && !unread {
        return Err(garbage("the id is not the request's"));
    }
    match (fields.remove("result"), error) {
        (Some(_), Some(_)) => Err(garbage("both result and error")),
        (Some(result), None) => Ok(result),
        (None, None) => Err(garbage("neither result nor error")),
        (None, Some(error)) => match serde_json::from_value::<RpcError>(error) {
            Ok(RpcError { code, message, data }) => {
                Err(Error::Rpc { method: method.to_owned(), code, message, data: data.map(Box::new) })
            }
            Err(_) => Err(garbage("an error without code and message")),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(body: &str) -> Result<Value, Error> {
        answer(7, "getSlot", body.as_bytes())
    }

    #[test]
    fn only_the_answer_to_this_request_is_taken() {
        assert_eq!(ask(r#"{"jsonrpc":"2.0","id":7,"result":5}"#).unwrap(), json!(5));
        assert_eq!(ask(r#"{"jsonrpc":"2.0","id":7,"result":null,"error":null}"#).unwrap(), Value::Null);
        for bad in [
            "",
            "not json",
            "[]",
            "7",
            r#"{"id":7,"result":5}"#,
            r#"{"jsonrpc":"1.0","id":7,"result":5}"#,
            r#"{"jsonrpc":"2.0","id":8,"result":5}"#,
            r#"{"jsonrpc":"2.0","id":null,"result":5}"#,
            r#"{"jsonrpc":"2.0","id":"7","result":5}"#,
            r#"{"jsonrpc":"2.0","id":7}"#,
            r#"{"jsonrpc":"2.0","id":7,"error":"no"}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":1,"error":{"code":1,"message":"x"}}"#,
        ] {
            assert!(matches!(ask(bad), Err(Error::Garbage { .. })), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_nodes_own_error_is_passed_on() {
        let refused = ask(r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"Invalid params"}}"#);
        assert!(matches!(refused, Err(Error::Rpc { code: -32602, .. })));
        let unread = ask(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}"#);
        assert!(matches!(unread, Err(Error::Rpc { code: -32700, .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_are_taken_for_an_answer_by_accident(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(answer(7, "getSlot", &bytes).is_err());
        }
    }
}
