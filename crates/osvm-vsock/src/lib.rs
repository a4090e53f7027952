//! Hybrid vsock over a unix socket, as Firecracker and its kin speak it.
//!
//! The host connects to the VM's unix socket, writes `CONNECT <port>\n`, reads `OK <host port>\n`, and from there on the stream
//! belongs to whoever listens on that port inside. [`connect`] is the host's side. [`Guest`] is the other side, for instances
//! that are ordinary processes and so play the guest themselves.
//!
//! Not here: AF_VSOCK, and connections that a guest begins.
#![forbid(unsafe_code)]

mod guest;
mod handshake;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::UnixStream;

pub use guest::{Guest, Incoming};

/// How long either side waits for the other's line.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection or a listener did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The unix socket could not be reached.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The unix socket could not be made.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path is longer than the kernel takes for a unix socket.
    #[error("{} is {} bytes long; a unix socket's path may have {}", path.display(), path.as_os_str().len(), MAX_PATH)]
    PathTooLong {
        /// The socket.
        path: PathBuf,
    },
    /// Two listeners asked for one port.
    #[error("port {0} is taken")]
    PortTaken(u32),
    /// Nobody listens on that port inside, or the guest is gone.
    #[error("nobody listens on port {0} of the instance")]
    Refused(u32),
    /// The other side did not speak hybrid vsock.
    #[error("the other side sent {0:?} where a hybrid vsock line was due")]
    Protocol(String),
    /// The handshake broke off.
    #[error("the hybrid vsock handshake broke off")]
    Handshake(#[source] io::Error),
    /// The other side said nothing for [`HANDSHAKE_TIMEOUT`].
    #[error("no hybrid vsock answer within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
}

/// The longest path of a unix socket on Linux, in bytes (`sun_path` without its closing zero).
pub const MAX_PATH: usize = 107;

fn check_path(path: &Path) -> Result<(), Error> {
    if path.as_os_str().len() > MAX_PATH { Err(Error::PathTooLong { path: path.to_owned() }) } else { Ok(()) }
}

/// Opens a stream to `port` inside the VM or sandbox behind the unix socket `uds`.
pub async fn connect(uds: &Path, port: u32) -> Result<UnixStream, Error> {
    check_path(uds)?;
    let mut stream =
        UnixStream::connect(uds).await.map_err(|source| Error::Connect { path: uds.to_owned(), source })?;
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake::request(&mut stream, port)).await {
        Ok(done) => done.map(|()| stream),
        Err(_) => Err(Error::Timeout),
    }
}
