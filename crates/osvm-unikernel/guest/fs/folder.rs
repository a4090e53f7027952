//! Folders of the host. Their names are read once and kept, as nobody else changes them; what is done to them, and what files hold, goes
//! to the monitor at once.

use alloc::{
    boxed::Box,
    collections::BTreeMap,
    rc::{Rc, Weak},
    vec::Vec,
};
use core::{
    cell::{Cell, RefCell},
    ptr, slice,
};

use super::{Content, Kind, Node};
use crate::{
    abi::{Entry, PAGE, folder as op},
    cell::Global,
    errno::{Answer, EAGAIN, EEXIST, EINVAL, EISDIR, ENOTDIR, ENOTEMPTY, EROFS, EXDEV, Errno},
    hyper, phys,
    task::{self, Wait},
    time,
};

/// Pages of the buffer that bytes go through, as a power of two.
const ORDER: usize = 5;
const BUFFER: usize = (PAGE as usize) << ORDER;
/// Between two looks at a lock that another VM holds, nanoseconds.
const LOCK_PAUSE: u64 = 10_000_000;

/// The buffer's guest-physical address.
static AT: Global<u64> = Global::new(0);

/// A file or folder of the host: its place there, and the monitor's number for it while it is open.
pub struct Spot {
    parent: RefCell<Option<Rc<Spot>>>,
    name: RefCell<Vec<u8>>,
    /// 0: not open.
    handle: Cell<u32>,
    writable: Cell<bool>,
    /// Whether its names were read.
    loaded: Cell<bool>,
    /// A folder's own node.
    node: RefCell<Weak<Node>>,
}

/// Bytes at the start of the buffer. There is one vCPU, and nothing here waits while it uses them.
fn buffer() -> Result<&'static mut [u8], Errno> {
    let mut at = AT.get();
    if *at == 0 {
        *at = phys::run(ORDER).ok_or(crate::errno::ENOMEM)?;
    }
    // SAFETY: the run is this module's for good; a caller is done with it before the next one asks.
    Ok(unsafe { slice::from_raw_parts_mut(phys::direct(*at), BUFFER) })
}

fn call(operation: u32, handle: u32, number: u64, len: usize) -> Answer {
    let at = *AT.get();
    hyper::folder(operation, handle, number, (at, len as u64))
}

fn with_name(operation: u32, handle: u32, number: u64, name: &[u8]) -> Answer {
    let buffer = buffer()?;
    buffer.get_mut(..name.len()).ok_or(crate::errno::ENAMETOOLONG)?.copy_from_slice(name);
    call(operation, handle, number, name.len())
}

impl Spot {
    fn new(parent: Option<Rc<Spot>>, name: &[u8], handle: u32) -> Rc<Self> {
        Rc::new(Self {
            parent: RefCell::new(parent),
            name: RefCell::new(name.to_vec()),
            handle: Cell::new(handle),
            writable: Cell::new(false),
            loaded: Cell::new(false),
            node: RefCell::new(Weak::new()),
        })
    }

    /// Its handle, opened if need be.
    fn open(&self, is_folder: bool) -> Result<u32, Errno> {
        if self.handle.get() != 0 {
            return Ok(self.handle.get());
        }
        let parent = self.parent.borrow().clone().ok_or(EINVAL)?;
        let above = parent.open(true)?;
        let name = self.name.borrow().clone();
        let handle = if is_folder {
            with_name(op::OPEN, above, op::FOLDER, &name)?
        } else {
            match with_name(op::OPEN, above, op::WRITE, &name) {
                Ok(handle) => {
                    self.writable.set(true);
                    handle
                }
                Err(EROFS | crate::errno::EACCES | crate::errno::EPERM) => with_name(op::OPEN, above, 0, &name)?,
                Err(error) => return Err(error),
            }
        };
        self.handle.set(handle as u32);
        Ok(handle as u32)
    }

    /// A file is about to be used, and is to be written or not.
    pub fn ready(&self, writes: bool) -> Answer {
        self.open(false)?;
        if writes && !self.writable.get() { Err(EROFS) } else { Ok(0) }
    }

    /// Nobody uses the file for now; it is opened again when somebody does.
    pub fn rest(&self) {
        if self.parent.borrow().is_some() && self.handle.get() != 0 {
            let _ = call(op::CLOSE, self.handle.replace(0), 0, 0);
        }
    }

    /// Reads a file.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Answer {
        let handle = self.open(false)?;
        let mut done = 0;
        for part in out.chunks_mut(BUFFER) {
            let buffer = buffer()?;
            let got = call(op::READ, handle, offset + done, part.len())? as usize;
            let got = got.min(part.len());
            part[..got].copy_from_slice(&buffer[..got]);
            done += got as u64;
            if got < part.len() {
                break;
            }
        }
        Ok(done)
    }

    /// Writes a file.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Answer {
        self.ready(true)?;
        let mut done = 0;
        for part in bytes.chunks(BUFFER) {
            buffer()?[..part.len()].copy_from_slice(part);
            match call(op::WRITE_TO, self.handle.get(), offset + done, part.len()) {
                Ok(put) => {
                    done += put.min(part.len() as u64);
                    if put < part.len() as u64 {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Sets a file's length.
    pub fn truncate(&self, to: u64) -> Answer {
        self.ready(true)?;
        call(op::TRUNCATE, self.handle.get(), to, 0)
    }

    /// A file's length, as the host has it.
    pub fn length(&self) -> Answer {
        call(op::LENGTH, self.open(false)?, 0, 0)
    }

    /// Waits until the host has it on its disk. Others run meanwhile.
    pub fn sync(&self, is_folder: bool) -> Answer {
        let ticket = call(op::SYNC, self.open(is_folder)?, 0, 0)?;
        loop {
            match call(op::SYNCED, 0, ticket, 0) {
                Err(EAGAIN) => {
                    task::block(Wait::Event, u64::MAX);
                }
                done => return done,
            }
        }
    }

    /// `flock`: against other VMs and processes of the host.
    pub fn lock(&self, how: u64) -> Answer {
        const NONBLOCK: u64 = 4;
        let handle = self.open(false)?;
        loop {
            match call(op::LOCK, handle, how & !NONBLOCK, 0) {
                Err(EAGAIN) if how & NONBLOCK == 0 => {
                    if crate::signal::pending() {
                        return Err(crate::errno::ERESTART);
                    }
                    task::block(Wait::Sleep, time::monotonic() + LOCK_PAUSE);
                }
                done => return done,
            }
        }
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        self.rest();
    }
}

/// A file's or folder's node below a folder.
fn child(parent: &Rc<Spot>, name: &[u8], entry: Entry) -> Rc<Node> {
    let spot = Spot::new(Some(Rc::clone(parent)), name, 0);
    let node = if entry.mode & super::S_IFMT == super::S_IFDIR {
        Node::dir(entry.mode)
    } else {
        Node::new(Kind::File(Rc::new(Content::folder(Rc::clone(&spot), entry.size))), entry.mode)
    };
    *spot.node.borrow_mut() = Rc::downgrade(&node);
    *node.spot.borrow_mut() = Some(spot);
    node.mtime.set(entry.mtime);
    node
}

/// Shows a folder that the monitor opened at the start.
pub fn mount(path: &[u8], handle: u32) {
    let node = Node::dir(0o755);
    let spot = Spot::new(None, b"", handle);
    *spot.node.borrow_mut() = Rc::downgrade(&node);
    *node.spot.borrow_mut() = Some(spot);
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let Some(slash) = path[..end].iter().rposition(|&byte| byte == b'/') else { return };
    super::tree::make_dirs(&path[..slash]).put(&path[slash + 1..end], node);
}

/// Reads a folder's names, the first time they are needed.
pub fn load(node: &Node, entries: &RefCell<BTreeMap<Box<[u8]>, Rc<Node>>>) -> Answer {
    const HEAD: usize = size_of::<Entry>();
    let Some(spot) = node.spot.borrow().clone() else { return Ok(0) };
    if spot.loaded.get() {
        return Ok(0);
    }
    let handle = spot.open(true)?;
    let mut first = 0;
    loop {
        let buffer = buffer()?;
        let len = (call(op::LIST, handle, first, BUFFER)? as usize).min(BUFFER);
        if len == 0 {
            break;
        }
        let mut at = 0;
        while let Some(head) = buffer[..len].get(at..at + HEAD) {
            // SAFETY: as many bytes as the structure has; any bits are a value.
            let entry: Entry = unsafe { ptr::read_unaligned(head.as_ptr().cast()) };
            let Some(name) = buffer[..len].get(at + HEAD..at + HEAD + entry.name as usize) else { break };
            let new = child(&spot, name, entry);
            *new.parent.borrow_mut() = spot.node.borrow().clone();
            // What is shown over it stays.
            entries.borrow_mut().entry(name.into()).or_insert(new);
            at += (HEAD + entry.name as usize).next_multiple_of(8);
            first += 1;
        }
    }
    spot.loaded.set(true);
    Ok(0)
}

fn spot_of(node: &Node) -> Option<Rc<Spot>> {
    node.spot.borrow().clone()
}

/// A node that is about to get a name in a directory: made on the host, if that is where the directory is.
pub fn insert(dir: &Node, name: &[u8], node: &Rc<Node>) -> Answer {
    let Some(above) = spot_of(dir) else { return if node.spot.borrow().is_some() { Err(EXDEV) } else { Ok(0) } };
    if node.parent.borrow().upgrade().is_some() || node.spot.borrow().is_some() {
        return Err(EXDEV);
    }
    let handle = above.open(true)?;
    let mode = u64::from(node.mode.get() & 0o777);
    let spot = Spot::new(Some(Rc::clone(&above)), name, 0);
    match &node.kind {
        Kind::Dir(_) => {
            with_name(op::MAKE, handle, mode, name)?;
            spot.loaded.set(true);
        }
        Kind::File(content) => {
            let opened = with_name(op::OPEN, handle, op::WRITE | op::NEW | mode << 32, name)?;
            spot.handle.set(opened as u32);
            spot.writable.set(true);
            content.move_to(Rc::clone(&spot))?;
        }
        _ => return Err(crate::errno::EPERM),
    }
    *spot.node.borrow_mut() = Rc::downgrade(node);
    *node.spot.borrow_mut() = Some(spot);
    Ok(0)
}

/// A name that is about to go.
pub fn remove(dir: &Node, name: &[u8], node: &Node) -> Answer {
    let Some(above) = spot_of(dir) else { return Ok(0) };
    if node.spot.borrow().as_ref().is_none_or(|spot| spot.parent.borrow().is_none()) {
        // Another folder is shown there.
        return Err(crate::errno::EPERM);
    }
    with_name(op::UNLINK, above.open(true)?, u64::from(matches!(node.kind, Kind::Dir(_))), name)
}

/// Renames on the host; false: neither name is there.
pub fn rename(
    (from, name): (&Rc<Node>, &[u8]),
    (to, new): (&Rc<Node>, &[u8]),
    node: &Rc<Node>,
    there: Option<&Rc<Node>>,
) -> Result<bool, Errno> {
    let (source, target) = match (spot_of(from), spot_of(to)) {
        (None, None) => return Ok(false),
        (Some(source), Some(target)) => (source, target),
        _ => return Err(EXDEV),
    };
    let spot = spot_of(node).filter(|spot| spot.parent.borrow().is_some()).ok_or(EXDEV)?;
    match (there.map(|there| &there.kind), &node.kind) {
        (None, _) => {}
        (Some(Kind::Dir(_)), Kind::Dir(_)) if there.is_some_and(|there| there.entries().is_ok_and(|e| !e.borrow().is_empty())) => {
            return Err(ENOTEMPTY);
        }
        (Some(Kind::Dir(_)), Kind::Dir(_)) => {}
        (Some(Kind::Dir(_)), _) => return Err(EISDIR),
        (Some(_), Kind::Dir(_)) => return Err(ENOTDIR),
        _ => {}
    }
    // A folder that is shown over another cannot be replaced.
    if there.and_then(|there| spot_of(there)).is_some_and(|spot| spot.parent.borrow().is_none()) {
        return Err(EEXIST);
    }
    let (source_handle, target_handle) = (source.open(true)?, target.open(true)?);
    let both = [name, new].join(&0);
    with_name(op::RENAME, source_handle, target_handle.into(), &both)?;
    if let Some(there) = there {
        there.links.set(there.links.get().saturating_sub(1));
    }
    *spot.parent.borrow_mut() = Some(target);
    *spot.name.borrow_mut() = new.to_vec();
    if let Kind::Dir(_) = node.kind {
        *node.parent.borrow_mut() = Rc::downgrade(to);
    }
    from.entries()?.borrow_mut().remove(name);
    to.put(new, Rc::clone(node));
    Ok(true)
}
