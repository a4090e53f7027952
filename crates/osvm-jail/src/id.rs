//! The number of an instance: unique on this host for as long as the instance lives, and its user and group id.
//!
//! A number is held by binding an abstract unix socket, which the kernel gives back whatever way the holder ends. Nothing of it is
//! on a disk. (Such a socket is held per network namespace; the lock on the instance's control group tells the others.) A user of the host who binds such sockets can keep a number from being used, but not use it twice.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use crate::error::{At, Error};

/// The first user id of a range that neither systemd, nor distributions, nor container engines hand out.
pub const FIRST_ID: u32 = 0x7000_0000;
/// How many there are.
pub const IDS: u32 = 0x1_0000;

/// The first user id of egress proxies: each instance has one here too, at the same distance from the first.
pub const FIRST_EGRESS_ID: u32 = FIRST_ID + IDS;

/// A number that nobody else has.
#[derive(Debug)]
pub(crate) struct InstanceId {
    pub(crate) number: u32,
    _held: UnixDatagram,
}

impl InstanceId {
    /// A free number, looked for from this one on. `elsewhere` says whether a number is held in another network namespace, from which
    /// sockets of this one are not seen.
    pub(crate) fn take(start: u32, elsewhere: impl Fn(u32) -> bool) -> Result<Self, Error> {
        for step in 0..IDS {
            match Self::hold(FIRST_ID + start.wrapping_add(step) % IDS) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Ok(held) if elsewhere(held.number) => {}
                held => return held.at("taking an instance id"),
            }
        }
        Err(Error::Unavailable {
            what: format!("all {IDS} instance ids are in use, and two instances must not share one"),
            help: "stop some instances".to_owned(),
        })
    }

    /// The user id of the instance's egress proxy.
    pub(crate) fn of_proxy(&self) -> u32 {
        self.number - FIRST_ID + FIRST_EGRESS_ID
    }

    /// This number, if it is free.
    pub(crate) fn hold(number: u32) -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(format!("osvm-jail/{number}"))?;
        Ok(Self { number, _held: UnixDatagram::bind_addr(&address)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_instances_never_have_the_same_number() {
        let one = InstanceId::take(std::process::id(), |_| false).unwrap();
        let two = InstanceId::take(std::process::id(), |_| false).unwrap();
        assert_ne!(one.number, two.number);
        assert_eq!(InstanceId::hold(one.number).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let number = one.number;
        drop(one);
        InstanceId::hold(number).unwrap();
    }
}
