//! The program's memory: which ranges it has, what backs them, and the answer to page faults.
//!
//! Pages come at the first touch. An owned page may have several owners after a fork: it is then read-only in the tables of each, and copied
//! at the first write.

use alloc::{collections::BTreeMap, rc::Rc};
use core::{
    ops::Bound,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    abi::{DIRECT_BASE, LIBOS_BASE, LIBOS_SPAN, PAGE},
    errno::{EINVAL, ENOMEM, Errno},
    fs::Content,
    phys,
    process::OfSpace,
    pt::{self, NO_EXEC, OWNED, PRESENT, USER, WRITE},
};

/// Rights.
pub const READ: u32 = 1;
/// See above.
pub const WRITABLE: u32 = 2;
/// See above.
pub const EXEC: u32 = 4;

/// The program's addresses end here; the direct map lies below the upper part of them.
const END: u64 = 0x7fff_ffff_f000;
/// Lowest address of a mapping.
const LOWEST: u64 = 0x1_0000;
/// Pages that one fault brings, where they cost little: a fault costs more than clearing them.
const AROUND: u64 = 32;
/// The same of a file in the page cache, which needs no page of ours.
const FILE_AROUND: u64 = 64;
/// The same of a file's pages that the program may write, which are copied at once: a touch that only reads is mostly followed by a
/// write, and to take a page back from the processor costs more than to copy it.
const COPY_AROUND: u64 = 8;
/// Writable mappings of files above this size are copied page by page as they are written.
const COPY_AT_ONCE: u64 = 4 << 20;
/// Bytes of a new program's segment that are there before they are touched.
const AHEAD: u64 = 2 << 20;

/// What a range's pages hold at first.
#[derive(Clone)]
pub enum Backing {
    /// Zeroes.
    Anonymous,
    /// A file in the host's page cache, mapped at this guest-physical address: copied on write.
    Host(u64),
    /// A file of the guest from this offset; shared or copied.
    File { file: Rc<Content>, offset: u64, shared: bool },
}

/// A range with one kind of content and rights.
#[derive(Clone)]
pub struct Area {
    pub end: u64,
    pub rights: u32,
    pub backing: Backing,
    /// For `/proc/self/maps`.
    pub name: &'static str,
}

/// All ranges by their start.
pub struct Mm {
    pub areas: BTreeMap<u64, Area>,
    /// Searches for room go down from here.
    pub top: u64,
    pub brk_start: u64,
    pub brk: u64,
}

/// The memory of the running process.
pub static MM: OfSpace<Mm> = OfSpace::new(|space| &space.mm);

static FAULTS: AtomicU64 = AtomicU64::new(0);

/// Page faults that were answered.
pub fn faults() -> u64 {
    FAULTS.load(Ordering::Relaxed)
}

/// Up to the next page border.
pub fn round_up(bytes: u64) -> u64 {
    (bytes + PAGE - 1) & !(PAGE - 1)
}

fn entry_bits(rights: u32) -> u64 {
    let mut bits = USER | pt::SEEN;
    if rights & (READ | WRITABLE | EXEC) != 0 {
        bits |= PRESENT;
    }
    if rights & WRITABLE != 0 {
        bits |= WRITE;
    }
    if rights & EXEC == 0 {
        bits |= NO_EXEC;
    }
    bits
}

fn later(backing: &Backing, by: u64) -> Backing {
    match backing {
        Backing::Anonymous => Backing::Anonymous,
        Backing::Host(gpa) => Backing::Host(gpa + by),
        Backing::File { file, offset, shared } => {
            Backing::File { file: Rc::clone(file), offset: offset + by, shared: *shared }
        }
    }
}

/// Whether a range may be the program's.
pub fn allowed(start: u64, len: u64) -> bool {
    let Some(end) = start.checked_add(len) else { return false };
    let clear = |from: u64, to: u64| end <= from || start >= to;
    start >= LOWEST
        && end <= END
        && clear(LIBOS_BASE, LIBOS_BASE + LIBOS_SPAN)
        && clear(DIRECT_BASE, DIRECT_BASE + crate::abi::DIRECT_SPAN)
}

impl Mm {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { areas: BTreeMap::new(), top: 0x7e00_0000_0000, brk_start: 0, brk: 0 }
    }

    /// The same ranges, for a child.
    pub fn copy(&self) -> Self {
        Self { areas: self.areas.clone(), ..*self }
    }

    /// The area that holds an address.
    pub fn find(&self, va: u64) -> Option<(u64, &Area)> {
        self.areas.range(..=va).next_back().filter(|(_, area)| va < area.end).map(|(start, area)| (*start, area))
    }

    /// Room for `len` bytes, from the top down.
    pub fn room(&self, len: u64, align: u64) -> Option<u64> {
        let mut end = self.top;
        for (start, area) in self.areas.range(..self.top).rev() {
            if area.end <= end && end - area.end >= len {
                let at = (end - len) & !(align - 1);
                if at >= area.end {
                    return Some(at);
                }
            }
            end = end.min(*start);
        }
        let at = end.checked_sub(len)? & !(align - 1);
        allowed(at, len).then_some(at)
    }

    /// Whether no area lies in a range.
    pub fn is_free(&self, start: u64, len: u64) -> bool {
        self.areas.range(..start + len).next_back().is_none_or(|(_, area)| area.end <= start)
    }

    /// Cuts areas so that one begins at `va`, if any spans it.
    fn split(&mut self, va: u64) {
        let Some((start, area)) = self.find(va) else { return };
        if start == va {
            return;
        }
        let mut upper = area.clone();
        upper.backing = later(&area.backing, va - start);
        if let Some(lower) = self.areas.get_mut(&start) {
            lower.end = va;
        }
        self.areas.insert(va, upper);
    }

    /// Adds an area over free room; joins it to its like below.
    pub fn add(&mut self, start: u64, len: u64, rights: u32, backing: Backing, name: &'static str) {
        let end = start + len;
        if matches!(backing, Backing::Anonymous)
            && let Some((_, below)) = self.areas.range_mut(..start).next_back()
            && below.end == start
            && below.rights == rights
            && below.name == name
            && matches!(below.backing, Backing::Anonymous)
        {
            below.end = end;
            return;
        }
        self.areas.insert(start, Area { end, rights, backing, name });
    }

    /// Takes a range away with its pages.
    pub fn remove(&mut self, start: u64, len: u64) {
        let end = start + len;
        self.split(start);
        self.split(end);
        let mut dropped = false;
        while let Some((&at, area)) = self.areas.range(start..end).next() {
            dropped |= drop_pages(at, area.end);
            self.areas.remove(&at);
        }
        if dropped {
            pt::flush();
        }
    }

    /// Changes rights. All of the range must be mapped.
    pub fn protect(&mut self, start: u64, len: u64, rights: u32) -> Result<(), Errno> {
        let end = start + len;
        let mut at = start;
        while at < end {
            at = self.find(at).ok_or(ENOMEM)?.1.end;
        }
        self.split(start);
        self.split(end);
        for (_, area) in self.areas.range_mut(start..end) {
            area.rights = rights;
        }
        let changed = update_rights(start, end, rights);
        self.join(start);
        self.join(end);
        if changed {
            pt::flush();
        }
        Ok(())
    }

    /// Joins the anonymous areas on both sides of `va` if they are alike.
    fn join(&mut self, va: u64) {
        let Some(upper) = self.areas.get(&va).cloned() else { return };
        if let Some((_, lower)) = self.areas.range_mut(..va).next_back()
            && lower.end == va
            && lower.rights == upper.rights
            && lower.name == upper.name
            && matches!((&lower.backing, &upper.backing), (Backing::Anonymous, Backing::Anonymous))
        {
            lower.end = upper.end;
            self.areas.remove(&va);
        }
    }

    /// Answers a touch of `va`. False: the program may not do that.
    pub fn fault(&mut self, va: u64, write: bool, exec: bool) -> bool {
        let page = va & !(PAGE - 1);
        let Some((_, area)) = self.find(page) else { return false };
        let needed = if write { WRITABLE } else { READ | if exec { EXEC } else { WRITABLE | EXEC } };
        if (exec && area.rights & EXEC == 0) || area.rights & needed == 0 {
            return false;
        }
        FAULTS.fetch_add(1, Ordering::Relaxed);
        self.bring(page, write)
    }

    /// Makes a page, and some around it, that the program may touch.
    fn bring(&self, page: u64, write: bool) -> bool {
        let Some((start, area)) = self.find(page) else { return false };
        let old = pt::get(page);
        if old & OWNED != 0 {
            if write && old & PRESENT != 0 && old & WRITE == 0 {
                return unshare(page, area.rights, old);
            }
            // Rights that were given since the processor last looked.
            return old & PRESENT != 0;
        }
        let (end, rights) = (area.end, area.rights);
        let copied = rights & WRITABLE != 0 && (write || end - start <= COPY_AT_ONCE);
        match &area.backing {
            Backing::Anonymous => anonymous(page, start, end, rights),
            Backing::Host(gpa) => private(page, end, rights, copied, |va| Some((gpa + (va - start), false))),
            Backing::File { file, offset, shared: true } => {
                let source = file.page(offset + (page - start), rights & WRITABLE != 0);
                source.is_some_and(|(source, _)| pt::set(page, source | entry_bits(rights)))
            }
            Backing::File { file, offset, shared: false } => {
                private(page, end, rights, copied, |va| file.page(offset + (va - start), false))
            }
        }
    }

    /// Brings a range before it is touched, up to [`AHEAD`]: fewer faults of a program that starts.
    pub fn ahead(&self, start: u64, len: u64) {
        for page in (start..start + len.min(AHEAD)).step_by(PAGE as usize) {
            if pt::get(page) == 0 && !self.bring(page, false) {
                return;
            }
        }
    }

    /// Gives the program a page that nobody else has, with rights that stay as they are, so that code can be rewritten.
    pub fn own(&mut self, page: u64) -> bool {
        let old = pt::get(page);
        let Some((_, area)) = self.find(page) else { return false };
        let alone = old & OWNED != 0 && !phys::is_shared(pt::address(old));
        if old & PRESENT == 0 || alone {
            return old & PRESENT != 0;
        }
        replace(page, old, area.rights)
    }

    /// Makes `[va, va + len)` touchable for the library OS; false if the program itself could not.
    pub fn ready(&mut self, va: u64, len: u64, write: bool) -> bool {
        let Some(end) = va.checked_add(len) else { return false };
        let mut page = va & !(PAGE - 1);
        while page < end {
            let entry = pt::get(page);
            let fine = entry & PRESENT != 0 && (!write || entry & WRITE != 0) && allowed(page, PAGE);
            if !fine && !self.fault(page, write, false) {
                return false;
            }
            page += PAGE;
        }
        true
    }

    /// Where an address is in memory that several address spaces map, if it is in such.
    pub fn shared(&mut self, va: u64) -> Option<u64> {
        let (_, area) = self.find(va)?;
        let is_shared = matches!(area.backing, Backing::File { shared: true, .. });
        (is_shared && self.ready(va, 1, false)).then(|| pt::address(pt::get(va)) + va % PAGE)
    }

    /// Grows or shrinks the heap of `brk`; the new end.
    pub fn set_brk(&mut self, to: u64) -> u64 {
        let (old, new) = (round_up(self.brk), round_up(to));
        if to < self.brk_start || !allowed(self.brk_start, to - self.brk_start) {
            return self.brk;
        }
        if new > old {
            let taken = self.areas.range((Bound::Unbounded, Bound::Excluded(new))).next_back();
            if taken.is_some_and(|(_, area)| area.end > old) || new - old > phys::available() {
                return self.brk;
            }
            self.add(old, new - old, READ | WRITABLE, Backing::Anonymous, "[heap]");
        } else if new < old {
            self.remove(new, old - new);
        }
        self.brk = to;
        to
    }

    /// Drops the content of anonymous pages: they read as zero again.
    pub fn forget(&mut self, start: u64, len: u64) {
        if drop_pages(start, start + len) {
            pt::flush();
        }
    }

    /// Moves or resizes a mapping.
    pub fn remap(&mut self, old: u64, old_len: u64, new_len: u64, flags: u64, to: u64) -> Result<u64, Errno> {
        const MAYMOVE: u64 = 1;
        const FIXED: u64 = 2;
        let (start, area) = self.find(old).ok_or(crate::errno::EFAULT)?;
        let area = area.clone();
        if area.end < old + old_len || old_len == 0 {
            return Err(crate::errno::EFAULT);
        }
        let backing = later(&area.backing, old - start);
        if flags & FIXED == 0 {
            if new_len <= old_len {
                self.remove(old + new_len, old_len - new_len);
                return Ok(old);
            }
            let (from, more) = (old + old_len, new_len - old_len);
            let next = self.areas.range(from..).next().map_or(END, |(at, _)| *at);
            if area.end == from && next - from >= more && allowed(from, more) {
                self.add(from, more, area.rights, later(&backing, old_len), area.name);
                return Ok(old);
            }
            if flags & MAYMOVE == 0 {
                return Err(ENOMEM);
            }
        }
        let to = if flags & FIXED != 0 {
            if to & (PAGE - 1) != 0 || !allowed(to, new_len) || (to < old + old_len && old < to + new_len) {
                return Err(EINVAL);
            }
            self.remove(to, new_len);
            to
        } else {
            self.room(new_len, PAGE).ok_or(ENOMEM)?
        };
        let mut moved = alloc::vec::Vec::new();
        pt::update(old, old + old_len.min(new_len), |va, entry| {
            moved.push((va - old + to, entry));
            0
        });
        for (va, entry) in moved {
            if !pt::set(va, entry) {
                return Err(ENOMEM);
            }
        }
        self.remove(old, old_len);
        pt::flush();
        self.add(to, new_len, area.rights, backing, area.name);
        Ok(to)
    }
}

/// Frees owned pages and clears entries; whether any was present.
fn drop_pages(from: u64, to: u64) -> bool {
    let mut any = false;
    let mut freed = alloc::vec::Vec::new();
    pt::update(from, to, |_, entry| {
        any |= entry & PRESENT != 0;
        if entry & OWNED != 0 {
            // Where there is no memory even for a list, the page helps.
            let page = pt::address(entry);
            match freed.try_reserve(1) {
                Ok(()) if phys::last_owner(page) => freed.push(page),
                Ok(()) => {}
                Err(_) => phys::release(page),
            }
        }
        0
    });
    phys::give_all(freed);
    any
}

/// Changes the rights of pages; whether any was present.
fn update_rights(from: u64, to: u64, rights: u32) -> bool {
    let bits = entry_bits(rights);
    let mut any = false;
    pt::update(from, to, |_, entry| {
        any |= entry & PRESENT != 0;
        // A page of a file that is not owned is simply mapped again at its next touch.
        if entry & OWNED == 0 {
            return 0;
        }
        let page = pt::address(entry);
        page | OWNED | if bits & WRITE != 0 && phys::is_shared(page) { bits & !WRITE } else { bits }
    });
    any
}

fn anonymous(page: u64, start: u64, end: u64, rights: u32) -> bool {
    let window = page & !(AROUND * PAGE - 1);
    let (from, to) = (window.max(start), (window + AROUND * PAGE).min(end));
    let bits = entry_bits(rights) | OWNED;
    let Some(first) = phys::page() else { return false };
    if !pt::set(page, first | bits) {
        return false;
    }
    let mut va = from;
    while va < to {
        if va != page && pt::get(va) == 0 {
            match phys::used_before().or_else(phys::untouched) {
                Some(more) => {
                    pt::set(va, more | bits);
                }
                None => break,
            }
        }
        va += PAGE;
    }
    true
}

/// Pages of a file that the program has for itself, from one on to the border of a window: shown until they are written, or copied now.
fn private(page: u64, end: u64, rights: u32, copied: bool, source: impl Fn(u64) -> Option<(u64, bool)>) -> bool {
    let around = if copied { COPY_AROUND } else { FILE_AROUND };
    let end = end.min((page & !(around * PAGE - 1)) + around * PAGE);
    let mut stale = false;
    for va in (page..end).step_by(PAGE as usize) {
        let old = pt::get(va);
        if va != page && (old & OWNED != 0 || (old != 0 && !copied)) {
            break;
        }
        let done = match source(va) {
            Some((source, own)) if copied || own => {
                stale |= old & PRESENT != 0;
                copy(va, source, rights)
            }
            Some((source, _)) => pt::set(va, source | entry_bits(rights & !WRITABLE)),
            None => false,
        };
        if !done {
            if va == page {
                return false;
            }
            break;
        }
    }
    if stale {
        pt::flush();
    }
    true
}

/// Gives the program a page of its own with the content of another.
fn copy(page: u64, source: u64, rights: u32) -> bool {
    let Some(own) = phys::page_to_fill() else { return false };
    // SAFETY: both are whole pages of guest-physical memory, and the new one is nobody else's.
    unsafe { ptr::copy_nonoverlapping(phys::direct(source), phys::direct(own), PAGE as usize) };
    pt::set(page, own | entry_bits(rights) | OWNED)
}

/// A write to an owned page that was shared when it was last looked at: a copy, or the right to write if the others have gone.
fn unshare(page: u64, rights: u32, old: u64) -> bool {
    let source = pt::address(old);
    if phys::is_shared(source) {
        replace(page, old, rights)
    } else {
        pt::set(page, source | entry_bits(rights) | OWNED)
    }
}

/// Puts a copy in the place of a page that is mapped.
fn replace(page: u64, old: u64, rights: u32) -> bool {
    let source = pt::address(old);
    let done = copy(page, source, rights);
    if done && old & OWNED != 0 {
        phys::release(source);
    }
    pt::flush();
    done
}

/// A mapping's page goes with its address space.
pub fn forget_entry(entry: u64) {
    if entry & OWNED != 0 {
        phys::release(pt::address(entry));
    }
}
