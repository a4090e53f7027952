//! The control plane's side of the hand-over contract ([`osvm_model::handover`]).

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode};
use osvm_model::handover::{
    CONTROL_PORT, HandedOver, NodeStatus, PATH_ALONE, PATH_HAND_OVER, PATH_LEAD, PATH_STATUS, REPLICATION_PORT,
};
use tokio::{
    io::{BufReader, copy_buf},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    task::JoinHandle,
};

use crate::exchange::{Answer, ExchangeError, exchange};

/// For an instance to say what it is.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// For a hand-over. Well within what a request waits at the gateway, so that one whose answer is lost fails none.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(3);
/// For an instance to take over without a token.
const LEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For a leader to be told that it goes on alone. It matters only for a moment ([`osvm_model::handover::ALONE_AFTER`]).
const ALONE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of the replication stream that are under way within the daemon, each direction.
const PIPE_BYTES: usize = 256 << 10;

/// What the instance says of itself.
pub(crate) async fn status(uds: &Path) -> Result<NodeStatus, ExchangeError> {
    ask(uds, Method::GET, PATH_STATUS, STATUS_TIMEOUT).await?.ok()
}

/// A hand-over that did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotHandedOver {
    /// The leader said no and still leads.
    #[error("the old instance refused to hand over")]
    Refused(#[source] ExchangeError),
    /// Nobody knows who leads now.
    #[error("the hand-over broke off")]
    Unclear(#[source] ExchangeError),
}

/// Tells the leader to hand over to its standby.
pub(crate) async fn hand_over(uds: &Path) -> Result<HandedOver, NotHandedOver> {
    let answer = ask(uds, Method::POST, PATH_HAND_OVER, HAND_OVER_TIMEOUT).await.map_err(NotHandedOver::Unclear)?;
    match answer.status {
        StatusCode::CONFLICT => Err(NotHandedOver::Refused(answer.refused())),
        _ => answer.ok().map_err(NotHandedOver::Unclear),
    }
}

/// Tells an instance to lead without a token. The caller has made sure that no other can lead.
pub(crate) async fn lead(uds: &Path) -> Result<NodeStatus, ExchangeError> {
    ask(uds, Method::POST, PATH_LEAD, LEAD_TIMEOUT).await?.ok()
}

/// Tells an instance that no standby of it will be told to lead, so that it does not wait for one. One that does not lead refuses, and
/// nothing happens to it. The caller holds to that from now on.
pub(crate) async fn alone(uds: &Path) {
    let told: Result<NodeStatus, _> = async { ask(uds, Method::POST, PATH_ALONE, ALONE_TIMEOUT).await?.ok() }.await;
    if let Err(error) = told {
        // It goes on alone by itself then, a little later.
        tracing::debug!(error = crate::error::chain(&error), "an instance was not told that it goes on alone");
    }
}

async fn ask(uds: &Path, method: Method, path: &str, limit: Duration) -> Result<Answer, ExchangeError> {
    let stream = async { Ok(osvm_vsock::connect(uds, CONTROL_PORT).await?) };
    exchange(stream, method, path, Bytes::new(), limit).await
}

/// The replication streams of two instances, joined. Dropping it parts them.
#[derive(Debug)]
pub(crate) struct Pipe(JoinHandle<()>);

impl Pipe {
    /// Connects to the leader and then to the standby, and copies between them until one of them ends its stream.
    pub(crate) async fn join(leader: &Path, standby: &Path) -> Result<Self, osvm_vsock::Error> {
        let leader = osvm_vsock::connect(leader, REPLICATION_PORT).await?;
        let standby = osvm_vsock::connect(standby, REPLICATION_PORT).await?;
        Ok(Self(tokio::spawn(async move {
            let (from_leader, to_leader) = leader.into_split();
            let (from_standby, to_standby) = standby.into_split();
            // The other one may hang, and would never end its stream.
            let (first, copied) = tokio::select! {
                copied = copy(from_leader, to_standby) => ("first leader", copied),
                copied = copy(from_standby, to_leader) => ("first standby", copied),
            };
            tracing::debug!(first, ?copied, "replication streams parted");
        })))
    }

    /// Whether the streams have parted.
    pub(crate) fn is_parted(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits until the streams part. Safe to cancel.
    pub(crate) async fn parted(&mut self) {
        // A task that was already waited for is not polled again.
        if !self.0.is_finished() {
            let _ = (&mut self.0).await;
        }
    }
}

async fn copy(from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<u64> {
    copy_buf(&mut BufReader::with_capacity(PIPE_BYTES, from), &mut to).await
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.0.abort();
    }
}
