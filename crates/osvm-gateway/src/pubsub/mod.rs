//! Solana's WebSocket subscriptions.
pub(crate) mod registry;
use crate::connection::{Client, ClientStream};
pub(crate) async fn serve<S: ClientStream>(_client: Client, _stream: S) {}
