//! One HTTP exchange with JSON over a stream: with an instance's control port, with the gateway's admin socket.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// The longest answer.
const ANSWER_LIMIT: usize = 4 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("cannot connect")]
    Vsock(#[from] osvm_vsock::Error),
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("no answer to {path} within {} ms", limit.as_millis())]
    Timeout { path: String, limit: Duration },
    #[error("the connection broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{path} answered {status}: {text}")]
    Status { path: String, status: StatusCode, text: String },
    #[error("{path} answered something that is not understood")]
    Shape {
        path: String,
        #[source]
        source: serde_json::Error,
    },
}

/// An answer of any status.
#[derive(Debug)]
pub(crate) struct Answer {
    path: String,
    pub(crate) status: StatusCode,
    body: Bytes,
}

impl Answer {
    /// The JSON in the answer, whatever the status.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ExchangeError> {
        serde_json::from_slice(&self.body).map_err(|source| ExchangeError::Shape { path: self.path.clone(), source })
    }

    /// The JSON in an answer of status 200, else an error with the `error` of its JSON.
    pub(crate) fn ok<T: DeserializeOwned>(&self) -> Result<T, ExchangeError> {
        if self.status == StatusCode::OK { self.json() } else { Err(self.refused()) }
    }

    /// The answer as an error.
    pub(crate) fn refused(&self) -> ExchangeError {
        #[derive(serde::Deserialize)]
        struct Refused {
            error: String,
        }
        let text = match serde_json::from_slice::<Refused>(&self.body) {
            Ok(refused) => refused.error,
            Err(_) => String::from_utf8_lossy(&self.body[..self.body.len().min(200)]).into_owned(),
        };
        ExchangeError::Status { path: self.path.clone(), status: self.status, text }
    }
}

/// Sends one request on a fresh stream and reads the whole answer.
pub(crate) async fn exchange(
    stream: impl Future<Output = Result<UnixStream, ExchangeError>>,
    method: Method,
    path: &str,
    body: Bytes,
    limit: Duration,
) -> Result<Answer, ExchangeError> {
    let work = async {
        let broken = |error: hyper::Error| ExchangeError::Broken(error.into());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream.await?)).await.map_err(broken)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "osvm")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| ExchangeError::Broken(error.into()))?;
        let asked = async {
            let answer = sender.send_request(request).await.map_err(broken)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await;
            let body = body.map_err(ExchangeError::Broken)?.to_bytes();
            Ok(Answer { path: path.to_owned(), status, body })
        };
        let mut asked = std::pin::pin!(asked);
        tokio::select! {
            answer = &mut asked => answer,
            // The connection may end before its last bytes were taken: what the request says counts.
            _ = connection => asked.await,
        }
    };
    match tokio::time::timeout(limit, work).await {
        Ok(answer) => answer,
        Err(_) => Err(ExchangeError::Timeout { path: path.to_owned(), limit }),
    }
}
