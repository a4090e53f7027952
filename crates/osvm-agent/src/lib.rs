//! The agent of a Linux guest and the protocol that it speaks: what the host asks of the inside of a microVM.
//!
//! # Design
//!
//! The agent listens on one vsock port ([`wire::PORT`]). Each request has a connection of its own, so that nothing waits behind anything
//! else and the socket's own backpressure is all the flow control there is. A connection goes like this:
//!
//! | | who | bytes |
//! |---|---|---|
//! | 1 | host | a preamble: `osvmag` and the version, two bytes, little end first |
//! | 2 | guest | its own preamble; it closes if the versions differ |
//! | 3 | host | a frame `Request` with one [`Request`] as JSON |
//! | 4 | guest | a frame `Reply` with one [`Reply`], or `Failure` with one [`Failure`], after which it closes |
//! | 5 | both | what the request is about: frames of output, of a file, or plain bytes for a forwarded port |
//!
//! A frame is one byte of kind, four bytes of length (little end first) and as many bytes, at most [`wire::MAX_PAYLOAD`]. Each side
//! takes only the kinds that the other may send, and gives up the connection at the first byte that breaks a rule. The guest is not
//! trusted: what it sends is never longer than a frame before it is looked at, and names no path of the host.
//!
//! In a VM the agent is process 1 ([`init`]), which starts the server as a child and only mounts, reaps and at last resets the machine.
//! As an ordinary process it serves a unix socket.
//!
//! # Limits
//!
//! No terminal for a program yet, no network set-up, no clock. Who may connect is the host's matter: the unix socket of the VM.
#![forbid(unsafe_code)]

mod copy;
mod error;
mod exec;
mod forward;
pub mod host;
pub mod init;
mod request;
pub mod server;
pub mod vsock;
pub mod wire;

pub use error::Error;
pub use request::{BadRequest, Code, End, Exec, Failure, Info, Reply, Request};
