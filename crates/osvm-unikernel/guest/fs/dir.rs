//! Open directories, and descriptors of O_PATH.

use alloc::{format, rc::Rc, string::String, vec::Vec};
use core::cell::Cell;

use super::{File, Kind, Node, S_IFMT, Stat, table, tree};
use crate::{
    errno::{Answer, EBADF, EINVAL, EISDIR},
    process,
};

/// `struct linux_dirent64` before the name.
const ENTRY: usize = 19;
/// Kind of an entry.
const DIRECTORY: u8 = 4;

/// A directory and how far it was read.
pub struct Dir {
    node: Rc<Node>,
    position: Cell<u64>,
}

impl Dir {
    /// From its start.
    pub fn new(node: Rc<Node>) -> Self {
        Self { node, position: Cell::new(0) }
    }
}

/// Writes one entry; its length. None: no room.
fn put(out: &mut [u8], name: &[u8], ino: u64, next: u64, kind: u8) -> Option<usize> {
    let len = (ENTRY + name.len() + 1).next_multiple_of(8);
    let entry = out.get_mut(..len)?;
    entry.fill(0);
    entry[..8].copy_from_slice(&ino.to_le_bytes());
    entry[8..16].copy_from_slice(&next.to_le_bytes());
    entry[16..18].copy_from_slice(&(len as u16).to_le_bytes());
    entry[18] = kind;
    entry[ENTRY..ENTRY + name.len()].copy_from_slice(name);
    Some(len)
}

impl Dir {
    /// The numbers of descriptors.
    fn descriptors(&self, out: &mut [u8]) -> Answer {
        const LINK: u8 = 10;
        self.numbers(out, Vec::new(), table::all(), LINK)
    }

    /// /proc: its files, and the numbers of processes.
    fn processes(&self, out: &mut [u8]) -> Answer {
        let children = self.node.entries()?.borrow();
        let kind = |node: &Node| ((node.mode.get() & S_IFMT) >> 12) as u8;
        let files = children.iter().map(|(name, node)| (String::from_utf8_lossy(name).into_owned(), kind(node)));
        self.numbers(out, files.collect(), process::all(), DIRECTORY)
    }

    /// Entries that do not change, then numbers. The position is the number that comes next, so that one that goes meanwhile hides no other.
    fn numbers(&self, out: &mut [u8], mut fixed: Vec<(String, u8)>, numbers: Vec<u64>, kind: u8) -> Answer {
        fixed.insert(0, (String::from("."), DIRECTORY));
        fixed.insert(1, (String::from(".."), DIRECTORY));
        let (from, before) = (self.position.get(), fixed.len() as u64);
        let fixed = fixed.into_iter().enumerate().map(|(n, (name, kind))| (name, n as u64, kind));
        let numbers = numbers.into_iter().map(|number| (format!("{number}"), number + before, kind));
        let mut at = 0;
        for (name, place, kind) in fixed.chain(numbers).filter(|(_, place, _)| *place >= from) {
            match put(&mut out[at..], name.as_bytes(), self.node.ino + place, place + 1, kind) {
                Some(len) => at += len,
                None if at == 0 => return Err(EINVAL),
                None => break,
            }
            self.position.set(place + 1);
        }
        Ok(at as u64)
    }
}

impl File for Dir {
    fn read(&self, _out: &mut [u8]) -> Answer {
        Err(if matches!(self.node.kind, Kind::Dir(_) | Kind::Descriptors) { EISDIR } else { EBADF })
    }
    fn seek(&self, offset: i64, whence: u64) -> Answer {
        if whence != 0 || offset < 0 {
            return Err(EINVAL);
        }
        self.position.set(offset as u64);
        Ok(offset as u64)
    }
    fn stat(&self) -> Stat {
        self.node.stat()
    }
    fn node(&self) -> Option<&Rc<Node>> {
        Some(&self.node)
    }
    fn sync(&self) -> Answer {
        let spot = self.node.spot.borrow().clone();
        spot.map_or(Ok(0), |spot| spot.sync(matches!(self.node.kind, Kind::Dir(_))))
    }
    fn entries(&self, out: &mut [u8]) -> Answer {
        if matches!(self.node.kind, Kind::Descriptors) {
            return self.descriptors(out);
        }
        if tree::is_proc(&self.node) {
            return self.processes(out);
        }
        let children = self.node.entries()?.borrow();
        let parent = self.node.parent.borrow().upgrade().unwrap_or_else(|| Rc::clone(&self.node));
        let dots: [(&[u8], &Rc<Node>); 2] = [(b".", &self.node), (b"..", &parent)];
        let all = dots.into_iter().chain(children.iter().map(|(name, node)| (&name[..], node)));
        let mut at = 0;
        for (name, node) in all.skip(self.position.get() as usize) {
            let kind = ((node.mode.get() & S_IFMT) >> 12) as u8;
            match put(&mut out[at..], name, node.ino, self.position.get() + 1, kind) {
                Some(len) => at += len,
                None if at == 0 => return Err(EINVAL),
                None => break,
            }
            self.position.set(self.position.get() + 1);
        }
        Ok(at as u64)
    }
}
