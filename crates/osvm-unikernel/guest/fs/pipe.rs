//! Byte streams inside the guest: pipes, and the two directions of a socket pair.

use alloc::{collections::VecDeque, rc::Rc};
use core::cell::{Cell, RefCell};

use super::{ERR, File, HUP, IN, OUT, S_IFIFO, Stat};
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
}

impl Stream {
    /// Takes bytes; 0 at the end.
    pub fn read(&self, out: &mut [u8], peek: bool) -> Answer {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.is_empty() && !out.is_empty() {
            return if self.writer_gone.get() { Ok(0) } else { Err(EAGAIN) };
        }
        let got = bytes.len().min(out.len());
        let (a, b) = bytes.as_slices();
        let first = a.len().min(got);
        out[..first].copy_from_slice(&a[..first]);
        out[first..got].copy_from_slice(&b[..got - first]);
        if !peek {
            bytes.drain(..got);
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
        if put < from.len() {
            self.was_full.set(true);
        }
        self.ins.set(self.ins.get() + 1);
        task::notify();
        Ok(put as u64)
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
            let _ = signal::send(Some(task::current()), signal::SIGPIPE);
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
