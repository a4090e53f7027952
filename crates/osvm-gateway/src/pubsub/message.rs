//! JSON-RPC as Solana's subscriptions speak it, read no further than the gateway has to know. What it need not know stays the
//! text that it was.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
};

use serde::Deserialize;
use serde_json::value::RawValue;

/// What a client sends.
#[derive(Debug)]
pub(super) struct FromClient<'a> {
    /// None: a notification, which gets no answer.
    pub(super) id: Option<&'a RawValue>,
    pub(super) method: Cow<'a, str>,
    pub(super) params: Option<&'a RawValue>,
}

/// What an instance sends.
#[derive(Debug)]
pub(super) enum FromInstance<'a> {
    /// The answer to the request with this id.
    Answer { id: u64, outcome: Outcome<'a> },
    /// News of a subscription.
    News { method: Cow<'a, str>, subscription: u64, result: &'a RawValue },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome<'a> {
    Result(&'a RawValue),
    Error(&'a RawValue),
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(default)]
    id: Option<u64>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<NewsParams<'a>>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct NewsParams<'a> {
    #[serde(borrow)]
    result: &'a RawValue,
    subscription: u64,
}

/// Reads a request; none if it is not one.
pub(super) fn from_client(text: &str) -> Option<FromClient<'_>> {
    let request: Request<'_> = serde_json::from_str(text).ok()?;
    Some(FromClient { id: request.id, method: request.method, params: request.params })
}

/// The calls of a batch; none if it is not one.
pub(super) fn batch(text: &str) -> Option<Vec<&RawValue>> {
    text.trim_start().starts_with('[').then(|| serde_json::from_str(text).ok())?
}

/// Reads what an instance says; none if it makes no sense.
pub(super) fn from_instance(text: &str) -> Option<FromInstance<'_>> {
    let reply: Reply<'_> = serde_json::from_str(text).ok()?;
    match reply {
        Reply { method: Some(method), params: Some(params), .. } => {
            Some(FromInstance::News { method, subscription: params.subscription, result: params.result })
        }
        Reply { id: Some(id), error: Some(error), .. } => {
            Some(FromInstance::Answer { id, outcome: Outcome::Error(error) })
        }
        Reply { id: Some(id), result, .. } => {
            Some(FromInstance::Answer { id, outcome: Outcome::Result(result.unwrap_or(RawValue::NULL)) })
        }
        _ => None,
    }
}

/// What tells one piece of news from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The slot that it speaks of, if any.
    pub(super) slot: Option<u64>,
    /// A hash of its contents.
    pub(super) key: u64,
}

/// The mark of a result. Two instances say the same thing with the same mark.
pub(super) fn mark(result: &RawValue) -> Mark {
    #[derive(Deserialize)]
    struct Slots {
        #[serde(default)]
        context: Option<Context>,
        #[serde(default)]
        slot: Option<u64>,
        #[serde(default, rename = "type")]
        kind: Option<String>,
    }
    #[derive(Deserialize)]
    struct Context {
        slot: u64,
    }
    let mut hasher = DefaultHasher::new();
    let slot = match serde_json::from_str::<Slots>(result.get()) {
        // A slots update holds the time at which it was made, which differs from instance to instance.
        Ok(Slots { slot: Some(slot), kind: Some(kind), .. }) => {
            (slot, kind).hash(&mut hasher);
            return Mark { slot: None, key: hasher.finish() };
        }
        Ok(slots) => slots.context.map(|context| context.slot).or(slots.slot),
        // A root is a bare number; votes and the like have no slot of their own.
        Err(_) => result.get().parse().ok(),
    };
    result.get().hash(&mut hasher);
    Mark { slot, key: hasher.finish() }
}

/// Whether news of a signature is its last: all is, but that it was received.
pub(super) fn ends_signature(result: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Of<'a> {
        #[serde(borrow)]
        value: &'a RawValue,
    }
    serde_json::from_str::<Of<'_>>(result.get()).is_ok_and(|of| of.value.get() != "\"receivedSignature\"")
}

/// The number in `[7]`.
pub(super) fn only_number(params: Option<&RawValue>) -> Option<u64> {
    let [number] = serde_json::from_str(params?.get()).ok()?;
    Some(number)
}

pub(super) fn request(id: u64, method: &str, params: Option<&RawValue>) -> String {
    // A method's name may hold anything, so it is escaped again.
    let method = serde_json::Value::from(method);
    match params {
        Some(params) => format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{}}}"#, params.get()),
        None => format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}}}"#),
    }
}

pub(super) fn answer(id: &str, outcome: Outcome<'_>) -> String {
    match outcome {
        Outcome::Result(result) => format!(r#"{{"jsonrpc":"2.0","result":{},"id":{id}}}"#, result.get()),
        Outcome::Error(error) => format!(r#"{{"jsonrpc":"2.0","error":{},"id":{id}}}"#, error.get()),
    }
}

pub(super) fn result(id: &str, result: impl std::fmt::Display) -> String {
    format!(r#"{{"jsonrpc":"2.0","result":{result},"id":{id}}}"#)
}

pub(super) fn error(id: &str, code: i32, message: &str) -> String {
    let message = serde_json::Value::from(message);
    format!(r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":{message}}},"id":{id}}}"#)
}

pub(super) fn news(method: &str, result: &RawValue, subscription: u64) -> String {
    let method = serde_json::Value::from(method);
    format!(
        r#"{{"jsonrpc":"2.0","method":{method},"params":{{"result":{},"subscription":{subscription}}}}}"#,
        result.get()
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn the_slot_is_found_where_each_kind_of_news_has_it() {
        for (text, slot) in [
            (r#"{"context":{"slot":7},"value":{"slot":9}}"#, Some(7)),
            (r#"{"parent":6,"root":1,"slot":7}"#, Some(7)),
            ("7", Some(7)),
            (r#"{"slots":[6,7],"hash":"x"}"#, None),
            (r#"{"slot":7,"timestamp":123,"type":"frozen"}"#, None),
        ] {
            assert_eq!(mark(&raw(text)).slot, slot, "{text}");
        }
    }

    #[test]
    fn two_instances_mark_the_same_news_alike() {
        let (one, other) =
            (r#"{"slot":7,"timestamp":1,"type":"frozen"}"#, r#"{"slot":7,"timestamp":2,"type":"frozen"}"#);
        assert_eq!(mark(&raw(one)), mark(&raw(other)));
        assert_ne!(mark(&raw(one)), mark(&raw(r#"{"slot":7,"timestamp":1,"type":"root"}"#)));
        assert_ne!(mark(&raw("7")), mark(&raw("8")));
    }

    #[test]
    fn a_signature_that_was_only_received_is_not_at_its_end() {
        assert!(!ends_signature(&raw(r#"{"context":{"slot":1},"value":"receivedSignature"}"#)));
        assert!(ends_signature(&raw(r#"{"context":{"slot":1},"value":{"err":null}}"#)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = from_client(&text);
            let _ = from_instance(&text);
            let _ = batch(&text);
        }

        #[test]
        fn what_is_written_can_be_read(id in any::<u64>(), method in ".{0,20}") {
            let text = request(id, &method, None);
            prop_assert_eq!(from_client(&text).map(|read| read.method.into_owned()), Some(method.clone()));
            let text = error(&id.to_string(), -1, &method);
            let is_error = matches!(from_instance(&text), Some(FromInstance::Answer { outcome: Outcome::Error(_), .. }));
            prop_assert!(is_error);
        }
    }
}
