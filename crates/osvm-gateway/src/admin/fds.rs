//! Hands the listening sockets to whoever connects to the second socket: a daemon that restarted, or a successor.
//!
//! One message: the addresses as a JSON list in the bytes, the descriptors in the same order beside it.

use std::{io, os::fd::AsFd, sync::Arc};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
};

use crate::gateway::Gateway;

/// The kernel passes at most 253 descriptors in a message (`SCM_MAX_FD`).
const MOST: usize = 253;

/// Serves one client after the other; each gets its message and is done.
pub(super) async fn serve(listener: UnixListener, gateway: Arc<Gateway>) {
    loop {
        let handed = match listener.accept().await {
            Ok((stream, _)) => hand_over(&stream, &gateway).await,
            Err(error) => Err(error),
        };
        if let Err(error) = handed {
            tracing::warn!(%error, "cannot hand over the listening sockets");
            tokio::task::yield_now().await;
        }
    }
}

async fn hand_over(stream: &UnixStream, gateway: &Gateway) -> io::Result<()> {
    let sockets = gateway.sockets()?;
    let sockets = &sockets[..sockets.len().min(MOST)];
    let addresses: Vec<_> = sockets.iter().map(|(addr, _)| addr).collect();
    let descriptors: Vec<_> = sockets.iter().map(|(_, fd)| fd.as_fd()).collect();
    let text = serde_json::to_vec(&addresses)?;
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            sendmsg(stream, &[io::IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL).map_err(io::Error::from)
        })
        .await?;
    if sent == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
