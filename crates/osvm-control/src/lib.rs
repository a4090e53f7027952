//! The control plane: what should run, what does run, and how one revision follows another.
//!
//! [`Daemon`] keeps a state folder's services running, supervises the gateway and answers the HTTP interface that
//! [`client::Client`] speaks. What an instance is made of is the runtime's matter, what a client says is the gateway's, and what
//! makes a Solana node healthy is told by a [`Checker`] from floor 5.
#![forbid(unsafe_code)]

mod artifacts;
pub mod check;
pub mod client;
mod context;
mod contract;
mod daemon;
mod error;
mod events;
mod exchange;
mod failure;
mod gateway;
mod http;
mod lock;
mod manager;
pub mod paths;
mod rollout;
mod service;
mod store;

pub use check::{Basic, CheckFailure, Checker, Passed, Purpose, Subject, Target};
pub use client::{Client, ClientError};
pub use daemon::{Daemon, GatewayCommand, Options};
pub use error::Error;
pub use store::StoreError;

/// Opens the daemon and serves until `down` or a signal, on a runtime of its own. `on_ready` is called once the socket answers.
pub fn run(options: Options, on_ready: impl FnOnce()) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Signals)?;
    runtime.block_on(async {
        let daemon = Daemon::open(options).await?;
        on_ready();
        daemon.serve().await
    })
}
