//! Solana's WebSocket subscriptions, kept over the change of the instance behind them.
//!
//! The client's WebSocket ends here. Its subscriptions get ids of the gateway's own, which stay while the instances come and
//! go; see [`book`] for how nothing is lost or told twice. A client that reads too slowly is closed with 1013. The
//! calls of a batch go to the instance one by one, and their answers to the client as one; news of a subscription may come
//! before the answer to the batch that made it. Not here: WebSocket extensions and sub-protocols.

mod book;
mod client;
mod link;
mod message;
pub(crate) mod registry;
mod session;

use crate::connection::{Client, ClientStream};

/// Serves one client until it goes.
pub(crate) async fn serve<S: ClientStream>(client: Client, stream: S) {
    let Some((socket, asked)) = client::accept(stream, &client.gateway.limits).await else { return };
    let path = asked.path.split('?').next().unwrap_or_default();
    let pool = client.listening.plan.load().route(asked.host.as_deref(), path).cloned();
    let (mouth, from_client) = client::Mouth::new(socket);
    let Some(pool) = pool else {
        mouth
            .close(tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode::Policy, "no such service")
            .await;
        return;
    };
    pool.counters.request();
    let (session, events) = session::Session::new(client, pool, &asked, mouth);
    session.run(from_client, events).await;
}
