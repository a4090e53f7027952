//! What a regular file holds: a piece of the image, or pages of its own.

use alloc::{rc::Rc, vec::Vec};
use core::{
    cell::{Cell, RefCell},
    ptr, slice,
};

use super::folder::Spot;
use crate::{
    abi::PAGE,
    errno::{Answer, EFBIG, ENOSPC},
    phys,
};

/// A file's largest size.
const LARGEST: u64 = 1 << 36;

enum Data {
    /// In the image: guest-physical address and length.
    Host(u64, u64),
    /// Pages, 0 where nothing was written, and the length.
    Memory(Vec<u64>, u64),
    /// On the host, its length, and pages of it that are mapped, 0 for others.
    Folder(Rc<Spot>, u64, Vec<u64>),
}

/// A file's content.
pub struct Content {
    data: RefCell<Data>,
    /// Its pages are mapped somewhere and may not be freed before the content itself.
    mapped: Cell<bool>,
    /// Open descriptions of it.
    users: Cell<u64>,
}

impl Content {
    fn of(data: Data) -> Self {
        Self { data: RefCell::new(data), mapped: Cell::new(false), users: Cell::new(0) }
    }

    /// Nothing yet.
    pub fn new() -> Self {
        Self::of(Data::Memory(Vec::new(), 0))
    }

    /// A piece of the image.
    pub fn host(gpa: u64, len: u64) -> Self {
        Self::of(Data::Host(gpa, len))
    }

    /// A file in a folder of the host.
    pub fn folder(spot: Rc<Spot>, len: u64) -> Self {
        Self::of(Data::Folder(spot, len, Vec::new()))
    }

    /// Nothing yet, and from now on in a folder of the host, where it was just made.
    pub fn move_to(&self, spot: Rc<Spot>) -> Answer {
        *self.data.borrow_mut() = Data::Folder(spot, 0, Vec::new());
        Ok(0)
    }

    /// Its place on the host, if it is in a folder there.
    pub fn spot(&self) -> Option<Rc<Spot>> {
        if let Data::Folder(spot, ..) = &*self.data.borrow() { Some(Rc::clone(spot)) } else { None }
    }

    /// One more open description.
    pub fn opened(&self, writes: bool) -> Answer {
        if let Data::Folder(spot, len, _) = &mut *self.data.borrow_mut() {
            spot.ready(writes)?;
            *len = spot.length()?;
        }
        self.users.set(self.users.get() + 1);
        Ok(0)
    }

    /// One less.
    pub fn closed(&self) {
        self.users.set(self.users.get() - 1);
        if self.users.get() == 0
            && !self.mapped.get()
            && let Some(spot) = self.spot()
        {
            spot.rest();
        }
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        match *self.data.borrow() {
            Data::Host(_, len) | Data::Memory(_, len) | Data::Folder(_, len, _) => len,
        }
    }

    /// Where it is in the image, if it is still there.
    pub fn in_image(&self) -> Option<u64> {
        match *self.data.borrow() {
            Data::Host(gpa, _) => Some(gpa),
            Data::Memory(..) | Data::Folder(..) => None,
        }
    }

    /// Reads at an offset.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let left = self.len().saturating_sub(offset).min(out.len() as u64) as usize;
        let out = &mut out[..left];
        match &*self.data.borrow() {
            Data::Folder(spot, ..) => return spot.read(offset, out).unwrap_or(0) as usize,
            Data::Host(gpa, _) => {
                // SAFETY: the image was checked to hold the piece, and is never written.
                out.copy_from_slice(unsafe { slice::from_raw_parts(phys::direct(gpa + offset), left) });
            }
            Data::Memory(pages, _) => each_page(offset, left, |page, at, range| match pages.get(page) {
                Some(&gpa) if gpa != 0 => {
                    // SAFETY: the page is this file's.
                    let source = unsafe { slice::from_raw_parts(phys::direct(gpa).add(at), range.len()) };
                    out[range].copy_from_slice(source);
                }
                _ => out[range].fill(0),
            }),
        }
        left
    }

    /// Writes at an offset.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Answer {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= LARGEST).ok_or(EFBIG)?;
        if let Data::Folder(spot, len, pages) = &mut *self.data.borrow_mut() {
            let done = spot.write(offset, bytes)?;
            *len = (*len).max(offset + done);
            each_page(offset, done as usize, |page, at, range| {
                if let Some(&gpa) = pages.get(page).filter(|gpa| **gpa != 0) {
                    // SAFETY: the page is this file's.
                    unsafe { ptr::copy_nonoverlapping(bytes[range.clone()].as_ptr(), phys::direct(gpa).add(at), range.len()) };
                }
            });
            return Ok(done);
        }
        self.own()?;
        let mut data = self.data.borrow_mut();
        let Data::Memory(pages, len) = &mut *data else { return Err(ENOSPC) };
        let needed = end.div_ceil(PAGE) as usize;
        if pages.len() < needed {
            pages.resize(needed, 0);
        }
        let mut written = 0;
        let mut full = false;
        each_page(offset, bytes.len(), |page, at, range| {
            if full {
                return;
            }
            if pages[page] == 0 {
                match phys::page() {
                    Some(new) => pages[page] = new,
                    None => {
                        full = true;
                        return;
                    }
                }
            }
            // SAFETY: the page is this file's.
            let target = unsafe { slice::from_raw_parts_mut(phys::direct(pages[page]).add(at), range.len()) };
            target.copy_from_slice(&bytes[range.clone()]);
            written = range.end;
        });
        *len = (*len).max(offset + written as u64);
        if written == 0 && !bytes.is_empty() { Err(ENOSPC) } else { Ok(written as u64) }
    }

    /// Sets the length.
    pub fn truncate(&self, to: u64) -> Answer {
        if to > LARGEST {
            return Err(EFBIG);
        }
        if let Data::Folder(spot, len, _) = &mut *self.data.borrow_mut() {
            spot.truncate(to)?;
            *len = to;
            return Ok(0);
        }
        self.own()?;
        let mut data = self.data.borrow_mut();
        let Data::Memory(pages, len) = &mut *data else { return Err(ENOSPC) };
        if to < *len {
            let keep = to.div_ceil(PAGE) as usize;
            for page in pages.iter_mut().skip(keep).filter(|page| **page != 0) {
                if self.mapped.get() {
                    // SAFETY: the page is this file's.
                    unsafe { ptr::write_bytes(phys::direct(*page), 0, PAGE as usize) };
                } else {
                    phys::give(*page, 0);
                    *page = 0;
                }
            }
            if to % PAGE != 0 && pages.get(keep - 1).is_some_and(|page| *page != 0) {
                // SAFETY: as above; the rest of the last page.
                unsafe {
                    ptr::write_bytes(
                        phys::direct(pages[keep - 1]).add((to % PAGE) as usize),
                        0,
                        (PAGE - to % PAGE) as usize,
                    )
                };
            }
        }
        *len = to;
        Ok(0)
    }

    /// The page at an offset for a mapping, and whether it must be copied before the program has it. A shared mapping gets the file's own page.
    pub fn page(&self, offset: u64, shared: bool) -> Option<(u64, bool)> {
        if offset >= self.len().div_ceil(PAGE) * PAGE {
            return None;
        }
        if !shared && let Data::Host(gpa, _) = *self.data.borrow() {
            return Some((gpa + offset, false));
        }
        if let Data::Folder(spot, _, pages) = &mut *self.data.borrow_mut() {
            // What is written to a shared mapping would not reach the host.
            return if shared { None } else { folder_page(spot, pages, offset).map(|page| (page, true)) };
        }
        self.own().ok()?;
        let mut data = self.data.borrow_mut();
        let Data::Memory(pages, _) = &mut *data else { return None };
        let page = (offset / PAGE) as usize;
        if pages.len() <= page {
            pages.resize(page + 1, 0);
        }
        if pages[page] == 0 {
            pages[page] = phys::page()?;
        }
        self.mapped.set(self.mapped.get() | shared);
        Some((pages[page], true))
    }

    /// Whether it can be mapped shared and written.
    pub fn can_be_shared(&self) -> bool {
        self.spot().is_none()
    }

    /// Copies a piece of the image into pages of its own, before it is changed.
    fn own(&self) -> Answer {
        let Data::Host(gpa, len) = *self.data.borrow() else { return Ok(0) };
        let mut pages = Vec::new();
        for at in (0..len).step_by(PAGE as usize) {
            let Some(page) = phys::page() else {
                pages.into_iter().for_each(|page| phys::give(page, 0));
                return Err(ENOSPC);
            };
            // SAFETY: the image holds the piece; the page is new.
            unsafe {
                ptr::copy_nonoverlapping(phys::direct(gpa + at), phys::direct(page), PAGE.min(len - at) as usize)
            };
            pages.push(page);
        }
        *self.data.borrow_mut() = Data::Memory(pages, len);
        Ok(0)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if let Data::Memory(pages, _) | Data::Folder(_, _, pages) = self.data.get_mut() {
            pages.iter().filter(|page| **page != 0).for_each(|page| phys::give(*page, 0));
        }
    }
}

/// The page of a file of the host at an offset, read now if it was not before.
fn folder_page(spot: &Spot, pages: &mut Vec<u64>, offset: u64) -> Option<u64> {
    let page = (offset / PAGE) as usize;
    if pages.len() <= page {
        pages.resize(page + 1, 0);
    }
    if pages[page] == 0 {
        let new = phys::page()?;
        // SAFETY: the page is new and nobody else's.
        let bytes = unsafe { slice::from_raw_parts_mut(phys::direct(new), PAGE as usize) };
        if spot.read(offset & !(PAGE - 1), bytes).is_err() {
            phys::give(new, 0);
            return None;
        }
        pages[page] = new;
    }
    Some(pages[page])
}

/// Cuts a range of a file at pages: page, offset in it, and the part of the caller's buffer.
fn each_page(offset: u64, len: usize, mut visit: impl FnMut(usize, usize, core::ops::Range<usize>)) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let part = (PAGE - at % PAGE).min((len - done) as u64) as usize;
        visit((at / PAGE) as usize, (at % PAGE) as usize, done..done + part);
        done += part;
    }
}
