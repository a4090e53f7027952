//! The commands, one file each.

pub(crate) mod audit;
pub(crate) mod baseline;
pub(crate) mod db;
pub(crate) mod fix;
pub(crate) mod rules;
mod watch;
