//! The admin interface, draining, and the end of the gateway.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{collections::HashSet, os::unix::fs::PermissionsExt, sync::Arc};

use bytes::Bytes;
use common::{
    Client, Gateway, POOL, get,
    instance::{Instance, whole},
    post,
};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use osvm_model::{BackendRole::*, Generation, ListenerProtocol::Http, RouteTable};
use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, UnixStream},
    sync::Semaphore,
};

/// An instance that answers with the request's body once `go` lets it.
async fn gated(go: &Arc<Semaphore>) -> Instance {
    let go = Arc::clone(go);
    Instance::start(move |request| {
        let go = Arc::clone(&go);
        async move {
            let body = request.into_body().collect().await.ok()?.to_bytes();
            go.acquire().await.unwrap().forget();
            Some(whole(body))
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_bodies_in_flight_are_answered_while_their_instance_drains() {
    const CLIENTS: u64 = 50;
    let mut gateway = Gateway::start(Http, &[]).await;
    let go = Arc::new(Semaphore::new(0));
    let (old, new) = (gated(&go).await, Instance::fixed("new").await);
    gateway.route(&[(1, old.addr, Active)]).await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let mut client = gateway.client().await;
        clients.spawn(async move { (number, client.post("/", vec![number as u8; 16 << 10]).await) });
    }
    gateway.until(|stats| stats.generations[0].in_flight == CLIENTS).await;
    gateway.route(&[(1, old.addr, Drain), (2, new.addr, Active)]).await;
    assert_eq!(gateway.client().await.get("/").await.body(), "new");
    let (status, left) = gateway.drained(1, 20).await;
    assert_eq!((status, left.in_flight), (StatusCode::REQUEST_TIMEOUT, CLIENTS));
    let drained = gateway.drained(1, 10_000);
    go.add_permits(CLIENTS as usize);
    assert_eq!(drained.await.0, StatusCode::OK);
    for (number, response) in clients.join_all().await {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.body(), &vec![number as u8; 16 << 10]);
    }
}

#[tokio::test]
async fn idle_connections_to_an_instance_close_when_it_drains() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let (old, new) = (Instance::fixed("old").await, Instance::fixed("new").await);
    gateway.route(&[(1, old.addr, Active)]).await;
    let mut client = gateway.client().await;
    for _ in 0..5 {
        client.get("/").await;
    }
    assert_eq!(old.connections.load(std::sync::atomic::Ordering::SeqCst), 1, "one connection is used again");
    // The same address as another generation is another instance.
    gateway.route(&[(1, old.addr, Drain), (2, old.addr, Active)]).await;
    client.get("/").await;
    assert_eq!(old.connections.load(std::sync::atomic::Ordering::SeqCst), 2, "a connection crossed a generation");
    gateway.route(&[(3, new.addr, Active)]).await;
    assert_eq!(client.get("/").await.body(), "new");
}

#[tokio::test]
async fn the_end_lets_requests_in_flight_end_and_takes_new_ones_while_it_announces() {
    let mut gateway = Gateway::start(Http, &["--announce-ms", "400"]).await;
    let go = Arc::new(Semaphore::new(0));
    let instance = gated(&go).await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let mut early = gateway.client().await;
    let in_flight = tokio::spawn(async move { early.post("/", "early").await });
    gateway.until(|stats| stats.generations[0].in_flight == 1).await;
    gateway.begin_end();
    while gateway.admin(Method::GET, "/ready", "").await.0 == StatusCode::OK {}
    // Announced: still taken, and told to go elsewhere afterwards.
    let mut late = gateway.client().await;
    let late = tokio::spawn(async move { late.post("/", "late").await });
    gateway.until(|stats| stats.generations[0].in_flight == 2).await;
    go.add_permits(2);
    let late = late.await.unwrap();
    assert_eq!((late.body(), late.headers()["connection"].to_str().unwrap()), (&Bytes::from("late"), "close"));
    assert_eq!(in_flight.await.unwrap().body(), "early");
    let addr = gateway.addr;
    gateway.ended().await;
    assert!(TcpStream::connect(addr).await.is_err(), "it listens on");
}

#[tokio::test]
async fn the_end_cuts_what_does_not_end() {
    let mut gateway = Gateway::start(Http, &["--announce-ms", "1", "--drain-ms", "100"]).await;
    let instance = Instance::start(|_| std::future::pending()).await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let mut client = gateway.client().await;
    let stuck = tokio::spawn(async move { client.try_send(get("/")).await });
    gateway.until(|stats| stats.generations[0].in_flight == 1).await;
    gateway.begin_end();
    gateway.ended().await;
    assert!(stuck.await.unwrap().is_err());
}

#[tokio::test]
async fn http2_clients_get_goaway_and_their_streams_end() {
    let mut gateway = Gateway::start(Http, &["--announce-ms", "50"]).await;
    let go = Arc::new(Semaphore::new(0));
    let instance = gated(&go).await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post("http://test/").body(Full::new(Bytes::from_static(b"h2"))).unwrap();
    let answer = tokio::spawn(sender.send_request(request));
    gateway.until(|stats| stats.generations[0].in_flight == 1).await;
    gateway.begin_end();
    go.add_permits(1);
    let body = answer.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "h2");
    connection.await.unwrap().unwrap();
    gateway.ended().await;
}

#[tokio::test]
async fn nonsense_on_the_admin_socket_changes_nothing() {
    let mut gateway = Gateway::start(Http, &[]).await;
    assert_eq!(gateway.admin(Method::GET, "/ready", "").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(gateway.admin(Method::GET, "/live", "").await.0, StatusCode::OK);
    assert_eq!(gateway.admin(Method::GET, "/v1/routes", "").await.0, StatusCode::NOT_FOUND);
    let instance = Instance::fixed("served").await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    assert_eq!(gateway.admin(Method::GET, "/ready", "").await.0, StatusCode::OK);
    let in_force = gateway.table.clone();
    let sent = |change: fn(&mut RouteTable)| {
        let mut table = in_force.clone();
        table.version += 1;
        change(&mut table);
        serde_json::to_vec(&table).unwrap()
    };
    for (body, status) in [
        (b"{".to_vec(), StatusCode::BAD_REQUEST),
        (br#"{"version":9}"#.to_vec(), StatusCode::BAD_REQUEST),
        (br#"{"version":9,"listeners":[],"pools":{},"more":1}"#.to_vec(), StatusCode::BAD_REQUEST),
        (sent(|table| table.version -= 2), StatusCode::CONFLICT),
        (
            sent(|table| {
                table.version -= 1;
                table.pools.clear();
                table.listeners.clear();
            }),
            StatusCode::CONFLICT,
        ),
        (
            sent(|table| {
                table.pools.clear();
            }),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (sent(|table| table.listeners.push(table.listeners[0].clone())), StatusCode::UNPROCESSABLE_ENTITY),
        (sent(|table| table.listeners[0].addr = "192.0.2.1:1".parse().unwrap()), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let (answered, text) = gateway.admin(Method::PUT, "/v1/routes", body).await;
        assert_eq!(answered, status, "{}", String::from_utf8_lossy(&text));
        assert!(serde_json::from_slice::<osvm_model::gateway::AdminError>(&text).is_ok());
    }
    for (method, path, status) in [
        (Method::GET, "/v1/stats?pool=nobody", StatusCode::NOT_FOUND),
        (Method::POST, "/v1/stats/reset?pool=nobody", StatusCode::NOT_FOUND),
        (Method::POST, "/v1/drained?pool=nobody&generation=1&timeout_ms=1", StatusCode::NOT_FOUND),
        (Method::POST, "/v1/drained?pool=x&generation=y", StatusCode::BAD_REQUEST),
        (Method::DELETE, "/v1/routes", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(gateway.admin(method, path, "").await.0, status, "{path}");
    }
    let (_, body) = gateway.admin(Method::GET, "/v1/routes", "").await;
    assert_eq!(serde_json::from_slice::<RouteTable>(&body).unwrap(), in_force);
    assert_eq!(gateway.client().await.get("/").await.body(), "served");
    // The same table once more is no error: whoever lost the answer may ask again.
    let again = serde_json::to_vec(&in_force).unwrap();
    assert_eq!(gateway.admin(Method::PUT, "/v1/routes", again).await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_admin_sockets_are_private_and_leave_nothing_behind() {
    let gateway = Gateway::start(Http, &["--announce-ms", "1"]).await;
    let fds = gateway.admin.with_extension("sock.fds");
    for path in [&gateway.admin, &fds] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let error = osvm_gateway::serve(common::args(&gateway.admin, &[]), Vec::new(), std::future::pending()).await;
    assert!(matches!(error, Err(osvm_gateway::Error::Admin { .. })), "a second gateway took the socket");
    let (mut gateway, admin) = (gateway, fds.with_extension(""));
    gateway.begin_end();
    let folder = gateway.folder().to_owned();
    gateway.ended_with(|| assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0)).await;
    assert!(!admin.exists());
}

#[tokio::test]
async fn listening_sockets_are_handed_out() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = Instance::fixed("served").await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let stream = UnixStream::connect(gateway.admin.with_extension("sock.fds")).await.unwrap();
    stream.readable().await.unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 1024];
    let received = rustix::net::recvmsg(
        &stream,
        &mut [std::io::IoSliceMut::new(&mut text)],
        &mut ancillary,
        rustix::net::RecvFlags::empty(),
    )
    .unwrap();
    let addresses: Vec<std::net::SocketAddr> = serde_json::from_slice(&text[..received.bytes]).unwrap();
    assert_eq!(addresses, [gateway.addr]);
    let mut sockets = Vec::new();
    for message in ancillary.drain() {
        if let rustix::net::RecvAncillaryMessage::ScmRights(fds) = message {
            sockets.extend(fds.map(std::net::TcpListener::from));
        }
    }
    assert_eq!(sockets.len(), 1);
    assert_eq!(sockets[0].local_addr().unwrap(), gateway.addr);
}

#[tokio::test]
async fn a_listener_that_left_the_table_is_closed_and_a_new_one_is_bound() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = Instance::fixed("served").await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let (old, free) = (gateway.addr, std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let mut kept = gateway.client().await;
    kept.get("/").await;
    let addr = free.local_addr().unwrap();
    drop(free);
    gateway.table.listeners[0].addr = addr;
    gateway.put().await;
    assert_eq!(Client::connect(addr).await.get("/").await.body(), "served");
    // The task that accepted is told, not joined.
    while TcpStream::connect(old).await.is_ok() {}
    assert!(kept.try_send(get("/")).await.is_err(), "its connections are ended too");
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = Instance::fixed("served").await;
    gateway.route(&[(7, instance.addr, Active)]).await;
    gateway.client().await.send(post("/", "x")).await;
    gateway.admin(Method::POST, &format!("/v1/stats/reset?pool={POOL}"), "").await;
    let (status, text) = gateway.admin(Method::GET, "/metrics", "").await;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(status, StatusCode::OK);
    for line in [
        "osvm_gateway_requests_total{pool=\"test/pool\"} 1",
        "osvm_gateway_upstream_requests_total{pool=\"test/pool\",generation=\"7\"} 1",
        "osvm_gateway_failures_total{pool=\"test/pool\",kind=\"broken\"} 0",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert_eq!(gateway.stats().await.requests, 0, "the reset is for stats");
}

mod generations {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Send,
        /// This instance becomes active, the one before drains.
        Shift(usize),
        /// Both are active.
        Both(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Send),
            1 => (0usize..3).prop_map(Step::Shift),
            1 => (0usize..3).prop_map(Step::Both),
        ];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Three instances at one time on three addresses, with a new generation for each shift. Each connection must be seen
        /// under one generation only.
        #[test]
        fn a_pooled_connection_never_crosses_a_generation(steps in steps()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut gateway = Gateway::start(Http, &[]).await;
                let instances = [Instance::fixed("0").await, Instance::fixed("1").await, Instance::fixed("2").await];
                let opened = |index: usize| instances[index].connections.load(std::sync::atomic::Ordering::SeqCst);
                let mut client = gateway.client().await;
                let mut generation = 1;
                let mut active = vec![(1, 0)];
                let mut used = HashSet::new();
                gateway.route(&[(1, instances[0].addr, Active)]).await;
                for step in steps {
                    match step {
                        Step::Send => {
                            let before = [opened(0), opened(1), opened(2)];
                            let body = client.get("/").await.into_body();
                            let index: usize = std::str::from_utf8(&body).unwrap().parse().unwrap();
                            let its = active.iter().find(|(_, one)| *one == index).expect("an instance that is not active answered");
                            // The first request of a generation needs a connection of its own; the next ones do not.
                            let fresh = used.insert(its.0);
                            assert_eq!(opened(index) - before[index], u64::from(fresh), "generation {its:?}");
                        }
                        Step::Shift(index) | Step::Both(index) => {
                            generation += 1;
                            let new = (generation, index);
                            let both = matches!(step, Step::Both(_));
                            let kept = active.iter().copied().filter(|(_, one)| both && *one != index).take(1);
                            active = kept.chain([new]).collect();
                            let table: Vec<_> = active.iter().map(|(number, one)| (*number, instances[*one].addr, Active)).collect();
                            gateway.route(&table).await;
                        }
                    }
                }
                let stats = gateway.stats().await;
                assert_eq!(stats.failures.total(), 0);
                assert!(stats.generations.iter().all(|one| one.generation <= Generation(generation)));
            });
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_instance() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = Instance::start(|_| std::future::pending()).await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let sending = tokio::spawn(async move { sender.send_request(get("/")).await.map(drop) });
    gateway.until(|stats| stats.generations[0].in_flight == 1).await;
    connection.abort();
    sending.abort();
    gateway.until(|stats| stats.generations[0].in_flight == 0).await;
    assert_eq!(gateway.stats().await.failures.total(), 0);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_a_place() {
    let mut gateway = Gateway::start(Http, &["--max-connections", "1"]).await;
    let instance = Instance::fixed("served").await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let mut first = gateway.client().await;
    first.get("/").await;
    let mut second = gateway.client().await;
    let waiting = tokio::spawn(async move { second.get("/").await });
    assert_eq!(first.get("/").await.body(), "served");
    assert!(!waiting.is_finished());
    drop(first);
    assert_eq!(waiting.await.unwrap().body(), "served");
    let mut raw = TcpStream::connect(gateway.addr).await.unwrap();
    drop(gateway);
    let _ = raw.read(&mut [0; 1]).await;
}
