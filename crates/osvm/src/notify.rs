//! The readiness protocol of systemd (`Type=notify`): a datagram to the socket that `NOTIFY_SOCKET` names.
//!
//! `osvm` itself plays the service manager's part when it starts a daemon, so that it waits for an event and not for time.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::Path,
};

/// The variable that names the socket.
pub(crate) const SOCKET: &str = "NOTIFY_SOCKET";
/// The service is up.
pub(crate) const READY: &str = "READY=1";
/// The service is on its way down.
pub(crate) const STOPPING: &str = "STOPPING=1";

/// Tells the service manager, if there is one. Nobody waits for the outcome, so a failure is only logged.
pub(crate) fn tell(state: &str) {
    let Some(name) = env::var_os(SOCKET) else { return };
    if let Err(error) = send(&name, state) {
        tracing::warn!(%error, state, "the service manager was not told");
    }
}

fn send(name: &OsStr, state: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(Path::new(name))?,
    };
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// A socket for one child's notifications, and the value of its `NOTIFY_SOCKET`.
pub(crate) fn listen() -> io::Result<(UnixDatagram, String)> {
    // The kernel picks a free abstract name for an empty one, but std cannot read it back portably: pid and time are unique.
    let name = format!("osvm-{}-{}", std::process::id(), crate::format::now_unix_ms());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    Ok((socket, format!("@{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives() {
        let (socket, name) = listen().unwrap();
        send(OsStr::new(&name), READY).unwrap();
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], READY.as_bytes());
    }
}
