//! Guest-physical pages: fresh ones, which the host hands out as zeroes, and used ones. Asks the monitor for more in growing steps.

use alloc::{boxed::Box, vec::Vec};
use core::ptr;

use crate::{
    abi::{DIRECT_BASE, PAGE},
    cell::Global,
    hyper, pt,
};

/// First step of growth; each further one doubles the memory, up to [`LARGEST_STEP`].
const SMALLEST_STEP: u64 = 16 << 20;
const LARGEST_STEP: u64 = 512 << 20;

/// What programs do not get, so that the library OS can answer that there is no more; and its largest part of all memory.
const RESERVE: u64 = 4 << 20;
const RESERVED_PART: u64 = 16;

/// Pages below this size of run are kept in lists, one a power of two.
const ORDERS: usize = 19;

/// Pages freed at a time from which on the host gets them back, and pages in a row that are worth a hypercall.
const MANY: usize = 256;
const IN_A_ROW: u64 = 32;
/// Runs that the host has back.
const RETURNED: usize = 64;

struct Phys {
    /// Fresh memory begins here.
    next: u64,
    /// Memory ends here.
    end: u64,
    limit: u64,
    /// Bytes that programs may have, and those that they may not.
    for_programs: u64,
    reserve: u64,
    /// Used runs by order: address of the first one, which holds the address of the next. 0 ends it.
    free: [u64; ORDERS],
    /// Runs that the host has back: address and bytes. They read as zero.
    returned: [(u64, u64); RETURNED],
    used: u64,
    /// Some memory was asked for that is not there.
    exhausted: bool,
}

static PHYS: Global<Phys> = Global::new(Phys {
    next: 0,
    end: 0,
    limit: 0,
    for_programs: 0,
    reserve: 0,
    free: [0; ORDERS],
    returned: [(0, 0); RETURNED],
    used: 0,
    exhausted: false,
});

/// Tells where memory is.
pub fn init(next: u64, end: u64, limit: u64) {
    let mut phys = PHYS.get();
    (phys.next, phys.end, phys.limit) = (next, end, limit);
    phys.reserve = RESERVE.min(limit / RESERVED_PART);
    phys.for_programs = limit.saturating_sub(next + phys.reserve);
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

/// Whether a program may have so much more.
fn enough(phys: &mut Phys, bytes: u64) -> bool {
    let enough = phys.used + bytes <= phys.for_programs;
    phys.exhausted |= !enough;
    enough
}

/// Whether only the library OS's reserve is left.
pub fn is_low() -> bool {
    let phys = PHYS.get();
    phys.used + PAGE > phys.for_programs
}

/// A zeroed page for a program.
pub fn page() -> Option<u64> {
    program_run(0)
}

/// `1 << order` zeroed pages in a row, for a program.
pub fn program_run(order: usize) -> Option<u64> {
    for_program(order).map(|(at, clean)| if clean { at } else { zeroed(at, order) })
}

/// A page that is about to be filled: with what was in it before.
pub fn page_to_fill() -> Option<u64> {
    for_program(0).map(|(at, _)| at)
}

fn for_program(order: usize) -> Option<(u64, bool)> {
    let mut phys = PHYS.get();
    let reserve = phys.reserve;
    if !enough(&mut phys, PAGE << order) {
        return None;
    }
    drop(phys);
    take(order, reserve)
}

/// `1 << order` zeroed pages in a row, from the reserve too.
pub fn run(order: usize) -> Option<u64> {
    take(order, 0).map(|(at, clean)| if clean { at } else { zeroed(at, order) })
}

fn zeroed(at: u64, order: usize) -> u64 {
    // SAFETY: the run has just been taken, so it is ours.
    unsafe { ptr::write_bytes(direct(at), 0, (PAGE << order) as usize) };
    at
}

/// A run that was in use, or a fresh one if so much is left behind it, or a part of a larger one; and whether it is zeroed.
fn take(order: usize, reserve: u64) -> Option<(u64, bool)> {
    let mut phys = PHYS.get();
    if phys.free[order] == 0
        && let Some(at) = returned(&mut phys, PAGE << order)
    {
        return Some((at, true));
    }
    if phys.free[order] == 0 && phys.limit - phys.next >= reserve + (PAGE << order) {
        drop(phys);
        if let Some(at) = fresh(PAGE << order) {
            return Some((at, true));
        }
        phys = PHYS.get();
    }
    let from = (order..ORDERS).find(|&order| phys.free[order] != 0)?;
    let at = phys.free[from];
    // SAFETY: the run is free, so it is ours; its first word is the link that `give` wrote.
    phys.free[from] = unsafe { ptr::read(direct(at).cast()) };
    for half in order..from {
        let upper = at + (PAGE << half);
        // SAFETY: as above; what is not asked for stays free, in halves.
        unsafe { ptr::write(direct(upper).cast(), phys.free[half]) };
        phys.free[half] = upper;
    }
    phys.used += PAGE << order;
    Some((at, false))
}

/// Memory that the host has back, in a row.
fn returned(phys: &mut Phys, bytes: u64) -> Option<u64> {
    let run = phys.returned.iter_mut().find(|(_, len)| *len >= bytes)?;
    let at = run.0;
    *run = (at + bytes, run.1 - bytes);
    phys.used += bytes;
    Some(at)
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
    if phys.used + PAGE > phys.for_programs {
        return None;
    }
    if let Some(at) = returned(&mut phys, PAGE) {
        return Some(at);
    }
    if phys.end - phys.next < PAGE || phys.limit - phys.next < phys.reserve + PAGE {
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
    phys.for_programs.saturating_sub(phys.used)
}

/// Pages told apart by one table of shares.
const SHARES: u64 = 512;

/// Owners of each page beyond the first, for pages that processes have in common.
static SHARED: Global<Vec<Option<Box<[u16; SHARES as usize]>>>> = Global::new(Vec::new());

/// A page gets one owner more.
pub fn share(page: u64) {
    let (table, place) = ((page / PAGE / SHARES) as usize, (page / PAGE % SHARES) as usize);
    let mut shared = SHARED.get();
    if shared.len() <= table {
        shared.resize_with(table + 1, || None);
    }
    // Owners are processes, of which there are fewer than a count holds.
    shared[table].get_or_insert_with(|| Box::new([0; SHARES as usize]))[place] += 1;
}

/// Whether a page has more than one owner.
pub fn is_shared(page: u64) -> bool {
    let shared = SHARED.get();
    let table = shared.get((page / PAGE / SHARES) as usize).and_then(Option::as_ref);
    table.is_some_and(|table| table[(page / PAGE % SHARES) as usize] > 0)
}

/// An owner gives a page up; true: it was the last one, and the page is to be freed.
pub fn last_owner(page: u64) -> bool {
    let mut shared = SHARED.get();
    if let Some(Some(table)) = shared.get_mut((page / PAGE / SHARES) as usize)
        && let count @ 1.. = &mut table[(page / PAGE % SHARES) as usize]
    {
        *count -= 1;
        return false;
    }
    true
}

/// An owner gives a page up; the last one frees it.
pub fn release(page: u64) {
    if last_owner(page) {
        give(page, 0);
    }
}

/// Takes back pages that [`page`] gave. Where they are many, those in a row go back to the host.
pub fn give_all(mut pages: Vec<u64>) {
    if pages.len() < MANY {
        pages.into_iter().for_each(|page| give(page, 0));
        return;
    }
    pages.sort_unstable();
    for run in pages.chunk_by(|a, b| a + PAGE == *b) {
        let (at, bytes) = (run[0], run.len() as u64 * PAGE);
        let place = PHYS.get().returned.iter().position(|(_, len)| *len == 0);
        match place {
            Some(place) if bytes >= IN_A_ROW * PAGE && hyper::give_back(at, bytes) => {
                let mut phys = PHYS.get();
                phys.returned[place] = (at, bytes);
                phys.used -= bytes;
            }
            _ => run.iter().for_each(|page| give(*page, 0)),
        }
    }
}

/// Takes back what [`run`] gave.
pub fn give(at: u64, order: usize) {
    let mut phys = PHYS.get();
    // SAFETY: the caller no longer uses the run.
    unsafe { ptr::write(direct(at).cast(), phys.free[order]) };
    phys.free[order] = at;
    phys.used -= PAGE << order;
}
