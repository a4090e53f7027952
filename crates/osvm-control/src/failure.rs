//! What a request to the daemon failed with, as its client sees it: one line, what to do, which status, which exit code.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use osvm_model::{
    ServiceName,
    api::{ErrorBody, SCHEMA},
};
use osvm_runtime::{ArtifactError, Refused, StartError};

use crate::{error::chain, gateway::GatewayError, service::live::LiveError, store::StoreError};

/// The exit code of a command that failed.
const EXIT_FAILED: u8 = 1;
/// The exit code of a command that was used wrongly.
const EXIT_USAGE: u8 = 2;
/// The exit code of a command that was refused for want of isolation.
const EXIT_REFUSED: u8 = 3;

/// A request that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    error: String,
    help: Option<String>,
    exit: u8,
}

impl Failure {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), help: None, exit: EXIT_FAILED }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The request makes no sense.
    pub(crate) fn bad(error: impl Into<String>) -> Self {
        Self { exit: EXIT_USAGE, ..Self::new(StatusCode::BAD_REQUEST, error) }
    }

    /// It makes sense, but not now.
    pub(crate) fn conflict(error: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error).help(help)
    }

    /// What was waited for did not come.
    pub(crate) fn failed(error: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error).help(help)
    }

    pub(crate) fn no_such_path(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("the daemon has no {path}, or not with this method"))
            .help("GET /openapi.json lists all")
    }

    pub(crate) fn unknown_service(name: &ServiceName) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no service {name}")).help("osvm ps lists them")
    }

    pub(crate) fn busy(name: &ServiceName) -> Self {
        Self::conflict(
            format!("a rollout of {name} is under way"),
            format!("wait for its end, or watch it: osvm events {name} -f"),
        )
    }

    pub(crate) fn gone(name: &ServiceName) -> Self {
        Self::new(StatusCode::CONFLICT, format!("service {name} was removed, or the daemon ends"))
    }

    /// The shape that clients know.
    pub(crate) fn body(&self) -> ErrorBody {
        ErrorBody { schema: SCHEMA.to_owned(), error: self.error.clone(), help: self.help.clone(), exit: self.exit }
    }

    /// The line.
    pub(crate) fn message(&self) -> &str {
        &self.error
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self { help: error.help(), ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, chain(&error)) }
    }
}

impl From<GatewayError> for Failure {
    fn from(error: GatewayError) -> Self {
        Self { help: error.help(), ..Self::new(StatusCode::CONFLICT, chain(&error)) }
    }
}

impl From<ArtifactError> for Failure {
    fn from(error: ArtifactError) -> Self {
        Self { help: error.help(), ..Self::new(StatusCode::BAD_REQUEST, chain(&error)) }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let failure = Self::new(StatusCode::UNPROCESSABLE_ENTITY, refused.to_string()).help(&refused.help);
        Self { exit: EXIT_REFUSED, ..failure }
    }
}

impl From<LiveError> for Failure {
    fn from(error: LiveError) -> Self {
        match error {
            LiveError::Refused(refused) => refused.into(),
            LiveError::Store(error) => error.into(),
            LiveError::Start(error @ StartError::NoLimit { .. }) => Self {
                exit: EXIT_REFUSED,
                ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
                    .help("leave --memory out, or choose --isolation process")
            },
            error => Self::new(StatusCode::INTERNAL_SERVER_ERROR, chain(&error)),
        }
    }
}
