//! The admin interface: HTTP/1.1 with JSON over a unix socket that only this user may open. See [`osvm_model::gateway`].

mod fds;
mod metrics;

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use osvm_model::{
    Generation, RouteTable,
    gateway::{AdminError, Drained},
};
use serde::Deserialize;
use tokio::net::{UnixListener, UnixStream};

use crate::{gateway::Gateway, limits, table::TableError};

/// An answer of a handler, or why there is none.
type Answer = Result<Response, (StatusCode, Json<AdminError>)>;

/// The admin sockets; dropping them removes them.
pub(crate) struct Admin {
    listener: Option<UnixListener>,
    fds: Option<UnixListener>,
    paths: [PathBuf; 2],
}

impl Admin {
    /// Opens `path` and `path.fds`. A socket that a dead process left is replaced; one that answers is an error.
    pub(crate) async fn bind(path: &Path) -> io::Result<Self> {
        let mut fds_path = path.as_os_str().to_owned();
        fds_path.push(".fds");
        let paths = [path.to_owned(), PathBuf::from(fds_path)];
        let listener = Some(bind_private(&paths[0]).await?);
        let fds = Some(bind_private(&paths[1]).await?);
        Ok(Self { listener, fds, paths })
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(mut self, gateway: Arc<Gateway>) -> io::Result<()> {
        let (Some(listener), Some(fds)) = (self.listener.take(), self.fds.take()) else { return Ok(()) };
        let http = axum::serve(listener, router(Arc::clone(&gateway)));
        tokio::select! {
            ended = http.into_future() => ended,
            () = fds::serve(fds, gateway) => Ok(()),
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        for path in &self.paths {
            // It may be gone already, with its folder.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn bind_private(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Made under a name of its own and renamed, so that nobody finds it before its mode is set.
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".{}", std::process::id()));
    let listener = UnixListener::bind(&hidden)?;
    std::fs::set_permissions(&hidden, Permissions::from_mode(0o600))?;
    std::fs::rename(&hidden, path)?;
    Ok(listener)
}

fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/v1/routes", get(routes).put(put_routes))
        .route("/v1/stats", get(stats))
        .route("/v1/stats/reset", post(reset))
        .route("/v1/drained", post(drained))
        .route("/metrics", get(scrape))
        .route("/live", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "no such path on the admin interface") })
        .method_not_allowed_fallback(|| async { refuse(StatusCode::METHOD_NOT_ALLOWED, "wrong method for this path") })
        .layer(DefaultBodyLimit::max(limits::ADMIN_BODY))
        .with_state(gateway)
}

fn refuse(status: StatusCode, error: impl Into<String>) -> (StatusCode, Json<AdminError>) {
    (status, Json(AdminError { error: error.into() }))
}

async fn put_routes(State(gateway): State<Arc<Gateway>>, body: Bytes) -> Answer {
    let table: RouteTable = serde_json::from_slice(&body)
        .map_err(|error| refuse(StatusCode::BAD_REQUEST, format!("the body is not a route table: {error}")))?;
    match gateway.apply(table).await {
        Ok(applied) => Ok(Json(applied).into_response()),
        Err(error) => {
            let status = match error {
                TableError::Older { .. } | TableError::Differs(_) => StatusCode::CONFLICT,
                _ => StatusCode::UNPROCESSABLE_ENTITY,
            };
            Err(refuse(status, chain(&error)))
        }
    }
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

async fn routes(State(gateway): State<Arc<Gateway>>) -> Answer {
    let model = gateway.model().ok_or_else(|| refuse(StatusCode::NOT_FOUND, "no routes are in force"))?;
    Ok(Json(&*model).into_response())
}

#[derive(Deserialize)]
struct StatsQuery {
    pool: Option<String>,
}

async fn stats(State(gateway): State<Arc<Gateway>>, Query(query): Query<StatsQuery>) -> Answer {
    let stats = gateway.stats(query.pool.as_deref());
    match query.pool {
        Some(pool) if stats.pools.is_empty() => Err(no_pool(&pool)),
        _ => Ok(Json(stats).into_response()),
    }
}

fn no_pool(name: &str) -> (StatusCode, Json<AdminError>) {
    refuse(StatusCode::NOT_FOUND, format!("no pool {name:?} in the table in force"))
}

#[derive(Deserialize)]
struct PoolQuery {
    pool: String,
}

async fn reset(State(gateway): State<Arc<Gateway>>, Query(query): Query<PoolQuery>) -> Answer {
    let pool = gateway.pool(&query.pool).ok_or_else(|| no_pool(&query.pool))?;
    let stats = pool.stats();
    pool.counters.reset();
    Ok(Json(stats).into_response())
}

#[derive(Deserialize)]
struct DrainedQuery {
    pool: String,
    generation: u64,
    timeout_ms: u64,
}

async fn drained(State(gateway): State<Arc<Gateway>>, Query(query): Query<DrainedQuery>) -> Answer {
    let pool = gateway.pool(&query.pool).ok_or_else(|| no_pool(&query.pool))?;
    let generation = Generation(query.generation);
    let mut answer = Drained { pool: query.pool, generation, in_flight: 0, tunnels: 0 };
    // What is neither in the table nor in flight has drained.
    let Some(backend) = pool.backend(generation) else { return Ok(Json(answer).into_response()) };
    let limit = Duration::from_millis(query.timeout_ms).min(limits::DRAINED_MAX);
    if tokio::time::timeout(limit, backend.drained()).await.is_ok() {
        return Ok(Json(answer).into_response());
    }
    (answer.in_flight, answer.tunnels) = backend.busy();
    Ok((StatusCode::REQUEST_TIMEOUT, Json(answer)).into_response())
}

async fn scrape(State(gateway): State<Arc<Gateway>>) -> Answer {
    let text = metrics::render(gateway)
        .map_err(|error| refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the metrics: {error}")))?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    match gateway.model() {
        Some(_) if !gateway.ending.announce.is_set() => "ok\n".into_response(),
        Some(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "the gateway is ending").into_response(),
        None => refuse(StatusCode::SERVICE_UNAVAILABLE, "no routes are in force yet").into_response(),
    }
}
