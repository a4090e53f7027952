//! From the bank's types to what clients read.

mod account;
mod filter;
mod record;

pub(crate) use self::{
    account::{
        AccountConfig, AccountsAt, Keyed, additional, additional_mint_data, encode_account, encoded_size,
        is_token_program, token_amount,
    },
    filter::{Filter, verify_filters},
    record::{inner_instructions, return_data, token_balances, with_meta},
};
