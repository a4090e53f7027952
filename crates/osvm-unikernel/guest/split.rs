//! What a fork does with pages: copies them at once, or lets parent and child share them until one writes.

use core::ptr;

use crate::{
    abi::PAGE,
    phys,
    pt::{self, OWNED, WRITE},
};

/// Pages that a fork copies at once. A page fault costs more than a copy, but most pages of a large process are never written to again.
const COPIED: usize = 256;

/// What a fork does with the entries of pages.
pub struct Split {
    left: usize,
    /// Pages that are copied in any case, as parent and child are about to write to them.
    hot: [u64; 2],
    /// Whether pages of the parent have become read-only.
    pub changed: bool,
}

impl Split {
    /// For a process with this stack and thread pointer.
    pub fn new(stack: u64, thread: u64) -> Self {
        Self { left: COPIED, hot: [stack & !(PAGE - 1), thread & !(PAGE - 1)], changed: false }
    }

    /// Makes an entry into the parent's and the child's: a page that may be written to is copied, or is both's and read-only. None: no memory.
    pub fn page(&mut self, va: u64, entry: u64) -> Option<(u64, u64)> {
        if entry & OWNED == 0 {
            return Some((entry, entry));
        }
        let page = pt::address(entry);
        if entry & WRITE != 0 && (self.left > 0 || self.hot.contains(&va)) {
            self.left = self.left.saturating_sub(1);
            let copy = phys::page_to_fill()?;
            // SAFETY: both are whole pages, and the new one is nobody else's.
            unsafe { ptr::copy_nonoverlapping(phys::direct(page), phys::direct(copy), PAGE as usize) };
            return Some((entry, entry & !page | copy));
        }
        phys::share(page);
        self.changed |= entry & WRITE != 0;
        Some((entry & !WRITE, entry & !WRITE))
    }
}
