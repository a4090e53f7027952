//! What those who wait for a service to be ready look at.

/// Where a service is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    /// An instance takes traffic.
    pub(crate) ready: bool,
    /// It should run.
    pub(crate) wanted: bool,
    /// Why the last instance failed, since somebody last asked for one to be started.
    pub(crate) failure: Option<String>,
}
