//! What can go wrong between a question and its answer.

use std::{io, time::Duration};

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL cannot be used.
    #[error("{url:?} is not a URL of an RPC node: {reason}")]
    Url {
        /// As given.
        url: String,
        /// Why not.
        reason: String,
    },
    /// Nobody takes the connection.
    #[error("cannot connect to {target}")]
    Connect {
        /// The node.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The instance does not take the connection.
    #[error("cannot connect to {target}")]
    Vsock {
        /// The node.
        target: String,
        /// Why.
        #[source]
        source: osvm_vsock::Error,
    },
    /// TLS could not be set up.
    #[error("no TLS to {target}")]
    Tls {
        /// The node.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or the other side does not speak HTTP.
    #[error("{target} gave no whole HTTP answer to {method}")]
    Http {
        /// The node.
        target: String,
        /// The call.
        method: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("{target} did not answer {method} within {} ms", after.as_millis())]
    Timeout {
        /// The node.
        target: String,
        /// The call.
        method: String,
        /// The limit.
        after: Duration,
    },
    /// An HTTP status that carries no JSON-RPC answer.
    #[error("{target} answered {method} with HTTP status {status}: {excerpt}")]
    Status {
        /// The node.
        target: String,
        /// The call.
        method: String,
        /// The status.
        status: u16,
        /// The body's beginning.
        excerpt: String,
    },
    /// More bytes than any answer needs.
    #[error("the answer of {target} to {method} is longer than {limit} bytes")]
    TooLong {
        /// The node.
        target: String,
        /// The call.
        method: String,
        /// The limit.
        limit: usize,
    },
    /// Not JSON-RPC.
    #[error("{method} was answered with what is not JSON-RPC ({reason}): {excerpt}")]
    Garbage {
        /// The call.
        method: String,
        /// What is wrong with it.
        reason: String,
        /// The body's beginning.
        excerpt: String,
    },
    /// JSON-RPC, but the result has not the shape that this method's result has.
    #[error("{method} was answered with an unexpected result ({reason}): {excerpt}")]
    Shape {
        /// The call.
        method: String,
        /// What is wrong with it.
        reason: String,
        /// The result's beginning.
        excerpt: String,
    },
    /// The node's own error.
    #[error("{method} was refused: {message} (code {code})")]
    Rpc {
        /// The call.
        method: String,
        /// JSON-RPC's code.
        code: i64,
        /// The node's message.
        message: String,
        /// What else it said.
        data: Option<Box<serde_json::Value>>,
    },
}

impl Error {
    /// The error and its causes in one line.
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }

    /// Whether the same call may succeed in a moment: the connection broke, or the node is busy.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Vsock { .. } | Self::Http { .. } | Self::Timeout { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Self::Rpc { code, .. } => *code == crate::rpc::NODE_UNHEALTHY,
            Self::Url { .. } | Self::Tls { .. } | Self::TooLong { .. } | Self::Garbage { .. } | Self::Shape { .. } => {
                false
            }
        }
    }
}

/// The longest excerpt of an answer in an error, in characters.
const EXCERPT: usize = 80;

/// The beginning of what came, on one line, without control characters.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..EXCERPT * 4).unwrap_or(bytes));
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXCERPT).collect();
    if text.chars().nth(EXCERPT).is_some() {
        line.push('…');
    }
    if line.trim().is_empty() { "(nothing)".to_owned() } else { line }
}
