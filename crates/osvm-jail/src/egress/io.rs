//! Reading, writing and connecting with a deadline, on sockets of any mode.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with, sockopt},
};

/// Waits until one of these can be done, not beyond the deadline.
fn wait(fd: BorrowedFd<'_>, what: PollFlags, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::from_borrowed_fd(fd, what)], Some(&left)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Some bytes, or 0 at the end.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
    loop {
        match recv(&socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => wait(socket.as_fd(), PollFlags::IN, deadline)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok((n, _)) => return Ok(n),
        }
    }
}

/// As many bytes as there is room for.
pub(crate) fn receive_exactly(socket: impl AsFd, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        let n = receive(&socket, buffer, deadline)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[n..];
    }
    Ok(())
}

/// All bytes.
pub(crate) fn send_all(socket: impl AsFd, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        match send(&socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN) => wait(socket.as_fd(), PollFlags::OUT, deadline)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(n) => bytes = &bytes[n..],
        }
    }
    Ok(())
}

/// A TCP connection to exactly this address.
pub(crate) fn connect(address: SocketAddr, deadline: Instant) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS | Errno::INTR) => {
            wait(socket.as_fd(), PollFlags::OUT, deadline)?;
            sockopt::socket_error(&socket)??;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(socket)
}
