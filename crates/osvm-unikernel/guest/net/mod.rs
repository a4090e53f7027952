//! Sockets: listeners, connections inside the guest, and connections that the monitor brings over rings in shared memory.

pub mod address;
pub mod ring;
pub mod socket;

use alloc::{
    collections::{BTreeMap, VecDeque},
    rc::{Rc, Weak},
};
use core::cell::{Cell, RefCell};

use crate::{
    abi::{Boot, CONNS, RING, boot_flags},
    cell::Global,
    errno::{EADDRINUSE, ECONNREFUSED, Errno},
    hyper::{self, share, shared},
    task,
};
use address::Address;
use ring::HostConn;
use socket::Link;

/// Bytes put into rings after which the monitor is told before the program goes on.
const FULL: u32 = RING / 2;
/// Connections that wait to be accepted.
const BACKLOG: usize = 1024;

/// Where connections to an address arrive.
pub struct Listener {
    pub address: Address,
    /// IPV6_V6ONLY.
    only6: bool,
    pub queue: RefCell<VecDeque<Link>>,
    pub ins: Cell<u64>,
}

struct Net {
    listeners: BTreeMap<Address, Weak<Listener>>,
    /// Which use of each place has been seen.
    seen: [u32; CONNS as usize],
    activity: u32,
    /// Bytes put into rings, or taken from full ones, since the monitor last looked.
    unsent: u32,
    next_port: u16,
    /// There is memory for connections from outside.
    rings: bool,
}

static NET: Global<Net> = Global::new(Net {
    listeners: BTreeMap::new(),
    seen: [0; CONNS as usize],
    activity: 0,
    unsent: 0,
    next_port: 49152,
    rings: false,
});

/// Takes the monitor's word on whether connections may come; the same.
pub fn init(boot: &Boot) -> bool {
    NET.get().rings = boot.flags & boot_flags::NO_RINGS == 0;
    NET.get().rings
}

/// Takes in what the monitor brought; whether anything changed.
pub fn poll() -> bool {
    let activity = shared!(activity);
    if NET.get().activity == activity {
        return false;
    }
    NET.get().activity = activity;
    if !NET.get().rings {
        return true;
    }
    for place in 0..CONNS {
        let generation = ring::generation(place);
        let mut net = NET.get();
        if generation == net.seen[place as usize] {
            continue;
        }
        net.seen[place as usize] = generation;
        drop(net);
        if generation != 0 {
            arrived(HostConn::new(place, generation));
        }
    }
    true
}

/// A connection from outside goes to the listener of its port, or is closed again as its `HostConn` is dropped.
fn arrived(conn: HostConn) {
    let port = conn.port() as u16;
    let listener = listener_of(|other| other.address.port() == Some(port));
    if let Some(listener) = listener {
        listener.push(Link::Host(conn));
    }
}

fn listener_of(matches: impl Fn(&Listener) -> bool) -> Option<Rc<Listener>> {
    let all: alloc::vec::Vec<_> = NET.get().listeners.values().filter_map(Weak::upgrade).collect();
    all.into_iter().find(|listener| matches(listener))
}

/// Rings have changed: the monitor is told at the next wait, or before.
pub fn changed(bytes: u32) {
    let mut net = NET.get();
    share!(dirty, 1);
    net.unsent = net.unsent.saturating_add(bytes.max(1));
}

/// The monitor looks at rings whenever the guest waits; the last of its activity that was seen.
pub fn flushed() -> u32 {
    let mut net = NET.get();
    net.unsent = 0;
    net.activity
}

/// Tells the monitor now if anything is to be told.
pub fn flush() {
    let unsent = core::mem::take(&mut NET.get().unsent);
    if unsent > 0 {
        hyper::doorbell();
    }
}

/// Tells the monitor now if there is much.
pub fn flush_if_full() {
    if NET.get().unsent >= FULL {
        flush();
    }
}

impl Listener {
    /// Takes an address; it is free again when the last owner drops the listener.
    pub fn open(address: Address, only6: bool) -> Result<Rc<Self>, Errno> {
        let taken =
            listener_of(|other| other.address.takes(&address, other.only6) || address.takes(&other.address, only6));
        if taken.is_some() {
            return Err(EADDRINUSE);
        }
        let listener = Rc::new(Self { address: address.clone(), only6, queue: RefCell::default(), ins: Cell::new(0) });
        NET.get().listeners.insert(address, Rc::downgrade(&listener));
        if let Some(port) = listener.address.port() {
            hyper::listen(port.into(), true);
        }
        Ok(listener)
    }

    /// A connection arrives; one too many is dropped.
    pub fn push(&self, link: Link) {
        if self.queue.borrow().len() < BACKLOG {
            self.queue.borrow_mut().push_back(link);
            self.ins.set(self.ins.get() + 1);
            task::notify();
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        NET.get().listeners.remove(&self.address);
        // A listener of the other family may go on.
        if let Some(port) = self.address.port()
            && listener_of(|other| other.address.port() == Some(port)).is_none()
        {
            hyper::listen(port.into(), false);
        }
    }
}

/// The listener inside the guest that a connection to this address reaches.
pub fn reach(address: &Address) -> Result<Rc<Listener>, Errno> {
    let found = match address {
        Address::Unix(_) => listener_of(|other| other.address == *address),
        Address::Inet { .. } => {
            if !address.is_local() {
                // Nothing leads out of the guest.
                return Err(crate::errno::ENETUNREACH);
            }
            listener_of(|other| other.address.takes(address, other.only6))
        }
        Address::None => None,
    };
    found.ok_or(ECONNREFUSED)
}

/// A port that nobody has, for `bind` to 0 and for the near end of `connect`.
pub fn free_port() -> u16 {
    loop {
        let mut net = NET.get();
        let port = net.next_port;
        net.next_port = if port == u16::MAX { 49152 } else { port + 1 };
        drop(net);
        if listener_of(|other| other.address.port() == Some(port)).is_none() {
            return port;
        }
    }
}
