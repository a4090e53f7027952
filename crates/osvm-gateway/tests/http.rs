//! What the gateway promises to HTTP clients.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{sync::Arc, time::Duration};

use common::{
    Gateway, error_word, get,
    instance::{Instance, whole},
    post,
};
use http::StatusCode;
use http_body_util::BodyExt;
use osvm_model::{BackendRole::*, ListenerProtocol, route::ReplayPolicy};
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_change_under_load_without_a_failed_request() {
    const SWAPS: u64 = 300;
    const CLIENTS: usize = 16;
    let mut gateway = Gateway::start(ListenerProtocol::Http, &[]).await;
    let (even, odd) = (Instance::fixed("even").await, Instance::fixed("odd").await);
    gateway.route(&[(0, even.addr, Active)]).await;
    let done = tokio_util::sync::CancellationToken::new();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (mut client, done) = (gateway.client().await, done.clone());
        clients.spawn(async move {
            let mut sent = 0u64;
            while !done.is_cancelled() {
                let response = client.post("/", "x").await;
                assert_eq!(response.status(), StatusCode::OK);
                sent += 1;
            }
            sent
        });
    }
    for swap in 1..=SWAPS {
        let (old, new) = if swap % 2 == 0 { (odd.addr, even.addr) } else { (even.addr, odd.addr) };
        gateway.route(&[(swap - 1, old, Drain), (swap, new, Active)]).await;
        let (status, left) = gateway.drained(swap - 1, 5000).await;
        assert_eq!(status, StatusCode::OK, "{left:?}");
    }
    done.cancel();
    let sent: u64 = clients.join_all().await.into_iter().sum();
    assert!(sent >= SWAPS, "only {sent} requests");
    let stats = gateway.stats().await;
    assert_eq!(stats.failures.total(), 0);
    assert_eq!(stats.requests, sent);
}

#[tokio::test]
async fn a_held_request_waits_and_is_answered() {
    let mut gateway = Gateway::start(ListenerProtocol::Http, &[]).await;
    let instance = Instance::fixed("served").await;
    gateway.pool().hold = true;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let mut client = gateway.client().await;
    let waiting = tokio::spawn(async move { client.get("/").await });
    gateway.until(|stats| stats.waiting == 1).await;
    assert_eq!(instance.requests(), 0);
    gateway.pool().hold = false;
    gateway.put().await;
    assert_eq!(waiting.await.unwrap().body(), "served");
    let stats = gateway.stats().await;
    assert_eq!((stats.waited, stats.waiting, stats.failures.total()), (1, 0, 0));
    assert!(stats.longest_wait_us > 0);
}

#[tokio::test]
async fn a_request_that_nobody_takes_is_answered_503_after_the_wait() {
    let mut gateway = Gateway::start(ListenerProtocol::Http, &[]).await;
    gateway.pool().wait_ms = 50;
    gateway.route(&[]).await;
    let response = gateway.client().await.get("/").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(error_word(&response), Some("no-instance"));
    assert!(response.headers().contains_key("retry-after"));
    let stats = gateway.stats().await;
    assert_eq!(stats.failures.unavailable, 1);
    assert!(stats.longest_wait_us >= 50_000);
}

#[tokio::test]
async fn no_more_wait_than_may() {
    let mut gateway = Gateway::start(ListenerProtocol::Http, &["--max-waiting", "2"]).await;
    gateway.route(&[]).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let mut client = gateway.client().await;
        waiting.spawn(async move { client.get("/").await });
    }
    gateway.until(|stats| stats.waiting == 2).await;
    let response = gateway.client().await.get("/").await;
    assert_eq!((response.status(), error_word(&response)), (StatusCode::SERVICE_UNAVAILABLE, Some("crowded")));
    let instance = Instance::fixed("served").await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    assert!(waiting.join_all().await.iter().all(|response| response.status() == StatusCode::OK));
}

#[tokio::test]
async fn a_request_under_which_its_instance_dies_goes_to_the_next() {
    let mut gateway = Gateway::start(ListenerProtocol::Http, &[]).await;
    gateway.replay(ReplayPolicy::SolanaRpc);
    let arrived = Arc::new(Notify::new());
    let arrival = Arc::clone(&arrived);
    let stuck = Instance::start(move |request| {
        let arrival = Arc::clone(&arrival);
        async move {
            request.into_body().collect().await.unwrap();
            arrival.notify_one();
            std::future::pending().await
        }
    })
    .await;
    let retried = Instance::start(|request| async move {
        let mark = request.headers().get("x-osvm-retry").map(|value| value.to_str().unwrap().to_owned());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Some(whole(format!("{mark:?} {}", String::from_utf8_lossy(&body))))
    })
    .await;
    gateway.route(&[(1, stuck.addr, Active)]).await;
    let mut client = gateway.client().await;
    let mut request = post("/", r#"{"method":"sendTransaction"}"#);
    request.headers_mut().insert("x-osvm-retry", "forged".parse().unwrap());
    let answer = tokio::spawn(async move { client.send(request).await });
    arrived.notified().await;
    drop(stuck);
    gateway.until(|stats| stats.replayed == 1).await;
    gateway.route(&[(2, retried.addr, Active)]).await;
    assert_eq!(answer.await.unwrap().body(), r#"Some("1") {"method":"sendTransaction"}"#);
    assert_eq!(gateway.stats().await.failures.total(), 0);
}

#[tokio::test]
async fn an_airdrop_is_not_sent_twice() {
    let mut gateway = Gateway::start(ListenerProtocol::Http, &[]).await;
    gateway.replay(ReplayPolicy::SolanaRpc);
    let dying = Instance::start(|request| async move {
        request.into_body().collect().await.unwrap();
        None
    })
    .await;
    gateway.route(&[(1, dying.addr, Active)]).await;
    let response = gateway.client().await.post("/", r#"[{"method":"requestAirdrop"}]"#).await;
    assert_eq!((response.status(), error_word(&response)), (StatusCode::BAD_GATEWAY, Some("broken-answer")));
    assert_eq!(dying.requests(), 1);
    assert_eq!(gateway.stats().await.failures.bad_gateway, 1);
}

#[tokio::test]
async fn what_an_instance_did_not_process_is_sent_again_whatever_the_policy() {
    let mut gateway = Gateway::start(ListenerProtocol::Http, &[]).await;
    let refusing = Instance::start(|_| async {
        let mut response = whole("standby");
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert("x-osvm-not-processed", "1".parse().unwrap());
        Some(response)
    })
    .await;
    let leading = Instance::start(|request| async move {
        assert!(!request.headers().contains_key("x-osvm-retry"), "nothing was processed before");
        Some(whole(request.into_body().collect().await.unwrap().to_bytes()))
    })
    .await;
    gateway.route(&[(1, refusing.addr, Active)]).await;
    let mut client = gateway.client().await;
    let answer = tokio::spawn(async move { client.post("/", r#"{"method":"requestAirdrop"}"#).await });
    gateway.until(|stats| stats.replayed >= 2).await;
    gateway.route(&[(1, refusing.addr, Drain), (2, leading.addr, Active)]).await;
    assert_eq!(answer.await.unwrap().body(), r#"{"method":"requestAirdrop"}"#);
}

#[tokio::test]
async fn an_instance_that_is_not_there_is_waited_for() {
    let mut gateway = Gateway::start(ListenerProtocol::Http, &[]).await;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    drop(socket);
    gateway.route(&[(1, addr, Active)]).await;
    let mut client = gateway.client().await;
    let answer = tokio::spawn(async move { client.post("/", "x").await });
    gateway.until(|stats| stats.waiting == 1).await;
    let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
    let _late = Instance::start_on(listener, |_| async { Some(whole("late")) }).await;
    assert_eq!(answer.await.unwrap().body(), "late");
}

#[tokio::test]
async fn heads_are_cleaned_and_completed() {
    let mut gateway = Gateway::start(ListenerProtocol::Http, &[]).await;
    let echo = Instance::start(|request| async move {
        let mut lines: Vec<_> =
            request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        let mut response = whole(format!("{} {}\n{}", request.method(), request.uri(), lines.join("\n")));
        response.headers_mut().insert("connection", "x-private".parse().unwrap());
        response.headers_mut().insert("x-private", "1".parse().unwrap());
        Some(response)
    })
    .await;
    gateway.route(&[(1, echo.addr, Active)]).await;
    let mut request = get("/a?b=c");
    for (name, value) in [
        ("connection", "x-hop, keep-alive, host"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-osvm-not-processed", "1"),
        ("x-request-id", "mine-1"),
        ("traceparent", "00-1-2-01"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let response = gateway.client().await.send(request).await;
    assert_eq!(
        response.body(),
        "GET /a?b=c\nhost: test\ntraceparent: 00-1-2-01\nx-forwarded-for: 10.0.0.1, 127.0.0.1\nx-forwarded-host: test\n\
         x-forwarded-proto: http\nx-request-id: mine-1"
    );
    assert_eq!(response.headers()["x-request-id"], "mine-1");
    assert!(!response.headers().contains_key("x-private"));
    let response = gateway.client().await.get("/").await;
    assert_eq!(response.headers()["x-request-id"].len(), 32);
}

#[tokio::test]
async fn requests_go_to_the_instance_with_the_fewest_in_flight() {
    let mut gateway = Gateway::start(ListenerProtocol::Http, &[]).await;
    let busy = Instance::start(|request| async move {
        if request.uri() == "/wait" { std::future::pending().await } else { Some(whole("busy")) }
    })
    .await;
    gateway.route(&[(1, busy.addr, Active)]).await;
    let mut client = gateway.client().await;
    let waiting = tokio::spawn(async move { client.get("/wait").await });
    gateway.until(|stats| stats.generations[0].in_flight == 1).await;
    let idle = Instance::fixed("idle").await;
    gateway.route(&[(1, busy.addr, Active), (2, idle.addr, Active)]).await;
    for _ in 0..5 {
        assert_eq!(gateway.client().await.get("/").await.body(), "idle");
    }
    waiting.abort();
    // The client is gone, so the request ends on the instance too.
    tokio::time::timeout(Duration::from_secs(5), gateway.until(|stats| stats.generations[0].in_flight == 0))
        .await
        .unwrap();
}
