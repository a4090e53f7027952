//! The note in a ledger's folder that it was handed over: whoever got the token may have gone on, so nobody may lead on what is here by
//! accident. It is on the disk before the token leaves, and goes when the bank leads again.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use crate::Error;

const FILE: &str = "handed-over";
/// For whoever finds the file.
const TEXT: &[u8] = b"This ledger was handed over to another node. It is not led on until this node is told to.\n";

fn failed(what: &'static str, path: PathBuf) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { what, path, source }
}

/// Whether the ledger was handed over and not led on since.
pub(crate) fn is_there(dir: &Path) -> Result<bool, Error> {
    let path = dir.join(FILE);
    path.try_exists().map_err(failed("read", path))
}

/// Puts it there, surviving the loss of power.
pub(crate) fn put(dir: &Path) -> Result<(), Error> {
    let path = dir.join(FILE);
    let written = || {
        let mut file = File::create(&path)?;
        file.write_all(TEXT)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    written().map_err(failed("write", path))
}

/// Takes it away, if it is there.
pub(crate) fn remove(dir: &Path) -> Result<(), Error> {
    let path = dir.join(FILE);
    let removed = || match fs::remove_file(&path) {
        Ok(()) => File::open(dir)?.sync_all(),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(()),
        Err(err) => Err(err),
    };
    removed().map_err(failed("remove", path))
}
