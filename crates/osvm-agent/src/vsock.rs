//! The agent's sockets in a VM.
//!
//! An accepted connection is handed on as a `UnixStream`: the calls that are made on it (read, write, shutdown, time-outs) are those
//! of any stream socket.

use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::sys::socket::{VsockAddr, bind, connect};
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, listen, socket_with};

use crate::{Error, wire};

/// Any context id: the guest's own.
const ANY: u32 = u32::MAX;
/// The host's context id.
const HOST: u32 = 2;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Listens on the agent's port.
pub fn listener() -> io::Result<OwnedFd> {
    let socket = open()?;
    bind(socket.as_raw_fd(), &VsockAddr::new(ANY, wire::PORT))?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The next connection.
pub fn accept(listener: &OwnedFd) -> io::Result<UnixStream> {
    Ok(UnixStream::from(accept_with(listener, SocketFlags::CLOEXEC)?))
}

/// Tells the host that the agent listens, by a connection with a preamble and nothing more.
pub fn tell_ready() -> Result<(), Error> {
    let socket = open()?;
    connect(socket.as_raw_fd(), &VsockAddr::new(HOST, wire::READY_PORT)).map_err(io::Error::from)?;
    wire::write_preamble(&mut UnixStream::from(socket))
}

fn open() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}
