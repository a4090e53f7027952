//! HTTP/2, TLS, upgrades and raw TCP.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    Gateway, get,
    instance::{Instance, whole},
};
use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use osvm_model::{
    BackendRole::*,
    ListenerProtocol::{Http, SolanaPubsub, Tcp},
    route::TlsFiles,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{accept_async, client_async, tungstenite::Message};

async fn two_streams_over_http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request =
        |path: &str| Request::post(format!("http://test{path}")).body(Full::new(Bytes::from_static(b"body"))).unwrap();
    let (one, other) = tokio::join!(sender.clone().send_request(request("/1")), sender.send_request(request("/2")));
    for (response, path) in [(one, "/1"), (other, "/2")] {
        let response = response.unwrap();
        assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), format!("test HTTP/1.1 {path} body"));
    }
}

async fn echo() -> Instance {
    Instance::start(|request| async move {
        let head = format!("{} {:?} {}", request.headers()["host"].to_str().unwrap(), request.version(), request.uri());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Some(whole(format!("{head} {}", String::from_utf8_lossy(&body))))
    })
    .await
}

#[tokio::test]
async fn http2_is_spoken_by_prior_knowledge() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = echo().await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    two_streams_over_http2(TcpStream::connect(gateway.addr).await.unwrap()).await;
}

/// A certificate for `localhost`, and a client that trusts it.
fn certificate(folder: &std::path::Path) -> (TlsFiles, Arc<rustls::RootCertStore>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFiles { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (files, Arc::new(roots))
}

async fn connect_tls(
    gateway: &Gateway,
    roots: &Arc<rustls::RootCertStore>,
    alpn: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

#[tokio::test]
async fn tls_chooses_the_version_by_alpn() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = echo().await;
    let (files, roots) = certificate(gateway.folder());
    gateway.tls(files);
    gateway.route(&[(1, instance.addr, Active)]).await;
    let stream = connect_tls(&gateway, &roots, b"h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    two_streams_over_http2(stream).await;
    let mut stream = connect_tls(&gateway, &roots, b"http/1.1").await;
    stream.write_all(b"GET /tls HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    // The end of the stream may come without TLS's own farewell.
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("test HTTP/1.1 /tls"), "{answer}");
}

#[tokio::test]
async fn subscriptions_go_over_tls_too() {
    let mut gateway = Gateway::start(SolanaPubsub, &[]).await;
    let node = common::node::Node::start(1).await;
    let (files, roots) = certificate(gateway.folder());
    gateway.tls(files);
    gateway.route(&[(1, node.addr, Active)]).await;
    let stream = connect_tls(&gateway, &roots, b"http/1.1").await;
    let (mut socket, _) = client_async("wss://localhost/", stream).await.unwrap();
    socket.send(Message::text(r#"{"jsonrpc":"2.0","id":1,"method":"slotSubscribe"}"#)).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap(), r#"{"jsonrpc":"2.0","result":0,"id":1}"#);
}

#[tokio::test]
async fn a_wrong_certificate_is_refused_and_the_old_table_stays() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = echo().await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let missing = gateway.folder().join("missing.pem");
    let mut table = gateway.table.clone();
    table.version += 1;
    table.listeners[0].tls = Some(TlsFiles { certificate: missing.clone(), key: missing });
    let body = serde_json::to_vec(&table).unwrap();
    let (status, answer) = gateway.admin(http::Method::PUT, "/v1/routes", body).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(status == StatusCode::UNPROCESSABLE_ENTITY && answer.contains("missing.pem"), "{answer}");
    assert_eq!(gateway.client().await.send(get("/")).await.status(), StatusCode::OK);
}

/// A WebSocket echo as an ordinary service.
async fn websocket_service() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

#[tokio::test]
async fn a_websocket_is_tunnelled_counted_and_closed_with_1001_once_its_instance_is_gone() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let (old, new) = (websocket_service().await, Instance::fixed("new").await);
    gateway.route(&[(1, old, Active)]).await;
    let mut client = common::node::WsClient::connect(gateway.addr).await;
    client.socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(client.socket.next().await.unwrap().unwrap(), Message::text("hello"));
    gateway.until(|stats| stats.generations[0].tunnels == 1).await;
    gateway.route(&[(1, old, Drain), (2, new.addr, Active)]).await;
    let (status, left) = gateway.drained(1, 30).await;
    assert_eq!((status, left.tunnels, left.in_flight), (StatusCode::REQUEST_TIMEOUT, 1, 0));
    client.socket.send(Message::text("still there")).await.unwrap();
    assert_eq!(client.socket.next().await.unwrap().unwrap(), Message::text("still there"));
    gateway.route(&[(2, new.addr, Active)]).await;
    assert_eq!(client.closed().await, 1001);
    assert_eq!(gateway.drained(1, 5000).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = Instance::fixed("no").await;
    gateway.route(&[(1, instance.addr, Active)]).await;
    let mut request = get("/");
    request.headers_mut().insert("connection", "upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let response = gateway.client().await.send(request).await;
    assert_eq!((response.status(), &response.body()[..]), (StatusCode::OK, &b"no"[..]));
    gateway.until(|stats| stats.generations[0].tunnels == 0).await;
}

#[tokio::test]
async fn tcp_is_copied_both_ways_with_each_end_by_itself() {
    let mut gateway = Gateway::start(Tcp, &[]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    gateway.pool().hold = true;
    gateway.route(&[(1, listener.local_addr().unwrap(), Active)]).await;
    let mut client = TcpStream::connect(gateway.addr).await.unwrap();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    gateway.until(|stats| stats.waiting == 1).await;
    gateway.pool().hold = false;
    gateway.put().await;
    let (mut instance, _) = listener.accept().await.unwrap();
    let mut question = String::new();
    instance.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    gateway.until(|stats| stats.generations[0].tunnels == 1).await;
    instance.write_all(b"answer").await.unwrap();
    drop(instance);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
    gateway.until(|stats| stats.generations[0].tunnels == 0).await;
}

#[tokio::test]
async fn instances_are_reached_over_hybrid_vsock() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let path = gateway.folder().join("i.sock");
    let guest = osvm_vsock::Guest::bind(&path).await.unwrap();
    let mut incoming = guest.listen(8899).unwrap();
    tokio::spawn(async move {
        while let Some(mut stream) = incoming.accept().await {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            assert!(head[..length].starts_with(b"GET /vsock HTTP/1.1\r\n"));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    });
    gateway.pool().backends = vec![osvm_model::Backend {
        generation: osvm_model::Generation(1),
        endpoint: osvm_model::Endpoint::Vsock { uds: path, port: 8899 },
        role: Active,
    }];
    gateway.put().await;
    assert_eq!(gateway.client().await.get("/vsock").await.body(), "ok");
}

#[tokio::test]
async fn a_slow_tls_handshake_holds_nobody_else_up() {
    let mut gateway = Gateway::start(Http, &[]).await;
    let instance = echo().await;
    let (files, roots) = certificate(gateway.folder());
    gateway.tls(files);
    gateway.route(&[(1, instance.addr, Active)]).await;
    let _silent = TcpStream::connect(gateway.addr).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), connect_tls(&gateway, &roots, b"h2")).await.unwrap();
}
