//! Subscriptions over WebSocket, as agave's pubsub speaks them.
//!
//! The bank tells what happens on its writer's thread; one thread here (`engine`) finds out whom it concerns and puts finished messages
//! into each connection's bounded queue (`outbox`). A client that does not read is closed with 1013. Nothing here can hold up the
//! writer but a full event queue, and that queue is emptied without waiting for any client.
//!
//! On a standby subscriptions are taken and nothing is sent. Once it leads, notifications for what happens from then on are sent; what
//! reaches finality after the hand-over but happened before it is read from the ledger.

mod connection;
mod engine;
mod hub;
mod outbox;
mod request;

pub(crate) use self::{connection::serve, hub::Hub};

/// The names of all methods of the WebSocket interface.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    request::METHODS.iter().map(|(name, _)| *name)
}
