//! What a bank is opened with.

use std::{path::PathBuf, time::Duration};

use osvm_model::handover::Role;
use solana_account::AccountSharedData;
use solana_address::Address;

/// Slots that the confirmed commitment is ahead of the finalized one by default, as on a cluster.
pub const DEFAULT_FINALITY_SLOTS: u64 = 32;
/// Lamports in the faucet of a new ledger: 500 million SOL, as `solana-test-validator` has.
pub const DEFAULT_FAUCET_LAMPORTS: u64 = 500_000_000_000_000_000;
/// Slots of history kept by default: a little over 11 hours at 400 ms.
pub const DEFAULT_HISTORY_SLOTS: u64 = 100_000;
/// The fewest slots of history that can be asked for: duplicates and blockhashes of the last 150 slots are found in it.
pub const MIN_HISTORY_SLOTS: u64 = 512;

/// What a bank is opened with. [`Config::default`] is a leader that keeps its ledger in memory only.
#[derive(Clone, Debug)]
pub struct Config {
    /// The ledger's folder; made if it is not there. None: nothing is written to disk but history, in an unnamed temporary folder.
    pub state_dir: Option<PathBuf>,
    /// How long a slot lasts.
    pub slot: Duration,
    /// How many slots the finalized commitment is behind the confirmed one.
    pub finality_slots: u64,
    /// Whether to lead at once or to wait for a leader's stream.
    pub role: Role,
    /// Lead even if the ledger was handed over and not led on since, which is an error otherwise: whoever got the token may have gone
    /// on. To be set only if no other node can lead.
    pub sole: bool,
    /// Balance of the faucet, for a new ledger.
    pub faucet_lamports: u64,
    /// Who else gets as many lamports as the faucet in a new ledger (`--mint`).
    pub mint: Option<Address>,
    /// Accounts of a new ledger; a ledger that is there keeps what it has.
    pub accounts: Vec<(Address, AccountSharedData)>,
    /// Programs of a new ledger.
    pub programs: Vec<Program>,
    /// How many slots of history are kept at least; older history goes by whole log segments.
    pub history_slots: u64,
    /// Whether to delete the ledger in [`Config::state_dir`] first.
    pub reset: bool,
    /// For tests.
    #[doc(hidden)]
    pub tuning: Tuning,
}

/// What tests make small, so that what is rare happens soon.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct Tuning {
    /// How many more bytes the log may take before the disk counts as full.
    pub disk_quota: Option<std::sync::Arc<std::sync::atomic::AtomicU64>>,
    /// A segment of so many bytes is followed by a new one.
    pub segment_bytes: Option<u64>,
    /// Work after which a snapshot is taken.
    pub snapshot_work: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: None,
            slot: osvm_model::defaults::SLOT,
            finality_slots: DEFAULT_FINALITY_SLOTS,
            role: Role::Leader,
            sole: false,
            faucet_lamports: DEFAULT_FAUCET_LAMPORTS,
            mint: None,
            accounts: Vec::new(),
            programs: Vec::new(),
            history_slots: DEFAULT_HISTORY_SLOTS,
            reset: false,
            tuning: Tuning::default(),
        }
    }
}

/// A program that is there from the start.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its address.
    pub address: Address,
    /// Its ELF file. It is verified; a wrong one is an error at open.
    pub elf: Vec<u8>,
    /// How it is held.
    pub loader: ProgramLoader,
}

/// Which loader holds a [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramLoader {
    /// Loader v2: cannot be changed.
    V2,
    /// Loader v3: can be upgraded by the authority, if there is one.
    Upgradeable {
        /// Who may upgrade.
        authority: Option<Address>,
    },
}
