//! File descriptors.

use alloc::{rc::Rc, vec::Vec};

use super::Open;
use crate::{
    errno::{EBADF, EINVAL, EMFILE, Errno},
    process::OfProcess,
};

/// Descriptors at a time, as RLIMIT_NOFILE says.
pub const MOST: usize = 65536;

#[derive(Clone)]
pub struct Slot {
    open: Rc<Open>,
    close_on_exec: bool,
}

/// A process's descriptors.
pub type Table = Vec<Option<Slot>>;

static TABLE: OfProcess<Table> = OfProcess::new(|process| &process.table);

/// The open file of a descriptor.
pub fn get(fd: u64) -> Result<Rc<Open>, Errno> {
    let table = TABLE.get();
    table.get(fd as u32 as usize).and_then(Option::as_ref).map(|slot| Rc::clone(&slot.open)).ok_or(EBADF)
}

/// The lowest free descriptor from `from` on.
pub fn add_from(from: u64, open: Rc<Open>, close_on_exec: bool) -> Result<u64, Errno> {
    let mut table = TABLE.get();
    let from = from as usize;
    if from >= MOST {
        return Err(EINVAL);
    }
    let fd = (from..table.len()).find(|&fd| table[fd].is_none()).unwrap_or(table.len().max(from));
    if fd >= MOST {
        return Err(EMFILE);
    }
    if table.len() <= fd {
        table.resize_with(fd + 1, || None);
    }
    table[fd] = Some(Slot { open, close_on_exec });
    Ok(fd as u64)
}

/// The lowest free descriptor.
pub fn add(open: Rc<Open>, close_on_exec: bool) -> Result<u64, Errno> {
    add_from(0, open, close_on_exec)
}

/// This very descriptor; what was there is closed.
pub fn set(fd: u64, open: Rc<Open>, close_on_exec: bool) -> Result<u64, Errno> {
    if fd as usize >= MOST {
        return Err(EBADF);
    }
    let _ = close(fd);
    add_from(fd, open, close_on_exec)
}

/// Closes a descriptor.
pub fn close(fd: u64) -> Result<u64, Errno> {
    let slot = TABLE.get().get_mut(fd as u32 as usize).and_then(Option::take);
    // Dropped outside the borrow: closing may wake others.
    slot.map(|_| 0).ok_or(EBADF)
}

/// The close-on-exec flag.
pub fn close_on_exec(fd: u64, set: Option<bool>) -> Result<u64, Errno> {
    let mut table = TABLE.get();
    let slot = table.get_mut(fd as u32 as usize).and_then(Option::as_mut).ok_or(EBADF)?;
    if let Some(set) = set {
        slot.close_on_exec = set;
    }
    Ok(slot.close_on_exec.into())
}

/// Closes what a new program is not to have.
pub fn execute() {
    for fd in all() {
        if close_on_exec(fd, None) == Ok(1) {
            let _ = close(fd);
        }
    }
}

/// All descriptors, for `/proc/self/fd` and `close_range`.
pub fn all() -> Vec<u64> {
    TABLE.get().iter().enumerate().filter(|(_, slot)| slot.is_some()).map(|(fd, _)| fd as u64).collect()
}
