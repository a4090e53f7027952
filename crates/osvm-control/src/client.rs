//! A typed client of the daemon's HTTP interface, for the CLI and for tests.
//!
//! One connection a request: the socket is local, and a stream (events, logs, a rollout's progress) holds its own for long.

use std::{
    collections::VecDeque,
    io,
    marker::PhantomData,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use osvm_model::{
    Event, ServiceName, ServiceSpec, ServiceStatus,
    api::{DaemonStatus, ErrorBody, EventList, InstanceList, LogLine, Progress, ServiceList, SwapRequest},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use crate::paths::Paths;

/// The longest answer that is read whole.
const ANSWER_LIMIT: usize = 16 << 20;
/// The longest line of a stream.
const LINE_LIMIT: usize = 1 << 20;

/// Why a request to the daemon failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no osvm daemon runs for {}", state_dir.display())]
    NotRunning {
        /// The state folder.
        state_dir: PathBuf,
        /// What connecting to its socket said.
        #[source]
        source: io::Error,
    },
    /// The socket could not be used.
    #[error("cannot reach the osvm daemon at {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke off: the daemon ended.
    #[error("the osvm daemon closed the connection")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The daemon answered with an error.
    #[error("{}", .0.error)]
    Answered(Box<ErrorBody>),
    /// The daemon's answer has another shape than this version knows.
    #[error("the osvm daemon's answer is not understood; is it of another version?")]
    Shape(#[source] serde_json::Error),
}

impl ClientError {
    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Answered(body) => body.help.as_deref(),
            Self::Shape(_) => Some("stop it with `osvm down` of its own version"),
            _ => None,
        }
    }

    /// Which exit code a command ends with.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Answered(body) => body.exit,
            _ => 1,
        }
    }
}

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Those with a greater id; none means from the first that is kept.
    pub after: Option<u64>,
    /// Only this service's.
    pub service: Option<ServiceName>,
    /// Only the last so many (before any that follow).
    pub last: Option<u64>,
}

/// The daemon of one state folder.
#[derive(Clone, Debug)]
pub struct Client {
    paths: Paths,
}

impl Client {
    /// Names the daemon of a state folder; nothing is connected yet.
    pub fn new(state_dir: &Path) -> Self {
        Self { paths: Paths::new(state_dir) }
    }

    /// The daemon itself. The cheapest way to see whether one runs.
    pub async fn daemon(&self) -> Result<DaemonStatus, ClientError> {
        self.get("/v1/daemon").await
    }

    /// All services.
    pub async fn services(&self) -> Result<ServiceList, ClientError> {
        self.get("/v1/services").await
    }

    /// One service.
    pub async fn service(&self, name: &ServiceName) -> Result<ServiceStatus, ClientError> {
        self.get(&service_path(name, "")).await
    }

    /// Declares a service and starts it. Returns once its process was started; [`Client::ready`] waits for its checks.
    ///
    /// The same declaration again changes nothing, but for starting what was stopped. Another declaration of a running service
    /// is refused.
    pub async fn declare(&self, spec: &ServiceSpec) -> Result<ServiceStatus, ClientError> {
        self.send(Method::PUT, &service_path(&spec.name, ""), Some(spec)).await
    }

    /// Waits until the service's instance passed its checks. An instance that ends by itself meanwhile is an error (with its last
    /// words), though the daemon goes on trying.
    pub async fn ready(&self, name: &ServiceName, timeout: Duration) -> Result<ServiceStatus, ClientError> {
        self.get(&service_path(name, &format!("/ready?timeout_ms={}", timeout.as_millis()))).await
    }

    /// Ends the service's instances; it stays declared and keeps its state.
    pub async fn stop(&self, name: &ServiceName) -> Result<ServiceStatus, ClientError> {
        self.post(name, "/stop").await
    }

    /// Starts a stopped service on its state. Returns as [`Client::declare`].
    pub async fn start(&self, name: &ServiceName) -> Result<ServiceStatus, ClientError> {
        self.post(name, "/start").await
    }

    /// Ends the serving instance and starts another on its state. Returns as [`Client::declare`].
    pub async fn restart(&self, name: &ServiceName) -> Result<ServiceStatus, ClientError> {
        self.post(name, "/restart").await
    }

    /// Stops the service and removes it with its state, logs and revisions.
    pub async fn remove(&self, name: &ServiceName) -> Result<(), ClientError> {
        let answer = self.exchange(Method::DELETE, &service_path(name, ""), None::<&()>).await?;
        whole(answer).await.map(drop)
    }

    /// Replaces the serving instance. The rollout goes on if the stream is dropped.
    pub async fn swap(&self, name: &ServiceName, request: &SwapRequest) -> Result<Lines<Progress>, ClientError> {
        self.stream(Method::POST, &service_path(name, "/swap"), Some(request)).await
    }

    /// Goes back to the revision that served before.
    pub async fn rollback(&self, name: &ServiceName) -> Result<Lines<Progress>, ClientError> {
        self.stream(Method::POST, &service_path(name, "/rollback"), None::<&()>).await
    }

    /// All instances that should be alive.
    pub async fn instances(&self) -> Result<InstanceList, ClientError> {
        self.get("/v1/instances").await
    }

    /// Past events, oldest first.
    pub async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, ClientError> {
        self.get::<EventList>(&events_path(query, false)).await.map(|list| list.events)
    }

    /// Past events and then each new one.
    pub async fn follow_events(&self, query: &EventQuery) -> Result<Lines<Event>, ClientError> {
        self.stream(Method::GET, &events_path(query, true), None::<&()>).await
    }

    /// The last `lines` lines of the service's newest instance; with `follow` also what comes after, of the instances that follow
    /// too.
    pub async fn logs(&self, name: &ServiceName, lines: u64, follow: bool) -> Result<Lines<LogLine>, ClientError> {
        let path = service_path(name, &format!("/logs?lines={lines}&follow={}", u8::from(follow)));
        self.stream(Method::GET, &path, None::<&()>).await
    }

    /// Stops all services, the gateway and the daemon. Returns once the daemon's process has let go of the state folder.
    pub async fn down(&self) -> Result<(), ClientError> {
        let answer = self.exchange(Method::POST, "/v1/down", None::<&()>).await?;
        whole(answer).await?;
        crate::lock::wait_until_free(&self.paths).await;
        Ok(())
    }

    /// Any path that answers with text: `/metrics`, `/openapi.json`.
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let answer = self.exchange(Method::GET, path, None::<&()>).await?;
        Ok(String::from_utf8_lossy(&whole(answer).await?).into_owned())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.send(Method::GET, path, None::<&()>).await
    }

    async fn post<T: DeserializeOwned>(&self, name: &ServiceName, verb: &str) -> Result<T, ClientError> {
        self.send(Method::POST, &service_path(name, verb), None::<&()>).await
    }

    async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let answer = self.exchange(method, path, body).await?;
        serde_json::from_slice(&whole(answer).await?).map_err(ClientError::Shape)
    }

    async fn stream<B: Serialize, T>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Lines<T>, ClientError> {
        let answer = self.exchange(method, path, body).await?;
        Ok(Lines { body: answer.into_body(), partial: BytesMut::new(), lines: VecDeque::new(), of: PhantomData })
    }

    /// Sends one request and turns a status of 400 or more into an error.
    async fn exchange<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Response<Incoming>, ClientError> {
        let body = match body {
            Some(body) => Bytes::from(serde_json::to_vec(body).map_err(ClientError::Shape)?),
            None => Bytes::new(),
        };
        let socket = self.paths.daemon_socket();
        let stream = UnixStream::connect(&socket).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { state_dir: self.paths.root().to_owned(), source }
            }
            _ => ClientError::Connect { socket, source },
        })?;
        let broken = |error: hyper::Error| ClientError::Broken(error.into());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the exchange: when the answer's body is read or dropped.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "osvm")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| ClientError::Broken(error.into()))?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        if answer.status() < StatusCode::BAD_REQUEST {
            return Ok(answer);
        }
        let status = answer.status();
        let text = whole(answer).await?;
        Err(ClientError::Answered(Box::new(serde_json::from_slice(&text).unwrap_or_else(|_| ErrorBody {
            schema: osvm_model::api::SCHEMA.to_owned(),
            error: format!("the osvm daemon answered {status}: {}", String::from_utf8_lossy(&text)),
            help: None,
            exit: 1,
        }))))
    }
}

/// The path of a service; `/` within a name is escaped.
fn service_path(name: &ServiceName, rest: &str) -> String {
    format!("/v1/services/{}{rest}", name.as_str().replace('/', "%2F"))
}

fn events_path(query: &EventQuery, follow: bool) -> String {
    let mut path = format!("/v1/events?follow={}", u8::from(follow));
    if let Some(after) = query.after {
        path += &format!("&after={after}");
    }
    if let Some(service) = &query.service {
        path += &format!("&service={}", service.as_str().replace('/', "%2F"));
    }
    if let Some(last) = query.last {
        path += &format!("&last={last}");
    }
    path
}

async fn whole(answer: Response<Incoming>) -> Result<Bytes, ClientError> {
    match Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ClientError::Broken("the answer is too long".into())),
        Err(error) => Err(ClientError::Broken(error)),
    }
}

/// A stream of JSON values, one a line.
#[derive(Debug)]
pub struct Lines<T> {
    body: Incoming,
    partial: BytesMut,
    lines: VecDeque<Bytes>,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    /// The next value; none when the daemon ended the stream. Safe to cancel.
    pub async fn next(&mut self) -> Option<Result<T, ClientError>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(serde_json::from_slice(&line).map_err(ClientError::Shape));
            }
            match self.body.frame().await? {
                Ok(frame) => self.take(frame.data_ref().map_or(&[][..], |data| data)),
                Err(error) => return Some(Err(ClientError::Broken(error.into()))),
            }
            if self.partial.len() > LINE_LIMIT {
                return Some(Err(ClientError::Broken("a line of the stream is too long".into())));
            }
        }
    }

    fn take(&mut self, data: &[u8]) {
        self.partial.extend_from_slice(data);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line = self.partial.split_to(end + 1).freeze();
            if line.len() > 1 {
                self.lines.push_back(line);
            }
        }
    }
}
