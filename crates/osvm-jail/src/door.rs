//! The unix socket on the host by which a service in a jail is reached. It is removed with the jail.

use std::{
    fs, io, mem,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::fs::Mode;

use crate::{
    error::{At, Error},
    spec::Inbound,
};

/// A listening socket and its file.
pub(crate) struct Door {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, by which it is known again.
    file: (u64, u64),
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
        // Its owner's from the first moment on. (A jail is started by a process of one thread, so nobody else makes files meanwhile.)
        let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(&path);
        rustix::process::umask(mask);
        let listener = bound.at("making the instance's socket")?;
        let file = identity(&path).at("looking at the instance's socket")?;
        Ok(Self { listener, path, file, port: inbound.port })
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

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

impl Drop for Door {
    fn drop(&mut self) {
        // Whoever put another file there keeps it.
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
