//! One function for each entry of the table.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use osvm_model::{
    ServiceName, ServiceSpec, ServiceStatus,
    api::{DaemonStatus, EventList, InstanceList, SCHEMA, ServiceList, SwapRequest},
    defaults,
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{logs, metrics, openapi, stream as ndjson};
use crate::{error::chain, failure::Failure, manager::Manager, store::EventFilter};

type Daemon = State<Arc<Manager>>;

/// The service's name in the path.
pub(super) struct Name(ServiceName);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|rejection| Failure::bad(rejection.body_text()))?;
        text.parse().map(Self).map_err(|error: osvm_model::InvalidName| Failure::bad(error.to_string()))
    }
}

fn body<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::bad(format!("the request's JSON is not understood: {error}")))
}

fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Failure> {
    query.map(|Query(query)| query).map_err(|rejection| Failure::bad(rejection.body_text()))
}

pub(super) async fn daemon(State(manager): Daemon) -> Json<DaemonStatus> {
    Json(DaemonStatus {
        schema: SCHEMA.to_owned(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        gateway_pid: manager.ctx.gateway.pid(),
        state_dir: manager.ctx.paths.root().to_owned(),
    })
}

pub(super) async fn services(State(manager): Daemon) -> Result<Json<ServiceList>, Failure> {
    Ok(Json(ServiceList { schema: SCHEMA.to_owned(), services: manager.statuses()? }))
}

pub(super) async fn service(State(manager): Daemon, Name(name): Name) -> Result<Json<ServiceStatus>, Failure> {
    manager.status(&name).map(Json)
}

pub(super) async fn declare(
    State(manager): Daemon,
    Name(name): Name,
    text: Bytes,
) -> Result<Json<ServiceStatus>, Failure> {
    let spec: ServiceSpec = body(&text)?;
    if spec.name != name {
        return Err(Failure::bad(format!("the declaration names {}, the path {name}", spec.name)));
    }
    manager.declare(spec).await.map(Json)
}

pub(super) async fn remove(State(manager): Daemon, Name(name): Name) -> Result<StatusCode, Failure> {
    manager.remove(&name).await.map(|()| StatusCode::OK)
}

#[derive(Deserialize)]
pub(super) struct ReadyQuery {
    timeout_ms: Option<u64>,
}

pub(super) async fn ready(
    State(manager): Daemon,
    Name(name): Name,
    asked: Result<Query<ReadyQuery>, QueryRejection>,
) -> Result<Json<ServiceStatus>, Failure> {
    let limit = query(asked)?.timeout_ms.map_or(defaults::HEALTH_TIMEOUT, Duration::from_millis);
    manager.ready(&name, limit).await.map(Json)
}

pub(super) async fn swap(State(manager): Daemon, Name(name): Name, text: Bytes) -> Result<Response, Failure> {
    let request = if text.is_empty() { SwapRequest::default() } else { body(&text)? };
    manager.swap(&name, request).await.map(ndjson::from_channel)
}

pub(super) async fn rollback(State(manager): Daemon, Name(name): Name) -> Result<Response, Failure> {
    manager.rollback(&name).await.map(ndjson::from_channel)
}

pub(super) async fn stop(State(manager): Daemon, Name(name): Name) -> Result<Json<ServiceStatus>, Failure> {
    manager.stop(&name).await.map(Json)
}

pub(super) async fn start(State(manager): Daemon, Name(name): Name) -> Result<Json<ServiceStatus>, Failure> {
    manager.start(&name).await.map(Json)
}

pub(super) async fn restart(State(manager): Daemon, Name(name): Name) -> Result<Json<ServiceStatus>, Failure> {
    manager.restart(&name).await.map(Json)
}

#[derive(Deserialize)]
pub(super) struct LogsQuery {
    lines: Option<u64>,
    follow: Option<u8>,
}

pub(super) async fn logs(
    State(manager): Daemon,
    Name(name): Name,
    asked: Result<Query<LogsQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let asked = query(asked)?;
    manager.service(&name)?;
    let lines = asked.lines.map_or(usize::MAX, |lines| usize::try_from(lines).unwrap_or(usize::MAX));
    Ok(ndjson::lines(logs::lines(manager, name, lines, asked.follow == Some(1))))
}

pub(super) async fn instances(State(manager): Daemon) -> Result<Json<InstanceList>, Failure> {
    Ok(Json(InstanceList { schema: SCHEMA.to_owned(), instances: manager.instances(None)? }))
}

#[derive(Deserialize)]
pub(super) struct EventsQuery {
    after: Option<u64>,
    service: Option<ServiceName>,
    last: Option<u64>,
    follow: Option<u8>,
}

pub(super) async fn events(
    State(manager): Daemon,
    asked: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let asked = query(asked)?;
    let store = &manager.ctx.store;
    let mut filter = EventFilter { after: asked.after.unwrap_or(0), service: asked.service };
    if let Some(last) = asked.last {
        filter.after = store.before_last_events(&filter, last)?;
    }
    if asked.follow != Some(1) {
        let events = store.events(&filter)?;
        return Ok(Json(EventList { schema: SCHEMA.to_owned(), events }).into_response());
    }
    let newest = manager.ctx.events.watch();
    let batches = stream::unfold((manager, filter, newest), |(manager, mut filter, mut newest)| async move {
        loop {
            newest.mark_unchanged();
            match manager.ctx.store.events(&filter) {
                Ok(events) if events.is_empty() => {}
                Ok(events) => {
                    filter.after = events.last().map_or(filter.after, |event| event.id);
                    return Some((stream::iter(events), (manager, filter, newest)));
                }
                Err(error) => {
                    tracing::error!(error = chain(&error), "cannot read the events");
                    return None;
                }
            }
            tokio::select! {
                changed = newest.changed() => changed.ok()?,
                () = manager.end.cancelled() => return None,
            }
        }
    });
    Ok(ndjson::lines(futures_util::StreamExt::flatten(batches)))
}

pub(super) async fn down(State(manager): Daemon) -> Result<StatusCode, Failure> {
    // The connection may break off before all is stopped; the daemon goes down all the same.
    let stopping = tokio::spawn(async move {
        let stopped = manager.down().await;
        manager.end.cancel();
        stopped
    });
    match stopping.await {
        Ok(stopped) => stopped.map(|()| StatusCode::OK),
        Err(_) => Err(Failure::failed("the daemon ended before all was stopped", "osvm ps shows what is left")),
    }
}

pub(super) async fn metrics(State(manager): Daemon) -> Result<Response, Failure> {
    let text = metrics::text(&manager)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

pub(super) async fn openapi() -> Json<serde_json::Value> {
    Json(openapi::document())
}
