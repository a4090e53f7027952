//! HTTP/1.1 POSTs over kept connections.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1, rt};
use hyper_util::rt::TokioIo;
use osvm_model::Endpoint;
use tokio::net::TcpStream;

use crate::{
    Error,
    error::excerpt,
    target::{Dial, Target},
    tls,
};

/// A 10 MiB account in base64 is 14 MiB; blocks are smaller.
pub(crate) const MAX_ANSWER: usize = 64 << 20;
/// Connections kept for later calls.
const MAX_IDLE: usize = 16;

type Sender = http1::SendRequest<Full<Bytes>>;

/// One node and the connections to it.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) target: Target,
    pub(crate) timeout: Duration,
    idle: Mutex<Vec<Sender>>,
}

impl Transport {
    pub(crate) fn new(target: Target, timeout: Duration) -> Self {
        Self { target, timeout, idle: Mutex::new(Vec::new()) }
    }

    /// Sends `body` and reads the whole answer.
    pub(crate) async fn post(&self, method: &str, body: Vec<u8>) -> Result<Bytes, Error> {
        match tokio::time::timeout(self.timeout, self.exchange(method, body.into())).await {
            Ok(done) => done,
            Err(_) => {
                Err(Error::Timeout { target: self.target.to_string(), method: method.to_owned(), after: self.timeout })
            }
        }
    }

    async fn exchange(&self, method: &str, body: Bytes) -> Result<Bytes, Error> {
        let failed = |source| Error::Http { target: self.target.to_string(), method: method.to_owned(), source };
        let request = || {
            let built = Request::post(self.target.path.as_str())
                .header(header::HOST, self.target.authority.as_str())
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body.clone()));
            built.map_err(|error| Error::Url { url: self.target.to_string(), reason: error.to_string() })
        };
        let (mut sender, kept) = match self.take_idle() {
            Some(sender) => (sender, true),
            None => (self.dial(method).await?, false),
        };
        let response = match sender.send_request(request()?).await {
            // The node may have closed a kept connection meanwhile. All calls but this one may be made twice: reads change
            // nothing, and a transaction is taken once by its signature.
            Err(_) if kept && method != "requestAirdrop" => {
                sender = self.dial(method).await?;
                sender.send_request(request()?).await
            }
            first => first,
        }
        .map_err(failed)?;
        let status = response.status();
        let bytes = self.collect(method, response.into_body()).await?;
        // A node in trouble answers JSON-RPC errors with status 4xx or 5xx; only what is no JSON is the status's own.
        if status != StatusCode::OK && serde_json::from_slice::<serde_json::Value>(&bytes).is_err() {
            return Err(Error::Status {
                target: self.target.to_string(),
                method: method.to_owned(),
                status: status.as_u16(),
                excerpt: excerpt(&bytes),
            });
        }
        self.keep(sender);
        Ok(bytes)
    }

    async fn collect(&self, method: &str, body: Incoming) -> Result<Bytes, Error> {
        match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => match error.downcast::<hyper::Error>() {
                Ok(source) => {
                    Err(Error::Http { target: self.target.to_string(), method: method.to_owned(), source: *source })
                }
                Err(other) => {
                    debug_assert!(other.is::<LengthLimitError>());
                    Err(Error::TooLong {
                        target: self.target.to_string(),
                        method: method.to_owned(),
                        limit: MAX_ANSWER,
                    })
                }
            },
        }
    }

    async fn dial(&self, method: &str) -> Result<Sender, Error> {
        let unreachable = |source| Error::Connect { target: self.target.to_string(), source };
        match &self.target.dial {
            Dial::Endpoint(Endpoint::Vsock { uds, port }) => match osvm_vsock::connect(uds, *port).await {
                Ok(stream) => self.handshake(method, stream).await,
                Err(source) => Err(Error::Vsock { target: self.target.to_string(), source }),
            },
            Dial::Endpoint(Endpoint::Tcp(address)) => {
                self.handshake(method, TcpStream::connect(address).await.and_then(no_delay).map_err(unreachable)?).await
            }
            Dial::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.and_then(no_delay);
                self.handshake(method, stream.map_err(unreachable)?).await
            }
            Dial::Tls { host, port } => {
                let stream =
                    TcpStream::connect((host.as_str(), *port)).await.and_then(no_delay).map_err(unreachable)?;
                let stream = tls::connect(stream, host).await;
                let stream = stream.map_err(|source| Error::Tls { target: self.target.to_string(), source })?;
                self.handshake(method, stream).await
            }
        }
    }

    async fn handshake<S>(&self, method: &str, stream: S) -> Result<Sender, Error>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        TokioIo<S>: rt::Read + rt::Write,
    {
        let made = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) =
            made.map_err(|source| Error::Http { target: self.target.to_string(), method: method.to_owned(), source })?;
        // Ends when the sender is dropped or the node closes; what went wrong is told to the call that waits.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        let ready = idle.iter().rposition(http1::SendRequest::is_ready)?;
        Some(idle.swap_remove(ready))
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push(sender);
        }
    }
}

fn no_delay(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}
