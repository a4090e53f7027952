//! Another instance, which has something to lose.

use std::{
    fs,
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};

pub(crate) const SECRET: &[u8] = b"the neighbour's secret";
pub(crate) const ABSTRACT: &str = "osvm-neighbour";
pub(crate) const PORT: u16 = 7777;

/// Runs in a jail until it is ended. It says where in its memory the secret is, and tells it to who comes to its port.
pub(crate) fn live() -> io::Result<()> {
    let secret = SECRET.to_vec();
    fs::write("/tmp/secret", &secret)?;
    fs::write("/data/secret", &secret)?;
    let _named = UnixListener::bind("/data/socket")?;
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(ABSTRACT)?)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
    println!("{}", secret.as_ptr() as u64);
    io::stdout().flush()?;
    for caller in listener.incoming() {
        // One who went away is his own business.
        let _ = caller.and_then(|mut caller| caller.write_all(&secret));
    }
    Ok(())
}
