//! Listening sockets: bound by the daemon, so that a port in use is told at once, and kept, so that they outlive a gateway.

use std::{
    collections::BTreeMap,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::{io::Interest, net::UnixStream};

/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 4096;
/// The kernel passes at most 253 descriptors in a message (`SCM_MAX_FD`).
const MOST: usize = 253;
/// The addresses of that many sockets fit.
const TEXT_LIMIT: usize = 64 << 10;

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error("port {} on {} is in use by another process", .0.port(), .0.ip())]
    InUse(SocketAddr),
    #[error("cannot listen on {addr}")]
    Bind {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
}

impl PortError {
    /// What to do about it.
    pub(crate) fn help(&self) -> String {
        match self {
            Self::InUse(addr) => {
                format!("choose another with `--port`, or see who has it: ss -ltnp 'sport = :{}'", addr.port())
            }
            Self::Bind { .. } => "choose another address or port: `--port`".to_owned(),
        }
    }
}

/// The sockets, by address.
#[derive(Debug, Default)]
pub(crate) struct Sockets(BTreeMap<SocketAddr, OwnedFd>);

impl Sockets {
    pub(crate) fn has(&self, addr: SocketAddr) -> bool {
        self.0.contains_key(&addr)
    }

    /// Binds the address, unless it is held already.
    pub(crate) fn bind(&mut self, addr: SocketAddr) -> Result<(), PortError> {
        if self.has(addr) {
            return Ok(());
        }
        let bound = TcpListener::bind(addr).and_then(|socket| {
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(socket)
        });
        match bound {
            Ok(socket) => {
                self.0.insert(addr, socket.into());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(PortError::InUse(addr)),
            Err(source) => Err(PortError::Bind { addr, source }),
        }
    }

    /// Lets go of an address.
    pub(crate) fn release(&mut self, addr: SocketAddr) {
        self.0.remove(&addr);
    }

    /// Second handles on all sockets, to be passed to a gateway.
    pub(crate) fn duplicates(&self) -> io::Result<Vec<OwnedFd>> {
        self.0.values().map(OwnedFd::try_clone).collect()
    }

    /// Takes handles on the sockets that a living gateway has, from its second admin socket.
    pub(crate) async fn fetch(&mut self, path: &Path) -> io::Result<()> {
        let stream = UnixStream::connect(path).await?;
        let fetched = stream.async_io(Interest::READABLE, || receive(&stream)).await?;
        for (addr, socket) in fetched {
            self.0.entry(addr).or_insert(socket);
        }
        Ok(())
    }
}

/// One message: the addresses as a JSON list, and the descriptors in the same order.
fn receive(stream: &UnixStream) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
    let mut text = vec![0; TEXT_LIMIT];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let addresses: Vec<SocketAddr> = serde_json::from_slice(&text[..received.bytes])?;
    let mut sockets = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors);
        }
    }
    Ok(addresses.into_iter().zip(sockets).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_told_with_its_number() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = other.local_addr().unwrap();
        let error = Sockets::default().bind(addr).unwrap_err();
        assert_eq!(error.to_string(), format!("port {} on 127.0.0.1 is in use by another process", addr.port()));
        assert!(error.help().contains("--port"));
    }
}
