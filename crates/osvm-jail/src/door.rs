//! The unix socket on the host by which a service in a jail is reached. It is removed with the jail.

use std::{
    fs, io, mem,
    os::unix::{
        fs::FileTypeExt,
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
};

use crate::{
    error::{At, Error},
    spec::Inbound,
};

/// A listening socket and its file.
pub(crate) struct Door {
    listener: UnixListener,
    path: PathBuf,
    port: u16,
}

impl Door {
    /// Makes the socket. One that a dead jail left behind is replaced; one that somebody listens on is not.
    pub(crate) fn open(inbound: &Inbound) -> Result<Self, Error> {
        let path = inbound.socket.clone();
        let stale = fs::symlink_metadata(&path).is_ok_and(|meta| meta.file_type().is_socket())
            && UnixStream::connect(&path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if stale {
            fs::remove_file(&path).at("removing a dead instance's socket")?;
        }
        let listener = UnixListener::bind(&path).at("making the instance's socket")?;
        Ok(Self { listener, path, port: inbound.port })
    }

    /// In the jail's process: only the listener, and the file is left to the monitor.
    pub(crate) fn into_listener(self) -> (UnixListener, u16) {
        let this = mem::ManuallyDrop::new(self);
        // The process is about to become the jail's first one; the path's memory is its own business.
        match this.listener.try_clone() {
            Ok(listener) => (listener, this.port),
            Err(_) => crate::sys::exit_now(1),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
