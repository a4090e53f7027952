//! The data plane of osvm: listeners, routes, pools, hold, replay, drain, and Solana subscriptions that survive a swap.
//!
//! It knows nothing of instances but the address to dial. What it serves comes whole from the control plane over the admin
//! socket (see [`osvm_model::gateway`]) and changes in one step.
#![forbid(unsafe_code)]

mod args;
mod limits;

pub use args::Args;

/// Why the gateway did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The async runtime could not be built.
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
}

/// Serves until SIGTERM or SIGINT, then drains and returns.
pub fn run(args: Args) -> Result<(), Error> {
    let _limits = limits::Limits::from(&args);
    Err(Error::Runtime(std::io::ErrorKind::Unsupported.into()))
}
