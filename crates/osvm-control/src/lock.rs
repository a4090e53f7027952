//! One daemon a state folder: a lock that the kernel drops with the process.

use std::{
    fs::{File, OpenOptions, TryLockError},
    time::Duration,
};

use crate::{Error, error::At, paths::Paths};

/// Pause between two looks at a lock that another process holds. The kernel offers no event for it.
const LOOK: Duration = Duration::from_millis(10);

/// Held as long as the daemon runs.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock is the open file")] File);

/// Takes the lock, or says that another daemon has it.
pub(crate) fn take(paths: &Paths) -> Result<Lock, Error> {
    let path = paths.lock();
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).at("open", &path)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Taken { state_dir: paths.root().to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::Io { verb: "lock", path, source }),
    }
}

/// Waits until no daemon holds the folder.
pub(crate) async fn wait_until_free(paths: &Paths) {
    while let Ok(file) = File::open(paths.lock()) {
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await,
            _ => return,
        }
    }
}
