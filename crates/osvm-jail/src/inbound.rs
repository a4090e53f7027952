//! Joins a unix socket of the host to the service's TCP port in the jail's net namespace.
//!
//! Runs as threads of the jail's first process, under its filter and limits: whoever breaks it is still in the jail. It copies bytes
//! and looks at none.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Connections at one time; further ones wait in the socket's backlog until one ends, or are refused by the kernel.
pub(crate) const MOST_CONNECTIONS: usize = 64;
/// The stack of a thread that copies bytes.
const STACK: usize = 64 << 10;
/// Bytes copied at once.
const BUFFER: usize = 16 << 10;

/// Begins to accept. Returns at once.
pub(crate) fn serve(listener: UnixListener, port: u16) -> io::Result<()> {
    let accept = move || {
        let open = Arc::new(AtomicUsize::new(0));
        for outside in listener.incoming() {
            let Ok(outside) = outside else { return };
            if open.load(Ordering::Acquire) >= MOST_CONNECTIONS {
                drop(outside);
                continue;
            }
            open.fetch_add(1, Ordering::AcqRel);
            let counter = Arc::clone(&open);
            let joined = thread::Builder::new().stack_size(STACK).spawn(move || {
                // A service that does not listen yet, or no more: the caller sees its connection closed.
                if let Ok(inside) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                    let _ = inside.set_nodelay(true);
                    join(&outside, &inside);
                }
                counter.fetch_sub(1, Ordering::AcqRel);
            });
            if joined.is_err() {
                open.fetch_sub(1, Ordering::AcqRel);
            }
        }
    };
    thread::Builder::new().stack_size(STACK).spawn(accept).map(drop)
}

fn join(outside: &UnixStream, inside: &TcpStream) {
    thread::scope(|scope| {
        let back = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
            copy(inside, outside);
            let _ = outside.shutdown(Shutdown::Write);
        });
        if back.is_err() {
            let _ = outside.shutdown(Shutdown::Both);
            return;
        }
        copy(outside, inside);
        let _ = inside.shutdown(Shutdown::Write);
    });
}

/// Copies until the end of one or an error of either.
pub(crate) fn copy(mut from: impl io::Read, mut to: impl io::Write) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => {
                if to.write_all(&buffer[..n]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
