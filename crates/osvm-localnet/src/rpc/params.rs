//! Positional parameters, with the sentences that agave's JSON-RPC server answers to wrong ones.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use solana_address::Address;
use solana_hash::Hash;
use solana_signature::Signature;

use super::RpcError;

/// A call's parameters, not yet read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Params<'a> {
    raw: Option<&'a RawValue>,
}

/// Parameters whose number was checked.
#[derive(Debug)]
pub(crate) struct Positional<'a> {
    items: Vec<&'a RawValue>,
}

impl<'a> Params<'a> {
    /// The `params` member of a call.
    pub(crate) fn new(raw: Option<&'a RawValue>) -> Self {
        Self { raw: raw.filter(|raw| raw.get() != "null") }
    }

    /// Checks that there are between `required` and `total`.
    pub(crate) fn between(self, required: usize, total: usize) -> Result<Positional<'a>, RpcError> {
        let items: Vec<&RawValue> = match self.raw {
            None => Vec::new(),
            Some(raw) => {
                serde_json::from_str(raw.get()).map_err(|_| RpcError::invalid_params("`params` should be an array"))?
            }
        };
        if total == 0 && !items.is_empty() {
            let got = self.raw.map(RawValue::get).unwrap_or_default();
            return Err(RpcError::invalid_params("Invalid parameters: No parameters were expected")
                .with(Value::String(format!("Array({got})"))));
        }
        if items.len() < required {
            return Err(RpcError::invalid_params(format!("`params` should have at least {required} argument(s)")));
        }
        if items.len() > total {
            return Err(RpcError::invalid_params(format!(
                "Invalid parameters: Expected from {required} to {total} parameters."
            ))
            .with(Value::String(format!("\"Got: {}\"", items.len()))));
        }
        Ok(Positional { items })
    }
}

impl Positional<'_> {
    /// The parameter at `index`, which [`Params::between`] made sure is there.
    pub(crate) fn get<T: DeserializeOwned>(&self, index: usize) -> Result<T, RpcError> {
        let raw = self.items.get(index).map_or("null", |raw| raw.get());
        serde_json::from_str(raw).map_err(|error| invalid(&error))
    }

    /// The parameter at `index`; absent and `null` are the default.
    pub(crate) fn or_default<T: DeserializeOwned + Default>(&self, index: usize) -> Result<T, RpcError> {
        Ok(self.get::<Option<T>>(index)?.unwrap_or_default())
    }

    /// An address.
    pub(crate) fn address(&self, index: usize) -> Result<Address, RpcError> {
        address(&self.get::<String>(index)?)
    }
}

/// serde's sentence without its position, which means nothing to a client that sent the whole body.
fn invalid(error: &serde_json::Error) -> RpcError {
    let text = error.to_string();
    let text = text.rfind(" at line ").map_or(text.as_str(), |at| &text[..at]);
    RpcError::invalid_params(format!("Invalid params: {text}."))
}

/// An address in base58.
pub(crate) fn address(text: &str) -> Result<Address, RpcError> {
    text.parse().map_err(|error| RpcError::invalid_params(format!("Invalid param: {}", wrong(&error))))
}

/// A hash in base58.
pub(crate) fn hash(text: &str) -> Result<Hash, RpcError> {
    text.parse().map_err(|error| RpcError::invalid_params(format!("Invalid param: {}", wrong(&error))))
}

/// A signature in base58.
pub(crate) fn signature(text: &str) -> Result<Signature, RpcError> {
    text.parse().map_err(|error| RpcError::invalid_params(format!("Invalid param: {}", wrong(&error))))
}

/// agave prints the error's name (`Invalid`, `WrongSize`), not its sentence.
fn wrong(error: &impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

/// The level at which state is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Level {
    /// As of the last transaction.
    #[serde(alias = "recent")]
    Processed,
    /// As of the last sealed slot.
    #[serde(alias = "single", alias = "singleGossip")]
    Confirmed,
    /// As of the newest slot that counts as final.
    #[default]
    #[serde(alias = "max", alias = "root")]
    Finalized,
}

/// `{commitment, minContextSlot}`, the tail of most configurations.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContextConfig {
    /// The level; finalized if absent.
    #[serde(default)]
    pub(crate) commitment: Option<Level>,
    /// The lowest slot that the client takes an answer from.
    #[serde(default)]
    pub(crate) min_context_slot: Option<u64>,
}

/// `{commitment}`, where it is all that there is: the member must be there then.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct LevelOnly {
    /// The level.
    pub(crate) commitment: Level,
}

impl Positional<'_> {
    /// The level at `index`, given as [`LevelOnly`]; finalized if there is none.
    pub(crate) fn level(&self, index: usize) -> Result<Level, RpcError> {
        Ok(self.get::<Option<LevelOnly>>(index)?.map_or(Level::default(), |only| only.commitment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn too_few_and_too_many_are_told_apart() {
        let raw = params(r#"["a","b","c"]"#);
        let error = Params::new(Some(&raw)).between(1, 2).unwrap_err();
        assert_eq!(error.message, "Invalid parameters: Expected from 1 to 2 parameters.");
        let error = Params::new(None).between(1, 2).unwrap_err();
        assert_eq!(error.message, "`params` should have at least 1 argument(s)");
        let named = params(r#"{"a":1}"#);
        assert_eq!(Params::new(Some(&named)).between(0, 1).unwrap_err().message, "`params` should be an array");
    }

    #[test]
    fn a_wrong_type_is_answered_with_agaves_sentence() {
        let raw = params("[1]");
        let error = Params::new(Some(&raw)).between(1, 1).unwrap().get::<String>(0).unwrap_err();
        assert_eq!(error.message, "Invalid params: invalid type: integer `1`, expected a string.");
    }

    #[test]
    fn old_words_for_the_levels_are_understood() {
        for (old, new) in
            [("recent", "processed"), ("single", "confirmed"), ("singleGossip", "confirmed"), ("max", "finalized")]
        {
            let parse = |word: &str| serde_json::from_str::<Level>(&format!("\"{word}\"")).unwrap();
            assert_eq!(parse(old), parse(new));
        }
    }

    #[test]
    fn a_bad_address_is_named_as_agave_names_it() {
        assert_eq!(address("xx").unwrap_err().message, "Invalid param: WrongSize");
        assert_eq!(address("0O").unwrap_err().message, "Invalid param: Invalid");
    }
}
