//! The HTTP side of JSON-RPC: connections, paths, CORS, limits. What a call means is `rpc`'s.
//!
//! HTTP/1.1 and HTTP/2 with prior knowledge on one port, as clients choose.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    limits,
    listen::{Listener, refuse},
    node::Node,
    rpc::{self, Reply},
};

/// Browsers may keep a preflight's answer for this long, in seconds; agave's value.
const CORS_MAX_AGE: HeaderValue = HeaderValue::from_static("86400");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Serves JSON-RPC until `stop`.
pub(crate) async fn serve_rpc(node: Arc<Node>, listener: Listener, stop: CancellationToken) {
    let limit = node.limits.http_connections;
    serve_connections(listener, limit, stop, move |request| answer(Arc::clone(&node), request)).await;
}

/// Serves until `stop`, then lets what is in flight end for [`limits::DRAIN`].
pub(crate) async fn serve_connections<S, F>(mut listener: Listener, limit: usize, stop: CancellationToken, service: S)
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limit));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits::HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = stop.cancelled() => None,
        };
        let Some(stream) = stream else { break };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tokio::spawn(async move { refuse(stream, &format!("too many connections (limit {limit})")).await });
            continue;
        };
        let service = hyper::service::service_fn(service.clone());
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
        tokio::spawn(async move {
            // A client that breaks off is no event.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits::DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still in flight after {} s", limits::DRAIN.as_secs());
    }
}

async fn answer(node: Arc<Node>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let from_browser = request.headers().contains_key(header::ORIGIN);
    let mut response = match *request.method() {
        Method::POST => post(&node, request).await,
        Method::OPTIONS => options(&request),
        Method::GET if request.uri().path() == "/health" => text(StatusCode::OK, node.health().word()),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "Used HTTP Method is not allowed. POST or OPTIONS is required\n"),
    };
    if from_browser {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    Ok(response)
}

async fn post(node: &Arc<Node>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let is_json = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes().get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/json"))
    });
    if !is_json {
        return text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Supplied content type is not allowed. Content-Type: application/json is required\n",
        );
    }
    let retry = request.headers().get(osvm_model::handover::RETRY).is_some_and(|value| value == "1");
    let limit = node.limits.body_bytes;
    let body = Limited::new(request.into_body(), limit).collect();
    let body = match tokio::time::timeout(limits::BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return text(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("Request body is larger than {limit} bytes; raise --limit-body to allow it\n"),
            );
        }
        Ok(Err(_)) => return text(StatusCode::BAD_REQUEST, "The request's body broke off\n"),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "The request's body did not arrive in time\n"),
    };
    match rpc::handle(node, body, retry).await {
        Reply::Body(body) => json(StatusCode::OK, body),
        Reply::NotProcessed(body) => {
            let mut response = json(StatusCode::SERVICE_UNAVAILABLE, body);
            response.headers_mut().insert(osvm_model::handover::NOT_PROCESSED, HeaderValue::from_static("1"));
            response
        }
    }
}

/// A browser's question whether it may post.
fn options(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("OPTIONS, POST");
    headers.insert(header::ALLOW, methods.clone());
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if request.headers().contains_key(header::ORIGIN) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, CORS_MAX_AGE);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        if let Some(asked) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
    }
    response
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    with_type(status, JSON, body)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    with_type(status, TEXT, body)
}

fn with_type(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
