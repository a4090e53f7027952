//! A TCP port of the guest's loopback, joined to the connection. Each direction ends by itself.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use crate::{
    Error, Reply,
    server::{refuse_io, reply},
};

/// How long a program in the guest may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to `port` and passes bytes on until both sides ended.
pub(crate) fn join(stream: &UnixStream, port: u16) -> Result<(), Error> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let tcp = match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
        Ok(tcp) => tcp,
        Err(error) => return refuse_io(stream, &error),
    };
    tcp.set_nodelay(true)?;
    reply(stream, &Reply::Done)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*stream, &mut &tcp);
            let _ = tcp.shutdown(Shutdown::Write);
        });
        let _ = io::copy(&mut &tcp, &mut &*stream);
        let _ = stream.shutdown(Shutdown::Write);
    });
    Ok(())
}
