//! Stream sockets.

use alloc::{rc::Rc, vec::Vec};
use core::cell::{Cell, RefCell};

use super::{Listener, address::Address, ring::HostConn};
use crate::{
    errno::{Answer, EAGAIN, EINVAL, EISCONN, ENOTCONN, EPIPE, Errno},
    fs::{ERR, File, HUP, IN, OUT, Open, RDHUP, S_IFSOCK, Stat, pipe::Stream},
    signal, task,
};

/// What a connected socket reads from and writes to.
pub enum Link {
    /// The monitor's rings.
    Host(HostConn),
    /// Another socket of this guest: what it reads and what it writes, and the other's address.
    Local { read: Rc<Stream>, write: Rc<Stream>, peer: Address },
}

/// What a socket is at.
pub enum State {
    New,
    Listening(Rc<Listener>),
    Connected(Link),
}

/// A stream socket.
pub struct Socket {
    pub domain: u32,
    pub state: RefCell<State>,
    pub address: RefCell<Address>,
    /// IPV6_V6ONLY.
    pub only6: Cell<bool>,
    shut_read: Cell<bool>,
    shut_write: Cell<bool>,
}

/// Two ends of a connection inside the guest; each is told the other's address.
pub fn pair(first: Address, second: Address) -> (Link, Link) {
    let (a, b) = (Rc::new(Stream::default()), Rc::new(Stream::default()));
    (
        Link::Local { read: Rc::clone(&a), write: Rc::clone(&b), peer: second },
        Link::Local { read: b, write: a, peer: first },
    )
}

impl Link {
    fn edges(&self) -> (u64, u64) {
        match self {
            Self::Host(conn) => conn.edges(),
            Self::Local { read, write, .. } => (read.edges().0, write.edges().1),
        }
    }

    fn peer(&self) -> Address {
        match self {
            Self::Host(conn) => Address::loopback(conn.peer_port()),
            Self::Local { peer, .. } => peer.clone(),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Self::Local { read, write, .. } = self {
            read.end(false);
            write.end(true);
        }
    }
}

impl Socket {
    /// Not connected.
    pub fn new(domain: u32) -> Self {
        Self::with(domain, State::New, Address::None)
    }

    /// In a state.
    pub fn with(domain: u32, state: State, address: Address) -> Self {
        Self {
            domain,
            state: RefCell::new(state),
            address: RefCell::new(address),
            only6: Cell::new(false),
            shut_read: Cell::new(false),
            shut_write: Cell::new(false),
        }
    }

    fn link<T>(&self, act: impl FnOnce(&Link) -> Result<T, Errno>) -> Result<T, Errno> {
        match &*self.state.borrow() {
            State::Connected(link) => act(link),
            _ => Err(ENOTCONN),
        }
    }

    /// Takes bytes, or looks at them.
    pub fn receive(&self, out: &mut [u8], peek: bool) -> Answer {
        if self.shut_read.get() {
            return self.link(|_| Ok(0));
        }
        self.link(|link| match link {
            Link::Host(conn) => conn.read(out, peek),
            Link::Local { read, .. } => read.read(out, peek),
        })
    }

    /// Open files travel with the next byte; false: not over this kind of connection.
    pub fn attach(&self, rights: Vec<Rc<Open>>) -> bool {
        let State::Connected(Link::Local { write, .. }) = &*self.state.borrow() else { return false };
        write.attach(rights);
        true
    }

    /// Takes them back, as the byte could not be put.
    pub fn detach(&self) {
        if let State::Connected(Link::Local { write, .. }) = &*self.state.borrow() {
            write.detach();
        }
    }

    /// Open files that came with the bytes just read.
    pub fn take_rights(&self) -> Vec<Rc<Open>> {
        match &*self.state.borrow() {
            State::Connected(Link::Local { read, .. }) => read.take_rights(),
            _ => Vec::new(),
        }
    }

    /// Puts bytes; `quiet` without SIGPIPE.
    pub fn send(&self, bytes: &[u8], quiet: bool) -> Answer {
        let done = if self.shut_write.get() {
            self.link(|_| Err(EPIPE))
        } else {
            self.link(|link| match link {
                Link::Host(conn) => conn.write(bytes),
                Link::Local { write, .. } => write.write(bytes),
            })
        };
        if done == Err(EPIPE) && !quiet {
            let _ = signal::send(None, task::current(), signal::SIGPIPE);
        }
        done
    }

    /// Ends one or both directions.
    pub fn shutdown(&self, how: u64) -> Answer {
        if how > 2 {
            return Err(EINVAL);
        }
        self.link(|link| {
            if how != 1 {
                self.shut_read.set(true);
            }
            if how != 0 && !self.shut_write.replace(true) {
                match link {
                    Link::Host(conn) => conn.shut(),
                    Link::Local { write, .. } => write.end(true),
                }
            }
            task::notify();
            Ok(0)
        })
    }

    /// Connects inside the guest.
    pub fn connect(&self, to: &Address) -> Answer {
        if matches!(*self.state.borrow(), State::Connected(_)) {
            return Err(EISCONN);
        }
        let listener = super::reach(to)?;
        let mut near = self.address.borrow().clone();
        if to.port().is_some() && near.port().unwrap_or(0) == 0 {
            near = Address::loopback(super::free_port());
        }
        let (ours, theirs) = pair(near.clone(), to.clone());
        *self.address.borrow_mut() = near;
        *self.state.borrow_mut() = State::Connected(ours);
        listener.push(theirs);
        Ok(0)
    }

    /// A connection that has arrived, and the peer's address.
    pub fn accept(&self) -> Result<(Socket, Address), Errno> {
        let state = self.state.borrow();
        let State::Listening(listener) = &*state else { return Err(EINVAL) };
        let link = listener.queue.borrow_mut().pop_front().ok_or(EAGAIN)?;
        let peer = link.peer();
        let near = match &listener.address {
            Address::Inet { port, .. } => Address::loopback(*port),
            other => other.clone(),
        };
        Ok((Socket::with(self.domain, State::Connected(link), near), peer))
    }

    /// The other end's address.
    pub fn peer(&self) -> Result<Address, Errno> {
        self.link(|link| Ok(link.peer()))
    }
}

impl File for Socket {
    fn read(&self, out: &mut [u8]) -> Answer {
        let got = self.receive(out, false);
        // Nobody asked for them.
        drop(self.take_rights());
        got
    }
    fn write(&self, bytes: &[u8]) -> Answer {
        self.send(bytes, false)
    }
    fn poll(&self) -> u32 {
        match &*self.state.borrow() {
            State::New => OUT | HUP,
            State::Listening(listener) => u32::from(!listener.queue.borrow().is_empty()) * IN,
            State::Connected(link) => {
                let (readable, ended, writable, gone) = match link {
                    Link::Host(conn) => {
                        let (readable, ended) = conn.readable();
                        (readable, ended, conn.writable(), conn.gone())
                    }
                    Link::Local { read, write, .. } => {
                        let ended = read.writer_gone.get();
                        (read.readable(), ended, write.writable(), ended && write.reader_gone.get())
                    }
                };
                let ended = ended || self.shut_read.get();
                let both = ended && self.shut_write.get();
                u32::from(readable || ended) * IN
                    | u32::from(writable) * OUT
                    | u32::from(ended) * RDHUP
                    | u32::from(gone || both) * HUP
                    | u32::from(gone && matches!(link, Link::Host(_))) * ERR
            }
        }
    }
    fn edges(&self) -> (u64, u64) {
        match &*self.state.borrow() {
            State::New => (0, 0),
            State::Listening(listener) => (listener.ins.get(), 0),
            State::Connected(link) => {
                let (ins, outs) = link.edges();
                // Each shutdown of our own is an edge too.
                (ins | u64::from(self.shut_read.get()) << 63, outs | u64::from(self.shut_write.get()) << 61)
            }
        }
    }
    fn stat(&self) -> Stat {
        Stat::of(S_IFSOCK | 0o777, 8)
    }
    fn ioctl(&self, request: u64, argument: u64) -> Answer {
        let held = self.link(|link| {
            Ok(match link {
                Link::Host(conn) => conn.waiting(),
                Link::Local { read, .. } => read.held(),
            })
        });
        crate::sys::io::fionread(request, argument, held.unwrap_or(0))
    }
    fn socket(&self) -> Option<&Socket> {
        Some(self)
    }
}
