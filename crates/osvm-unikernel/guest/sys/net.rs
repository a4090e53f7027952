//! System calls of sockets. Stream sockets only: nothing here sends datagrams.

use alloc::{rc::Rc, vec::Vec};

use super::{blocking, io::vector, rights};
use crate::{
    errno::{Answer, EAFNOSUPPORT, EAGAIN, EINVAL, ENOSYS, ENOTSOCK, EOPNOTSUPP, EPROTONOSUPPORT, Errno},
    fs::{Kind, Node, O_CLOEXEC, O_NONBLOCK, Open, table, tree},
    net::{
        Listener,
        address::{AF_INET, AF_INET6, AF_UNIX, Address},
        free_port,
        socket::{Socket, State, pair},
    },
    user,
};

const STREAM: u32 = 1;
const MSG_PEEK: u64 = 2;
const MSG_DONTWAIT: u64 = 0x40;
const MSG_WAITALL: u64 = 0x100;
const MSG_NOSIGNAL: u64 = 0x4000;
/// Level and name.
const V6ONLY: (u64, u64) = (41, 26);

pub fn call(number: u64, a: [u64; 6]) -> Answer {
    match number {
        41 => {
            let domain = a[0] as u32;
            check(domain, a[1] as u32)?;
            add(Socket::new(domain), a[1] as u32)
        }
        53 => {
            check(a[0] as u32, a[1] as u32)?;
            if a[0] as u32 != AF_UNIX {
                return Err(EOPNOTSUPP);
            }
            let (first, second) = pair(Address::None, Address::None);
            let first = add(Socket::with(AF_UNIX, State::Connected(first), Address::None), a[1] as u32)?;
            let second = add(Socket::with(AF_UNIX, State::Connected(second), Address::None), a[1] as u32)?;
            user::write(a[3], [first as u32, second as u32])?;
            Ok(0)
        }
        _ => {
            let open = table::get(a[0])?;
            let socket = open.file.socket().ok_or(ENOTSOCK)?;
            on_socket(number, &open, socket, a)
        }
    }
}

fn on_socket(number: u64, open: &Rc<Open>, socket: &Socket, a: [u64; 6]) -> Answer {
    match number {
        42 => socket.connect(&Address::read(a[1], a[2], socket.domain)?),
        43 | 288 => {
            let flags = if number == 288 { a[3] as u32 } else { 0 };
            let mut arrived = None;
            blocking(open, u64::MAX, || {
                arrived = Some(socket.accept()?);
                Ok(0)
            })?;
            let (new, peer) = arrived.ok_or(EAGAIN)?;
            peer.write(a[1], a[2], socket.domain)?;
            add(new, flags)
        }
        44 => {
            let bytes = user::bytes(a[1], a[2])?;
            send(open, socket, &[bytes], a[3])
        }
        45 => {
            let out = user::bytes_mut(a[1], a[2])?;
            let got = receive(open, socket, &mut [out], a[3])?;
            drop(socket.take_rights());
            if a[4] != 0 {
                user::write(a[5], 0u32)?;
            }
            Ok(got)
        }
        46 => send_message(open, socket, a[1], a[2]),
        307 => {
            for n in 0..a[2].min(1024) {
                let at = a[1] + n * 64;
                match send_message(open, socket, at, a[3]) {
                    Ok(sent) => user::write(at + 56, sent as u32)?,
                    Err(error) => return if n == 0 { Err(error) } else { Ok(n) },
                }
            }
            Ok(a[2])
        }
        47 => receive_message(open, socket, a[1], a[2]),
        299 => {
            let got = receive_message(open, socket, a[1], a[3])?;
            user::write(a[1] + 56, got as u32)?;
            Ok(1)
        }
        48 => socket.shutdown(a[1]),
        49 => bind(socket, Address::read(a[1], a[2], socket.domain)?),
        50 => {
            if matches!(*socket.state.borrow(), State::Listening(_)) {
                return Ok(0);
            }
            let mut address = socket.address.borrow().clone();
            if address == Address::None {
                if socket.domain == AF_UNIX {
                    return Err(EINVAL);
                }
                address = Address::any().with_port(free_port());
            }
            let listener = Listener::open(address.clone(), socket.only6.get())?;
            *socket.address.borrow_mut() = address;
            *socket.state.borrow_mut() = State::Listening(listener);
            Ok(0)
        }
        51 => {
            let address = socket.address.borrow();
            address.write(a[1], a[2], socket.domain)?;
            Ok(0)
        }
        52 => {
            socket.peer()?.write(a[1], a[2], socket.domain)?;
            Ok(0)
        }
        54 if (a[1], a[2]) == V6ONLY => {
            socket.only6.set(user::read::<u32>(a[3])? != 0);
            Ok(0)
        }
        // Other options change nothing here: there is no wire.
        54 => Ok(0),
        55 => option(socket, a[1], a[2], a[3], a[4]),
        _ => Err(ENOSYS),
    }
}

fn check(domain: u32, kind: u32) -> Result<(), Errno> {
    if ![AF_UNIX, AF_INET, AF_INET6].contains(&domain) {
        return Err(EAFNOSUPPORT);
    }
    if kind & 0xff != STREAM { Err(EPROTONOSUPPORT) } else { Ok(()) }
}

fn add(socket: Socket, flags: u32) -> Answer {
    table::add(Open::new(Rc::new(socket), flags & O_NONBLOCK | 2), flags & O_CLOEXEC != 0)
}

fn bind(socket: &Socket, address: Address) -> Answer {
    if *socket.address.borrow() != Address::None {
        return Err(EINVAL);
    }
    let address = match address {
        Address::Inet { port: 0, .. } => address.with_port(free_port()),
        Address::Inet { .. } if !address.is_local() => return Err(crate::errno::EADDRNOTAVAIL),
        Address::Unix(ref name) if name.first() != Some(&0) => {
            let found = tree::walk(&tree::cwd(), name, false)?;
            if found.node.is_some() {
                return Err(crate::errno::EADDRINUSE);
            }
            found.dir.insert(&found.name, Node::new(Kind::Socket, 0o755))?;
            address
        }
        other => other,
    };
    *socket.address.borrow_mut() = address;
    Ok(0)
}

fn send(open: &Rc<Open>, socket: &Socket, parts: &[&[u8]], flags: u64) -> Answer {
    let quiet = flags & MSG_NOSIGNAL != 0;
    let waits = flags & MSG_DONTWAIT == 0 && !open.nonblocking();
    let mut done = 0;
    for part in parts {
        let mut left = *part;
        while !left.is_empty() || (part.is_empty() && parts.len() == 1) {
            let act = || socket.send(left, quiet);
            let wrote = match if waits { blocking(open, u64::MAX, act) } else { act() } {
                Ok(wrote) => wrote,
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            };
            done += wrote;
            left = &left[wrote as usize..];
            if left.is_empty() {
                break;
            }
            if !waits {
                return Ok(done);
            }
        }
    }
    Ok(done)
}

fn receive(open: &Rc<Open>, socket: &Socket, parts: &mut [&mut [u8]], flags: u64) -> Answer {
    let peek = flags & MSG_PEEK != 0;
    let waits = flags & MSG_DONTWAIT == 0 && !open.nonblocking();
    let mut done = 0;
    for part in parts {
        let mut at = 0;
        while at < part.len() {
            let wait_now = waits && (done == 0 || flags & MSG_WAITALL != 0);
            let out = &mut part[at..];
            let got = if wait_now {
                blocking(open, u64::MAX, || socket.receive(out, peek))
            } else {
                socket.receive(out, peek)
            };
            match got {
                Ok(0) => return Ok(done),
                Ok(got) => {
                    done += got;
                    at += got as usize;
                    if peek || (at < part.len() && flags & MSG_WAITALL == 0) {
                        return Ok(done);
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(done)
}

/// `struct msghdr`, as far as it is used: name, its length, parts, their count, control data, its length, flags.
fn message(at: u64) -> Result<[u64; 7], Errno> {
    user::read(at)
}

fn send_message(open: &Rc<Open>, socket: &Socket, at: u64, flags: u64) -> Answer {
    let header = message(at)?;
    let parts = vector(header[2], header[3])?;
    let mut slices = Vec::with_capacity(parts.len());
    for (at, len) in parts {
        slices.push(user::bytes(at, len)?);
    }
    let files = rights::read(header[4], header[5])?;
    if files.is_empty() || socket.domain != AF_UNIX {
        return send(open, socket, &slices, flags);
    }
    // They go with the first byte, so there must be one, and nobody may put others between.
    let Some(first) = slices.iter().position(|part| !part.is_empty()) else { return Err(EINVAL) };
    let quiet = flags & MSG_NOSIGNAL != 0;
    let waits = flags & MSG_DONTWAIT == 0 && !open.nonblocking();
    let act = || {
        let attached = socket.attach(files.clone());
        let put = socket.send(slices[first], quiet);
        if put.is_err() && attached {
            socket.detach();
        }
        put
    };
    let put = if waits { blocking(open, u64::MAX, act) } else { act() }?;
    slices[first] = &slices[first][put as usize..];
    if slices.iter().all(|part| part.is_empty()) || !waits {
        return Ok(put);
    }
    send(open, socket, &slices[first..], flags).map(|more| put + more)
}

fn receive_message(open: &Rc<Open>, socket: &Socket, at: u64, flags: u64) -> Answer {
    let header = message(at)?;
    let mut slices = Vec::new();
    for (at, len) in vector(header[2], header[3])? {
        slices.push(user::bytes_mut(at, len)?);
    }
    let got = receive(open, socket, &mut slices, flags)?;
    user::write(at + 8, 0u32)?;
    let (control, told) = rights::write(socket, header[4], header[5], flags)?;
    user::write(at + 40, control)?;
    user::write(at + 48, told)?;
    Ok(got)
}

fn option(socket: &Socket, level: u64, name: u64, at: u64, len_at: u64) -> Answer {
    const SOL_SOCKET: u64 = 1;
    let value: u32 = match (level, name) {
        // TYPE, ERROR, SNDBUF, RCVBUF, ACCEPTCONN, DOMAIN
        (SOL_SOCKET, 3) => STREAM,
        (SOL_SOCKET, 4) => 0,
        (SOL_SOCKET, 7 | 8) => crate::abi::RING,
        (SOL_SOCKET, 30) => matches!(*socket.state.borrow(), State::Listening(_)).into(),
        V6ONLY => socket.only6.get().into(),
        (SOL_SOCKET, 39) => socket.domain,
        (SOL_SOCKET, 17) => {
            // PEERCRED: the one process.
            user::bytes_mut(at, 12)?.copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            user::write(len_at, 12u32)?;
            return Ok(0);
        }
        _ => 0,
    };
    let room: u32 = user::read(len_at)?;
    let bytes = value.to_le_bytes();
    let len = bytes.len().min(room as usize);
    user::bytes_mut(at, len as u64)?.copy_from_slice(&bytes[..len]);
    user::write(len_at, len as u32)?;
    Ok(0)
}
