//! Token accounts and mints, read from their bytes: just what the indexes and the balances of a transaction need.

use solana_account::{AccountSharedData, ReadableAccount};
use solana_address::{Address, address};

/// SPL Token.
pub(crate) const TOKEN: Address = address!("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
/// Token-2022.
pub(crate) const TOKEN_2022: Address = address!("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");

/// Length of an account without extensions; with them, the next byte says what it is.
const ACCOUNT_LEN: usize = 165;
const MINT_LEN: usize = 82;
const TYPE_MINT: u8 = 1;
const TYPE_ACCOUNT: u8 = 2;

/// Whether it is one of the two token programs.
pub(crate) fn is_token_program(address: &Address) -> bool {
    *address == TOKEN || *address == TOKEN_2022
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenAccount {
    pub(crate) mint: Address,
    pub(crate) owner: Address,
    pub(crate) amount: u64,
    pub(crate) delegate: Option<Address>,
}

fn address_at(data: &[u8], at: usize) -> Option<Address> {
    Some(Address::from(*data.get(at..)?.first_chunk::<32>()?))
}

/// The token account in `account`, if it is an initialised one.
pub(crate) fn token_account(account: &AccountSharedData) -> Option<TokenAccount> {
    if !is_token_program(account.owner()) {
        return None;
    }
    let data = account.data();
    let extended = *account.owner() == TOKEN_2022 && data.get(ACCOUNT_LEN) == Some(&TYPE_ACCOUNT);
    if (data.len() != ACCOUNT_LEN && !extended) || *data.get(108)? == 0 {
        return None;
    }
    Some(TokenAccount {
        mint: address_at(data, 0)?,
        owner: address_at(data, 32)?,
        amount: u64::from_le_bytes(*data.get(64..)?.first_chunk()?),
        delegate: if data.get(72..76)? == [1, 0, 0, 0] { address_at(data, 76) } else { None },
    })
}

/// The decimals of the mint in `account`, if it is an initialised one.
pub(crate) fn mint_decimals(account: &AccountSharedData) -> Option<u8> {
    if !is_token_program(account.owner()) {
        return None;
    }
    let data = account.data();
    let extended = *account.owner() == TOKEN_2022 && data.get(ACCOUNT_LEN) == Some(&TYPE_MINT);
    ((data.len() == MINT_LEN || extended) && *data.get(45)? == 1).then(|| data[44])
}
