//! Page tables. All pages are user pages; what is private to the library OS is so by convention, as the VM is the border.

use core::{
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    abi::{DIRECT_BASE, FLUSH, LARGE, PAGE, gpa},
    phys,
};

/// Present.
pub const PRESENT: u64 = 1;
/// Writable.
pub const WRITE: u64 = 2;
/// Reachable at CPL3.
pub const USER: u64 = 4;
/// A large page.
const HUGE: u64 = 0x80;
/// The page belongs to this mapping and is freed with it.
pub const OWNED: u64 = 1 << 9;
/// No code.
pub const NO_EXEC: u64 = 1 << 63;

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

static BY_TRAP: AtomicBool = AtomicBool::new(false);

/// A fault at [`crate::asm::flush_by_syscall`]: the other way is taken, now and later.
pub fn flush_refused() {
    BY_TRAP.store(true, Ordering::Relaxed);
    flush();
}

fn read(table: u64, index: u64) -> u64 {
    // SAFETY: tables are pages of ours; the index is below 512.
    unsafe { ptr::read_volatile(phys::direct(table + index * 8).cast()) }
}

fn write(table: u64, index: u64, entry: u64) {
    // SAFETY: as above.
    unsafe { ptr::write_volatile(phys::direct(table + index * 8).cast(), entry) }
}

fn index(va: u64, level: u32) -> u64 {
    va >> (12 + 9 * level) & 511
}

/// The last-level table for an address; made if `create`.
fn leaf_table(va: u64, create: bool) -> Option<u64> {
    let mut table = gpa::PML4;
    for level in (1..=3).rev() {
        let entry = read(table, index(va, level));
        table = if entry & PRESENT != 0 {
            entry & ADDRESS
        } else if create {
            let new = phys::page()?;
            write(table, index(va, level), new | PRESENT | WRITE | USER);
            new
        } else {
            return None;
        };
    }
    Some(table)
}

/// The entry of a page; 0 if there is none.
pub fn get(va: u64) -> u64 {
    leaf_table(va, false).map_or(0, |table| read(table, index(va, 0)))
}

/// Sets the entry of a page. False: no memory for tables.
pub fn set(va: u64, entry: u64) -> bool {
    match leaf_table(va, true) {
        Some(table) => {
            write(table, index(va, 0), entry);
            true
        }
        None => false,
    }
}

/// The guest-physical address in an entry.
pub fn address(entry: u64) -> u64 {
    entry & ADDRESS
}

/// Calls `visit` with each entry between two addresses, also those of pages without rights; what it returns is written.
pub fn update(from: u64, to: u64, mut visit: impl FnMut(u64, u64) -> u64) {
    let mut va = from;
    while va < to {
        let end = ((va & !(LARGE - 1)) + LARGE).min(to);
        let Some(table) = leaf_table(va, false) else {
            va = end;
            continue;
        };
        while va < end {
            let old = read(table, index(va, 0));
            if old != 0 {
                let new = visit(va, old);
                if new != old {
                    write(table, index(va, 0), new);
                }
            }
            va += PAGE;
        }
    }
}

/// Adds guest-physical memory to the direct map, by large pages.
pub fn map_direct(from: u64, to: u64) {
    let mut at = from & !(LARGE - 1);
    while at < to {
        let upper = index(DIRECT_BASE + at, 2);
        let mut table = read(gpa::DIRECT_PDPT, upper) & ADDRESS;
        if table == 0 {
            let Some(new) = phys::page() else { return };
            table = new;
            write(gpa::DIRECT_PDPT, upper, table | PRESENT | WRITE | USER);
        }
        if read(table, index(at, 1)) == 0 {
            write(table, index(at, 1), at | PRESENT | WRITE | USER | HUGE | NO_EXEC);
        }
        at += LARGE;
    }
}

/// Makes changes of present entries count.
///
/// A paravirtual KVM may run the code behind `syscall` without the right to reload CR3; the first try then ends in
/// [`flush_refused`], and exceptions are used from there on.
pub fn flush() {
    if BY_TRAP.load(Ordering::Relaxed) {
        // SAFETY: the stub behind `ud2` reloads CR3 if the word says so, and changes no register.
        unsafe {
            ptr::write_volatile(&raw mut (*crate::task::cpu()).flush, 1);
            core::arch::asm!("ud2", options(nostack));
        }
        return;
    }
    // SAFETY: the stub behind `syscall` reloads CR3 for this number, and changes RAX, RCX and R11.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") u64::from(FLUSH) => _, out("rcx") _, out("r11") _, options(nostack));
    }
}
