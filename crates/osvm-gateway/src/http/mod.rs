//! HTTP/1.1, and HTTP/2 by ALPN or prior knowledge, on one port.
//!
//! `relay` serves HTTP/1.1; what it does not do goes to hyper: HTTP/2, and single requests for an upgrade. Not here: HTTP/3, WebSocket over HTTP/2 (extended CONNECT), trailers of
//! HTTP/1.1 clients, forward proxying (`CONNECT`).

mod answer;
pub(crate) mod body;
mod forward;
mod frames;
mod head;
mod prefixed;
mod relay;
mod replay;
mod upgrade;

use std::{convert::Infallible, pin::pin, sync::Arc};

use bytes::BytesMut;
use http::{HeaderValue, StatusCode, header::CONNECTION};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::{
    connection::{Client, ClientStream, Spoken},
    http::{prefixed::Prefixed, relay::Next},
    limits,
};

/// What an HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// hyper's smallest buffer.
const SMALLEST_BUFFER: usize = 8 << 10;
/// For an HTTP/2 client to answer a ping.
const PING_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

/// Serves one client until it, or the gateway, is done.
///
/// What most connections do not need is boxed, here and in `relay`, so that the rest lies close together.
pub(crate) async fn serve<S: ClientStream>(client: Client, stream: S, spoken: Spoken) {
    if spoken == Spoken::Http2 {
        return Box::pin(http2(client, Prefixed::new(BytesMut::new(), stream))).await;
    }
    match relay::serve(client, stream, spoken == Spoken::Unknown).await {
        Next::End => {}
        Next::Http2(client, read, stream) => Box::pin(http2(client, Prefixed::new(read, stream))).await,
        Next::Upgrade(client, read, stream) => Box::pin(upgrade_one(client, Prefixed::new(read, stream))).await,
    }
}

/// Serves one request that asks for another protocol. Its head was checked; if the instance stays with HTTP, the connection ends
/// with the answer, so that no head is read that was not checked.
async fn upgrade_one<S: ClientStream>(client: Client, stream: Prefixed<S>) {
    let limits = Arc::clone(&client.gateway.limits);
    let closed = client.listening.closed.clone();
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head.max(SMALLEST_BUFFER));
    if limits.headers != limits::HEADERS {
        builder.max_headers(limits.headers);
    }
    let client = Arc::new(client);
    let service = service_fn(move |request| {
        let client = Arc::clone(&client);
        async move {
            let mut response = forward::handle(&client, request).await;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    // How a connection ends is the client's affair; what went wrong with a request was answered and counted.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = closed.wait() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn http2<S: ClientStream>(client: Client, stream: Prefixed<S>) {
    let limits = Arc::clone(&client.gateway.limits);
    let (closed, announce) = (client.listening.closed.clone(), client.gateway.ending.announce.clone());
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits::STREAMS)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(PING_TIMEOUT);
    let client = Arc::new(client);
    let service = service_fn(move |request| {
        let client = Arc::clone(&client);
        async move { Ok::<_, Infallible>(forward::handle(&client, request).await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = closed.wait() => {}
        () = announce.wait() => {}
    }
    // GOAWAY: the streams that are open end, new ones go elsewhere.
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
