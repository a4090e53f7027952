//! A light Solana JSON-RPC client, and the checklist that a node passes before it may take traffic.
//!
//! [`Client`] speaks JSON-RPC by HTTP/1.1 over TCP, TLS or hybrid vsock. It takes nothing on trust: an answer that is not
//! well-formed JSON-RPC with the request's own id is an error that says so. [`checklist`] asks a new node, and the node that
//! serves now, whether they agree.
//!
//! Not here: subscriptions, HTTP/2, and the Solana crates. Keys and hashes are base58 text.
#![forbid(unsafe_code)]

pub mod checklist;
mod client;
mod error;
mod rpc;
mod target;
pub mod tls;
mod transport;
pub mod url;

pub use client::{Account, Client, LatestBlockhash, SignatureStatus};
pub use error::Error;
