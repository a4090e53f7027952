//! One request at a time over HTTP/1.1 keep-alive, or over a stream of a shared HTTP/2 connection.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{net::TcpStream, sync::Mutex};

use crate::rpc;

/// A request without an answer for so long has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection shared by several clients.
pub(crate) struct Http2 {
    authority: String,
    sender: Mutex<Option<http2::SendRequest<Full<Bytes>>>>,
}

impl Http2 {
    /// Connects at the first request.
    pub(crate) fn new(url: &str) -> Arc<Self> {
        Arc::new(Self { authority: rpc::authority(url).to_owned(), sender: Mutex::new(None) })
    }

    async fn sender(&self) -> Result<http2::SendRequest<Full<Bytes>>, String> {
        let mut slot = self.sender.lock().await;
        if let Some(sender) = slot.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| format!("connect: {error}"))?;
        stream.set_nodelay(true).map_err(|error| format!("nodelay: {error}"))?;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // It ends with the last sender; what broke it is told by the requests that fail.
        tokio::spawn(connection);
        *slot = Some(sender.clone());
        Ok(sender)
    }
}

/// A client of either kind.
pub(crate) enum Client {
    Http1 { authority: String, sender: Option<http1::SendRequest<Full<Bytes>>> },
    Http2(Arc<Http2>),
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Client {
    pub(crate) fn http1(url: &str) -> Self {
        Self::Http1 { authority: rpc::authority(url).to_owned(), sender: None }
    }

    pub(crate) fn http2(connection: &Arc<Http2>) -> Self {
        Self::Http2(Arc::clone(connection))
    }

    /// The JSON text of the result, or why there is none.
    pub(crate) async fn call(&mut self, body: &Bytes) -> Result<String, String> {
        let (status, answer) = match tokio::time::timeout(ANSWER_TIMEOUT, self.post(body.clone())).await {
            Ok(done) => done?,
            Err(_) => return Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
        };
        let text = || String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
        if status != 200 {
            return Err(format!("HTTP {status}: {}", text()));
        }
        match serde_json::from_slice::<Answer>(&answer) {
            Ok(Answer { error: Some(error), .. }) => Err(error.get().to_owned()),
            Ok(Answer { result, .. }) => Ok(result.map_or("null", RawValue::get).to_owned()),
            Err(error) => Err(format!("not JSON-RPC ({error}): {}", text())),
        }
    }

    async fn post(&mut self, body: Bytes) -> Result<(u16, Bytes), String> {
        let answer = match self {
            Self::Http1 { authority, sender } => {
                // A connection that was closed between two requests is replaced, as every client does.
                let mut live = rpc::live(sender.take(), authority).await?;
                let answer =
                    live.send_request(rpc::request(authority, body)?).await.map_err(|error| describe(&error))?;
                let (head, body) = answer.into_parts();
                let body = body.collect().await.map_err(|error| describe(&error))?.to_bytes();
                *sender = Some(live);
                return Ok((head.status.as_u16(), body));
            }
            Self::Http2(connection) => {
                let mut sender = connection.sender().await?;
                let request = http::Request::post(format!("http://{}/", connection.authority))
                    .header(http::header::CONTENT_TYPE, "application/json")
                    .body(Full::new(body))
                    .map_err(|error| error.to_string())?;
                sender.send_request(request).await.map_err(|error| describe(&error))?
            }
        };
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await.map_err(|error| describe(&error))?.to_bytes()))
    }
}

/// hyper keeps the cause in the source.
fn describe(error: &hyper::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
