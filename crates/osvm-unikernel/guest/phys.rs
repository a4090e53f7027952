//! Guest-physical pages: fresh ones, which the host hands out as zeroes, and used ones. Asks the monitor for more in growing steps.

use core::ptr;

use crate::{
    abi::{DIRECT_BASE, PAGE},
    cell::Global,
    hyper, pt,
};

/// First step of growth; each further one doubles the memory, up to [`LARGEST_STEP`].
const SMALLEST_STEP: u64 = 16 << 20;
const LARGEST_STEP: u64 = 512 << 20;

/// Pages below this size of run are kept in lists, one a power of two.
const ORDERS: usize = 19;

struct Phys {
    /// Fresh memory begins here.
    next: u64,
    /// Memory ends here.
    end: u64,
    limit: u64,
    /// Used runs by order: address of the first one, which holds the address of the next. 0 ends it.
    free: [u64; ORDERS],
    used: u64,
    /// Some memory was asked for that is not there.
    exhausted: bool,
}

static PHYS: Global<Phys> =
    Global::new(Phys { next: 0, end: 0, limit: 0, free: [0; ORDERS], used: 0, exhausted: false });

/// Tells where memory is.
pub fn init(next: u64, end: u64, limit: u64) {
    let mut phys = PHYS.get();
    (phys.next, phys.end, phys.limit) = (next, end, limit);
}

/// The address at which the library OS sees a guest-physical one.
pub fn direct(gpa: u64) -> *mut u8 {
    (DIRECT_BASE + gpa) as *mut u8
}

/// Bytes in use, and bytes at most.
pub fn usage() -> (u64, u64) {
    let phys = PHYS.get();
    (phys.used, phys.limit)
}

/// Bytes in use, whoever holds the lists: a crash may come at any time.
pub fn used() -> u64 {
    // SAFETY: reads a number.
    unsafe { (*PHYS.as_ptr()).used }
}

/// Whether memory was asked for that is not there; asked once.
pub fn was_exhausted() -> bool {
    core::mem::take(&mut PHYS.get().exhausted)
}

/// A zeroed page.
pub fn page() -> Option<u64> {
    run(0)
}

/// `1 << order` zeroed pages in a row.
pub fn run(order: usize) -> Option<u64> {
    let bytes = PAGE << order;
    let mut phys = PHYS.get();
    let head = phys.free[order];
    if head != 0 {
        // SAFETY: the run is free, so it is ours; its first word is the link that `give` wrote.
        unsafe {
            phys.free[order] = ptr::read(direct(head).cast());
            ptr::write_bytes(direct(head), 0, bytes as usize);
        }
        phys.used += bytes;
        return Some(head);
    }
    drop(phys);
    fresh(bytes)
}

/// Fresh zeroed memory, in a row.
pub fn fresh(bytes: u64) -> Option<u64> {
    let mut phys = PHYS.get();
    if phys.end - phys.next < bytes {
        let step = phys.end.clamp(SMALLEST_STEP, LARGEST_STEP).max(bytes).min(phys.limit - phys.end);
        let (old, new) = (phys.end, hyper::grow(step));
        if new > old {
            phys.end = new;
            drop(phys);
            pt::map_direct(old, new);
            phys = PHYS.get();
        }
        if phys.end - phys.next < bytes {
            phys.exhausted = true;
            return None;
        }
    }
    let at = phys.next;
    phys.next += bytes;
    phys.used += bytes;
    Some(at)
}

/// A zeroed page that was in use before, so that the host has it in memory anyway.
pub fn used_before() -> Option<u64> {
    if PHYS.get().free[0] == 0 { None } else { page() }
}

/// A fresh page if that costs nothing until it is touched: no zeroing, no growth.
pub fn untouched() -> Option<u64> {
    let mut phys = PHYS.get();
    if phys.end - phys.next < PAGE {
        return None;
    }
    let at = phys.next;
    phys.next += PAGE;
    phys.used += PAGE;
    Some(at)
}

/// How much could still be handed out.
pub fn available() -> u64 {
    let phys = PHYS.get();
    phys.limit - phys.used.min(phys.limit)
}

/// Takes back what [`run`] gave.
pub fn give(at: u64, order: usize) {
    let mut phys = PHYS.get();
    // SAFETY: the caller no longer uses the run.
    unsafe { ptr::write(direct(at).cast(), phys.free[order]) };
    phys.free[order] = at;
    phys.used -= PAGE << order;
}
