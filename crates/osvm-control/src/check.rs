//! Health: whether an instance may take traffic.
//!
//! [`Checker`] is the interface; floor 5 supplies the one that knows Solana. [`Basic`] does the connect and HTTP checks.
//! How often to ask, and how long, is decided by whoever asks.

use std::{future::Future, path::PathBuf, pin::Pin, time::Duration};

use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use osvm_model::{Endpoint, Generation, RevisionNumber, ServiceSpec, service::HealthCheck};

/// How long one connect or HTTP check may take.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// A future that can be sent, as an object-safe trait needs it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An instance that is checked, or compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which instance.
    pub generation: Generation,
    /// What it runs.
    pub revision: RevisionNumber,
    /// Its hybrid vsock socket.
    pub uds: PathBuf,
}

impl Target {
    /// Where the port of that name is reached; none if the spec has no such port.
    pub fn endpoint(&self, spec: &ServiceSpec, port: &str) -> Option<Endpoint> {
        let port = spec.ports.iter().find(|candidate| candidate.name == port)?;
        Some(Endpoint::Vsock { uds: self.uds.clone(), port: port.port })
    }
}

/// Why a check is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An instance that leads (or has no state) is about to get traffic.
    Admit,
    /// A standby is about to take over from `old`, which leads: it must know what `old` knows.
    TakeOver,
    /// It took over; `old` follows it or is gone.
    Watch,
}

/// What is checked.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The service as the new instance runs it.
    pub spec: ServiceSpec,
    /// Why.
    pub purpose: Purpose,
    /// The instance in question.
    pub new: Target,
    /// The instance that served before, if there is one and it is alive.
    pub old: Option<Target>,
}

/// Checks that passed, by name (`genesis`, `health`).
pub type Passed = Vec<String>;

/// A check that did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CheckFailure {
    /// What differs from what was wanted, in one line.
    pub message: String,
    /// Whether asking again cannot help (another genesis), as opposed to an instance that is still starting.
    pub fatal: bool,
}

impl CheckFailure {
    /// A failure that may pass with time.
    pub fn not_yet(message: impl Into<String>) -> Self {
        Self { message: message.into(), fatal: false }
    }

    /// A failure that will stay.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { message: message.into(), fatal: true }
    }
}

/// Decides whether an instance may take traffic. One call makes each check once and ends soon; it is dropped when the instance
/// ends meanwhile.
pub trait Checker: Send + Sync + 'static {
    /// Makes all checks of the subject's [`HealthCheck`].
    fn check<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<Passed, CheckFailure>>;
}

/// The connect and HTTP checks. The Solana check is answered as not known: floor 5 wraps this one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Basic;

impl Checker for Basic {
    fn check<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<Passed, CheckFailure>> {
        Box::pin(async move {
            match tokio::time::timeout(CHECK_TIMEOUT, check_once(subject)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(CheckFailure::not_yet(format!("no answer within {} s", CHECK_TIMEOUT.as_secs()))),
            }
        })
    }
}

async fn check_once(subject: &Subject) -> Result<Passed, CheckFailure> {
    match &subject.spec.health {
        HealthCheck::Connect { port } => {
            connect(subject, port).await?;
            Ok(vec!["connect".to_owned()])
        }
        HealthCheck::Http { port, path } => {
            let stream = connect(subject, port).await?;
            let status =
                get(stream, path).await.map_err(|error| CheckFailure::not_yet(format!("GET {path}: {error}")))?;
            if status == http::StatusCode::OK {
                Ok(vec!["health".to_owned()])
            } else {
                Err(CheckFailure::not_yet(format!("GET {path} answers {status}")))
            }
        }
        HealthCheck::Solana { .. } => Err(CheckFailure::fatal("this program cannot make the Solana checks")),
    }
}

async fn connect(subject: &Subject, port: &str) -> Result<tokio::net::UnixStream, CheckFailure> {
    let Some(Endpoint::Vsock { uds, port }) = subject.new.endpoint(&subject.spec, port) else {
        return Err(CheckFailure::fatal(format!("the health check names port {port:?}, which the service has not")));
    };
    osvm_vsock::connect(&uds, port).await.map_err(|error| CheckFailure::not_yet(crate::error::chain(&error)))
}

async fn get(stream: tokio::net::UnixStream, path: &str) -> Result<http::StatusCode, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move {
        let mut request = http::Request::new(Empty::<bytes::Bytes>::new());
        *request.uri_mut() = path.parse().unwrap_or_default();
        request.headers_mut().insert(http::header::HOST, http::HeaderValue::from_static("osvm"));
        sender.send_request(request).await.map(|answer| answer.status())
    };
    tokio::select! {
        status = exchange => status,
        ended = connection => match ended {
            Err(error) => Err(error),
            // The exchange future holds the sender, so a connection never ends well before it.
            Ok(()) => Ok(http::StatusCode::BAD_GATEWAY),
        },
    }
}
