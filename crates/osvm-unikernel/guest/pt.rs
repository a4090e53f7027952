//! Page tables. All pages are user pages; what is private to the library OS is so by convention, as the VM is the border.

use alloc::vec::Vec;
use core::{
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    abi::{DIRECT_BASE, LARGE, LIBOS_BASE, PAGE, gpa},
    cell::Global,
    phys,
};

/// Present.
pub const PRESENT: u64 = 1;
/// Writable.
pub const WRITE: u64 = 2;
/// Reachable at CPL3.
pub const USER: u64 = 4;
/// Accessed and dirty: KVM then maps neighbours ahead, and need not write here.
pub const SEEN: u64 = 0x60;
/// A large page.
const HUGE: u64 = 0x80;
/// The page belongs to this mapping and is freed with it.
pub const OWNED: u64 = 1 << 9;
/// No code.
pub const NO_EXEC: u64 = 1 << 63;

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const TABLE: u64 = PRESENT | WRITE | USER | SEEN;

/// The top table of the address space that is in force. The functions below change this one, where they do not name another.
static ROOT: AtomicU64 = AtomicU64::new(gpa::PML4);

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
    leaf_table_of(ROOT.load(Ordering::Relaxed), va, create)
}

fn leaf_table_of(root: u64, va: u64, create: bool) -> Option<u64> {
    let mut table = root;
    for level in (1..=3).rev() {
        let entry = read(table, index(va, level));
        table = if entry & PRESENT != 0 {
            entry & ADDRESS
        } else if create {
            let new = table_page()?;
            write(table, index(va, level), new | TABLE);
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

/// The entry of a page in an address space that is not in force.
pub fn get_of(root: u64, va: u64) -> u64 {
    leaf_table_of(root, va, false).map_or(0, |table| read(table, index(va, 0)))
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
            let Some(new) = phys::run(0) else { return };
            table = new;
            write(gpa::DIRECT_PDPT, upper, table | TABLE);
        }
        if read(table, index(at, 1)) == 0 {
            write(table, index(at, 1), at | TABLE | HUGE | NO_EXEC);
        }
        at += LARGE;
    }
}

/// Puts an address space into force.
pub fn enter(root: u64) {
    if ROOT.swap(root, Ordering::Relaxed) != root {
        flush();
    }
}

/// Last-level tables of an address space whose tables are kept for the next one.
const MOST_LEAVES: usize = 32;
/// Address spaces whose tables are kept.
const MOST_ROOTS: usize = 8;
/// Cleared tables that are kept.
const MOST_TABLES: usize = 128;

/// Tables of ended processes, all entries of pages cleared. A KVM with shadow page tables makes each write to a table of a higher level, and
/// to a page that was a table, some 10 µs long, so tables stay tables, and what is alike in the next process stays as it is.
struct Kept {
    roots: Vec<u64>,
    tables: Vec<u64>,
}

static KEPT: Global<Kept> = Global::new(Kept { roots: Vec::new(), tables: Vec::new() });

/// A cleared page for a table.
fn table_page() -> Option<u64> {
    let kept = KEPT.get().tables.pop();
    kept.or_else(phys::page)
}

/// A new address space: the library OS and the direct map, which all of them share.
pub fn new_root() -> Option<u64> {
    let kept = KEPT.get().roots.pop();
    if kept.is_some() {
        return kept;
    }
    let (root, upper, lower) = (table_page()?, table_page()?, table_page()?);
    write(root, index(DIRECT_BASE, 3), gpa::DIRECT_PDPT | TABLE);
    write(root, index(LIBOS_BASE, 3), upper | TABLE);
    write(upper, index(LIBOS_BASE, 2), lower | TABLE);
    write(lower, index(LIBOS_BASE, 1), gpa::LIBOS_PT | TABLE);
    Some(root)
}

/// The tables that a table's entries name, with their places.
fn below(table: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..512)
        .map(move |n| (n, read(table, n)))
        .filter(|(_, entry)| entry & PRESENT != 0)
        .map(|(n, entry)| (n, entry & ADDRESS))
}

/// Calls `visit` with the address of each last-level table of the program, and the first address that it maps.
fn each_leaf(root: u64, mut visit: impl FnMut(u64, u64)) {
    for (n, upper) in below(root).filter(|(_, table)| *table != gpa::DIRECT_PDPT) {
        for (m, lower) in below(upper) {
            for (l, leaf) in below(lower).filter(|(_, table)| *table != gpa::LIBOS_PT) {
                visit(leaf, n << 39 | m << 30 | l << 21);
            }
        }
    }
}

/// Fills a new address space from the one in force: `split` makes an entry into what stays and what goes. False: no memory for tables.
/// What stays counts after the next [`flush`].
pub fn copy_to(root: u64, mut split: impl FnMut(u64, u64) -> Option<(u64, u64)>) -> bool {
    let mut done = true;
    each_leaf(ROOT.load(Ordering::Relaxed), |leaf, start| {
        let mut target = None;
        for n in 0..512 {
            let old = read(leaf, n);
            if old == 0 || !done {
                continue;
            }
            let table = target.or_else(|| leaf_table_of(root, start, true));
            let halves = if table.is_some() { split(start + n * PAGE, old) } else { None };
            let (Some(table), Some((stays, goes))) = (table, halves) else {
                done = false;
                continue;
            };
            target = Some(table);
            if stays != old {
                write(leaf, n, stays);
            }
            write(table, n, goes);
        }
    });
    done
}

/// Empties an address space that is not in force; `visit` gets each entry of a page. Its tables are kept or freed.
pub fn free(root: u64, mut visit: impl FnMut(u64)) {
    let mut leaves = 0;
    each_leaf(root, |leaf, _| {
        leaves += 1;
        for n in 0..512 {
            let entry = read(leaf, n);
            if entry != 0 {
                visit(entry);
                write(leaf, n, 0);
            }
        }
    });
    // The tables that the monitor made are not used again.
    if root == gpa::PML4 {
        return;
    }
    if leaves <= MOST_LEAVES && KEPT.get().roots.len() < MOST_ROOTS {
        KEPT.get().roots.push(root);
        return;
    }
    let keep = |table: u64| {
        let mut kept = KEPT.get();
        if kept.tables.len() < MOST_TABLES {
            kept.tables.push(table);
        } else {
            phys::give(table, 0);
        }
    };
    for (n, upper) in below(root).filter(|(_, table)| *table != gpa::DIRECT_PDPT) {
        for (m, lower) in below(upper) {
            for (l, leaf) in below(lower) {
                write(lower, l, 0);
                if leaf != gpa::LIBOS_PT {
                    keep(leaf);
                }
            }
            write(upper, m, 0);
            keep(lower);
        }
        write(root, n, 0);
        keep(upper);
    }
    write(root, index(DIRECT_BASE, 3), 0);
    keep(root);
}

/// Makes changes of present entries count.
///
/// By an exception, as a paravirtual KVM may run the code behind `syscall` without the right to reload CR3.
pub fn flush() {
    // SAFETY: the stub behind `ud2` loads CR3 from RAX if the word says so, skips the instruction, and changes no register.
    unsafe {
        let flush = &raw mut (*crate::task::cpu()).flush;
        ptr::write_volatile(flush, 1);
        core::arch::asm!("ud2", in("rax") ROOT.load(Ordering::Relaxed), options(nostack));
        ptr::write_volatile(flush, 0);
    }
}
