//! Socket addresses, as programs write them.

use alloc::vec::Vec;

use crate::{
    errno::{EAFNOSUPPORT, EFAULT, EINVAL, Errno},
    user,
};

pub const AF_UNIX: u32 = 1;
pub const AF_INET: u32 = 2;
pub const AF_INET6: u32 = 10;

/// IPv4 in IPv6.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// An address. IPv4 ones are kept in their IPv6 form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// Not bound, or a unix socket without a name.
    None,
    Inet {
        port: u16,
        ip: [u8; 16],
    },
    /// A path; an abstract name begins with a zero.
    Unix(Vec<u8>),
}

impl Address {
    /// 127.0.0.1 with a port.
    pub fn loopback(port: u16) -> Self {
        let mut ip = [0; 16];
        ip[..12].copy_from_slice(&MAPPED);
        ip[12..].copy_from_slice(&[127, 0, 0, 1]);
        Self::Inet { port, ip }
    }

    /// Any address, port 0.
    pub fn any() -> Self {
        Self::Inet { port: 0, ip: [0; 16] }
    }

    /// Whether it is of IPv4.
    fn is_v4(&self) -> bool {
        matches!(self, Self::Inet { ip, .. } if ip[..12] == MAPPED)
    }

    /// Whether a listener at this address takes connections to another one. `only6`: if it is of IPv6, it takes none of IPv4.
    pub fn takes(&self, other: &Self, only6: bool) -> bool {
        match (self, other) {
            (Self::Inet { port, ip }, Self::Inet { port: wanted, .. }) => {
                port == wanted && (self.is_v4() == other.is_v4() || (*ip == [0; 16] && !only6))
            }
            _ => self == other,
        }
    }

    /// The port of an internet address.
    pub fn port(&self) -> Option<u16> {
        if let Self::Inet { port, .. } = self { Some(*port) } else { None }
    }

    /// The same with another port.
    pub fn with_port(&self, new: u16) -> Self {
        match self {
            Self::Inet { ip, .. } => Self::Inet { port: new, ip: *ip },
            other => other.clone(),
        }
    }

    /// Whether it is this machine: any, 127.0.0.0/8, or ::1.
    pub fn is_local(&self) -> bool {
        let Self::Inet { ip, .. } = self else { return true };
        let v4 = ip[..12] == MAPPED;
        *ip == [0; 16] || (v4 && (ip[12] == 127 || ip[12..] == [0; 4])) || (ip[..15] == [0; 15] && ip[15] == 1)
    }

    /// Reads a `sockaddr` of a family.
    pub fn read(at: u64, len: u64, domain: u32) -> Result<Self, Errno> {
        if !(2..=128).contains(&len) {
            return Err(EINVAL);
        }
        let bytes = user::bytes(at, len)?;
        let family = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        if family != domain && !(family == AF_INET && domain == AF_INET6) {
            return Err(EAFNOSUPPORT);
        }
        let port = || Ok(u16::from_be_bytes([*bytes.get(2).ok_or(EINVAL)?, *bytes.get(3).ok_or(EINVAL)?]));
        match family {
            AF_INET => {
                let mut ip = [0; 16];
                ip[..12].copy_from_slice(&MAPPED);
                ip[12..].copy_from_slice(bytes.get(4..8).ok_or(EINVAL)?);
                Ok(Self::Inet { port: port()?, ip })
            }
            AF_INET6 => {
                let mut ip = [0; 16];
                ip.copy_from_slice(bytes.get(8..24).ok_or(EINVAL)?);
                Ok(Self::Inet { port: port()?, ip })
            }
            AF_UNIX => {
                let name = &bytes[2..];
                let end = if name.first() == Some(&0) {
                    name.len()
                } else {
                    name.iter().position(|&b| b == 0).unwrap_or(name.len())
                };
                Ok(if end == 0 { Self::None } else { Self::Unix(name[..end].to_vec()) })
            }
            _ => Err(EAFNOSUPPORT),
        }
    }

    /// Writes a `sockaddr` as far as the program has room, and its length.
    pub fn write(&self, at: u64, len_at: u64, domain: u32) -> Result<(), Errno> {
        if at == 0 {
            return Ok(());
        }
        if len_at == 0 {
            return Err(EFAULT);
        }
        let bytes = self.bytes(domain);
        let room: u32 = user::read(len_at)?;
        let part = bytes.len().min(room as usize);
        user::bytes_mut(at, part as u64)?.copy_from_slice(&bytes[..part]);
        user::write(len_at, bytes.len() as u32)
    }

    /// As a `sockaddr`.
    pub fn bytes(&self, domain: u32) -> Vec<u8> {
        let mut out = (domain as u16).to_le_bytes().to_vec();
        let (port, ip) = match self {
            Self::Unix(name) => {
                out.extend_from_slice(name);
                if name.first() != Some(&0) {
                    out.push(0);
                }
                return out;
            }
            Self::None => (0, [0; 16]),
            Self::Inet { port, ip } => (*port, *ip),
        };
        match domain {
            AF_INET => {
                out.extend_from_slice(&port.to_be_bytes());
                out.extend_from_slice(&ip[12..]);
                out.extend_from_slice(&[0; 8]);
            }
            AF_INET6 => {
                out.extend_from_slice(&port.to_be_bytes());
                out.extend_from_slice(&[0; 4]);
                out.extend_from_slice(&ip);
                out.extend_from_slice(&[0; 4]);
            }
            _ => {}
        }
        out
    }
}
