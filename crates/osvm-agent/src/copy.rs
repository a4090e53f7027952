//! Files in and out of the guest. A file that is written appears under its name whole and on disk, or not at all.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::{
        fs::{OpenOptionsExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    Code, Error, Reply,
    server::{refuse, refuse_io, reply},
    wire::{self, CHUNK, Frame, Kind, Sender},
};

/// Sends a file to the host. Its length is that of the moment it was opened: what is appended meanwhile is left out.
pub(crate) fn read(mut stream: &UnixStream, path: &Path) -> Result<(), Error> {
    // Without O_NONBLOCK a named pipe would be waited for.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let (file, meta) = match opened.and_then(|file| file.metadata().map(|meta| (file, meta))) {
        Ok(both) => both,
        Err(error) => return refuse_io(stream, &error),
    };
    if !meta.is_file() {
        return refuse(stream, Code::Bad, format!("{} is not a regular file", path.display()));
    }
    reply(stream, &Reply::File { size: meta.len(), mode: meta.permissions().mode() & 0o7777 })?;
    let mut file = file.take(meta.len());
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return wire::write_frame(&mut stream, Kind::Data, &[]),
            Ok(count) => wire::write_frame(&mut stream, Kind::Data, buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return refuse_io(stream, &error),
        }
    }
}

/// Takes a file from the host.
pub(crate) fn write(stream: &UnixStream, path: &Path, mode: u32, size: u64) -> Result<(), Error> {
    let (file, part) = match create(path) {
        Ok(both) => both,
        Err(error) => return refuse_io(stream, &error),
    };
    let done = receive(stream, file, &part, path, mode, size);
    if !matches!(done, Ok(Ok(()))) {
        // It may have been renamed or removed already.
        let _ = fs::remove_file(&part);
    }
    match done? {
        Ok(()) => reply(stream, &Reply::Done),
        Err(error) => {
            refuse_io(stream, &error)?;
            drain(stream)
        }
    }
}

/// A new file beside `path`, under a name of its own.
fn create(path: &Path) -> io::Result<(File, PathBuf)> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut own = OsString::from(".osvm-");
    own.push(format!("{}-{}-", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed)));
    own.push(name);
    let part = path.with_file_name(own);
    Ok((OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?, part))
}

/// The outer error is the connection's, the inner one the guest's disk's.
fn receive(
    mut stream: &UnixStream,
    mut file: File,
    part: &Path,
    path: &Path,
    mode: u32,
    size: u64,
) -> Result<io::Result<()>, Error> {
    reply(stream, &Reply::Done)?;
    let mut got = 0;
    loop {
        let Frame { kind, payload } = wire::read_frame(&mut stream, Sender::Host)?.ok_or(Error::Ended)?;
        if kind != Kind::Data {
            return Err(Error::OutOfPlace(kind));
        }
        if payload.is_empty() {
            break;
        }
        got += payload.len() as u64;
        if got > size {
            return Err(Error::Size { due: size, got });
        }
        if let Err(error) = file.write_all(&payload) {
            return Ok(Err(error));
        }
    }
    if got != size {
        return Err(Error::Size { due: size, got });
    }
    Ok(file
        .set_permissions(fs::Permissions::from_mode(mode))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(part, path)))
}

/// Reads what the host still sends, so that it can read the failure: a socket that is closed with bytes unread loses what it sent.
fn drain(mut stream: &UnixStream) -> Result<(), Error> {
    while let Some(frame) = wire::read_frame(&mut stream, Sender::Host)? {
        if frame.kind != Kind::Data || frame.payload.is_empty() {
            break;
        }
    }
    Ok(())
}
