//! Addresses that exist on the stage and not in the jail, and socket families that reach past the network.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::AsRawFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixStream},
    },
    time::Duration,
};

use crate::{Attempt, Scene, call, fact, number, stage};

/// The address answers at once or is not there.
const PATIENCE: Duration = Duration::from_secs(5);
const AF_ALG: u64 = 38;
const NETLINK_AUDIT: u64 = 9;
const NETLINK_NETFILTER: u64 = 12;
const NETLINK_KOBJECT_UEVENT: u64 = 15;
const NETLINK_GENERIC: u64 = 16;

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("host-loopback", || dial(Ipv4Addr::LOCALHOST)),
    Attempt::new("host-loopback-6", || dial(Ipv6Addr::LOCALHOST)),
    Attempt::new("host-loopback-as-0.0.0.0", || dial(Ipv4Addr::UNSPECIFIED)),
    Attempt::new("host-loopback-mapped", || dial(Ipv4Addr::LOCALHOST.to_ipv6_mapped())),
    Attempt::new("private-10", || dial(stage::ADDRESSES[0])),
    Attempt::new("private-172", || dial(stage::ADDRESSES[1])),
    Attempt::new("private-192", || dial(stage::ADDRESSES[2])),
    Attempt::new("link-local", || dial(stage::ADDRESSES[3])),
    Attempt::new("metadata", || dial(stage::METADATA)),
    Attempt::new("metadata-by-datagram", || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.send_to(b"?", (stage::METADATA, number("port")?)).map(drop)
    }),
    Attempt::new("broadcast", || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_broadcast(true)?;
        socket.send_to(b"?", ("10.255.255.255", number("port")?)).map(drop)
    }),
    Attempt::new("take-the-metadata-address", || UdpSocket::bind((stage::METADATA, 0)).map(drop)),
    Attempt::new("host-unix-socket", || UnixStream::connect(fact("socket")?).map(drop)),
    Attempt::new("host-abstract-socket", || {
        UnixStream::connect_addr(&UnixAddr::from_abstract_name(stage::ABSTRACT)?).map(drop)
    }),
    Attempt::new("raw-socket", || socket(libc::AF_INET, libc::SOCK_RAW, 1)),
    Attempt::new("raw-socket-6", || socket(libc::AF_INET6, libc::SOCK_RAW, 58)),
    Attempt::new("packet-socket", || socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    Attempt::new("netlink-audit", || socket(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_AUDIT)),
    Attempt::new("netlink-netfilter", || socket(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_NETFILTER)),
    Attempt::new("netlink-devices", || socket(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_KOBJECT_UEVENT)),
    Attempt::new("netlink-generic", || socket(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_GENERIC)),
    Attempt::new("vsock", || socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    Attempt::new("crypto-socket", || call(libc::SYS_socket, &[AF_ALG, libc::SOCK_SEQPACKET as u64, 0])),
    Attempt::new("xdp-socket", || socket(libc::AF_XDP, libc::SOCK_RAW, 0)),
    Attempt::new("give-itself-an-address", || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        stage::add_address(&socket, 9, Ipv4Addr::new(10, 99, 99, 99))
    }),
    Attempt::new("see-interfaces-of-the-host", || {
        // SIOCGIFHWADDR, which the filter does not let through.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let mut request = [0u8; 40];
        request[..2].copy_from_slice(b"lo");
        call(libc::SYS_ioctl, &[socket.as_raw_fd() as u64, 0x8927, request.as_mut_ptr() as u64])
    }),
    Attempt::new("neighbours-door", || UnixStream::connect(fact("door")?).map(drop)).on(Scene::Neighbour),
    Attempt::new("neighbours-unix-socket", || UnixStream::connect(format!("{}/socket", fact("neighbour")?)).map(drop))
        .on(Scene::Neighbour),
    Attempt::new("neighbours-abstract-socket", || {
        into_neighbours_network();
        UnixStream::connect_addr(&UnixAddr::from_abstract_name(crate::neighbour::ABSTRACT)?).map(drop)
    })
    .on(Scene::Neighbour),
    Attempt::new("neighbours-port", || {
        into_neighbours_network();
        TcpStream::connect((Ipv4Addr::LOCALHOST, crate::neighbour::PORT)).map(drop)
    })
    .on(Scene::Neighbour),
    Attempt::new("neighbours-network", || {
        call(libc::SYS_setns, &[crate::pidfd(number("pid")?)?, libc::CLONE_NEWNET as u64])
    })
    .on(Scene::Neighbour),
];

fn dial(address: impl Into<IpAddr>) -> io::Result<()> {
    TcpStream::connect_timeout(&SocketAddr::new(address.into(), number("port")?), PATIENCE).map(drop)
}

fn socket(family: i32, kind: i32, protocol: u64) -> io::Result<()> {
    call(libc::SYS_socket, &[u64::from(family.cast_unsigned()), u64::from(kind.cast_unsigned()), protocol])
}

/// What a control needs to get near. In a jail it is refused, and so must be what comes after.
fn into_neighbours_network() {
    let _ =
        number("pid").and_then(crate::pidfd).and_then(|pid| call(libc::SYS_setns, &[pid, libc::CLONE_NEWNET as u64]));
}
