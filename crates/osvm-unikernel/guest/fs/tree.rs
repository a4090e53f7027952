//! The tree of names.

use alloc::{boxed::Box, collections::BTreeMap, rc::Rc, rc::Weak, vec::Vec};
use core::cell::{Cell, RefCell};

use super::{
    Content, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG, S_IFSOCK, Stat,
    folder::{self, Spot},
};
use crate::{
    cell::Global,
    errno::{EEXIST, EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR, ENOTEMPTY, Errno},
    process::{self, OfProcess, Process},
    time,
};

/// Symbolic links that one path may cross.
const MOST_LINKS: u32 = 40;

/// What a name stands for.
pub enum Kind {
    Dir(RefCell<BTreeMap<Box<[u8]>, Rc<Node>>>),
    File(Rc<Content>),
    Link(Vec<u8>),
    /// A symbolic link whose target is another for each process.
    MadeLink(fn() -> Vec<u8>),
    /// The directory of the descriptors that a process has.
    Descriptors,
    /// A device by number.
    Device(u32),
    /// A file whose content is made when it is opened.
    Made(fn() -> Vec<u8>),
    /// The same, of a process by its number.
    MadeOf(u32, fn(&Process) -> Vec<u8>),
    /// A unix socket's name.
    Socket,
}

/// A place in the tree.
pub struct Node {
    pub ino: u64,
    pub mode: Cell<u32>,
    pub mtime: Cell<u64>,
    pub parent: RefCell<Weak<Node>>,
    pub links: Cell<u64>,
    pub kind: Kind,
    /// Where it is on the host, if it is there.
    pub spot: RefCell<Option<Rc<Spot>>>,
}

static ROOT: Global<Option<Rc<Node>>> = Global::new(None);
static NEXT_INO: Global<u64> = Global::new(2);
/// The working directory.
pub static CWD: OfProcess<Option<Rc<Node>>> = OfProcess::new(|process| &process.cwd);

impl Node {
    /// A node without a name yet.
    pub fn new(kind: Kind, permissions: u32) -> Rc<Self> {
        let bits = match kind {
            Kind::Dir(_) | Kind::Descriptors => S_IFDIR,
            Kind::File(_) | Kind::Made(_) | Kind::MadeOf(..) => S_IFREG,
            Kind::Link(_) | Kind::MadeLink(_) => S_IFLNK,
            Kind::Device(_) => S_IFCHR,
            Kind::Socket => S_IFSOCK,
        };
        let mut next = NEXT_INO.get();
        *next += 1;
        Rc::new(Self {
            ino: *next,
            mode: Cell::new(bits | permissions & 0o7777),
            mtime: Cell::new(time::realtime()),
            parent: RefCell::new(Weak::new()),
            links: Cell::new(1),
            kind,
            spot: RefCell::new(None),
        })
    }

    /// An empty directory.
    pub fn dir(permissions: u32) -> Rc<Self> {
        Self::new(Kind::Dir(RefCell::new(BTreeMap::new())), permissions)
    }

    /// The entries, if it is a directory.
    pub fn entries(&self) -> Result<&RefCell<BTreeMap<Box<[u8]>, Rc<Node>>>, Errno> {
        match &self.kind {
            Kind::Dir(entries) => {
                folder::load(self, entries)?;
                Ok(entries)
            }
            _ => Err(ENOTDIR),
        }
    }

    /// Whether it can be opened as a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir(_) | Kind::Descriptors)
    }

    /// What `stat` tells.
    pub fn stat(&self) -> Stat {
        let size = match &self.kind {
            Kind::File(content) => content.len(),
            Kind::Link(target) => target.len() as u64,
            Kind::Dir(_) => 4096,
            _ => 0,
        };
        let stamp = [self.mtime.get() / time::SECOND, self.mtime.get() % time::SECOND];
        Stat {
            nlink: self.links.get() + u64::from(matches!(self.kind, Kind::Dir(_))),
            rdev: if let Kind::Device(number) = self.kind { number.into() } else { 0 },
            size,
            blocks: size.div_ceil(512),
            atime: stamp,
            mtime: stamp,
            ctime: stamp,
            ..Stat::of(self.mode.get(), self.ino)
        }
    }

    /// Its path from the root.
    pub fn path(self: &Rc<Self>) -> Vec<u8> {
        let mut parts: Vec<Box<[u8]>> = Vec::new();
        let mut node = Rc::clone(self);
        while let Some(parent) = { node.parent.borrow().upgrade() } {
            let Kind::Dir(entries) = &parent.kind else { break };
            let name =
                entries.borrow().iter().find(|(_, child)| Rc::ptr_eq(child, &node)).map(|(name, _)| name.clone());
            match name {
                Some(name) => parts.push(name),
                None => break,
            }
            node = parent;
        }
        let mut path = Vec::new();
        for part in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }

    /// Adds an entry.
    pub fn insert(self: &Rc<Self>, name: &[u8], node: Rc<Node>) -> Result<(), Errno> {
        if self.entries()?.borrow().contains_key(name) {
            return Err(EEXIST);
        }
        folder::insert(self, name, &node)?;
        if matches!(node.kind, Kind::Dir(_)) || node.parent.borrow().upgrade().is_none() {
            *node.parent.borrow_mut() = Rc::downgrade(self);
        }
        self.put(name, node);
        self.mtime.set(time::realtime());
        Ok(())
    }

    /// Shows a node under a name, in memory only.
    pub fn put(self: &Rc<Self>, name: &[u8], node: Rc<Node>) {
        if let Kind::Dir(entries) = &self.kind {
            if node.parent.borrow().upgrade().is_none() {
                *node.parent.borrow_mut() = Rc::downgrade(self);
            }
            entries.borrow_mut().insert(name.into(), node);
        }
    }
}

/// The root.
pub fn root() -> Rc<Node> {
    let mut root = ROOT.get();
    Rc::clone(root.get_or_insert_with(|| Node::dir(0o755)))
}

/// The working directory.
pub fn cwd() -> Rc<Node> {
    CWD.get().clone().unwrap_or_else(root)
}

/// Where a path leads: its directory, its last name, and the node if there is one.
pub struct Found {
    pub dir: Rc<Node>,
    pub name: Vec<u8>,
    pub node: Option<Rc<Node>>,
}

/// Walks a path. The last name's link is followed if `follow`.
pub fn walk(from: &Rc<Node>, path: &[u8], follow: bool) -> Result<Found, Errno> {
    let mut links = 0;
    walk_counted(from, path, follow, &mut links)
}

fn walk_counted(from: &Rc<Node>, path: &[u8], follow: bool, links: &mut u32) -> Result<Found, Errno> {
    if path.is_empty() {
        return Err(ENOENT);
    }
    let mut dir = if path[0] == b'/' { root() } else { Rc::clone(from) };
    let mut parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".").peekable();
    let wants_dir = path.ends_with(b"/") || path.ends_with(b"/.");
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let child = if part == b".." {
            Some({ dir.parent.borrow().upgrade() }.unwrap_or_else(|| Rc::clone(&dir)))
        } else {
            let named = dir.entries()?.borrow().get(part).cloned();
            named.or_else(|| process_dir(&dir, part))
        };
        let child = match child {
            None if last => return Ok(Found { dir, name: part.to_vec(), node: None }),
            None => return Err(ENOENT),
            Some(child) => child,
        };
        let target = match &child.kind {
            _ if last && !follow && !wants_dir => None,
            Kind::Link(target) => Some(target.clone()),
            Kind::MadeLink(make) => Some(make()),
            _ => None,
        };
        let child = match &target {
            Some(target) => {
                *links += 1;
                if *links > MOST_LINKS {
                    return Err(ELOOP);
                }
                let found = walk_counted(&dir, target, true, links)?;
                match found.node {
                    Some(node) => node,
                    None if last => return Ok(found),
                    None => return Err(ENOENT),
                }
            }
            None => child,
        };
        if last {
            if wants_dir && !child.is_dir() {
                return Err(ENOTDIR);
            }
            return Ok(Found { dir, name: part.to_vec(), node: Some(child) });
        }
        child.entries()?;
        dir = child;
    }
    Ok(Found { name: b".".to_vec(), node: Some(Rc::clone(&dir)), dir })
}

/// Whether a directory is /proc.
pub fn is_proc(dir: &Rc<Node>) -> bool {
    let root = root();
    let Ok(entries) = root.entries() else { return false };
    entries.borrow().get(&b"proc"[..]).is_some_and(|proc| Rc::ptr_eq(proc, dir))
}

/// A process's directory under /proc, by its number.
fn process_dir(dir: &Rc<Node>, name: &[u8]) -> Option<Rc<Node>> {
    let number: u32 = core::str::from_utf8(name).ok()?.parse().ok()?;
    if !is_proc(dir) {
        return None;
    }
    if number == process::current().pid {
        return dir.entries().ok()?.borrow().get(&b"self"[..]).cloned();
    }
    let made = super::proc::directory(number)?;
    *made.parent.borrow_mut() = Rc::downgrade(dir);
    Some(made)
}

/// The node at a path.
pub fn find(from: &Rc<Node>, path: &[u8], follow: bool) -> Result<Rc<Node>, Errno> {
    walk(from, path, follow)?.node.ok_or(ENOENT)
}

/// Takes a name away.
pub fn unlink(from: &Rc<Node>, path: &[u8], directory: bool) -> Result<(), Errno> {
    let found = walk(from, path, false)?;
    let node = found.node.ok_or(ENOENT)?;
    match (&node.kind, directory) {
        (Kind::Dir(entries), true) if !entries.borrow().is_empty() => return Err(ENOTEMPTY),
        (Kind::Dir(_), false) => return Err(EISDIR),
        (Kind::Dir(_), true) => {}
        (_, true) => return Err(ENOTDIR),
        _ => {}
    }
    folder::remove(&found.dir, &found.name, &node)?;
    found.dir.entries()?.borrow_mut().remove(&found.name[..]).ok_or(EINVAL)?;
    node.links.set(node.links.get().saturating_sub(1));
    found.dir.mtime.set(time::realtime());
    Ok(())
}

/// Gives a node another name.
pub fn rename(from: &Rc<Node>, path: &[u8], to: &Rc<Node>, new: &[u8], replace: bool) -> Result<(), Errno> {
    let (old, target) = (walk(from, path, false)?, walk(to, new, false)?);
    let node = old.node.ok_or(ENOENT)?;
    let mut above = Some(Rc::clone(&target.dir));
    while let Some(dir) = above {
        if Rc::ptr_eq(&dir, &node) {
            return Err(EINVAL);
        }
        above = dir.parent.borrow().upgrade();
    }
    if let Some(there) = &target.node {
        if Rc::ptr_eq(there, &node) {
            return Ok(());
        }
        if !replace {
            return Err(EEXIST);
        }
    }
    let (from, to) = ((&old.dir, &old.name[..]), (&target.dir, &target.name[..]));
    if folder::rename(from, to, &node, target.node.as_ref())? {
        return Ok(());
    }
    if target.node.is_some() {
        unlink(&target.dir, &target.name, matches!(node.kind, Kind::Dir(_)))?;
    }
    old.dir.entries()?.borrow_mut().remove(&old.name[..]);
    *node.parent.borrow_mut() = Weak::new();
    target.dir.insert(&target.name, node)
}

/// Makes a directory and those above it, at the start.
pub fn make_dirs(path: &[u8]) -> Rc<Node> {
    let mut dir = root();
    for part in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
        let there = dir.entries().ok().and_then(|entries| entries.borrow().get(part).cloned());
        dir = match there {
            Some(node) if node.entries().is_ok() => node,
            _ => {
                let new = Node::dir(0o755);
                // A file in the place of a directory: the rest of the path hangs in the air, and nobody finds it.
                let _ = dir.insert(part, Rc::clone(&new));
                new
            }
        };
    }
    dir
}

/// Adds a node at a path, at the start.
pub fn place(path: &[u8], node: Rc<Node>) {
    let (dir, name) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (make_dirs(&path[..at]), &path[at + 1..]),
        None => (root(), path),
    };
    if !name.is_empty() {
        // What the image brought stays.
        let _ = dir.insert(name, node);
    }
}
