//! One task a service: it keeps an instance running as long as the service is wanted, and carries out commands one by one.

mod actor;
mod handle;
pub(crate) mod live;
pub(crate) mod state;

pub(crate) use actor::{spawn, spawn_new};
pub(crate) use handle::Handle;
