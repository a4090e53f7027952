//! Dialling an instance: hybrid vsock or TCP, as one stream type.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use osvm_model::Endpoint;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::limits::Limits;

/// Why an instance could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no connection over vsock")]
    Vsock(#[source] osvm_vsock::Error),
    #[error("no connection over TCP")]
    Tcp(#[source] io::Error),
    #[error("no connection in time")]
    Timeout,
    #[error("no HTTP connection")]
    Http(#[source] hyper::Error),
}

/// A connection to an instance.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Dials, within the connect timeout.
pub(crate) async fn connect(endpoint: &Endpoint, limits: &Limits) -> Result<Stream, ConnectError> {
    let dial = async {
        match endpoint {
            Endpoint::Vsock { uds, port } => {
                osvm_vsock::connect(uds, *port).await.map(Stream::Unix).map_err(ConnectError::Vsock)
            }
            Endpoint::Tcp(addr) => {
                let stream = TcpStream::connect(addr).await.map_err(ConnectError::Tcp)?;
                stream.set_nodelay(true).map_err(ConnectError::Tcp)?;
                Ok(Stream::Tcp(stream))
            }
        }
    };
    tokio::time::timeout(limits.connect_timeout, dial).await.unwrap_or(Err(ConnectError::Timeout))
}

impl Stream {
    /// Whether nothing came and the other side is there, as far as is known without asking the kernel. An idle connection that
    /// is not quiet was closed, or says what nobody asked for.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = match self {
            Self::Unix(stream) => stream.try_read(&mut byte),
            Self::Tcp(stream) => stream.try_read(&mut byte),
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

macro_rules! on_inner {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Unix($stream) => $call,
            Stream::Tcp($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_inner!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_inner!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_inner!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_inner!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_inner!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
