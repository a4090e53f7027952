//! The gateway's admin interface ([`osvm_model::gateway`]), from the daemon's side.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode};
use osvm_model::{
    Generation, RouteTable,
    gateway::{Drained, PoolStats, RoutesApplied},
};
use tokio::net::UnixStream;

use crate::exchange::{Answer, ExchangeError, exchange};

/// For a table to be in force. Subscriptions that are opened in advance take up to 2 s of it.
const ROUTES_TIMEOUT: Duration = Duration::from_secs(10);
/// For figures.
const STATS_TIMEOUT: Duration = Duration::from_secs(5);
/// For the answer after the time that the gateway was given.
const DRAINED_MARGIN: Duration = Duration::from_secs(5);

/// The admin socket of the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    socket: PathBuf,
}

/// What became of a table that was sent.
pub(crate) enum Pushed {
    Applied(RoutesApplied),
    /// A newer one is in force.
    Older,
}

impl Admin {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) async fn put_routes(&self, table: &RouteTable) -> Result<Pushed, ExchangeError> {
        let body = serde_json::to_vec(table).map_err(|source| shape("/v1/routes", source))?;
        let answer = self.ask(Method::PUT, "/v1/routes", body.into(), ROUTES_TIMEOUT).await?;
        match answer.status {
            StatusCode::CONFLICT => Ok(Pushed::Older),
            _ => answer.ok().map(Pushed::Applied),
        }
    }

    /// The version in force; 0 before the first.
    pub(crate) async fn routes_version(&self) -> Result<u64, ExchangeError> {
        let answer = self.ask(Method::GET, "/v1/routes", Bytes::new(), STATS_TIMEOUT).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(0),
            _ => answer.ok::<RouteTable>().map(|table| table.version),
        }
    }

    /// Figures of one pool.
    pub(crate) async fn pool(&self, pool: &str) -> Result<PoolStats, ExchangeError> {
        let path = format!("/v1/stats?pool={}", escape(pool));
        let answer = self.ask(Method::GET, &path, Bytes::new(), STATS_TIMEOUT).await?;
        let mut stats: osvm_model::gateway::GatewayStats = answer.ok()?;
        Ok(stats.pools.remove(pool).unwrap_or_default())
    }

    /// Starts the counts of one pool anew.
    pub(crate) async fn reset(&self, pool: &str) -> Result<(), ExchangeError> {
        let path = format!("/v1/stats/reset?pool={}", escape(pool));
        let answer = self.ask(Method::POST, &path, Bytes::new(), STATS_TIMEOUT).await?;
        answer.ok::<PoolStats>().map(drop)
    }

    /// Waits until nothing is in flight on an instance. With what is left if there is when the time is over.
    pub(crate) async fn drained(
        &self,
        pool: &str,
        generation: Generation,
        limit: Duration,
    ) -> Result<Drained, ExchangeError> {
        let path =
            format!("/v1/drained?pool={}&generation={generation}&timeout_ms={}", escape(pool), limit.as_millis());
        let answer = self.ask(Method::POST, &path, Bytes::new(), limit + DRAINED_MARGIN).await?;
        if answer.status == StatusCode::REQUEST_TIMEOUT { answer.json() } else { answer.ok() }
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes, limit: Duration) -> Result<Answer, ExchangeError> {
        let stream = async { UnixStream::connect(&self.socket).await.map_err(ExchangeError::Connect) };
        exchange(stream, method, path, body, limit).await
    }
}

fn shape(path: &str, source: serde_json::Error) -> ExchangeError {
    ExchangeError::Shape { path: path.to_owned(), source }
}

/// Pool names hold only characters of a service's name, `/` among them, and of a port's name.
fn escape(pool: &str) -> String {
    let mut escaped = String::with_capacity(pool.len());
    for byte in pool.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte as char),
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}
