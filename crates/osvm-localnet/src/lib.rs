//! A Solana node for one machine: JSON-RPC, subscriptions and the hand-over contract over [`osvm_bank`].
//!
//! The binary is `osvm-localnet`. [`Server`] is the same in process, for tests.
//!
//! ```text
//!   cli ──▶ server ──▶ http ──▶ rpc ──▶ methods ──▶ bank
//!                 ├──▶ pubsub (connection ◀── outbox ◀── engine ◀── bank's events)
//!                 ├──▶ control (status, hand-over, lead)
//!                 └──▶ replication (streams for the bank)
//! ```
//!
//! Not here: execution, the ledger, replication's protocol (all `osvm-bank`), TLS, and gossip, TPU or any other peer.
#![forbid(unsafe_code)]

pub mod cli;
mod control;
mod encode;
mod fixtures;
mod http;
pub mod limits;
mod listen;
mod logging;
mod methods;
mod node;
mod pubsub;
mod replication;
mod rpc;
mod scans;
mod server;

pub use node::{SOLANA_VERSION, VERSION};
pub use server::{Bind, Options, Server, StartError};

/// The names of all JSON-RPC methods over HTTP, in order.
pub fn method_names() -> impl Iterator<Item = &'static str> {
    methods::METHODS.iter().map(|method| method.name)
}
