//! One file a command.

pub(crate) mod completions;
pub(crate) mod daemon;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod events;
pub(crate) mod gateway;
pub(crate) mod lifecycle;
pub(crate) mod logs;
pub(crate) mod ps;
pub(crate) mod rpc;
pub(crate) mod schema;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod swap;
pub(crate) mod version;
