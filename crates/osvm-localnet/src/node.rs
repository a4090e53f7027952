//! What every handler has at hand: the bank, the limits, the subscriptions.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use osvm_bank::{Bank, Commitment, Role, View};
use parking_lot::Mutex;
use solana_account::{AccountSharedData, ReadableAccount};
use solana_address::Address;

use crate::{
    encode::AccountsAt,
    limits::Limits,
    methods::SlotFees,
    pubsub::Hub,
    rpc::{Level, RpcError},
    scans::Scans,
};

/// The generation of Agave's crates that execute transactions here; what `getVersion` and each context say.
pub const SOLANA_VERSION: &str = "4.2.2";
/// This node's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

const CLOCK: Address = Address::from_str_const("SysvarC1ock11111111111111111111111111111111");
/// Where the clock's Unix time is in its account.
const CLOCK_UNIX_TIME: std::ops::Range<usize> = 32..40;

/// A node that serves.
pub(crate) struct Node {
    pub(crate) bank: Bank,
    pub(crate) limits: Limits,
    pub(crate) scans: Scans,
    pub(crate) hub: Arc<Hub>,
    /// Where JSON-RPC is served, if over TCP.
    pub(crate) rpc_address: Option<SocketAddr>,
    /// Where subscriptions are served, if over TCP.
    pub(crate) ws_address: Option<SocketAddr>,
    /// Prioritization fees of sealed slots that somebody asked for.
    pub(crate) fees: Mutex<BTreeMap<u64, Arc<SlotFees>>>,
}

/// Whether the node may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It leads, or follows a leader and has everything.
    Ok,
    /// It follows nobody, or cannot write its ledger.
    Unknown,
}

impl Health {
    /// What `GET /health` says.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
        }
    }
}

impl Node {
    /// Whether it takes writes now.
    pub(crate) fn leads(&self) -> bool {
        self.bank.status().role == Role::Leader
    }

    pub(crate) fn health(&self) -> Health {
        let status = self.bank.status();
        match status.role {
            Role::Leader if status.disk_error.is_none() => Health::Ok,
            Role::Standby if status.in_sync => Health::Ok,
            _ => Health::Unknown,
        }
    }

    /// A view at a level, refused if it is behind what the client asks for. Never take two at once on one thread.
    pub(crate) fn at(&self, level: Option<Level>, min_context_slot: Option<u64>) -> Result<At<'_>, RpcError> {
        let at = At { view: self.bank.view(), commitment: level.unwrap_or_default().into() };
        match min_context_slot {
            Some(min) if at.slot() < min => Err(RpcError::min_context_slot(at.slot())),
            _ => Ok(at),
        }
    }
}

/// The state of one moment at one level.
pub(crate) struct At<'a> {
    pub(crate) view: View<'a>,
    pub(crate) commitment: Commitment,
}

impl At<'_> {
    pub(crate) fn slot(&self) -> u64 {
        self.view.slot(self.commitment)
    }
}

impl AccountsAt for At<'_> {
    fn account(&self, address: &Address) -> Option<AccountSharedData> {
        self.view.account(address, self.commitment)
    }

    fn unix_time(&self) -> i64 {
        let clock = self.account(&CLOCK);
        let bytes =
            clock.as_ref().and_then(|clock| clock.data().get(CLOCK_UNIX_TIME)).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, i64::from_le_bytes)
    }
}

impl From<Level> for Commitment {
    fn from(level: Level) -> Self {
        match level {
            Level::Processed => Self::Processed,
            Level::Confirmed => Self::Confirmed,
            Level::Finalized => Self::Finalized,
        }
    }
}
