//! The hand-over contract's HTTP interface ([`osvm_model::handover`]), for the control plane only.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use osvm_bank::Error;
use osvm_model::handover::{NodeStatus, PATH_ALONE, PATH_HAND_OVER, PATH_LEAD, PATH_STATUS, Refusal};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    http::serve_connections,
    limits,
    listen::Listener,
    node::{Node, VERSION},
};

/// Connections of the control plane.
const CONNECTIONS: usize = 64;

/// Serves until `stop`.
pub(crate) async fn serve(node: Arc<Node>, listener: Listener, stop: CancellationToken) {
    serve_connections(listener, CONNECTIONS, stop, move |request| answer(Arc::clone(&node), request)).await;
}

async fn answer(node: Arc<Node>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, PATH_STATUS) => json(StatusCode::OK, &status(&node)),
        (&Method::POST, PATH_HAND_OVER) => {
            let bank = node.bank.clone();
            match blocking(move || bank.hand_over(limits::HAND_OVER)).await {
                Ok(done) => {
                    tracing::info!(slot = done.slot, pause_us = done.pause_us, "handed over");
                    json(StatusCode::OK, &done)
                }
                Err(refusal) => refusal,
            }
        }
        (&Method::POST, PATH_LEAD) => {
            let bank = node.bank.clone();
            match blocking(move || bank.lead()).await {
                Ok(()) => {
                    tracing::info!("leads, as it was told");
                    json(StatusCode::OK, &status(&node))
                }
                Err(refusal) => refusal,
            }
        }
        (&Method::POST, PATH_ALONE) => {
            let bank = node.bank.clone();
            match blocking(move || bank.alone()).await {
                Ok(()) => json(StatusCode::OK, &status(&node)),
                Err(refusal) => refusal,
            }
        }
        (method, path) => refuse(StatusCode::NOT_FOUND, format!("there is no {method} {path}")),
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Response<Full<Bytes>>> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::warn!(%error, "refused the control plane");
            // Uncertain is no refusal: the other end may lead now.
            let uncertain = matches!(error, Error::Uncertain);
            let status = if uncertain { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::CONFLICT };
            Err(refuse(status, error.to_string()))
        }
        Err(_) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, "the bank broke off".to_owned())),
    }
}

fn status(node: &Node) -> NodeStatus {
    let status = node.bank.status();
    NodeStatus {
        role: status.role,
        version: VERSION.to_owned(),
        genesis_hash: status.genesis_hash.to_string(),
        slot: status.slot,
        accounts: status.accounts,
        pending: status.pending,
        applied: status.applied,
        in_sync: status.in_sync,
    }
}

fn refuse(status: StatusCode, error: String) -> Response<Full<Bytes>> {
    json(status, &Refusal { error })
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    // The contract's types are made of numbers and strings.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
