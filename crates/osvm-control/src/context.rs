//! What every part of the daemon works with.

use std::sync::Arc;

use crate::{Checker, events::Events, gateway::Gateway, paths::Paths, store::Store};

/// Shared by all services of a daemon.
pub(crate) struct Context {
    pub(crate) paths: Paths,
    pub(crate) store: Store,
    pub(crate) events: Events,
    pub(crate) gateway: Gateway,
    pub(crate) checker: Arc<dyn Checker>,
}
