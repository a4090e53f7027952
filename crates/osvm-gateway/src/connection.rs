//! One client connection: TLS if the listener has it, then whatever the listener speaks.

use std::{net::SocketAddr, sync::Arc};

use osvm_model::ListenerProtocol;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::timeout,
};

use crate::{
    gateway::{Gateway, Listening},
    http, limits, pubsub, tcp,
};

/// A byte stream to a client.
pub(crate) trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> ClientStream for S {}

/// What is known of a client, and what its connection needs to be served.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) listening: Arc<Listening>,
    pub(crate) peer: SocketAddr,
    /// Whether it speaks TLS.
    pub(crate) tls: bool,
    /// Its place among all connections, kept as long as anything of it lives.
    pub(crate) _place: Arc<OwnedSemaphorePermit>,
}

/// What is spoken inside TLS, if the handshake settled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    Unknown,
}

pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    listening: Arc<Listening>,
    stream: std::net::TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    // On the worker's own runtime; it fails only when that ends.
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let plan = listening.plan.load_full();
    let cut = gateway.ending.cut.watch();
    let client = Client { gateway, listening, peer, tls: plan.tls.is_some(), _place: Arc::new(place) };
    let serving = async {
        match &plan.tls {
            None => speak(client, plan.protocol, stream, Spoken::Unknown).await,
            Some(acceptor) => {
                // A client that fails here has said nothing that could be answered.
                let Ok(Ok(stream)) = timeout(limits::TLS_TIMEOUT, acceptor.accept(stream)).await else { return };
                let spoken = match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => Spoken::Http2,
                    Some(_) => Spoken::Http1,
                    None => Spoken::Unknown,
                };
                Box::pin(speak(client, plan.protocol, stream, spoken)).await;
            }
        }
    };
    tokio::select! {
        biased;
        () = serving => {}
        () = cut => {}
    }
}

async fn speak<S: ClientStream>(client: Client, protocol: ListenerProtocol, stream: S, spoken: Spoken) {
    match protocol {
        ListenerProtocol::Http => http::serve(client, stream, spoken).await,
        ListenerProtocol::SolanaPubsub => Box::pin(pubsub::serve(client, stream)).await,
        ListenerProtocol::Tcp => tcp::serve(client, stream).await,
    }
}
