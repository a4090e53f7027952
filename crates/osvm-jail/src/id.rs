//! The number of an instance: unique on this host for as long as the instance lives, and its user and group id.
//!
//! A number is held by binding an abstract unix socket, which the kernel gives back whatever way the holder ends. Nothing of it is
//! on a disk. A user of the host who binds such sockets can keep a number from being used, but not use it twice.

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

/// A number that nobody else has.
#[derive(Debug)]
pub(crate) struct InstanceId {
    pub(crate) number: u32,
    _held: UnixDatagram,
}

impl InstanceId {
    /// A free number. The search begins at one that other processes are unlikely to begin at.
    pub(crate) fn take() -> Result<Self, Error> {
        let start = std::process::id();
        for step in 0..IDS {
            match Self::hold(FIRST_ID + start.wrapping_add(step) % IDS) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                held => return held.at("taking an instance id"),
            }
        }
        Err(Error::Unavailable {
            what: format!("all {IDS} instance ids are in use, and two instances must not share one"),
            help: "stop some instances".to_owned(),
        })
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
        let one = InstanceId::take().unwrap();
        let two = InstanceId::take().unwrap();
        assert_ne!(one.number, two.number);
        assert_eq!(InstanceId::hold(one.number).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let number = one.number;
        drop(one);
        InstanceId::hold(number).unwrap();
    }
}
