//! The program's memory, as system calls see it: each access is checked against the program's ranges and brings the pages first.

use alloc::vec::Vec;
use core::{mem, ptr, slice};

use crate::{
    errno::{EFAULT, ENAMETOOLONG, Errno},
    mm::MM,
};

/// Longest path.
const LONGEST_PATH: usize = 4096;

/// Bytes that the program may read.
pub fn bytes(at: u64, len: u64) -> Result<&'static [u8], Errno> {
    if len == 0 {
        return Ok(&[]);
    }
    if !MM.get().ready(at, len, false) {
        return Err(EFAULT);
    }
    // SAFETY: the pages are there and stay while the call that asks runs: no other thread of the program runs meanwhile.
    Ok(unsafe { slice::from_raw_parts(at as *const u8, len as usize) })
}

/// Bytes that the program may write.
pub fn bytes_mut(at: u64, len: u64) -> Result<&'static mut [u8], Errno> {
    if len == 0 {
        return Ok(&mut []);
    }
    if !MM.get().ready(at, len, true) {
        return Err(EFAULT);
    }
    // SAFETY: as above; a call asks for one slice at a time.
    Ok(unsafe { slice::from_raw_parts_mut(at as *mut u8, len as usize) })
}

/// A plain value.
pub fn read<T: Copy>(at: u64) -> Result<T, Errno> {
    let bytes = bytes(at, mem::size_of::<T>() as u64)?;
    // SAFETY: used with numbers and arrays of numbers, for which all bits are good.
    Ok(unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
}

/// Writes a plain value.
pub fn write<T: Copy>(at: u64, value: T) -> Result<(), Errno> {
    let bytes = bytes_mut(at, mem::size_of::<T>() as u64)?;
    // SAFETY: the bytes are the value's size.
    unsafe { ptr::write_unaligned(bytes.as_mut_ptr().cast(), value) };
    Ok(())
}

/// A path, which a zero closes.
pub fn string(at: u64) -> Result<Vec<u8>, Errno> {
    string_of(at, LONGEST_PATH, ENAMETOOLONG)
}

/// A string that a zero closes, of fewer than `most` bytes, or `error`.
pub fn string_of(at: u64, most: usize, error: Errno) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    let mut at = at;
    loop {
        let part = bytes(at, 4096 - at % 4096)?;
        if let Some(end) = part.iter().position(|&byte| byte == 0) {
            out.extend_from_slice(&part[..end]);
            return if out.len() < most { Ok(out) } else { Err(error) };
        }
        out.extend_from_slice(part);
        if out.len() >= most {
            return Err(error);
        }
        at += part.len() as u64;
    }
}
