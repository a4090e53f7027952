//! The shapes that go in and out of a bank.

use solana_account::AccountSharedData;
use solana_address::Address;
use solana_hash::Hash;
use solana_message::{inner_instruction::InnerInstructionsList, v0::LoadedAddresses};
use solana_signature::Signature;
use solana_transaction_error::TransactionError;

/// Which state a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Commitment {
    /// The slot being filled.
    Processed,
    /// The last sealed slot.
    Confirmed,
    /// The newest slot that is [`Config::finality_slots`](crate::Config::finality_slots) behind the confirmed one.
    #[default]
    Finalized,
}

/// How to take a transaction.
#[derive(Clone, Copy, Debug, Default)]
pub struct SubmitOptions {
    /// Put it into a block even if it fails; it is charged then.
    pub skip_preflight: bool,
    /// Refuse it unless the current slot is at least this.
    pub min_context_slot: Option<u64>,
    /// This is a second try: a transaction that is already in a block is answered as done.
    pub retry: bool,
    /// The signatures were verified by the caller.
    pub verified: bool,
}

/// Called once with the outcome: after it is in the log and, while a standby is in sync, acknowledged by the standby.
pub type Reply = Box<dyn FnOnce(Result<Signature, crate::SubmitError>) + Send>;

/// How to simulate a transaction.
#[derive(Clone, Debug, Default)]
pub struct SimOptions {
    /// Verify the signatures first.
    pub sig_verify: bool,
    /// Put the latest blockhash in before.
    pub replace_recent_blockhash: bool,
    /// On which state.
    pub commitment: Commitment,
}

/// What a simulation, or a failed preflight, found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Simulated {
    /// The slot whose state it ran on.
    pub slot: u64,
    /// Why it failed.
    pub err: Option<TransactionError>,
    /// What the programs logged.
    pub logs: Vec<String>,
    /// Compute units used.
    pub units: u64,
    /// The program that returned data last, and the data.
    pub return_data: Option<(Address, Vec<u8>)>,
    /// One list for each instruction that called others: its index and the calls.
    pub inner_instructions: InnerInstructionsList,
    /// All accounts of the transaction after it (writable ones as changed), in the order of [`Simulated::account_keys`].
    /// None where there is no account. Empty if it failed before it ran.
    pub post_accounts: Vec<Option<AccountSharedData>>,
    /// Static keys, then loaded writable, then loaded readonly ones.
    pub account_keys: Vec<Address>,
    /// Bytes of account data that it loads, as the limit counts them.
    pub loaded_accounts_data_size: u32,
    /// In lamports; None if it failed before the fee was known.
    pub fee: Option<u64>,
    /// Lamports before, in the order of the keys.
    pub pre_balances: Vec<u64>,
    /// Lamports after.
    pub post_balances: Vec<u64>,
    /// Token balances before.
    pub pre_token_balances: Vec<TokenBalance>,
    /// Token balances after.
    pub post_token_balances: Vec<TokenBalance>,
    /// Addresses from lookup tables.
    pub loaded_addresses: LoadedAddresses,
    /// The blockhash that was put in, with its last valid block height.
    pub replacement_blockhash: Option<(Hash, u64)>,
}

/// A token account's balance within a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBalance {
    /// Index into the transaction's account keys.
    pub account_index: u8,
    /// The token account's mint.
    pub mint: Address,
    /// The token account's owner.
    pub owner: Address,
    /// SPL Token or Token-2022.
    pub program_id: Address,
    /// In base units.
    pub amount: u64,
    /// The mint's decimals.
    pub decimals: u8,
}

/// What executing a transaction gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransactionMeta {
    /// Why it failed.
    pub err: Option<TransactionError>,
    /// In lamports.
    pub fee: u64,
    /// Lamports before, in the order of the keys.
    pub pre_balances: Vec<u64>,
    /// Lamports after.
    pub post_balances: Vec<u64>,
    /// Token balances before.
    pub pre_token_balances: Vec<TokenBalance>,
    /// Token balances after.
    pub post_token_balances: Vec<TokenBalance>,
    /// For each top-level instruction what it called.
    pub inner_instructions: InnerInstructionsList,
    /// What the programs logged.
    pub logs: Vec<String>,
    /// The program that returned data last, and the data.
    pub return_data: Option<(Address, Vec<u8>)>,
    /// Compute units used.
    pub units: u64,
    /// Addresses from lookup tables.
    pub loaded_addresses: LoadedAddresses,
}

/// A transaction in the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionRecord {
    /// Its block.
    pub slot: u64,
    /// Its place in the block.
    pub index: u32,
    /// Its block's time, in seconds since 1970; None while the block is not sealed.
    pub block_time: Option<i64>,
    /// Its first signature.
    pub signature: Signature,
    /// The transaction as it goes over the wire.
    pub wire: Vec<u8>,
    /// What it did.
    pub meta: TransactionMeta,
}

/// A sealed block, without its transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockRecord {
    /// Its slot.
    pub slot: u64,
    /// The slot before.
    pub parent_slot: u64,
    /// Blocks before it.
    pub height: u64,
    /// Its hash.
    pub blockhash: Hash,
    /// The hash of the block before.
    pub previous_blockhash: Hash,
    /// When it was sealed, in seconds since 1970.
    pub time: i64,
    /// Transactions in it.
    pub transactions: u32,
    /// Transactions in the ledger up to and with it.
    pub transaction_count: u64,
    /// All lamports after it.
    pub capitalization: u64,
    /// What the leader got of the fees, in lamports.
    pub reward: u64,
    /// Who got it.
    pub leader: Address,
    /// The leader's balance after it.
    pub leader_post_balance: u64,
}

/// What is known of a signature without reading the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureStatus {
    /// Its block.
    pub slot: u64,
    /// Sealed blocks on top, counting its own; None once finalized.
    pub confirmations: Option<u64>,
    /// Why it failed.
    pub err: Option<TransactionError>,
    /// The highest commitment that its slot has reached.
    pub commitment: Commitment,
}

/// One line of an address's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureInfo {
    /// The transaction.
    pub signature: Signature,
    /// Its block.
    pub slot: u64,
    /// Its place in the block.
    pub index: u32,
    /// Why it failed.
    pub err: Option<TransactionError>,
    /// What its memo instructions say, as agave writes it: `[length] text`, joined by `; `.
    pub memo: Option<String>,
    /// Its block's time; None while the block is not sealed.
    pub block_time: Option<i64>,
    /// The highest commitment that its slot has reached.
    pub commitment: Commitment,
}

/// Which part of an address's history, newest first.
#[derive(Clone, Debug, Default)]
pub struct SignatureQuery {
    /// Start after (older than) this one.
    pub before: Option<Signature>,
    /// Stop before this one.
    pub until: Option<Signature>,
    /// At most so many.
    pub limit: usize,
    /// At which commitment.
    pub commitment: Commitment,
}

/// The epoch's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochInfo {
    /// Its number.
    pub epoch: u64,
    /// Slots since its start.
    pub slot_index: u64,
    /// Its length.
    pub slots_in_epoch: u64,
    /// The slot it was asked for.
    pub absolute_slot: u64,
    /// Blocks before.
    pub block_height: u64,
    /// Transactions in the ledger.
    pub transaction_count: u64,
}

/// What happened in some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerformanceSample {
    /// The newest slot of it.
    pub slot: u64,
    /// Transactions in it.
    pub transactions: u64,
    /// Slots in it.
    pub slots: u64,
    /// Its length in seconds.
    pub seconds: u16,
}

/// What a bank says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who takes writes.
    pub role: osvm_model::handover::Role,
    /// The genesis hash.
    pub genesis_hash: Hash,
    /// The slot being filled.
    pub slot: u64,
    /// Accounts held.
    pub accounts: u64,
    /// Transactions taken and not yet executed.
    pub pending: u64,
    /// Entries applied, counted from genesis.
    pub applied: u64,
    /// On a leader: a standby has all entries but those in flight. On a standby: it has the whole state and its leader's stream is up.
    pub in_sync: bool,
    /// Why the log cannot be written at the moment.
    pub disk_error: Option<String>,
}
