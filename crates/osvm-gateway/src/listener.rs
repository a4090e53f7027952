//! Listening sockets: inherited or bound here, accepted from until their address leaves the table.
//!
//! Connections go to the workers in turn. A listener a worker (SO_REUSEPORT) would save the hand-over, but the kernel would then
//! choose by a hash, and one thread could get most of a few connections; and inherited sockets are one each.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener, TcpStream},
    sync::Arc,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::OwnedSemaphorePermit,
};

use crate::{
    connection,
    gateway::{Gateway, Listening},
    limits,
};

/// An open socket, and a second handle on it for whoever asks for the descriptors.
pub(crate) struct Bound {
    pub(crate) addr: SocketAddr,
    pub(crate) listener: TcpListener,
    pub(crate) socket: StdListener,
}

/// Takes the inherited socket of that address, or binds one.
pub(crate) fn open(addr: SocketAddr, inherited: &mut Vec<StdListener>) -> io::Result<Bound> {
    let found = inherited.iter().position(|socket| socket.local_addr().is_ok_and(|its| its == addr));
    let socket = match found {
        Some(index) => inherited.swap_remove(index),
        None => {
            let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            socket.bind(addr)?;
            socket.listen(limits::BACKLOG)?.into_std()?
        }
    };
    socket.set_nonblocking(true)?;
    Ok(Bound { addr: socket.local_addr()?, listener: TcpListener::from_std(socket.try_clone()?)?, socket })
}

/// Accepts until the address leaves the table or the gateway stops.
pub(crate) async fn accept_all(gateway: Arc<Gateway>, listening: Arc<Listening>, listener: TcpListener) {
    let mut closed = listening.closed.watch();
    loop {
        // A place first: who finds none waits in the kernel's queue.
        let accepted = tokio::select! {
            biased;
            () = &mut closed => return,
            accepted = accept(&gateway, &listener) => accepted,
        };
        match accepted {
            Ok((place, stream, peer)) => {
                let serving = connection::serve(Arc::clone(&gateway), Arc::clone(&listening), stream, peer, place);
                gateway.tasks.spawn_on(serving, gateway.workers.next());
            }
            Err(error) => {
                tracing::warn!(addr = %listening.addr, %error, "cannot accept");
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(
    gateway: &Gateway,
    listener: &TcpListener,
) -> io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let permit = Arc::clone(&gateway.connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Fails only on a connection that is gone already.
    let _ = stream.set_nodelay(true);
    // Out of this runtime; the worker takes it into its own.
    let stream = stream.into_std()?;
    Ok((permit, stream, peer))
}
