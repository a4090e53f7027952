//! The library OS's own heap: powers of two from pages, larger blocks as runs of pages.

use core::{
    alloc::{GlobalAlloc, Layout},
    ptr,
};

use crate::{
    abi::{DIRECT_BASE, PAGE},
    cell::Global,
    phys,
};

/// Smallest block: 16 bytes. Largest below a page: 2048.
const SMALLEST: u32 = 4;
const CLASSES: usize = 8;

struct Heap;

static FREE: Global<[usize; CLASSES]> = Global::new([0; CLASSES]);

#[global_allocator]
static HEAP: Heap = Heap;

/// log2 of the block for a layout.
fn class(layout: Layout) -> u32 {
    layout.size().max(layout.align()).next_power_of_two().trailing_zeros().max(SMALLEST)
}

// SAFETY: a block is in one free list or with one owner; blocks are aligned to their size.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let class = class(layout);
        if class >= PAGE.trailing_zeros() {
            let order = (class - PAGE.trailing_zeros()) as usize;
            return phys::run(order).map_or(ptr::null_mut(), phys::direct);
        }
        let mut free = FREE.get();
        let slot = (class - SMALLEST) as usize;
        if free[slot] == 0 {
            let Some(page) = phys::run(0) else { return ptr::null_mut() };
            let size = 1usize << class;
            for at in (0..PAGE as usize).step_by(size) {
                let block = phys::direct(page) as usize + at;
                // SAFETY: the page is ours and cut into blocks that do not overlap.
                unsafe { ptr::write(block as *mut usize, free[slot]) };
                free[slot] = block;
            }
        }
        let block = free[slot];
        // SAFETY: a free block's first word is the link to the next.
        free[slot] = unsafe { ptr::read(block as *const usize) };
        block as *mut u8
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let class = class(layout);
        if class >= PAGE.trailing_zeros() {
            phys::give(block as u64 - DIRECT_BASE, (class - PAGE.trailing_zeros()) as usize);
            return;
        }
        let mut free = FREE.get();
        let slot = (class - SMALLEST) as usize;
        // SAFETY: the owner gave the block up.
        unsafe { ptr::write(block.cast(), free[slot]) };
        free[slot] = block as usize;
    }
}
