//! The streamable HTTP endpoint at `/mcp`.
//!
//! A modern request is answered by itself. An older client has a session, which only it may use. An answer before which something else
//! is said is a stream of events, any other one document. A client that goes away cancels its request.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    access::{Access, Known, Refusal},
    caller::Caller,
    config::Config,
    gateway::Gateway,
    headers,
    message::{Asks, Message, Talk, greeting, parse, speaks, whole},
    sessions::{Session, Sessions},
    version::{LEGACY, Version},
    wire::{
        HEADER_MISMATCH, INTERNAL, INVALID_REQUEST, LONGEST_LINE, METHOD_NOT_FOUND, MISSING_CAPABILITY, RpcError,
        UNSUPPORTED_VERSION,
    },
};

/// Where the endpoint is.
const PATH: &str = "/mcp";
/// Connections at one time; further ones wait.
const MOST_CONNECTIONS: usize = 256;
/// Requests that are being answered at one time; further ones are refused.
const MOST_OPEN: usize = 256;
/// How long a client may take for the head of a request, and for its body.
const SLOWEST: Duration = Duration::from_secs(15);
/// Messages of one stream that may wait for its client.
const MOST_WAITING: usize = 64;
/// The session's id.
const SESSION: &str = "mcp-session-id";

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The endpoint.
pub struct Endpoint {
    gateway: Arc<Gateway>,
    access: Access,
    sessions: Sessions,
    open: Arc<Semaphore>,
}

impl Endpoint {
    /// An endpoint for a listener that is bound to this address. `names` are further host names under which it is reached.
    ///
    /// # Errors
    /// When others than this host could reach it without a token.
    pub fn new(gateway: Arc<Gateway>, config: &Config, at: SocketAddr, names: &[String]) -> Result<Self, String> {
        if !at.ip().is_loopback() && config.clients.is_empty() {
            return Err(format!("{at} is not of this host alone, and no client has a token: `osvm mcp token NAME`"));
        }
        let access = Access::new(config, at, names);
        Ok(Self { gateway, access, sessions: Sessions::default(), open: Arc::new(Semaphore::new(MOST_OPEN)) })
    }

    /// Serves until it is dropped.
    ///
    /// # Errors
    /// When no connection can be taken any more.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
            let (stream, _) = listener.accept().await?;
            let endpoint = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let endpoint = endpoint.clone();
                    async move { Ok::<_, Infallible>(endpoint.answer(request).await) }
                });
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(SLOWEST);
                // A connection that breaks is its client's matter.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
                drop(permit);
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if request.uri().path() != PATH {
            return plain(StatusCode::NOT_FOUND);
        }
        let known = match self.access.check(request.headers()) {
            Ok(known) => known,
            Err(refusal) => return self.refuse(refusal),
        };
        let method = request.method().clone();
        match method {
            Method::POST => self.post(request, known).await,
            Method::GET => self.listen(request.headers(), &known),
            Method::DELETE => self.end(request.headers(), &known),
            _ => plain(StatusCode::METHOD_NOT_ALLOWED),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Answer {
        let (status, why) = match refusal {
            Refusal::Elsewhere => (StatusCode::FORBIDDEN, "Host or Origin is of another site"),
            Refusal::Token => (StatusCode::UNAUTHORIZED, "no token that is known"),
            Refusal::Rate => (StatusCode::TOO_MANY_REQUESTS, "too many requests"),
        };
        if let Some(audit) = self.gateway.audit() {
            audit.refused("", why);
        }
        let mut answer = failed(status, &Value::Null, &RpcError::new(INVALID_REQUEST, why));
        if refusal == Refusal::Token {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        answer
    }

    async fn post(&self, request: Request<Incoming>, known: Known) -> Answer {
        let (head, body) = request.into_parts();
        let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()?.split(';').next());
        if kind.map(str::trim) != Some("application/json") {
            return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        let body = match timeout(SLOWEST, Limited::new(body, LONGEST_LINE).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return plain(StatusCode::PAYLOAD_TOO_LARGE),
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT),
        };
        let message = parse(&body);
        let session = match self.session(&head.headers, &known) {
            Ok(session) => session,
            Err(status) => return plain(status),
        };
        match (message, session) {
            (Message::Request { id, method, params }, session) => {
                self.request(&head.headers, known, session, id, method, params).await
            }
            (Message::Cancelled(id), Some(session)) => {
                session.cancel(&id);
                plain(StatusCode::ACCEPTED)
            }
            (Message::Answer { id, answer }, Some(session)) => {
                session.asks.answered(&id, answer);
                plain(StatusCode::ACCEPTED)
            }
            (Message::Broken { id, error }, _) => failed(StatusCode::BAD_REQUEST, &id, &error),
            (Message::Answer { .. }, None) => plain(StatusCode::BAD_REQUEST),
            (Message::Cancelled(_) | Message::Other, _) => plain(StatusCode::ACCEPTED),
        }
    }

    /// The session that a request names. One of somebody else's is none.
    fn session(&self, headers: &HeaderMap, known: &Known) -> Result<Option<Arc<Session>>, StatusCode> {
        let Some(id) = headers.get(SESSION) else { return Ok(None) };
        let id = id.to_str().map_err(|_| StatusCode::BAD_REQUEST)?;
        let session = self.sessions.get(id, &known.name).ok_or(StatusCode::NOT_FOUND)?;
        // No change to another version under way.
        let said = headers.get(headers::VERSION).map(|said| said.as_bytes());
        if said.is_some_and(|said| said != session.version.as_bytes()) {
            return Err(StatusCode::BAD_REQUEST);
        }
        Ok(Some(session))
    }

    async fn request(
        &self,
        headers: &HeaderMap,
        known: Known,
        session: Option<Arc<Session>>,
        id: Value,
        method: String,
        mut params: Value,
    ) -> Answer {
        let said = headers.get(headers::VERSION).and_then(|said| said.to_str().ok());
        // A version that is not an older one is taken for the modern form, and checked as that.
        let greeted = session.is_some() || (method == "initialize" && said.is_none_or(|said| LEGACY.contains(&said)));
        let version = match speaks(if greeted { "initialize" } else { "" }, &params, greeted) {
            Ok(version) => version,
            Err(error) if error.code == UNSUPPORTED_VERSION && !headers::agree(headers, &method, &params) => {
                return failed(StatusCode::BAD_REQUEST, &id, &headers::mismatch());
            }
            Err(error) => return failed(StatusCode::BAD_REQUEST, &id, &error),
        };
        if version == Version::Modern && !headers::agree(headers, &method, &params) {
            return failed(StatusCode::BAD_REQUEST, &id, &headers::mismatch());
        }
        let Ok(permit) = self.open.clone().try_acquire_owned() else {
            let error = RpcError::new(INTERNAL, "too many requests are open");
            return failed(StatusCode::TOO_MANY_REQUESTS, &id, &error);
        };
        let mut caller = Caller { version, servers: known.servers, ..Caller::plain(&known.name) };
        let mut begun = None;
        if version == Version::Legacy {
            match &session {
                Some(session) => {
                    if method == "logging/setLevel" {
                        session.set_log_level(params["level"].as_str().unwrap_or_default());
                    }
                    caller.capabilities = session.capabilities.clone();
                    caller.log_level = session.log_level();
                    caller.mailbox = session.mailbox.clone();
                }
                None => match self.begin(&known.name, &params) {
                    Ok(id) => begun = Some(id),
                    Err(error) => {
                        let error = RpcError::new(INTERNAL, format!("no session can be begun: {error}"));
                        return failed(StatusCode::INTERNAL_SERVER_ERROR, &id, &error);
                    }
                },
            }
        }
        caller.take_meta(&mut params);
        let (out, said) = mpsc::channel(MOST_WAITING);
        let asks = session.as_ref().map_or_else(Arc::<Asks>::default, |session| session.asks.clone());
        let talk = Talk { gateway: self.gateway.clone(), asks, out };
        let task = tokio::spawn(async move {
            let answer = talk.answer(&method, params, caller).await;
            drop(permit);
            answer
        });
        if let Some(session) = &session
            && !session.begin(&id, task.abort_handle())
        {
            task.abort();
            let error = RpcError::new(INVALID_REQUEST, "too many open requests, or one of this id");
            return failed(StatusCode::TOO_MANY_REQUESTS, &id, &error);
        }
        let mut answer = Call { id, task, said, over: false }.answer(version).await;
        if let Some(id) = begun.and_then(|id| id.parse().ok()) {
            answer.headers_mut().insert(SESSION, id);
        }
        answer
    }

    fn begin(&self, client: &str, params: &Value) -> io::Result<String> {
        let (version, capabilities) = greeting(params);
        let (id, ended) = self.sessions.begin(client, version, capabilities)?;
        ended.iter().for_each(|session| self.gateway.leave(&session.mailbox));
        Ok(id)
    }

    /// What is said to a session outside its requests.
    fn listen(&self, headers: &HeaderMap, known: &Known) -> Answer {
        let session = match self.session(headers, known) {
            Ok(Some(session)) => session,
            Ok(None) => return plain(StatusCode::METHOD_NOT_ALLOWED),
            Err(status) => return plain(status),
        };
        let (to, said) = mpsc::channel(MOST_WAITING);
        // The stream that was opened last is the one that gets it.
        session.mailbox.open(to);
        events(stream::unfold(said, |mut said| async move { Some((said.recv().await?, said)) }))
    }

    fn end(&self, headers: &HeaderMap, known: &Known) -> Answer {
        let id = headers.get(SESSION).and_then(|id| id.to_str().ok());
        match id.and_then(|id| self.sessions.end(id, &known.name)) {
            Some(session) => {
                self.gateway.leave(&session.mailbox);
                plain(StatusCode::OK)
            }
            None => plain(StatusCode::NOT_FOUND),
        }
    }
}

/// A request that is being answered. Dropped, it is cancelled.
struct Call {
    id: Value,
    task: JoinHandle<Result<Value, RpcError>>,
    said: mpsc::Receiver<Value>,
    over: bool,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Call {
    async fn answer(mut self, version: Version) -> Answer {
        // The way for messages is closed by the call's end, so nothing said means that the answer is there.
        match self.said.recv().await {
            Some(first) => {
                let rest = stream::unfold(self, |mut call| async move { Some((call.next().await?, call)) });
                events(stream::StreamExt::chain(stream::iter([first]), rest))
            }
            None => {
                let answer = self.result().await;
                let status = match &answer {
                    Err(error) if version == Version::Modern => status(error),
                    _ => StatusCode::OK,
                };
                document(status, &whole(&self.id, answer))
            }
        }
    }

    async fn next(&mut self) -> Option<Value> {
        if self.over {
            return None;
        }
        if let Some(said) = self.said.recv().await {
            return Some(said);
        }
        self.over = true;
        let answer = self.result().await;
        Some(whole(&self.id, answer))
    }

    async fn result(&mut self) -> Result<Value, RpcError> {
        let cancelled = |_| Err(RpcError::new(INTERNAL, "the request was cancelled"));
        (&mut self.task).await.unwrap_or_else(cancelled)
    }
}

fn status(error: &RpcError) -> StatusCode {
    match error.code {
        METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

fn plain(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default().boxed_unsync());
    *answer.status_mut() = status;
    answer
}

fn failed(status: StatusCode, id: &Value, error: &RpcError) -> Answer {
    document(status, &error.answer(id))
}

fn document(status: StatusCode, message: &Value) -> Answer {
    let mut answer = Response::new(Full::from(message.to_string()).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

fn events(messages: impl Stream<Item = Value> + Send + 'static) -> Answer {
    let frames = stream::StreamExt::map(messages, |message| {
        Ok::<_, Infallible>(Frame::data(Bytes::from(format!("event: message\ndata: {message}\n\n"))))
    });
    let mut answer = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
    answer
}
