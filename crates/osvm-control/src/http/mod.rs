//! The daemon's HTTP interface: JSON over a unix socket, streams as one JSON value a line (NDJSON).
//!
//! [`routes::table`] is the one list of what there is: the router and the OpenAPI document are made from it.

mod handlers;
mod logs;
mod metrics;
mod openapi;
mod routes;
mod stream;

use std::sync::Arc;

use axum::Router;

use crate::{failure::Failure, manager::Manager};

/// The whole interface.
pub(crate) fn router(manager: Arc<Manager>) -> Router {
    let mut router = Router::new();
    for entry in routes::table() {
        router = router.route(entry.path, (entry.route)());
    }
    router
        .fallback(|uri: axum::http::Uri| async move { Failure::no_such_path(uri.path()) })
        .method_not_allowed_fallback(|uri: axum::http::Uri| async move { Failure::no_such_path(uri.path()) })
        .with_state(manager)
}
