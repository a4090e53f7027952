//! A connection that the monitor brought: two rings in shared memory. The monitor may change its side's words at any time; each is read
//! once a use.

use core::{
    cell::Cell,
    ptr,
    sync::atomic::{Ordering, fence},
};

use crate::{
    abi::{Conn, RING, RINGS_AT, gpa, host_flags},
    errno::{Answer, EAGAIN, ECONNRESET, EPIPE},
    phys,
};

fn conn(place: u32) -> *mut Conn {
    phys::direct(gpa::RINGS + u64::from(place) * size_of::<Conn>() as u64).cast()
}

macro_rules! word {
    ($place:expr, $field:ident) => {
        // SAFETY: the place is below the number of places, and the rings' memory is mapped.
        unsafe { ptr::read_volatile(&raw const (*conn($place)).$field) }
    };
}

macro_rules! set_word {
    ($place:expr, $field:ident, $value:expr) => {
        // SAFETY: as above; the field is the guest's to write.
        unsafe { ptr::write_volatile(&raw mut (*conn($place)).$field, $value) }
    };
}

/// Which use of a place the monitor is at.
pub fn generation(place: u32) -> u32 {
    word!(place, generation)
}

/// An end of a connection; dropping it closes it.
pub struct HostConn {
    place: u32,
    generation: u32,
    was_full: Cell<bool>,
    outs: Cell<u64>,
}

impl HostConn {
    /// A new connection at a place.
    pub fn new(place: u32, generation: u32) -> Self {
        Self { place, generation, was_full: Cell::new(false), outs: Cell::new(0) }
    }

    /// The port that was asked for.
    pub fn port(&self) -> u32 {
        word!(self.place, port)
    }

    /// A number to tell peers apart by.
    pub fn peer_port(&self) -> u16 {
        1024 + self.place as u16
    }

    fn ring(&self, outward: bool) -> *mut u8 {
        let n = u64::from(self.place) * 2 + u64::from(outward);
        phys::direct(gpa::RINGS + RINGS_AT + n * u64::from(RING))
    }

    fn flags(&self) -> u32 {
        if generation(self.place) == self.generation { word!(self.place, host_flags) } else { host_flags::GONE }
    }

    fn held(&self) -> u32 {
        word!(self.place, in_head).wrapping_sub(word!(self.place, in_tail))
    }

    fn room(&self) -> u32 {
        RING - word!(self.place, out_head).wrapping_sub(word!(self.place, out_tail)).min(RING)
    }

    /// Copies between a ring and bytes of ours, around the ring's end.
    fn pieces(at: u32, len: usize) -> [(usize, usize, usize); 2] {
        let start = (at % RING) as usize;
        let first = len.min(RING as usize - start);
        [(start, 0, first), (0, first, len - first)]
    }

    /// Takes bytes; 0 at the end.
    pub fn read(&self, out: &mut [u8], peek: bool) -> Answer {
        let flags = self.flags();
        let held = if generation(self.place) == self.generation { self.held() } else { 0 };
        if held == 0 {
            return match flags {
                _ if out.is_empty() => Ok(0),
                flags if flags & host_flags::EOF != 0 => Ok(0),
                flags if flags & host_flags::GONE != 0 => Err(ECONNRESET),
                _ => Err(EAGAIN),
            };
        }
        // The bytes are read after the counter that tells of them.
        fence(Ordering::Acquire);
        let tail = word!(self.place, in_tail);
        let len = out.len().min(held as usize);
        for (from, to, part) in Self::pieces(tail, len) {
            // SAFETY: the piece lies within the ring and within `out`.
            unsafe { ptr::copy_nonoverlapping(self.ring(false).add(from), out.as_mut_ptr().add(to), part) };
        }
        if !peek {
            fence(Ordering::Release);
            set_word!(self.place, in_tail, tail.wrapping_add(len as u32));
            if held > RING / 2 {
                // The monitor may have stopped reading for want of room.
                super::changed(len as u32);
            }
        }
        Ok(len as u64)
    }

    /// Puts bytes.
    pub fn write(&self, bytes: &[u8]) -> Answer {
        if self.flags() & host_flags::GONE != 0 || word!(self.place, shut) == self.generation {
            return Err(EPIPE);
        }
        let room = self.room() as usize;
        let len = bytes.len().min(room);
        if len < bytes.len() {
            self.was_full.set(true);
        }
        if len == 0 && !bytes.is_empty() {
            super::flush();
            return Err(EAGAIN);
        }
        let head = word!(self.place, out_head);
        for (to, from, part) in Self::pieces(head, len) {
            // SAFETY: as above.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().add(from), self.ring(true).add(to), part) };
        }
        fence(Ordering::Release);
        set_word!(self.place, out_head, head.wrapping_add(len as u32));
        super::changed(len as u32);
        Ok(len as u64)
    }

    /// No more will be written.
    pub fn shut(&self) {
        if generation(self.place) == self.generation {
            set_word!(self.place, shut, self.generation);
            super::changed(1);
        }
    }

    /// Whether a read would not wait, and whether the peer has ended.
    pub fn readable(&self) -> (bool, bool) {
        let ended = self.flags() & (host_flags::EOF | host_flags::GONE) != 0;
        (ended || self.held() > 0, ended)
    }

    /// Whether the connection is gone.
    pub fn gone(&self) -> bool {
        self.flags() & host_flags::GONE != 0
    }

    /// Whether there is room to write.
    pub fn writable(&self) -> bool {
        self.gone() || self.room() > 0
    }

    /// Bytes to be read.
    pub fn waiting(&self) -> usize {
        if generation(self.place) == self.generation { self.held() as usize } else { 0 }
    }

    /// Changes with new bytes or the end, and with room after there was none.
    pub fn edges(&self) -> (u64, u64) {
        if self.was_full.get() && self.room() > 0 {
            self.was_full.set(false);
            self.outs.set(self.outs.get() + 1);
        }
        let flags = self.flags();
        (u64::from(word!(self.place, in_head)) | u64::from(flags) << 32, self.outs.get() | u64::from(flags) << 62)
    }
}

impl Drop for HostConn {
    fn drop(&mut self) {
        if generation(self.place) == self.generation {
            set_word!(self.place, closed, self.generation);
            super::changed(1);
        }
    }
}
