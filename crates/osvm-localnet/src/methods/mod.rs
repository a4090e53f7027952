//! Every JSON-RPC method, in one table: dispatch, `--list-methods` and the tests read it.

mod accounts;
mod blocks;
mod chain;
mod cluster;
mod fees;
mod history;
mod scan;
mod simulate;
mod supply;
mod tokens;
mod write;

use std::sync::Arc;

use serde::Serialize;

pub(crate) use self::cluster::feature_set;
pub(crate) use self::fees::SlotFees;
pub(crate) use self::history::{BlockEncoding, block_value};
use crate::{
    node::{Node, SOLANA_VERSION},
    rpc::{Answer, Params, Pending, RpcError, to_json},
};

/// How a method runs.
pub(crate) enum Run {
    /// On the spot.
    Read(fn(&Node, Params<'_>) -> Answer),
    /// On a thread of its own, a few at a time.
    Scan(fn(&Node, Params<'_>) -> Answer),
    /// Through the bank's queue. The flag: answer what was already done as done.
    Write(fn(&Arc<Node>, Params<'_>, bool) -> Result<Pending, RpcError>),
}

/// A method.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
    /// What it gives, for `--list-methods`.
    pub(crate) summary: &'static str,
}

const fn read(name: &'static str, run: fn(&Node, Params<'_>) -> Answer, summary: &'static str) -> Method {
    Method { name, run: Run::Read(run), summary }
}

const fn scan(name: &'static str, run: fn(&Node, Params<'_>) -> Answer, summary: &'static str) -> Method {
    Method { name, run: Run::Scan(run), summary }
}

/// By name, in order.
pub(crate) static METHODS: &[Method] = &[
    read("getAccountInfo", accounts::account_info, "an account"),
    read("getBalance", accounts::balance, "an account's lamports"),
    scan("getBlock", history::block, "a block with its transactions"),
    read(
        "getBlockCommitment",
        blocks::commitment,
        "the stake behind a block: the one validator's, or null once finalized",
    ),
    read("getBlockHeight", chain::block_height, "how many blocks there are below the slot"),
    read("getBlockProduction", blocks::production, "slots led and blocks produced: every slot has a block"),
    read("getBlockTime", blocks::time, "when a block was sealed"),
    read("getBlocks", blocks::range, "slots with a block, from a slot to a slot"),
    read("getBlocksWithLimit", blocks::with_limit, "slots with a block, from a slot on"),
    read("getClusterNodes", cluster::nodes, "this node; there is no gossip, so no addresses but RPC and WebSocket"),
    read("getEpochInfo", chain::epoch_info, "where the epoch is"),
    read("getEpochSchedule", chain::epoch_schedule, "the length of epochs; there is no warm-up"),
    read("getFeeForMessage", chain::fee_for_message, "a message's fee"),
    read("getFirstAvailableBlock", blocks::first_available, "the oldest block kept"),
    read("getGenesisHash", cluster::genesis_hash, "the ledger's identity; a hand-over keeps it"),
    read("getHealth", cluster::health, "ok, or an error if the node follows nobody or cannot write"),
    read(
        "getHighestSnapshotSlot",
        cluster::snapshot_slot,
        "always the error \"No snapshot\": none are served to other nodes",
    ),
    read("getIdentity", cluster::identity, "the validator's key"),
    read("getInflationGovernor", supply::inflation_governor, "all zero: there is no inflation"),
    read("getInflationRate", supply::inflation_rate, "all zero: there is no inflation"),
    read("getInflationReward", supply::inflation_reward, "null for each address: there is no inflation"),
    scan("getLargestAccounts", supply::largest_accounts, "the 20 accounts with the most lamports"),
    read("getLatestBlockhash", chain::latest_blockhash, "the newest blockhash and until which height it is valid"),
    scan("getLeaderSchedule", cluster::leader_schedule, "all slots of the epoch, led by the one validator"),
    read("getMaxRetransmitSlot", cluster::newest_slot, "the slot being filled: nothing is retransmitted"),
    read("getMaxShredInsertSlot", cluster::newest_slot, "the slot being filled: there are no shreds"),
    read("getMinimumBalanceForRentExemption", chain::rent_minimum, "the lamports that an account of a size needs"),
    scan("getMultipleAccounts", accounts::multiple, "up to 100 accounts"),
    scan("getProgramAccounts", scan::program_accounts, "a program's accounts"),
    read("getRecentPerformanceSamples", cluster::performance_samples, "transactions and slots of the last minutes"),
    scan(
        "getRecentPrioritizationFees",
        fees::recent,
        "the lowest price paid per compute unit in each of the last 150 blocks",
    ),
    read("getSignatureStatuses", chain::signature_statuses, "how far transactions got"),
    scan("getSignaturesForAddress", history::signatures_for_address, "an address's transactions, newest first"),
    read("getSlot", chain::slot, "the slot"),
    read("getSlotLeader", cluster::slot_leader, "who leads the slot"),
    read("getSlotLeaders", cluster::slot_leaders, "who leads from a slot on"),
    read("getStakeMinimumDelegation", chain::stake_minimum_delegation, "the smallest delegation in lamports"),
    read("getSupply", supply::supply, "all lamports; all of them circulate"),
    read("getTokenAccountBalance", tokens::account_balance, "a token account's balance"),
    scan("getTokenAccountsByDelegate", tokens::by_delegate, "token accounts that a delegate may spend from"),
    scan("getTokenAccountsByOwner", tokens::by_owner, "token accounts of an owner"),
    scan("getTokenLargestAccounts", tokens::largest, "a mint's 20 largest token accounts"),
    read("getTokenSupply", tokens::supply, "a mint's supply"),
    scan("getTransaction", history::transaction, "a transaction and what it did"),
    read("getTransactionCount", chain::transaction_count, "transactions since genesis"),
    read("getVersion", cluster::version, "the version of Agave's crates that execute transactions"),
    scan("getVoteAccounts", cluster::vote_accounts, "the validator's vote account, and others that were loaded"),
    read("isBlockhashValid", chain::is_blockhash_valid, "whether a blockhash can still be used"),
    read("minimumLedgerSlot", blocks::first_available, "the oldest slot kept"),
    Method { name: "requestAirdrop", run: Run::Write(write::airdrop), summary: "lamports from the faucet" },
    Method {
        name: "sendTransaction",
        run: Run::Write(write::send),
        summary: "runs a transaction; answered once it is in the log",
    },
    scan("simulateTransaction", simulate::simulate, "what a transaction would do"),
];

/// The method of that name.
pub(crate) fn find(name: &str) -> Option<&'static Method> {
    METHODS.binary_search_by(|method| method.name.cmp(name)).ok().map(|at| &METHODS[at])
}

/// Slot and version of an answer.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Context {
    api_version: &'static str,
    slot: u64,
}

#[derive(Serialize)]
struct WithContext<'a, T: ?Sized> {
    context: Context,
    value: &'a T,
}

/// `{context, value}`.
pub(crate) fn in_context<T: Serialize + ?Sized>(slot: u64, value: &T) -> Answer {
    to_json(&WithContext { context: Context { api_version: SOLANA_VERSION, slot }, value })
}

/// Refuses the level that history cannot be read at.
pub(crate) fn at_least_confirmed(level: Option<crate::rpc::Level>) -> Result<crate::rpc::Level, RpcError> {
    match level.unwrap_or_default() {
        crate::rpc::Level::Processed => {
            Err(RpcError::invalid_params("Method does not support commitment below `confirmed`"))
        }
        level => Ok(level),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_each_method_is_found() {
        assert!(METHODS.is_sorted_by(|a, b| a.name < b.name));
        assert!(METHODS.iter().all(|method| find(method.name).is_some_and(|found| found.name == method.name)));
        assert_eq!(METHODS.len(), 52);
        assert!(find("getNothing").is_none());
    }
}
