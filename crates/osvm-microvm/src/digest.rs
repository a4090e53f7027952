//! SHA-256 of files, as they are read.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use osvm_model::hex;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, io};

/// A writer that counts and hashes what it passes on.
#[derive(Debug)]
pub(crate) struct Hashing<W> {
    to: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, hash: Sha256::new(), bytes: 0 }
    }

    /// The writer, the digest in small hexadecimal digits, and how many bytes there were.
    pub(crate) fn finish(self) -> (W, String, u64) {
        (self.to, hex(&self.hash.finalize()), self.bytes)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The digest of a file.
pub(crate) fn of_file(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(io("read", path))?;
    copy(&mut file, io::sink(), path)
}

/// Copies a file that must have this digest. What was written before is no use if it has another.
pub(crate) fn copy_checked(path: &Path, due: &str, to: impl Write) -> Result<(), Error> {
    let mut file = File::open(path).map_err(io("read", path))?;
    let found = copy(&mut file, to, path)?;
    if found == due { Ok(()) } else { Err(Error::Digest { path: path.to_owned(), due: due.to_owned(), found }) }
}

fn copy(from: &mut impl Read, to: impl Write, path: &Path) -> Result<String, Error> {
    let mut hashing = Hashing::new(to);
    io::copy(from, &mut hashing).map_err(io("copy", path))?;
    Ok(hashing.finish().1)
}
