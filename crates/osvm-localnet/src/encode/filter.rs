//! `getProgramAccounts` filters.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use solana_account::{AccountSharedData, ReadableAccount};
use spl_token_2022_interface::{generic_token_account::GenericTokenAccount, state::Account as TokenAccount};

use crate::rpc::RpcError;

/// Filters of one call.
pub(crate) const MAX_FILTERS: usize = 4;
/// Bytes that `memcmp` compares.
const MAX_BYTES: usize = 128;
const MAX_BASE58: usize = 175;
const MAX_BASE64: usize = 172;

/// What an account must be like.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Filter {
    /// Its data has this length.
    DataSize(u64),
    /// Its data holds these bytes there.
    Memcmp(Memcmp),
    /// It is an initialised token account.
    TokenAccountState,
}

/// Bytes at an offset.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "WireMemcmp")]
pub(crate) struct Memcmp {
    offset: usize,
    bytes: Result<Vec<u8>, String>,
}

#[derive(Deserialize)]
struct WireMemcmp {
    offset: usize,
    bytes: WireBytes,
    #[serde(default)]
    encoding: Option<WireEncoding>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireBytes {
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum WireEncoding {
    /// The old word for base58.
    Binary,
    Base58,
    Base64,
    Bytes,
}

impl TryFrom<WireMemcmp> for Memcmp {
    type Error = String;

    fn try_from(wire: WireMemcmp) -> Result<Self, String> {
        let bytes = match (wire.bytes, wire.encoding.unwrap_or(WireEncoding::Base58)) {
            (WireBytes::Bytes(bytes), _) => Ok(bytes),
            (WireBytes::Text(_), WireEncoding::Bytes) => {
                return Err("invalid type: string, expected a sequence".to_owned());
            }
            (WireBytes::Text(text), WireEncoding::Base64) if text.len() > MAX_BASE64 => {
                Err("Base64DataTooLarge".to_owned())
            }
            (WireBytes::Text(text), WireEncoding::Base64) => {
                BASE64_STANDARD.decode(&text).map_err(|error| format!("Base64DecodeError({error:?})"))
            }
            (WireBytes::Text(text), _) if text.len() > MAX_BASE58 => Err("Base58DataTooLarge".to_owned()),
            (WireBytes::Text(text), _) => {
                bs58::decode(&text).into_vec().map_err(|error| format!("Base58DecodeError({error:?})"))
            }
        };
        // A value that cannot be compared is answered as agave does, by name, when the filters are verified.
        let bytes =
            bytes.and_then(|bytes| if bytes.len() > MAX_BYTES { Err("DataTooLarge".to_owned()) } else { Ok(bytes) });
        Ok(Self { offset: wire.offset, bytes })
    }
}

impl Filter {
    /// Whether the account passes.
    pub(crate) fn allows(&self, account: &AccountSharedData) -> bool {
        let data = account.data();
        match self {
            Self::DataSize(size) => data.len() as u64 == *size,
            Self::TokenAccountState => TokenAccount::valid_account_data(data),
            Self::Memcmp(Memcmp { offset, bytes }) => match (bytes, data.get(*offset..)) {
                (Ok(bytes), Some(rest)) => rest.starts_with(bytes),
                _ => false,
            },
        }
    }

    /// The bytes that must be at `offset`, if it is such a filter.
    pub(crate) fn bytes_at(&self, offset: usize) -> Option<&[u8]> {
        match self {
            Self::Memcmp(Memcmp { offset: at, bytes: Ok(bytes) }) if *at == offset => Some(bytes),
            _ => None,
        }
    }
}

/// Refuses what agave refuses.
pub(crate) fn verify_filters(filters: &[Filter]) -> Result<(), RpcError> {
    if filters.len() > MAX_FILTERS {
        return Err(RpcError::invalid_params(format!("Too many filters provided; max {MAX_FILTERS}")));
    }
    for filter in filters {
        if let Filter::Memcmp(Memcmp { bytes: Err(name), .. }) = filter {
            return Err(RpcError::invalid_params(format!("Invalid param: {name}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use solana_account::AccountSharedData;

    use super::*;

    fn account(data: &[u8]) -> AccountSharedData {
        let mut account = AccountSharedData::new(1, 0, &Default::default());
        account.set_data_from_slice(data);
        account
    }

    fn filter(text: &str) -> Filter {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn bytes_are_read_from_all_encodings() {
        for text in [
            r#"{"memcmp":{"offset":1,"bytes":"5T"}}"#,
            r#"{"memcmp":{"offset":1,"bytes":"5T","encoding":"base58"}}"#,
            r#"{"memcmp":{"offset":1,"bytes":"AQI=","encoding":"base64"}}"#,
            r#"{"memcmp":{"offset":1,"bytes":[1,2]}}"#,
            r#"{"memcmp":{"offset":1,"bytes":[1,2],"encoding":"bytes"}}"#,
        ] {
            let filter = filter(text);
            assert!(filter.allows(&account(&[0, 1, 2, 3])), "{text}");
            assert!(!filter.allows(&account(&[1, 2, 3])), "{text}");
            assert!(!filter.allows(&account(&[0, 1])), "{text}");
            assert!(!filter.allows(&account(&[])), "{text}");
        }
    }

    #[test]
    fn an_offset_past_any_account_matches_nothing() {
        let filter = filter(r#"{"memcmp":{"offset":18446744073709551615,"bytes":"5T"}}"#);
        assert!(!filter.allows(&account(&[1; 100])));
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let long = format!(r#"{{"memcmp":{{"offset":0,"bytes":"{}"}}}}"#, "1".repeat(176));
        assert_eq!(verify_filters(&[filter(&long)]).unwrap_err().message, "Invalid param: Base58DataTooLarge");
        let bytes = format!(r#"{{"memcmp":{{"offset":0,"bytes":{:?}}}}}"#, [1; 129]);
        assert_eq!(verify_filters(&[filter(&bytes)]).unwrap_err().message, "Invalid param: DataTooLarge");
        let five = vec![Filter::DataSize(1); 5];
        assert_eq!(verify_filters(&five).unwrap_err().message, "Too many filters provided; max 4");
    }
}
