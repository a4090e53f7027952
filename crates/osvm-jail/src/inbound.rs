//! Joins a unix socket of the host to the service's TCP port in the jail's net namespace.
//!
//! Runs as threads of the jail's first process, under its filter and limits: whoever breaks it is still in the jail. It copies bytes
//! and looks at none. A service that does not listen, or not yet, means a connection that is closed at once: whoever waits for the
//! service asks again.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    event::{Timespec, poll},
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt},
};

use crate::relay::{self, Flow};

/// Connections at one time; further ones wait in the socket's backlog until one ends.
pub(crate) const MOST_CONNECTIONS: usize = 64;
/// How long a service that listens may take to take a connection.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// The pause after which connections are taken again when there was no file descriptor or memory for one.
const SHORTAGE_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// The stack of a thread that copies bytes.
const STACK: usize = 64 << 10;

/// How many connections there are, and who waits for there to be fewer.
#[derive(Default)]
struct Open {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Open {
    /// Waits for a place.
    fn enter(self: &Arc<Self>) -> Place {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count >= MOST_CONNECTIONS {
            count = self.fewer.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
        *count += 1;
        Place(Arc::clone(self))
    }
}

/// One of the places for connections. It is free again when this is dropped.
struct Place(Arc<Open>);

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.fewer.notify_one();
    }
}

/// Begins to accept. Returns at once.
pub(crate) fn serve(listener: UnixListener, port: u16) -> io::Result<()> {
    let accept = move || {
        let open = Arc::new(Open::default());
        loop {
            let place = open.enter();
            match listener.accept() {
                Ok((outside, _)) => {
                    let outside = OwnedFd::from(outside);
                    // Without a thread for it the connection is dropped, and with it closed.
                    let _ = thread::Builder::new().stack_size(STACK).spawn(move || {
                        one(&outside, port);
                        drop((outside, place));
                    });
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(_) => {
                    let _ = poll(&mut [], Some(&SHORTAGE_PAUSE));
                }
            }
        }
    };
    thread::Builder::new().stack_size(STACK).spawn(accept).map(drop)
}

fn service(port: u16) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    // It bounds the connection. Copying never waits in a call.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(CONNECT_TIME))?;
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(socket)
}

fn one(outside: &OwnedFd, port: u16) {
    let Ok(inside) = service(port) else { return };
    relay::join(outside.as_fd(), inside.as_fd(), Flow::default(), None, None);
}
