//! What the gateway does to clients that are slow, large or sly.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    Gateway, error_word, get,
    instance::{Instance, whole},
    post,
};
use futures_util::StreamExt;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use osvm_model::{BackendRole::*, ListenerProtocol::Http, route::ReplayPolicy};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

/// Sends raw bytes and reads until the connection ends.
async fn raw(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // It may be closed on us while we write; what it said before counts.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(3), reading).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn pieces(count: usize, length: usize) -> BoxBody<Bytes, Infallible> {
    let piece = Bytes::from(vec![7; length]);
    let stream = futures_util::stream::iter(std::iter::repeat_n(piece, count)).map(|piece| Ok(Frame::data(piece)));
    BoxBody::new(StreamBody::new(stream))
}

#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_reach_no_instance() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = Instance::fixed("reached").await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for head in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: -1\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Host: b\r\n",
        " Folded: x\r\n",
        "X: a\rb\r\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n0\r\n\r\n{inner}");
        let answer = raw(gateway.addr, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{head:?} was answered {answer:?}");
    }
    let answer = raw(gateway.addr, b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(instance.requests(), 0);
}

#[tokio::test]
async fn a_sly_second_request_on_a_connection_is_refused_too() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = Instance::start(|request| async move { Some(whole(request.uri().path().to_owned())) }).await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let sly = "GET /good HTTP/1.1\r\nHost: a\r\n\r\nPOST /sly HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde";
    let answer = raw(gateway.addr, sly.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("HTTP/1.1 400"), "{answer}");
    assert_eq!(instance.requests(), 1);
}

#[tokio::test]
async fn the_absolute_form_names_the_host() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = Instance::start(|request| async move {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        Some(whole(format!("{host} {}", request.uri())))
    })
    .await;
    gateway.table.listeners[0].routes[0].host = Some("real.test".to_owned());
    gateway.route(&[(1, instance.addr, Active)]).await;
    let answer =
        raw(gateway.addr, b"GET http://real.test:80/path?q HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n")
            .await;
    assert!(answer.ends_with("real.test:80 /path?q"), "{answer}");
    let answer = raw(gateway.addr, b"GET /path HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("x-osvm-error: no-route"), "{answer}");
}

#[tokio::test]
async fn a_forward_proxy_it_is_not() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = Instance::fixed("reached").await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let answer = raw(gateway.addr, b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    assert_eq!(instance.requests(), 0);
}

#[tokio::test]
async fn a_head_that_does_not_arrive_is_not_waited_for() {
    let mut gateway = Gateway::start(Http, &["--head-timeout-ms", "200"]).await;
    gateway.route(&[]).await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let began = std::time::Instant::now();
    let mut answer = String::new();
    let (mut read, mut write) = stream.split();
    let drip = async {
        for byte in b"GET / HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::join!(drip, async { read.read_to_string(&mut answer).await.unwrap_or_default() });
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let mut gateway = Gateway::start(Http, &["--body-timeout-ms", "100"]).await;
    let instance = Instance::start(|request| async move {
        request.into_body().collect().await.ok()?;
        Some(whole("read"))
    })
    .await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    for length in [10, 1_000_000] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nabc");
        let answer = raw(gateway.addr, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("x-osvm-error: request-timeout"), "{answer}");
    }
    assert_eq!(gateway.stats().await.failures.total(), 0, "a client's fault is no failure");
}

#[tokio::test]
async fn heads_have_a_limit() {
    let mut gateway = Gateway::start(Http, &["--max-head", "10000", "--max-headers", "20"]).await;
    let instance = Instance::fixed("reached").await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(30));
    for request in [long, many] {
        let answer = raw(gateway.addr, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    assert_eq!(instance.requests(), 0);
}

#[tokio::test]
async fn bodies_have_a_limit_whether_their_length_is_told_or_not() {
    let mut gateway = Gateway::start(Http, &["--max-body", "1000"]).await;
    let instance = Instance::start(|request| async move {
        request.into_body().collect().await.ok()?;
        Some(whole("read"))
    })
    .await;
    for policy in [ReplayPolicy::Unsent, ReplayPolicy::SolanaRpc] {
        gateway.replay(policy);
        gateway.route(&[(1, instance.addr, Active)]).await;
        let response = gateway.client().await.post("/", vec![b'x'; 1001]).await;
        assert_eq!((response.status(), error_word(&response)), (StatusCode::PAYLOAD_TOO_LARGE, Some("body-too-long")));
        let chunk = "40\r\n".to_owned() + &"x".repeat(64) + "\r\n";
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned() + &chunk.repeat(20);
        let answer = raw(gateway.addr, (chunked + "0\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert_eq!(gateway.client().await.post("/", vec![b'x'; 1000]).await.status(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_mebibytes_stream_both_ways() {
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 1024;
    let mut gateway = Gateway::start(Http, &[]).await;
    // An echo that begins its answer before the request has ended.
    let instance = Instance::start(|request| async move {
        let body =
            request.into_body().into_data_stream().filter_map(|piece| async { piece.ok().map(Frame::data).map(Ok) });
        Some(Response::new(BoxBody::new(SyncBody(StreamBody::new(Box::pin(body))))))
    })
    .await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("/").header("host", "a").body(pieces(PIECES, PIECE)).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(length, PIECE * PIECES);
}

/// `StreamBody` of a stream that is `Send` only; the test's box wants `Sync` too. It is polled through `&mut` alone.
struct SyncBody<B>(B);

impl<B: http_body::Body + Unpin> http_body::Body for SyncBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_stops_the_writer() {
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 4096;
    let mut gateway = Gateway::start(Http, &[]).await;
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let instance = Instance::start(move |_| {
        let count = Arc::clone(&count);
        async move {
            let stream = futures_util::stream::iter(0..PIECES).map(move |_| {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                Ok(Frame::data(Bytes::from_static(&[7; PIECE])))
            });
            Some(Response::new(BoxBody::new(StreamBody::new(stream))))
        }
    })
    .await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // Nothing is read. What is sent settles at what sockets and buffers hold.
    let mut before = usize::MAX;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = sent.load(std::sync::atomic::Ordering::SeqCst);
        if now == before {
            break;
        }
        before = now;
    }
    assert!(before < PIECES / 4, "{before} pieces of {PIECES} went into buffers");
}

#[tokio::test]
async fn an_instance_that_does_not_answer_is_a_504() {
    let mut gateway = Gateway::start(Http, &["--answer-timeout-ms", "50"]).await;
    let instance = Instance::start(|_| std::future::pending()).await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let response = gateway.client().await.send(get("/")).await;
    assert_eq!((response.status(), error_word(&response)), (StatusCode::GATEWAY_TIMEOUT, Some("answer-timeout")));
    assert_eq!(gateway.stats().await.failures.timeout, 1);
}

#[tokio::test]
async fn an_answer_that_dies_half_way_is_replaced_by_a_whole_one() {
    let mut gateway = Gateway::start(Http, &[]).await;
    gateway.replay(ReplayPolicy::SolanaRpc);
    let half = Arc::new(Notify::new());
    let told = Arc::clone(&half);
    let dying = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = dying.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = dying.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
        told.notify_one();
        drop((stream, dying));
    });
    let whole_one = Instance::fixed("whole").await;
    gateway.route(&[(1, addr, Active)]).await;
    let mut client = gateway.client().await;
    let answer = tokio::spawn(async move { client.send(post("/", r#"{"method":"getSlot"}"#)).await });
    half.notified().await;
    gateway.route(&[(2, whole_one.addr, Active)]).await;
    assert_eq!(answer.await.unwrap().body(), "whole");
    assert_eq!(gateway.stats().await.failures.total(), 0);
}

#[tokio::test]
async fn an_answer_that_dies_half_way_and_cannot_be_repeated_is_seen_to_break_off() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let dying = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = dying.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = dying.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
    });
    gateway.route(&[(1, addr, Active)]).await;
    let mut client = gateway.client().await;
    assert!(client.try_send(get("/")).await.is_err());
    gateway.until(|stats| stats.failures.broken == 1).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_bytes_of_a_client_stop_the_gateway(requests in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut gateway = Gateway::start(Http, &["--head-timeout-ms", "20"]).await;
            let instance = Instance::fixed("served").await;
            gateway.route(&[(1, instance.addr, Active)]).await;
            for request in requests {
                raw(gateway.addr, &request).await;
            }
            assert_eq!(gateway.client().await.get("/").await.body(), "served");
        });
    }
}
