//! Byte streams inside the guest: pipes, and the two directions of a socket pair.

use alloc::{collections::VecDeque, rc::Rc, vec::Vec};
use core::cell::{Cell, RefCell};

use super::{ERR, File, HUP, IN, OUT, Open, S_IFIFO, Stat};
use crate::{
    errno::{Answer, EAGAIN, EPIPE},
    signal, task,
};

/// Bytes that a stream holds.
const CAPACITY: usize = 64 << 10;

/// One direction.
#[derive(Default)]
pub struct Stream {
    bytes: RefCell<VecDeque<u8>>,
    pub writer_gone: Cell<bool>,
    pub reader_gone: Cell<bool>,
    ins: Cell<u64>,
    outs: Cell<u64>,
    was_full: Cell<bool>,
    /// Bytes put and taken so far.
    put: Cell<u64>,
    taken: Cell<u64>,
    /// Open files that travel with the byte at a place, and those whose byte was just read.
    rights: RefCell<VecDeque<(u64, Vec<Rc<Open>>)>>,
    arrived: RefCell<Vec<Rc<Open>>>,
}

impl Stream {
    /// Takes bytes; 0 at the end.
    pub fn read(&self, out: &mut [u8], peek: bool) -> Answer {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.is_empty() && !out.is_empty() {
            return if self.writer_gone.get() { Ok(0) } else { Err(EAGAIN) };
        }
        let got = bytes.len().min(out.len()).min(self.until_rights());
        let (a, b) = bytes.as_slices();
        let first = a.len().min(got);
        out[..first].copy_from_slice(&a[..first]);
        out[first..got].copy_from_slice(&b[..got - first]);
        if !peek {
            bytes.drain(..got);
            self.taken.set(self.taken.get() + got as u64);
            self.rights_arrive();
            if self.was_full.take() {
                self.outs.set(self.outs.get() + 1);
                task::notify();
            }
        }
        Ok(got as u64)
    }

    /// Puts bytes.
    pub fn write(&self, from: &[u8]) -> Answer {
        if self.reader_gone.get() {
            return Err(EPIPE);
        }
        let mut bytes = self.bytes.borrow_mut();
        let room = CAPACITY - bytes.len();
        // Up to PIPE_BUF bytes go whole or not at all.
        if room == 0 || (from.len() <= 4096 && room < from.len()) {
            self.was_full.set(true);
            return Err(EAGAIN);
        }
        let put = room.min(from.len());
        bytes.extend(&from[..put]);
        self.put.set(self.put.get() + put as u64);
        if put < from.len() {
            self.was_full.set(true);
        }
        self.ins.set(self.ins.get() + 1);
        task::notify();
        Ok(put as u64)
    }

    /// Open files that travel with the next byte that is put.
    pub fn attach(&self, rights: Vec<Rc<Open>>) {
        self.rights.borrow_mut().push_back((self.put.get(), rights));
    }

    /// Takes them back, as the byte was not put.
    pub fn detach(&self) {
        let gone = self.rights.borrow_mut().pop_back();
        drop(gone);
    }

    /// What came with the bytes of the last read.
    pub fn take_rights(&self) -> Vec<Rc<Open>> {
        core::mem::take(&mut *self.arrived.borrow_mut())
    }

    /// Bytes up to the next message with open files: a read ends there.
    fn until_rights(&self) -> usize {
        let taken = self.taken.get();
        let rights = self.rights.borrow();
        rights.iter().find(|(at, _)| *at > taken).map_or(usize::MAX, |(at, _)| (*at - taken) as usize)
    }

    fn rights_arrive(&self) {
        let mut rights = self.rights.borrow_mut();
        while rights.front().is_some_and(|(at, _)| *at < self.taken.get()) {
            let all = rights.pop_front().map(|(_, all)| all).unwrap_or_default();
            self.arrived.borrow_mut().extend(all);
        }
    }

    /// Marks an end as gone.
    pub fn end(&self, writer: bool) {
        if writer {
            self.writer_gone.set(true);
            self.ins.set(self.ins.get() + 1);
        } else {
            self.reader_gone.set(true);
            self.outs.set(self.outs.get() + 1);
        }
        task::notify();
    }

    pub fn readable(&self) -> bool {
        !self.bytes.borrow().is_empty() || self.writer_gone.get()
    }

    pub fn writable(&self) -> bool {
        self.reader_gone.get() || CAPACITY - self.bytes.borrow().len() >= 4096
    }

    pub fn held(&self) -> usize {
        self.bytes.borrow().len()
    }

    pub fn edges(&self) -> (u64, u64) {
        (self.ins.get(), self.outs.get())
    }
}

/// An end of a pipe.
pub struct End {
    stream: Rc<Stream>,
    writer: bool,
}

/// Reading and writing end.
pub fn pair() -> (Rc<dyn File>, Rc<dyn File>) {
    let stream = Rc::new(Stream::default());
    (Rc::new(End { stream: Rc::clone(&stream), writer: false }), Rc::new(End { stream, writer: true }))
}

impl File for End {
    fn read(&self, out: &mut [u8]) -> Answer {
        if self.writer { Err(crate::errno::EBADF) } else { self.stream.read(out, false) }
    }
    fn write(&self, bytes: &[u8]) -> Answer {
        if !self.writer {
            return Err(crate::errno::EBADF);
        }
        let done = self.stream.write(bytes);
        if done == Err(EPIPE) {
            let _ = signal::send(None, task::current(), signal::SIGPIPE);
        }
        done
    }
    fn poll(&self) -> u32 {
        let stream = &self.stream;
        if self.writer {
            u32::from(stream.writable()) * OUT | u32::from(stream.reader_gone.get()) * ERR
        } else {
            u32::from(stream.held() > 0) * IN | u32::from(stream.writer_gone.get()) * HUP
        }
    }
    fn edges(&self) -> (u64, u64) {
        self.stream.edges()
    }
    fn stat(&self) -> Stat {
        Stat::of(S_IFIFO | 0o600, 4)
    }
    fn ioctl(&self, request: u64, argument: u64) -> Answer {
        crate::sys::io::fionread(request, argument, self.stream.held())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.stream.end(self.writer);
    }
}
