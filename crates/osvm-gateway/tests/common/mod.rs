//! A gateway in this process, instances that behave as told, and clients for both.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod instance;
pub(crate) mod node;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use clap::Parser;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use osvm_model::{
    Backend, BackendRole, Endpoint, Generation, Listener, ListenerProtocol, Pool, RouteTable,
    gateway::{Drained, GatewayStats, PoolStats, RoutesApplied},
    route::{ReplayPolicy, Route, TlsFiles},
};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::oneshot,
    task::JoinHandle,
};

/// A test that needs longer is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: osvm_gateway::Args,
}

/// The flags as a user would write them.
pub(crate) fn args(admin: &Path, flags: &[&str]) -> osvm_gateway::Args {
    let admin = admin.to_str().unwrap();
    Command::parse_from(["gateway", "--admin", admin].iter().chain(flags)).args
}

/// A running gateway with one listener. Dropping it ends it.
pub(crate) struct Gateway {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: PathBuf,
    pub(crate) table: RouteTable,
    end: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), osvm_gateway::Error>>,
    folder: tempfile::TempDir,
}

/// The name of the pool in [`Gateway::table`].
pub(crate) const POOL: &str = "test/pool";

impl Gateway {
    pub(crate) async fn start(protocol: ListenerProtocol, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let admin = folder.path().join("gateway.sock");
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        let args = args(&admin, flags);
        let task = tokio::spawn(async move {
            osvm_gateway::serve(args, vec![socket], async {
                let _ = ended.await;
            })
            .await
        });
        let route = Route { host: None, path_prefix: None, pool: POOL.to_owned() };
        let table = RouteTable {
            version: 0,
            listeners: vec![Listener { addr, protocol, tls: None, routes: vec![route] }],
            pools: BTreeMap::from([(POOL.to_owned(), Pool { wait_ms: 5000, ..Pool::default() })]),
        };
        let gateway = Self { addr, admin, table, end: Some(end), task, folder };
        while UnixStream::connect(&gateway.admin).await.is_err() {
            tokio::task::yield_now().await;
        }
        gateway
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn pool(&mut self) -> &mut Pool {
        self.table.pools.get_mut(POOL).unwrap()
    }

    pub(crate) fn replay(&mut self, policy: ReplayPolicy) {
        self.pool().replay = policy;
    }

    pub(crate) fn tls(&mut self, files: TlsFiles) {
        self.table.listeners[0].tls = Some(files);
    }

    /// Sends the table with these backends, as the next version.
    pub(crate) async fn route(&mut self, backends: &[(u64, SocketAddr, BackendRole)]) -> RoutesApplied {
        let to_backend = |(generation, addr, role): &(u64, SocketAddr, BackendRole)| Backend {
            generation: Generation(*generation),
            endpoint: Endpoint::Tcp(*addr),
            role: *role,
        };
        self.pool().backends = backends.iter().map(to_backend).collect();
        self.put().await
    }

    /// Sends the table as the next version.
    pub(crate) async fn put(&mut self) -> RoutesApplied {
        self.table.version += 1;
        let body = serde_json::to_vec(&self.table).unwrap();
        let (status, answer) = admin(&self.admin, Method::PUT, "/v1/routes", body).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).unwrap()
    }

    pub(crate) async fn admin(&self, method: Method, path: &str, body: impl Into<Bytes>) -> (StatusCode, Bytes) {
        admin(&self.admin, method, path, body).await
    }

    pub(crate) async fn stats(&self) -> PoolStats {
        let (status, body) = self.admin(Method::GET, "/v1/stats", "").await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice::<GatewayStats>(&body).unwrap().pools.remove(POOL).unwrap()
    }

    /// Returns once the pool's figures are as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&PoolStats) -> bool) {
        let reached = async {
            while !wanted(&self.stats().await) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("never so: {:?}", self.stats().await);
        }
    }

    pub(crate) async fn drained(&self, generation: u64, timeout_ms: u64) -> (StatusCode, Drained) {
        let path = format!("/v1/drained?pool={POOL}&generation={generation}&timeout_ms={timeout_ms}");
        let (status, body) = self.admin(Method::POST, &path, "").await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// What SIGTERM does.
    pub(crate) fn begin_end(&mut self) {
        let _ = self.end.take().unwrap().send(());
    }

    pub(crate) async fn ended(self) {
        self.ended_with(|| {}).await;
    }

    /// Ends, and then checks something before the folder goes.
    pub(crate) async fn ended_with(self, check: impl FnOnce()) {
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
        check();
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.addr).await
    }
}

/// One request to an admin socket.
pub(crate) async fn admin(path: &Path, method: Method, uri: &str, body: impl Into<Bytes>) -> (StatusCode, Bytes) {
    let stream = UnixStream::connect(path).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(uri).header("host", "admin").body(Full::new(body.into()));
    let response = sender.send_request(request.unwrap()).await.unwrap();
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes())
}

/// An HTTP/1.1 client with one connection.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    pub(crate) async fn try_send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Bytes>> {
        self.sender.ready().await?;
        let (parts, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        tokio::time::timeout(PATIENCE, self.try_send(request)).await.unwrap().unwrap()
    }

    pub(crate) async fn get(&mut self, path: &str) -> Response<Bytes> {
        self.send(get(path)).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Response<Bytes> {
        self.send(post(path, body)).await
    }
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "test").body(Full::default()).unwrap()
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path).header("host", "test").body(Full::new(body.into())).unwrap()
}

pub(crate) fn error_word<B>(response: &Response<B>) -> Option<&str> {
    response.headers().get("x-osvm-error").map(|value| value.to_str().unwrap())
}
