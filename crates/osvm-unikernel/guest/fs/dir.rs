//! Open directories, and descriptors of O_PATH.

use alloc::rc::Rc;
use core::cell::Cell;

use super::{File, Kind, Node, S_IFMT, Stat};
use crate::errno::{Answer, EBADF, EINVAL, EISDIR};

/// `struct linux_dirent64` before the name.
const ENTRY: usize = 19;

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

impl File for Dir {
    fn read(&self, _out: &mut [u8]) -> Answer {
        Err(if matches!(self.node.kind, Kind::Dir(_)) { EISDIR } else { EBADF })
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
    fn entries(&self, out: &mut [u8]) -> Answer {
        let children = self.node.entries()?.borrow();
        let parent = self.node.parent.borrow().upgrade().unwrap_or_else(|| Rc::clone(&self.node));
        let dots: [(&[u8], &Rc<Node>); 2] = [(b".", &self.node), (b"..", &parent)];
        let all = dots.into_iter().chain(children.iter().map(|(name, node)| (&name[..], node)));
        let mut at = 0;
        for (name, node) in all.skip(self.position.get() as usize) {
            let len = (ENTRY + name.len() + 1).next_multiple_of(8);
            let Some(entry) = out.get_mut(at..at + len) else {
                if at == 0 {
                    return Err(EINVAL);
                }
                break;
            };
            self.position.set(self.position.get() + 1);
            entry.fill(0);
            entry[..8].copy_from_slice(&node.ino.to_le_bytes());
            entry[8..16].copy_from_slice(&self.position.get().to_le_bytes());
            entry[16..18].copy_from_slice(&(len as u16).to_le_bytes());
            entry[18] = ((node.mode.get() & S_IFMT) >> 12) as u8;
            entry[ENTRY..ENTRY + name.len()].copy_from_slice(name);
            at += len;
        }
        Ok(at as u64)
    }
}
