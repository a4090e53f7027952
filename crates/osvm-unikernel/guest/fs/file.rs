//! Open files.

use alloc::{rc::Rc, vec::Vec};
use core::cell::{Cell, RefCell};

use super::{Content, IN, Kind, Node, O_APPEND, O_NONBLOCK, OUT, S_IFCHR, Stat, epoll::Epoll, timer::Timer};
use crate::{
    abi::AGAIN,
    cell::Global,
    errno::{Answer, EAGAIN, EBADF, EINVAL, EIO, EISDIR, ENOTTY, ESPIPE, ESRCH, Errno},
    hyper,
    net::socket::Socket,
    process, random, time,
};

/// What a file descriptor can be asked. Calls answer EAGAIN where they would have to wait.
pub trait File {
    fn read(&self, _out: &mut [u8]) -> Answer {
        Err(EINVAL)
    }
    fn write(&self, _bytes: &[u8]) -> Answer {
        Err(EINVAL)
    }
    fn read_at(&self, _offset: u64, _out: &mut [u8]) -> Answer {
        Err(ESPIPE)
    }
    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> Answer {
        Err(ESPIPE)
    }
    fn seek(&self, _offset: i64, _whence: u64) -> Answer {
        Err(ESPIPE)
    }
    /// What is possible now: bits of `poll`.
    fn poll(&self) -> u32 {
        IN | OUT
    }
    /// Change when reading, or writing, became possible once more. For edge-triggered interest.
    fn edges(&self) -> (u64, u64) {
        (0, 0)
    }
    fn stat(&self) -> Stat;
    fn ioctl(&self, _request: u64, _argument: u64) -> Answer {
        Err(ENOTTY)
    }
    fn node(&self) -> Option<&Rc<Node>> {
        None
    }
    fn content(&self) -> Option<Rc<Content>> {
        None
    }
    /// `fsync`: nothing to do where there is no disk.
    fn sync(&self) -> Answer {
        Ok(0)
    }
    /// `flock`: there is one process, so only a file of the host can be another's.
    fn lock(&self, _how: u64) -> Answer {
        Ok(0)
    }
    fn socket(&self) -> Option<&Socket> {
        None
    }
    fn epoll(&self) -> Option<&Epoll> {
        None
    }
    fn timer(&self) -> Option<&Timer> {
        None
    }
    /// `getdents64`: entries from where the last call stopped.
    fn entries(&self, _out: &mut [u8]) -> Answer {
        Err(crate::errno::ENOTDIR)
    }
}

/// An open file description.
pub struct Open {
    pub file: Rc<dyn File>,
    pub flags: Cell<u32>,
}

impl Open {
    /// With `open` flags.
    pub fn new(file: Rc<dyn File>, flags: u32) -> Rc<Self> {
        Rc::new(Self { file, flags: Cell::new(flags) })
    }

    /// Whether calls are not to wait.
    pub fn nonblocking(&self) -> bool {
        self.flags.get() & O_NONBLOCK != 0
    }
}

/// Opens what a node stands for.
pub fn open(node: &Rc<Node>, flags: u32) -> Result<Rc<Open>, Errno> {
    let writes = flags & super::O_ACCMODE != 0;
    let file: Rc<dyn File> = match &node.kind {
        Kind::Dir(_) | Kind::Descriptors if writes && flags & super::O_PATH == 0 => return Err(EISDIR),
        Kind::Dir(_) | Kind::Descriptors => Rc::new(super::dir::Dir::new(Rc::clone(node))),
        Kind::File(content) => {
            content.opened(writes)?;
            let regular = Rc::new(Regular {
                node: Rc::clone(node),
                content: Rc::clone(content),
                position: Cell::new(0),
                append: flags & O_APPEND != 0,
            });
            if flags & super::O_TRUNC != 0 && writes {
                content.truncate(0)?;
            }
            regular
        }
        Kind::Made(_) | Kind::MadeOf(..) => {
            let bytes = match node.kind {
                Kind::Made(make) => make(),
                Kind::MadeOf(pid, make) => make(&*process::find(pid).ok_or(ESRCH)?),
                _ => Vec::new(),
            };
            let content = Content::new();
            content.write(0, &bytes)?;
            content.opened(false)?;
            Rc::new(Regular { node: Rc::clone(node), content: Rc::new(content), position: Cell::new(0), append: false })
        }
        Kind::Device(number) => Rc::new(Device { node: Rc::clone(node), number: *number }),
        Kind::Link(_) | Kind::MadeLink(_) if flags & super::O_PATH == 0 => return Err(crate::errno::ELOOP),
        Kind::Link(_) | Kind::MadeLink(_) | Kind::Socket if flags & super::O_PATH != 0 => {
            Rc::new(super::dir::Dir::new(Rc::clone(node)))
        }
        Kind::Link(_) | Kind::MadeLink(_) | Kind::Socket => return Err(crate::errno::ENXIO),
    };
    Ok(Open::new(file, flags & !(super::O_CREAT | super::O_EXCL | super::O_TRUNC | super::O_CLOEXEC)))
}

/// A regular file.
struct Regular {
    node: Rc<Node>,
    content: Rc<Content>,
    position: Cell<u64>,
    append: bool,
}

impl File for Regular {
    fn read(&self, out: &mut [u8]) -> Answer {
        let got = self.content.read(self.position.get(), out) as u64;
        self.position.set(self.position.get() + got);
        Ok(got)
    }
    fn write(&self, bytes: &[u8]) -> Answer {
        if self.append {
            self.position.set(self.content.len());
        }
        let done = self.write_at(self.position.get(), bytes)?;
        self.position.set(self.position.get() + done);
        Ok(done)
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Answer {
        Ok(self.content.read(offset, out) as u64)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Answer {
        self.node.mtime.set(time::realtime());
        self.content.write(offset, bytes)
    }
    fn seek(&self, offset: i64, whence: u64) -> Answer {
        let len = self.content.len();
        let base = match whence {
            0 => 0,
            1 => self.position.get(),
            2 => len,
            // SEEK_DATA and SEEK_HOLE: all of it is data.
            3 if (offset as u64) < len => 0,
            4 if (offset as u64) < len => return Ok(len),
            3 | 4 => return Err(crate::errno::ENXIO),
            _ => return Err(EINVAL),
        };
        let to = base.checked_add_signed(offset).ok_or(EINVAL)?;
        self.position.set(to);
        Ok(to)
    }
    fn stat(&self) -> Stat {
        Stat { size: self.content.len(), ..self.node.stat() }
    }
    fn node(&self) -> Option<&Rc<Node>> {
        Some(&self.node)
    }
    fn content(&self) -> Option<Rc<Content>> {
        Some(Rc::clone(&self.content))
    }
    fn sync(&self) -> Answer {
        self.content.spot().map_or(Ok(0), |spot| spot.sync(false))
    }
    fn lock(&self, how: u64) -> Answer {
        self.content.spot().map_or(Ok(0), |spot| spot.lock(how))
    }
}

impl Drop for Regular {
    fn drop(&mut self) {
        self.content.closed();
    }
}

/// /dev/null, zero, full, random.
struct Device {
    node: Rc<Node>,
    number: u32,
}

/// Numbers of devices.
pub const NULL: u32 = 0x103;
pub const ZERO: u32 = 0x105;
pub const FULL: u32 = 0x107;
pub const RANDOM: u32 = 0x108;
pub const URANDOM: u32 = 0x109;

impl File for Device {
    fn read(&self, out: &mut [u8]) -> Answer {
        match self.number {
            NULL => return Ok(0),
            RANDOM | URANDOM => random::fill(out),
            _ => out.fill(0),
        }
        Ok(out.len() as u64)
    }
    fn write(&self, bytes: &[u8]) -> Answer {
        if self.number == FULL { Err(crate::errno::ENOSPC) } else { Ok(bytes.len() as u64) }
    }
    fn read_at(&self, _offset: u64, out: &mut [u8]) -> Answer {
        self.read(out)
    }
    fn seek(&self, _offset: i64, _whence: u64) -> Answer {
        Ok(0)
    }
    fn stat(&self) -> Stat {
        self.node.stat()
    }
    fn node(&self) -> Option<&Rc<Node>> {
        Some(&self.node)
    }
}

/// One of the monitor's three standard streams.
pub struct Console(pub u64);

/// Read ahead from standard input; None once it has ended.
static INPUT: Global<RefCell<Option<Vec<u8>>>> = Global::new(RefCell::new(Some(Vec::new())));

impl Console {
    fn fill() -> Result<bool, Errno> {
        let cell = INPUT.get();
        let mut input = cell.borrow_mut();
        let Some(held) = &mut *input else { return Ok(false) };
        if held.is_empty() {
            let mut bytes = [0; 4096];
            match hyper::console_in(&mut bytes) {
                AGAIN => return Err(EAGAIN),
                0 => {
                    *input = None;
                    return Ok(false);
                }
                got if got > 0 => held.extend_from_slice(&bytes[..got as usize]),
                _ => return Err(EIO),
            }
        }
        Ok(true)
    }
}

impl File for Console {
    fn read(&self, out: &mut [u8]) -> Answer {
        if self.0 != 0 {
            return Err(EBADF);
        }
        if out.is_empty() || !Self::fill()? {
            return Ok(0);
        }
        let cell = INPUT.get();
        let mut input = cell.borrow_mut();
        let Some(held) = &mut *input else { return Ok(0) };
        let got = held.len().min(out.len());
        out[..got].copy_from_slice(&held[..got]);
        held.drain(..got);
        Ok(got as u64)
    }
    fn write(&self, bytes: &[u8]) -> Answer {
        hyper::console(self.0.max(1), bytes);
        Ok(bytes.len() as u64)
    }
    fn poll(&self) -> u32 {
        if self.0 != 0 {
            OUT
        } else if Self::fill() == Err(EAGAIN) {
            0
        } else {
            IN
        }
    }
    fn stat(&self) -> Stat {
        Stat { rdev: 0x500, ..Stat::of(S_IFCHR | 0o620, 3) }
    }
}
