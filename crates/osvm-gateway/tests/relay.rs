//! What the relay promises of every request on a connection, not of its first alone.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{
    Gateway, PATIENCE,
    instance::{Instance, whole},
};
use futures_util::StreamExt;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use osvm_model::{BackendRole::*, ListenerProtocol::Http, route::ReplayPolicy};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const GOOD: &str = "POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";

/// Sends raw bytes and reads until the connection ends.
async fn raw(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection stays open").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads one answer with a Content-Length.
async fn one_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let reading = async {
        loop {
            let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
            if let Some(end) = text.find("\r\n\r\n") {
                let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
                if answer.len() >= end + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap()) {
                    return;
                }
            }
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection ended at {text:?}");
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("no whole answer");
    String::from_utf8(answer).unwrap()
}

/// An instance that answers with method, path and body.
async fn echo() -> Instance {
    Instance::start(|request| async move {
        let head = format!("[{} {}", request.method(), request.uri());
        let body = request.into_body().collect().await.ok()?.to_bytes();
        Some(whole(format!("{head} {}]", String::from_utf8_lossy(&body))))
    })
    .await
}

#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_are_refused_at_any_place_of_a_connection() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = echo().await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut expected = 0;
    for sly in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 18446744073709551621\r\n",
        "Content-Length:\r\n",
        "Content-Length: 5\nX: y\r\n",
        "Content-Length: 5\rX: y\r\n",
        "X: y\r\n Content-Length: 5\r\n",
        "X: y\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\r\n",
        "Host: b\r\n",
        "Host : b\r\n",
        "\0: x\r\n",
    ] {
        for before in [0, 1, 3] {
            let request = format!("POST /sly HTTP/1.1\r\nHost: a\r\n{sly}\r\n0\r\n\r\n{smuggled}");
            let answer = raw(gateway.addr, (GOOD.repeat(before) + &request).as_bytes()).await;
            assert_eq!(answer.matches("HTTP/1.1 200").count(), before, "{sly:?}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 400").count(), 1, "{sly:?}: {answer}");
            expected += before as u64;
        }
    }
    assert_eq!(instance.requests(), expected, "something sly came through");
}

#[tokio::test]
async fn broken_chunks_end_the_connection_and_nothing_behind_them_is_read() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = echo().await;
    for policy in [ReplayPolicy::Unsent, ReplayPolicy::SolanaRpc] {
        gateway.replay(policy);
        gateway.route(&[(1, instance.addr, Active)]).await;
        for chunks in [
            "5\nhello\r\n0\r\n\r\n",
            "-1\r\nx\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "\r\n5\r\nhello\r\n0\r\n\r\n",
            "FFFFFFFFFFFFFFFFF\r\nx",
            "0\r\nT: x\n\r\n",
            "g\r\n",
        ] {
            let sly = format!(
                "{GOOD}POST /sly HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
            );
            let answer = raw(gateway.addr, sly.as_bytes()).await;
            assert!(answer.contains("[POST /good hi]") && answer.contains("HTTP/1.1 400"), "{chunks:?}: {answer}");
            assert!(!answer.contains("sly") && !answer.contains("smuggled"), "{chunks:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_request_that_asks_for_an_upgrade_opens_no_way_round_the_checks() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = echo().await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let upgrade = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let sly = "POST /sly HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = raw(gateway.addr, format!("{upgrade}{sly}").as_bytes()).await;
    assert!(answer.contains("[GET /up ]") && answer.contains("connection: close"), "{answer}");
    assert_eq!(instance.requests(), 1);
}

#[tokio::test]
async fn an_offer_of_http2_is_passed_over() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = echo().await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let offer = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n";
    let answer = raw(gateway.addr, offer.as_bytes()).await;
    assert!(answer.contains("HTTP/1.1 200") && answer.contains("[GET /x ]"), "{answer}");
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = echo().await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let mut requests = String::new();
    for number in 0..50 {
        requests += &match number % 3 {
            0 => format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
            _ => format!(
                "POST /{number} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\n"
            ),
        };
    }
    requests += "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = raw(gateway.addr, requests.as_bytes()).await;
    let paths: Vec<_> = answer.split('[').skip(1).map(|rest| rest.split(']').next().unwrap().to_owned()).collect();
    let expected: Vec<_> = (0..50)
        .map(|number| if number % 3 == 0 { format!("GET /{number} ") } else { format!("POST /{number} abc") })
        .chain(["GET /last ".to_owned()])
        .collect();
    assert_eq!(paths, expected);
}

#[tokio::test]
async fn every_head_of_a_connection_has_to_arrive_in_time() {
    let mut gateway = Gateway::start(Http, &["--head-timeout-ms", "200", "--idle-timeout-ms", "60000"]).await;
    let instance = echo().await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.write_all(GOOD.as_bytes()).await.unwrap();
    assert!(one_answer(&mut stream).await.contains("[POST /good hi]"));
    // Longer than a head may take; an idle connection may.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (mut read, mut write) = stream.split();
    let drip = async {
        for byte in b"GET /slow HTTP/1.1\r\nHost: ".iter().chain(std::iter::repeat_n(&b'a', 1000)) {
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut answer = [0; 12];
    tokio::select! {
        read = read.read_exact(&mut answer) => assert_eq!((read.unwrap(), &answer), (12, b"HTTP/1.1 408")),
        () = drip => panic!("it went on listening"),
    }
    assert_eq!(instance.requests(), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let mut gateway = Gateway::start(Http, &["--idle-timeout-ms", "100"]).await;
    let instance = echo().await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let answer = raw(gateway.addr, GOOD.as_bytes()).await;
    assert!(answer.ends_with("[POST /good hi]"), "{answer}");
}

#[tokio::test]
async fn http10_clients_are_served_as_they_understand_it() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let chunked = Instance::start(|_| async {
        let stream = futures_util::stream::iter(["a", "b"])
            .map(|piece| Ok(http_body::Frame::data(bytes::Bytes::from_static(piece.as_bytes()))));
        Some(Response::new(http_body_util::combinators::BoxBody::new(http_body_util::StreamBody::new(stream))))
    })
    .await;
    gateway.route(&[(1, chunked.addr, Active)]).await;
    // A body without length ends with the connection: HTTP/1.0 has no chunks.
    let answer = raw(gateway.addr, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\nab") && !answer.contains("chunked"), "{answer}");
    let plain = echo().await;
    gateway.route(&[(2, plain.addr, Active)]).await;
    let two = "GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n";
    let answer = raw(gateway.addr, two.as_bytes()).await;
    assert!(answer.contains("connection: keep-alive") && answer.ends_with("[GET /2 ]"), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_and_its_body_through() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = echo().await;
    for (policy, length) in [(ReplayPolicy::SolanaRpc, 5), (ReplayPolicy::Unsent, 100_000)] {
        gateway.replay(policy);
        gateway.route(&[(1, instance.addr, Active)]).await;
        for framing in [format!("Content-Length: {length}"), "Transfer-Encoding: chunked".to_owned()] {
            let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
            let head = format!("POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{framing}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut interim = [0; 25];
            tokio::time::timeout(PATIENCE, stream.read_exact(&mut interim)).await.unwrap().unwrap();
            assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
            let body = "y".repeat(length);
            let coded = match framing.starts_with('C') {
                true => body.clone(),
                false => format!("{length:x}\r\n{body}\r\n0\r\n\r\n"),
            };
            stream.write_all(coded.as_bytes()).await.unwrap();
            assert!(one_answer(&mut stream).await.ends_with(&format!("[POST /x {body}]")));
        }
    }
}

/// An instance that says exactly this to each request, and closes if told so. It counts its connections.
async fn says(text: &'static str, closes: bool) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                let mut head = [0; 4096];
                while let Ok(1..) = stream.read(&mut head).await {
                    stream.write_all(text.as_bytes()).await.unwrap();
                    if closes {
                        return;
                    }
                }
            });
        }
    });
    (addr, connections)
}

#[tokio::test]
async fn what_an_instance_says_beyond_its_answer_reaches_no_client() {
    let mut gateway = Gateway::start(Http, &["--workers", "1"]).await;
    for (said, used_again) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n", false),
    ] {
        let (addr, connections) = says(said, false).await;
        gateway.route(&[(u64::from(addr.port()), addr, Active)]).await;
        for _ in 0..3 {
            assert_eq!(gateway.client().await.get("/").await.body(), "ok");
        }
        assert_eq!(connections.load(SeqCst), if used_again { 1 } else { 3 }, "{said:?}");
    }
}

#[tokio::test]
async fn a_connection_that_its_instance_closed_is_not_used_again() {
    let mut gateway = Gateway::start(Http, &["--workers", "1"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (closed, mut is_closed) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let closed = closed.clone();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                // It does not say that it will close.
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                drop(stream);
                closed.send(()).unwrap();
            });
        }
    });
    // Nothing may be sent again, so a request on a dead connection would be lost.
    gateway.replay(ReplayPolicy::Unsent);
    gateway.route(&[(1, addr, Active)]).await;
    let mut client = gateway.client().await;
    for _ in 0..20 {
        assert_eq!(client.post("/", "x").await.body(), "ok");
        is_closed.recv().await.unwrap();
    }
    assert_eq!(gateway.stats().await.replayed, 0);
}

#[tokio::test]
async fn answers_are_framed_for_the_client_however_the_instance_frames_them() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for (number, (said, closes, status, ends)) in [
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", true, 200, "d\r\nuntil the end\r\n0\r\n\r\n"),
        ("HTTP/1.0 200 OK\r\n\r\nold", true, 200, "3\r\nold\r\n0\r\n\r\n"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n0\r\nT: x\r\n\r\n",
            false,
            200,
            "2\r\nab\r\n0\r\n\r\n",
        ),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, 200, "ok"),
        ("HTTP/1.1 204 No Content\r\n\r\n", false, 204, "\r\n\r\n"),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", false, 304, "\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, 502, "}\n"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", false, 502, "}\n"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", false, 502, "}\n"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", false, 502, "}\n"),
        ("SSH-2.0-OpenSSH\r\n", false, 502, "}\n"),
    ]
    .into_iter()
    .enumerate()
    {
        gateway.route(&[(number as u64, says(said, closes).await.0, Active)]).await;
        let answer = raw(gateway.addr, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with(ends), "{said:?}: {answer}");
    }
    let stats = gateway.stats().await;
    assert_eq!(stats.failures.bad_gateway, 5);
}

#[tokio::test]
async fn the_answer_to_head_has_a_length_and_no_body() {
    let mut gateway = Gateway::start(Http, &[]).await;
    gateway.route(&[(1, says("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", false).await.0, Active)]).await;
    let request =
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2) + "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = raw(gateway.addr, request.as_bytes()).await;
    assert_eq!(answer.matches("content-length: 1000\r\n").count(), 3, "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    gateway.pool().wait_ms = 1;
    gateway.route(&[]).await;
    let answer = raw(gateway.addr, b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_early_answer_ends_a_connection_on_which_the_body_is_not_done() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let early = Instance::start(|request| async move {
        drop(request);
        let mut response = whole("enough");
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        Some(response)
    })
    .await;
    gateway.route(&[(1, early.addr, Active)]).await;
    // What follows the head is body, whatever it looks like.
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{smuggled}");
    let answer = raw(gateway.addr, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("enough"), "{answer}");
    assert_eq!(early.requests(), 1);
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_a_body_ends_the_connection() {
    let mut gateway = Gateway::start(Http, &[]).await;
    gateway.replay(ReplayPolicy::SolanaRpc);
    gateway.pool().wait_ms = 50;
    gateway.route(&[]).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    // Longer than what is kept, so that the rest is still on its way when nobody is found.
    let chunk = format!("{:x}\r\n{}\r\n", 70_000, "x".repeat(70_000));
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{:x}\r\n{smuggled}",
        smuggled.len()
    );
    let answer = raw(gateway.addr, request.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn a_refusal_after_a_whole_request_leaves_the_connection_open() {
    let mut gateway = Gateway::start(Http, &[]).await;
    gateway.pool().wait_ms = 20;
    gateway.route(&[]).await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    for _ in 0..2 {
        stream.write_all(GOOD.as_bytes()).await.unwrap();
        let answer = one_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("x-request-id: "), "{answer}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However a client's bytes are cut into pieces, the instance gets the same requests.
    #[test]
    fn how_requests_are_cut_into_pieces_changes_nothing(
        bodies in proptest::collection::vec((any::<bool>(), "[a-z]{0,40}"), 1..6),
        cuts in proptest::collection::vec(1usize..60, 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut gateway = Gateway::start(Http, &[]).await;
            let instance = echo().await;
            gateway.route(&[(1, instance.addr, Active)]).await;
            let (mut bytes, mut expected) = (String::new(), Vec::new());
            for (number, (chunked, body)) in bodies.iter().enumerate() {
                let coded = match (chunked, body.len()) {
                    (false, length) => format!("Content-Length: {length}\r\n\r\n{body}"),
                    (true, 0) => "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
                    (true, length) => format!("Transfer-Encoding: chunked\r\n\r\n{length:X}\r\n{body}\r\n0\r\n\r\n"),
                };
                let last = if number + 1 == bodies.len() { "Connection: close\r\n" } else { "" };
                bytes += &format!("POST /{number} HTTP/1.1\r\nHost: a\r\n{last}{coded}");
                expected.push(format!("POST /{number} {body}"));
            }
            let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut rest, mut cut) = (bytes.as_bytes(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rest.len().min(*cut.next().unwrap()));
                stream.write_all(piece).await.unwrap();
                rest = more;
            }
            let mut answer = String::new();
            tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
            let seen: Vec<_> = answer.split('[').skip(1).map(|one| one.split(']').next().unwrap().to_owned()).collect();
            assert_eq!(seen, expected, "{answer}");
        });
    }
}

#[tokio::test]
async fn many_clients_on_all_workers_get_their_own_answers() {
    let mut gateway = Gateway::start(Http, &["--workers", "3"]).await;
    let instance = echo().await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let mut clients = tokio::task::JoinSet::new();
    let gateway = Arc::new(gateway);
    for number in 0..30 {
        let gateway = Arc::clone(&gateway);
        clients.spawn(async move {
            let mut client = gateway.client().await;
            for turn in 0..20 {
                let answer = client.post(&format!("/{number}/{turn}"), format!("{number}-{turn}")).await;
                assert_eq!(answer.body(), &format!("[POST /{number}/{turn} {number}-{turn}]"));
            }
        });
    }
    clients.join_all().await;
    let stats = gateway.stats().await;
    assert_eq!((stats.requests, stats.failures.total(), stats.generations[0].in_flight), (600, 0, 0));
}
