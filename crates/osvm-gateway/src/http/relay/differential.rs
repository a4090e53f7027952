//! The strict parser beside hyper's: whatever is taken here, hyper takes too and reads in the same way.

use std::{convert::Infallible, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::{
    body::{Body, Coding},
    request,
};

/// A request as a parser understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Understood {
    method: Method,
    target: String,
    host: String,
    body: Vec<u8>,
}

/// All requests up to the first that is refused or not whole.
fn ours(bytes: &[u8]) -> Vec<Understood> {
    let (mut rest, mut all) = (BytesMut::from(bytes), Vec::new());
    while !rest.is_empty() {
        let head = request::read(&rest, 100, |head| {
            let one = Understood {
                method: head.method.clone(),
                target: head.target.to_string(),
                host: head.host.to_string(),
                body: Vec::new(),
            };
            Ok((head.length, head.framing, head.keep_alive, one))
        });
        let Ok(Some((length, framing, keep_alive, mut one))) = head else { break };
        rest.advance(length);
        let mut body = Body::new(framing);
        if body.pass(&mut rest, &mut one.body, Coding::Plain).is_err() || !body.is_done() {
            break;
        }
        all.push(one);
        if !keep_alive {
            break;
        }
    }
    all
}

/// The same by hyper.
async fn hypers(bytes: &[u8]) -> Vec<Understood> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let sink = Arc::clone(&sink);
        async move {
            let (parts, body) = request.into_parts();
            let host = parts.headers.get("host").map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
            let authority = parts.uri.authority().map(ToString::to_string);
            if let Ok(body) = body.collect().await {
                sink.lock().push(Understood {
                    method: parts.method,
                    target: parts.uri.path_and_query().map_or("/", |rest| rest.as_str()).to_owned(),
                    host: authority.or(host).unwrap_or_default(),
                    body: body.to_bytes().to_vec(),
                });
            }
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    // What it refuses is what is compared.
    let _ = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service).await;
    let all = seen.lock();
    all.clone()
}

fn piece() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("Host: a"),
        Just("Host: a.test:80"),
        Just("host:a"),
        Just("Content-Length: 5"),
        Just("Content-Length: 0"),
        Just("content-length:11"),
        Just("Content-Length: +5"),
        Just("Content-Length: 5, 5"),
        Just("Content-Length : 5"),
        Just("Transfer-Encoding: chunked"),
        Just("Transfer-Encoding: chunked, chunked"),
        Just("Transfer-Encoding: gzip, chunked"),
        Just("Transfer-Encoding: identity"),
        Just("transfer-encoding:\tChunked "),
        Just("Transfer-Encoding:\u{b}chunked"),
        Just("Connection: close"),
        Just("Connection: keep-alive, content-length"),
        Just(" folded: x"),
        Just("X: \u{e9}"),
        Just("X: a\rb"),
        Just(""),
    ];
    let end = prop_oneof![12 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\r\n")];
    (line, end).prop_map(|(line, end)| format!("{line}{end}"))
}

fn message() -> impl Strategy<Value = String> {
    let start = prop_oneof![
        4 => Just("GET / HTTP/1.1\r\nHost: a\r\n"),
        4 => Just("POST /p?q=1 HTTP/1.1\r\nHost: a\r\n"),
        1 => Just("GET http://b.test/x HTTP/1.1\r\nHost: a\r\n"),
        1 => Just("OPTIONS * HTTP/1.1\r\nHost: a\r\n"),
        1 => Just("GET / HTTP/1.0\r\n"),
        1 => Just("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n"),
        1 => Just("GET /a#b HTTP/1.1\r\nHost: a\r\n"),
        1 => Just("GET a HTTP/1.1\r\nHost: a\r\n"),
        1 => Just("\r\nGET / HTTP/1.1\r\nHost: a\r\n"),
        1 => Just("\nGET / HTTP/1.1\r\nHost: a\r\n"),
        1 => Just("GET  / HTTP/1.1\r\nHost: a\r\n"),
        1 => Just("GET / HTTP/2.0\r\nHost: a\r\n"),
    ];
    let body = prop_oneof![
        3 => Just(""),
        2 => Just("hello"),
        1 => Just("0\r\n\r\n"),
        1 => Just("5\r\nhello\r\n0\r\n\r\n"),
        1 => Just("5;a=b\r\nhello\r\n0\r\nT: x\r\n\r\n"),
        1 => Just("05\r\nhello\r\n00\r\n\r\n"),
        1 => Just("5\nhello\n0\n\n"),
        1 => Just("5\r\nhelloX0\r\n\r\n"),
        1 => Just("5\r\nhelloX\n0\r\n\r\n"),
        1 => Just("-5\r\nhello\r\n0\r\n\r\n"),
        1 => Just("FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
    ];
    let fields = proptest::collection::vec(piece(), 0..3);
    (start, fields, body).prop_map(|(start, fields, body)| format!("{start}{}\r\n{body}", fields.concat()))
}

fn compare(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ours, hypers) = (ours(bytes), runtime.block_on(hypers(bytes)));
    // It may go on where this parser stopped, never the other way round, and never otherwise.
    assert!(
        hypers.starts_with(&ours),
        "{:?} is\n{ours:#?}\nhere and\n{hypers:#?}\nto hyper",
        String::from_utf8_lossy(bytes)
    );
}

#[test]
fn plain_requests_are_understood_at_all() {
    let two = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiPOST /b HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nho\r\n0\r\n\r\n";
    assert_eq!(ours(two).len(), 2);
    compare(two);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_taken_here_is_what_hyper_reads(messages in proptest::collection::vec(message(), 1..4)) {
        compare(messages.concat().as_bytes());
    }

    #[test]
    fn a_changed_byte_is_no_way_in(
        messages in proptest::collection::vec(message(), 1..3),
        at in any::<proptest::sample::Index>(),
        byte in prop_oneof![Just(b'\n'), Just(b'\r'), Just(0), Just(b' '), Just(b'\t'), Just(b':'), any::<u8>()],
    ) {
        let mut bytes = messages.concat().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        compare(&bytes);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = ours(&bytes);
    }
}
