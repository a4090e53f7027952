//! What a client may subscribe to, read from its parameters. Defaults and errors are agave's.

use serde::Deserialize;
use solana_account_decoder::{UiAccountEncoding, UiDataSliceConfig};
use solana_address::Address;
use solana_signature::Signature;
use solana_transaction_status::{TransactionDetails, UiTransactionEncoding};

use crate::{
    encode::{AccountConfig, Filter, verify_filters},
    rpc::{Level, Params, RpcError, address, signature},
};

/// How an account is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) encoding: UiAccountEncoding,
    pub(crate) slice: Option<UiDataSliceConfig>,
}

/// Which transactions' logs or which blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mentions {
    All,
    Address(Address),
}

/// How a block is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BlockShape {
    pub(crate) encoding: UiTransactionEncoding,
    pub(crate) details: TransactionDetails,
    pub(crate) show_rewards: bool,
    pub(crate) max_version: Option<u8>,
}

/// One subscription.
#[derive(Clone, Debug)]
pub(crate) enum Topic {
    Account {
        address: Address,
        shape: Shape,
        level: Level,
    },
    Program {
        program: Address,
        filters: Vec<Filter>,
        shape: Shape,
        level: Level,
    },
    Logs {
        mentions: Mentions,
        level: Level,
    },
    Signature {
        signature: Signature,
        level: Level,
        received: bool,
    },
    Block {
        mentions: Mentions,
        level: Level,
        shape: BlockShape,
    },
    Slot,
    Root,
    SlotsUpdates,
    /// Taken, but nothing is ever sent: a single node has no votes.
    Vote,
}

/// A method of the WebSocket interface.
pub(crate) enum Action {
    /// Subscribes.
    Subscribe(fn(Params<'_>) -> Result<Topic, RpcError>),
    /// Ends a subscription.
    Unsubscribe,
}

/// All methods, by name in order.
pub(crate) static METHODS: &[(&str, Action)] = &[
    ("accountSubscribe", Action::Subscribe(account)),
    ("accountUnsubscribe", Action::Unsubscribe),
    ("blockSubscribe", Action::Subscribe(block)),
    ("blockUnsubscribe", Action::Unsubscribe),
    ("logsSubscribe", Action::Subscribe(logs)),
    ("logsUnsubscribe", Action::Unsubscribe),
    ("programSubscribe", Action::Subscribe(program)),
    ("programUnsubscribe", Action::Unsubscribe),
    ("rootSubscribe", Action::Subscribe(|params| plain(params, Topic::Root))),
    ("rootUnsubscribe", Action::Unsubscribe),
    ("signatureSubscribe", Action::Subscribe(signature_topic)),
    ("signatureUnsubscribe", Action::Unsubscribe),
    ("slotSubscribe", Action::Subscribe(|params| plain(params, Topic::Slot))),
    ("slotUnsubscribe", Action::Unsubscribe),
    ("slotsUpdatesSubscribe", Action::Subscribe(|params| plain(params, Topic::SlotsUpdates))),
    ("slotsUpdatesUnsubscribe", Action::Unsubscribe),
    ("voteSubscribe", Action::Subscribe(|params| plain(params, Topic::Vote))),
    ("voteUnsubscribe", Action::Unsubscribe),
];

/// The method of that name.
pub(crate) fn find(name: &str) -> Option<&'static Action> {
    METHODS.iter().find(|(known, _)| *known == name).map(|(_, action)| action)
}

fn plain(params: Params<'_>, topic: Topic) -> Result<Topic, RpcError> {
    params.between(0, 0).map(|_| topic)
}

fn account(params: Params<'_>) -> Result<Topic, RpcError> {
    let params = params.between(1, 2)?;
    let address = params.address(0)?;
    let config: AccountConfig = params.or_default(1)?;
    Ok(Topic::Account { address, shape: shape(&config), level: config.commitment.unwrap_or_default() })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProgramConfig {
    filters: Option<Vec<Filter>>,
    #[serde(flatten)]
    account: AccountConfig,
}

fn program(params: Params<'_>) -> Result<Topic, RpcError> {
    let params = params.between(1, 2)?;
    let program = params.address(0)?;
    let config: ProgramConfig = params.or_default(1)?;
    let filters = config.filters.unwrap_or_default();
    verify_filters(&filters)?;
    Ok(Topic::Program {
        program,
        filters,
        shape: shape(&config.account),
        level: config.account.commitment.unwrap_or_default(),
    })
}

fn shape(config: &AccountConfig) -> Shape {
    Shape { encoding: config.encoding.unwrap_or(UiAccountEncoding::Binary), slice: config.data_slice }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum LogsFilter {
    All,
    AllWithVotes,
    Mentions(Vec<String>),
}

#[derive(Default, Deserialize)]
struct LevelConfig {
    #[serde(default)]
    commitment: Option<Level>,
}

fn logs(params: Params<'_>) -> Result<Topic, RpcError> {
    let params = params.between(1, 2)?;
    let mentions = match params.get(0)? {
        LogsFilter::All | LogsFilter::AllWithVotes => Mentions::All,
        LogsFilter::Mentions(addresses) => match addresses.as_slice() {
            [one] => Mentions::Address(address(one)?),
            _ => return Err(RpcError::invalid_params("Invalid Request: Only 1 address supported")),
        },
    };
    let config: LevelConfig = params.or_default(1)?;
    Ok(Topic::Logs { mentions, level: config.commitment.unwrap_or_default() })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SignatureConfig {
    commitment: Option<Level>,
    enable_received_notification: Option<bool>,
}

fn signature_topic(params: Params<'_>) -> Result<Topic, RpcError> {
    let params = params.between(1, 2)?;
    let signature = signature(&params.get::<String>(0)?)?;
    let config: SignatureConfig = params.or_default(1)?;
    Ok(Topic::Signature {
        signature,
        level: config.commitment.unwrap_or_default(),
        received: config.enable_received_notification.unwrap_or_default(),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum BlockFilter {
    All,
    MentionsAccountOrProgram(String),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BlockConfig {
    commitment: Option<Level>,
    encoding: Option<UiTransactionEncoding>,
    transaction_details: Option<TransactionDetails>,
    show_rewards: Option<bool>,
    max_supported_transaction_version: Option<u8>,
}

fn block(params: Params<'_>) -> Result<Topic, RpcError> {
    let params = params.between(1, 2)?;
    let mentions = match params.get(0)? {
        BlockFilter::All => Mentions::All,
        BlockFilter::MentionsAccountOrProgram(text) => Mentions::Address(address(&text)?),
    };
    let config: BlockConfig = params.or_default(1)?;
    let level = config.commitment.unwrap_or_default();
    if level == Level::Processed {
        return Err(RpcError::invalid_params("Method does not support commitment below `confirmed`"));
    }
    let shape = BlockShape {
        encoding: config.encoding.unwrap_or(UiTransactionEncoding::Base64),
        details: config.transaction_details.unwrap_or_default(),
        show_rewards: config.show_rewards.unwrap_or_default(),
        max_version: config.max_supported_transaction_version,
    };
    Ok(Topic::Block { mentions, level, shape })
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn ask(method: &str, params: &str) -> Result<Topic, RpcError> {
        let raw = RawValue::from_string(params.to_owned()).unwrap();
        let Some(Action::Subscribe(read)) = find(method) else { panic!("{method} is no subscription") };
        read(Params::new(Some(&raw)))
    }

    #[test]
    fn each_subscription_has_its_end_and_names_are_in_order() {
        assert!(METHODS.is_sorted_by(|a, b| a.0 < b.0));
        for (name, _) in METHODS.iter().filter(|(name, _)| name.ends_with("Subscribe")) {
            assert!(find(&name.replace("Subscribe", "Unsubscribe")).is_some(), "{name}");
        }
    }

    #[test]
    fn the_default_level_is_finalized() {
        let topic = ask("accountSubscribe", r#"["11111111111111111111111111111111"]"#).unwrap();
        assert!(matches!(topic, Topic::Account { level: Level::Finalized, .. }));
    }

    #[test]
    fn configurations_with_filters_and_encoding_are_read_together() {
        let topic = ask(
            "programSubscribe",
            r#"["11111111111111111111111111111111",{"encoding":"base64","filters":[{"dataSize":3}],"commitment":"confirmed"}]"#,
        )
        .unwrap();
        let Topic::Program { filters, shape, level, .. } = topic else { panic!("{topic:?}") };
        assert_eq!((filters.len(), shape.encoding, level), (1, UiAccountEncoding::Base64, Level::Confirmed));
    }

    #[test]
    fn logs_take_one_address() {
        assert!(ask("logsSubscribe", r#"["all"]"#).is_ok());
        assert!(ask("logsSubscribe", r#"[{"mentions":["11111111111111111111111111111111"]}]"#).is_ok());
        assert!(ask("logsSubscribe", r#"[{"mentions":[]}]"#).is_err());
        assert!(ask("logsSubscribe", r#"["some"]"#).is_err());
    }

    #[test]
    fn blocks_are_not_sent_before_they_are_confirmed() {
        assert!(ask("blockSubscribe", r#"["all",{"commitment":"processed"}]"#).is_err());
    }
}
