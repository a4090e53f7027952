//! Accounts in the five encodings, token accounts with their mint's decimals.

use serde::{Deserialize, Serialize};
use solana_account::{AccountSharedData, ReadableAccount};
use solana_account_decoder::{
    MAX_BASE58_BYTES, UiAccount, UiAccountData, UiAccountEncoding, UiDataSliceConfig, encode_ui_account,
    parse_account_data::{AccountAdditionalDataV3, SplTokenAdditionalDataV2},
    parse_token::{UiTokenAmount, is_known_spl_token_id, token_amount_to_ui_amount_v3},
};
use solana_address::Address;
use spl_token_2022_interface::{
    extension::{
        BaseStateWithExtensions, StateWithExtensions, interest_bearing_mint::InterestBearingConfig,
        scaled_ui_amount::ScaledUiAmountConfig,
    },
    generic_token_account::GenericTokenAccount,
    state::{Account as TokenAccount, Mint},
};

use crate::rpc::{Level, RpcError};

/// `getAccountInfo`'s configuration and its kin.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AccountConfig {
    /// How `data` is written.
    pub(crate) encoding: Option<UiAccountEncoding>,
    /// Which part of it.
    pub(crate) data_slice: Option<UiDataSliceConfig>,
    /// At which level.
    pub(crate) commitment: Option<Level>,
    /// The lowest slot that the client takes.
    pub(crate) min_context_slot: Option<u64>,
}

/// An account with its address.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Keyed {
    pub(crate) pubkey: String,
    pub(crate) account: UiAccount,
}

/// Where a token account's mint is looked up: the state at one level, or a simulation's.
pub(crate) trait AccountsAt {
    /// The account.
    fn account(&self, address: &Address) -> Option<AccountSharedData>;
    /// The clock at that level, in Unix seconds.
    fn unix_time(&self) -> i64;
}

/// Whether it is one of the two token programs.
pub(crate) fn is_token_program(program: &Address) -> bool {
    is_known_spl_token_id(program)
}

/// What is needed beside the account itself to write it as JSON: its mint's word, if it is a token account.
pub(crate) fn additional(at: &impl AccountsAt, account: &AccountSharedData) -> Option<AccountAdditionalDataV3> {
    if !is_known_spl_token_id(account.owner()) || !TokenAccount::valid_account_data(account.data()) {
        return None;
    }
    let mint = Address::try_from(account.data().get(..32)?).ok()?;
    let data = additional_mint_data(at.account(&mint)?.data(), at.unix_time())?;
    Some(AccountAdditionalDataV3 { spl_token_additional_data: Some(data) })
}

/// The account in any encoding. `additional` matters to [`UiAccountEncoding::JsonParsed`] only.
pub(crate) fn encode_account(
    address: &Address,
    account: &AccountSharedData,
    encoding: UiAccountEncoding,
    slice: Option<UiDataSliceConfig>,
    additional: Option<AccountAdditionalDataV3>,
) -> Result<UiAccount, RpcError> {
    if matches!(encoding, UiAccountEncoding::Binary | UiAccountEncoding::Base58) {
        let whole = account.data().len();
        let asked = slice.map_or(whole, |slice| slice.length.min(whole.saturating_sub(slice.offset)));
        if asked > MAX_BASE58_BYTES {
            return Err(RpcError::new(
                -32600,
                format!(
                    "Encoded binary (base 58) data should be less than {MAX_BASE58_BYTES} bytes, please use Base64 encoding."
                ),
            ));
        }
    }
    Ok(encode_ui_account(address, account, encoding, additional, slice))
}

/// What a mint says about how its amounts are shown; none if the data is no mint.
pub(crate) fn additional_mint_data(data: &[u8], unix_time: i64) -> Option<SplTokenAdditionalDataV2> {
    let mint = StateWithExtensions::<Mint>::unpack(data).ok()?;
    Some(SplTokenAdditionalDataV2 {
        decimals: mint.base.decimals,
        interest_bearing_config: mint.get_extension::<InterestBearingConfig>().ok().map(|config| (*config, unix_time)),
        scaled_ui_amount_config: mint.get_extension::<ScaledUiAmountConfig>().ok().map(|config| (*config, unix_time)),
    })
}

/// An amount as clients read it.
pub(crate) fn token_amount(amount: u64, mint: &SplTokenAdditionalDataV2) -> UiTokenAmount {
    token_amount_to_ui_amount_v3(amount, mint)
}

/// About how long the account is as JSON, so that an answer over the limit is noticed before it is built.
pub(crate) fn encoded_size(account: &UiAccount) -> usize {
    const AROUND_THE_DATA: usize = 200;
    AROUND_THE_DATA
        + match &account.data {
            UiAccountData::LegacyBinary(text) | UiAccountData::Binary(text, _) => text.len(),
            UiAccountData::Json(parsed) => parsed.space as usize,
        }
}
