//! Instances as processes of the host: start, adopt, watch, measure, end. One trait over the isolation levels.
//!
//! Fails closed: a level that this build or this host cannot give is [`Refused`] with the reason, and nothing weaker is
//! started in its place. The levels of this version are `none`, an ordinary process of the user's,
//! `process`, a jail, and `unikernel`, a VM without a kernel whose monitor is in a jail.
//!
//! Not here: whether an instance is healthy, what should run, or what is routed to it.
#![forbid(unsafe_code)]

pub mod artifact;
mod driver;
mod jailed;
mod level;
pub mod log;
mod none;
mod process;
mod procfs;
mod surface;
mod unikernel;

pub use artifact::ArtifactError;
pub use driver::{Driver, StartError, StartSpec};
pub use level::{Chosen, Refused, choose, driver, stats};
pub use osvm_jail::{Piece, companion, pieces};
pub use process::{AdoptError, Exit, Process, WatchError};
pub use procfs::instances_under;
pub use surface::{Surface, surface};
