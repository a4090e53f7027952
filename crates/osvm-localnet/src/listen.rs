//! Where clients come in: TCP, or a port of hybrid vsock. Beyond this file nobody asks which it is.

use std::{io, net::SocketAddr, time::Duration};

use osvm_vsock::Incoming;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_util::either::Either;

/// A connection of either kind.
pub(crate) type Stream = Either<TcpStream, UnixStream>;

/// After `accept` failed (no file descriptor left), before it is tried again: nothing tells when one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A source of connections.
#[derive(Debug)]
pub(crate) enum Listener {
    /// A TCP socket.
    Tcp(TcpListener),
    /// One port behind the instance's unix socket.
    Vsock(Incoming),
}

impl Listener {
    /// Listens on TCP. Port 0 takes any free one.
    pub(crate) async fn tcp(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self::Tcp)
    }

    /// The TCP address, if it is TCP.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Vsock(_) => None,
        }
    }

    /// The next connection; none if there will be no more. Safe to cancel.
    pub(crate) async fn accept(&mut self) -> Option<Stream> {
        match self {
            Self::Vsock(incoming) => incoming.accept().await.map(Either::Right),
            Self::Tcp(listener) => loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        // Small answers must not wait for the peer's delayed acknowledgement. A refusal costs only time.
                        let _ = stream.set_nodelay(true);
                        return Some(Either::Left(stream));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            },
        }
    }
}

/// Answers 503 in plain HTTP/1.1, for a connection over the limit, and closes it.
pub(crate) async fn refuse(mut stream: Stream, reason: &str) {
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\nretry-after: \
         1\r\n\r\n{reason}\n",
        reason.len() + 1
    );
    // A client that is gone needs no answer.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}
