//! HTTP/1.1, and HTTP/2 by ALPN or prior knowledge, on one port.
//!
//! The first head on a connection is read here: it tells the version, must arrive in time, and is checked for framing that
//! could be read in two ways. hyper does the rest. Not here: HTTP/3, WebSocket over HTTP/2 (extended CONNECT), trailers of
//! HTTP/1.1 clients, forward proxying (`CONNECT`).

mod answer;
pub(crate) mod body;
mod forward;
mod frames;
mod head;
mod prefixed;
mod replay;
mod upgrade;

use std::{convert::Infallible, pin::pin, sync::Arc};

use bytes::BytesMut;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    connection::{Client, ClientStream, Spoken},
    http::{answer::Refusal, prefixed::Prefixed},
    limits,
};

/// What an HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// hyper's smallest buffer.
const SMALLEST_BUFFER: usize = 8 << 10;
/// For an HTTP/2 client to answer a ping.
const PING_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

/// Serves one client until it, or the gateway, is done.
pub(crate) async fn serve<S: ClientStream>(client: Client, mut stream: S, spoken: Spoken) {
    let mut read = BytesMut::new();
    let first = match spoken {
        Spoken::Http2 => Ok(Some(Spoken::Http2)),
        _ => first_head(&client, &mut stream, &mut read).await,
    };
    match first {
        Ok(Some(Spoken::Http2)) => http2(client, Prefixed::new(read, stream)).await,
        Ok(Some(_)) => http1(client, Prefixed::new(read, stream)).await,
        Ok(None) => {}
        Err(refusal) => {
            // The client may be gone; there is nobody else to tell.
            let _ = stream.write_all(&refusal.bytes()).await;
            let _ = stream.shutdown().await;
        }
    }
}

/// Reads until the version is known and, for HTTP/1, the first head is there. None: the client went away, or said nothing.
async fn first_head<S: ClientStream>(
    client: &Client,
    stream: &mut S,
    read: &mut BytesMut,
) -> Result<Option<Spoken>, Refusal> {
    let limits = &client.gateway.limits;
    let reading = async {
        loop {
            match stream.read_buf(read).await {
                Ok(1..) => {}
                _ => return Ok(None),
            }
            if read.starts_with(PREFACE) {
                return Ok(Some(Spoken::Http2));
            }
            if PREFACE.starts_with(read) {
                continue;
            }
            if has_whole_head(read, limits.headers)? {
                return Ok(Some(Spoken::Http1));
            }
            if read.len() > limits.head {
                return Err(Refusal::HeadTooLarge);
            }
        }
    };
    let outcome = tokio::select! {
        outcome = timeout(limits.head_timeout, reading) => Some(outcome),
        () = client.listening.closed.cancelled() => None,
    };
    match outcome {
        Some(Ok(known)) => known,
        Some(Err(_)) if !read.is_empty() => Err(Refusal::RequestTimeout),
        _ => Ok(None),
    }
}

/// Whether `read` begins with a whole head, one whose framing can be read in one way only.
fn has_whole_head(read: &[u8], most_headers: usize) -> Result<bool, Refusal> {
    let mut headers = vec![httparse::EMPTY_HEADER; most_headers];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(read) {
        Ok(httparse::Status::Complete(_)) => {
            let fields = request.headers.iter().map(|field| (field.name, field.value));
            head::ambiguous_framing(fields).map_or(Ok(true), |why| Err(Refusal::BadRequest(why)))
        }
        Ok(httparse::Status::Partial) => Ok(false),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::HeadTooLarge),
        Err(_) => Err(Refusal::BadRequest("the request is not HTTP")),
    }
}

async fn http1<S: ClientStream>(client: Client, stream: Prefixed<S>) {
    let limits = Arc::clone(&client.gateway.limits);
    let closed = client.listening.closed.clone();
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.head.max(SMALLEST_BUFFER));
    if limits.headers != limits::HEADERS {
        builder.max_headers(limits.headers);
    }
    let client = Arc::new(client);
    let service = service_fn(move |request| {
        let client = Arc::clone(&client);
        async move { Ok::<_, Infallible>(forward::handle(&client, request).await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    // How a connection ends is the client's affair; what went wrong with a request was answered and counted.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = closed.cancelled() => connection.as_mut().graceful_shutdown(),
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
        () = closed.cancelled() => {}
        () = announce.cancelled() => {}
    }
    // GOAWAY: the streams that are open end, new ones go elsewhere.
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
