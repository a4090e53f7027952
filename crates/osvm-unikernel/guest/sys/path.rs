//! System calls that name files.

use alloc::{format, rc::Rc, vec::Vec};

use crate::{
    errno::{Answer, EACCES, EEXIST, EINVAL, EISDIR, ENOENT, ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM, ERANGE, Errno},
    fs::{
        self, Content, Kind, Node, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_TMPFILE, Stat, file, table,
        tree::{self, CWD},
    },
    phys, process, time, user,
};

const AT_FDCWD: u64 = -100i64 as u64;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_REMOVEDIR: u64 = 0x200;
const AT_SYMLINK_FOLLOW: u64 = 0x400;
const AT_EMPTY_PATH: u64 = 0x1000;

/// Paths are relative to the working directory.
pub const HERE: u64 = AT_FDCWD;

pub fn call(number: u64, a: [u64; 6]) -> Answer {
    match number {
        2 => open(HERE, a[0], a[1] as u32, a[2] as u32),
        85 => open(HERE, a[0], O_CREAT | 0o1001, a[1] as u32),
        257 => open(a[0], a[1], a[2] as u32, a[3] as u32),
        4 => stat(HERE, a[0], a[1], 0),
        5 => put_stat(a[1], table::get(a[0])?.file.stat()),
        6 => stat(HERE, a[0], a[1], AT_SYMLINK_NOFOLLOW),
        262 => stat(a[0], a[1], a[2], a[3]),
        332 => statx(a[0], a[1], a[2], a[4]),
        21 => access(HERE, a[0], a[1], 0),
        269 => access(a[0], a[1], a[2], 0),
        439 => access(a[0], a[1], a[2], a[3]),
        79 => {
            let mut path = tree::cwd().path();
            path.push(0);
            if (a[1] as usize) < path.len() {
                return Err(ERANGE);
            }
            user::bytes_mut(a[0], path.len() as u64)?.copy_from_slice(&path);
            Ok(path.len() as u64)
        }
        80 => change_dir(tree::find(&tree::cwd(), &user::string(a[0])?, true)?),
        81 => change_dir(Rc::clone(table::get(a[0])?.file.node().ok_or(ENOTDIR)?)),
        82 => rename(HERE, a[0], HERE, a[1], 0),
        264 => rename(a[0], a[1], a[2], a[3], 0),
        316 => rename(a[0], a[1], a[2], a[3], a[4]),
        83 => make_dir(HERE, a[0], a[1]),
        258 => make_dir(a[0], a[1], a[2]),
        84 => unlink(HERE, a[0], AT_REMOVEDIR),
        87 => unlink(HERE, a[0], 0),
        263 => unlink(a[0], a[1], a[2]),
        86 => link(HERE, a[0], HERE, a[1], 0),
        265 => link(a[0], a[1], a[2], a[3], a[4]),
        88 => symlink(a[0], HERE, a[1]),
        266 => symlink(a[0], a[1], a[2]),
        89 => read_link(HERE, a[0], a[1], a[2]),
        267 => read_link(a[0], a[1], a[2], a[3]),
        90 => change_mode(find(HERE, a[0], 0)?, a[1]),
        91 => change_mode(Rc::clone(table::get(a[0])?.file.node().ok_or(EINVAL)?), a[1]),
        268 => change_mode(find(a[0], a[1], 0)?, a[2]),
        // All files belong to the one user there is, and chown may only say so.
        92 | 94 => find(HERE, a[0], if number == 94 { AT_SYMLINK_NOFOLLOW } else { 0 }).map(|_| 0),
        93 => table::get(a[0]).map(|_| 0),
        260 => find(a[0], a[1], a[4]).map(|_| 0),
        95 => Ok(process::current().umask.replace(a[0] as u32 & 0o777).into()),
        132 => times(find(HERE, a[0], 0)?, 0),
        235 => times(find(HERE, a[0], 0)?, 0),
        261 => times(find(a[0], a[1], 0)?, 0),
        280 if a[1] == 0 => times(Rc::clone(table::get(a[0])?.file.node().ok_or(EINVAL)?), a[2]),
        280 => times(find(a[0], a[1], a[3])?, a[2]),
        133 => make_node(HERE, a[0], a[1] as u32),
        259 => make_node(a[0], a[1], a[2] as u32),
        137 => {
            find(HERE, a[0], 0)?;
            stat_fs(a[1])
        }
        138 => {
            table::get(a[0])?;
            stat_fs(a[1])
        }
        161 => Err(EPERM),
        // sync
        162 => Ok(0),
        // No file has extended attributes.
        188..=199 => Err(EOPNOTSUPP),
        217 => table::get(a[0])?.file.entries(user::bytes_mut(a[1], a[2])?),
        _ => Err(ENOSYS),
    }
}

/// The directory that a path is relative to.
fn base(fd: u64) -> Result<Rc<Node>, Errno> {
    if fd as i32 == AT_FDCWD as i32 { Ok(tree::cwd()) } else { table::get(fd)?.file.node().cloned().ok_or(ENOTDIR) }
}

fn base_of(fd: u64, path: &[u8]) -> Result<Rc<Node>, Errno> {
    if path.first() == Some(&b'/') { Ok(tree::root()) } else { base(fd) }
}

/// The descriptor that a path under /proc/self/fd or /dev/fd names.
fn descriptor(path: &[u8]) -> Option<u64> {
    let own = format!("/proc/{}/fd/", process::current().pid);
    let rest =
        [&b"/proc/self/fd/"[..], b"/dev/fd/", own.as_bytes()].iter().find_map(|prefix| path.strip_prefix(*prefix));
    match (path, rest) {
        (b"/dev/stdin", _) => Some(0),
        (b"/dev/stdout", _) => Some(1),
        (b"/dev/stderr", _) => Some(2),
        (_, Some(rest)) => core::str::from_utf8(rest).ok()?.parse().ok(),
        _ => None,
    }
}

/// The node that a call names by directory, path and flags.
pub fn find(fd: u64, at: u64, flags: u64) -> Result<Rc<Node>, Errno> {
    let path = user::string(at)?;
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        return base(fd);
    }
    if let Some(fd) = descriptor(&path)
        && let Some(node) = table::get(fd)?.file.node()
    {
        return Ok(Rc::clone(node));
    }
    tree::find(&base_of(fd, &path)?, &path, flags & AT_SYMLINK_NOFOLLOW == 0)
}

fn open(fd: u64, at: u64, flags: u32, mode: u32) -> Answer {
    let path = user::string(at)?;
    let close = flags & O_CLOEXEC != 0;
    if let Some(fd) = descriptor(&path) {
        return table::add(table::get(fd)?, close);
    }
    let from = base_of(fd, &path)?;
    if flags & O_TMPFILE == O_TMPFILE {
        let dir = tree::find(&from, &path, true)?;
        dir.entries()?;
        if dir.spot.borrow().is_some() {
            return Err(EOPNOTSUPP);
        }
        let node = Node::new(Kind::File(Rc::new(Content::new())), mode & !umask());
        node.links.set(0);
        return table::add(file::open(&node, flags & !O_DIRECTORY)?, close);
    }
    let follow = flags & O_NOFOLLOW == 0 && flags & (O_CREAT | O_EXCL) != O_CREAT | O_EXCL;
    let found = tree::walk(&from, &path, follow)?;
    let node = match found.node {
        Some(_) if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL => return Err(EEXIST),
        Some(node) => node,
        None if flags & O_CREAT == 0 => return Err(ENOENT),
        None if path.ends_with(b"/") => return Err(EISDIR),
        None => {
            let node = Node::new(Kind::File(Rc::new(Content::new())), mode & !umask());
            found.dir.insert(&found.name, Rc::clone(&node))?;
            node
        }
    };
    if flags & O_DIRECTORY != 0 && !node.is_dir() {
        return Err(ENOTDIR);
    }
    table::add(file::open(&node, flags)?, close)
}

/// Rights that the process takes from new files.
fn umask() -> u32 {
    process::current().umask.get()
}

fn put_stat(at: u64, stat: Stat) -> Answer {
    user::write(at, stat)?;
    Ok(0)
}

/// What a path, or a descriptor with an empty path, tells.
fn look(fd: u64, at: u64, flags: u64) -> Result<Stat, Errno> {
    let path = if at == 0 && flags & AT_EMPTY_PATH != 0 { Vec::new() } else { user::string(at)? };
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 && fd as i32 != AT_FDCWD as i32 {
        return Ok(table::get(fd)?.file.stat());
    }
    if let Some(fd) = descriptor(&path) {
        let stat = table::get(fd)?.file.stat();
        let link = Stat::of(fs::S_IFLNK | 0o700, stat.ino);
        return Ok(if flags & AT_SYMLINK_NOFOLLOW != 0 { link } else { stat });
    }
    Ok(find(fd, at, flags)?.stat())
}

fn stat(fd: u64, path: u64, to: u64, flags: u64) -> Answer {
    put_stat(to, look(fd, path, flags)?)
}

fn statx(fd: u64, path: u64, flags: u64, to: u64) -> Answer {
    let s = look(fd, path, flags)?;
    let out = user::bytes_mut(to, 256)?;
    out.fill(0);
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0x7ffu32.to_le_bytes());
    put(4, &4096u32.to_le_bytes());
    put(16, &(s.nlink as u32).to_le_bytes());
    put(28, &(s.mode as u16).to_le_bytes());
    for (at, value) in [(32, s.ino), (40, s.size), (48, s.blocks)] {
        put(at, &value.to_le_bytes());
    }
    for (at, [seconds, nanoseconds]) in [(64, s.atime), (96, s.ctime), (112, s.mtime)] {
        put(at, &seconds.to_le_bytes());
        put(at + 8, &(nanoseconds as u32).to_le_bytes());
    }
    for (at, value) in [(128, s.rdev >> 8 & 0xfff), (132, s.rdev & 0xff), (136, 0), (140, s.dev)] {
        put(at, &(value as u32).to_le_bytes());
    }
    Ok(0)
}

fn access(fd: u64, path: u64, mode: u64, flags: u64) -> Answer {
    const EXECUTE: u64 = 1;
    let stat = look(fd, path, flags)?;
    // The user is root, for whom only execution needs a right.
    let is_dir = stat.mode & fs::S_IFMT == fs::S_IFDIR;
    if mode & EXECUTE != 0 && !is_dir && stat.mode & 0o111 == 0 { Err(EACCES) } else { Ok(0) }
}

fn change_dir(node: Rc<Node>) -> Answer {
    node.entries()?;
    *CWD.get() = Some(node);
    Ok(0)
}

fn rename(from: u64, path: u64, to: u64, new: u64, flags: u64) -> Answer {
    const NOREPLACE: u64 = 1;
    if flags & !NOREPLACE != 0 {
        return Err(EINVAL);
    }
    let (path, new) = (user::string(path)?, user::string(new)?);
    tree::rename(&base_of(from, &path)?, &path, &base_of(to, &new)?, &new, flags & NOREPLACE == 0)?;
    Ok(0)
}

/// Puts a new node under a name that must be free.
fn create(fd: u64, at: u64, node: Rc<Node>) -> Answer {
    let path = user::string(at)?;
    let found = tree::walk(&base_of(fd, &path)?, &path, false)?;
    if found.node.is_some() {
        return Err(EEXIST);
    }
    found.dir.insert(&found.name, node)?;
    Ok(0)
}

fn make_dir(fd: u64, at: u64, mode: u64) -> Answer {
    create(fd, at, Node::dir(mode as u32 & !umask()))
}

fn make_node(fd: u64, at: u64, mode: u32) -> Answer {
    match mode & fs::S_IFMT {
        0 | fs::S_IFREG => create(fd, at, Node::new(Kind::File(Rc::new(Content::new())), mode & !umask())),
        _ => Err(EPERM),
    }
}

fn unlink(fd: u64, at: u64, flags: u64) -> Answer {
    let path = user::string(at)?;
    tree::unlink(&base_of(fd, &path)?, &path, flags & AT_REMOVEDIR != 0)?;
    Ok(0)
}

fn link(from: u64, path: u64, to: u64, new: u64, flags: u64) -> Answer {
    let follow = if flags & AT_SYMLINK_FOLLOW != 0 { 0 } else { AT_SYMLINK_NOFOLLOW };
    let node = find(from, path, follow | flags & AT_EMPTY_PATH)?;
    if matches!(node.kind, Kind::Dir(_)) {
        return Err(EPERM);
    }
    create(to, new, Rc::clone(&node))?;
    node.links.set(node.links.get() + 1);
    Ok(0)
}

fn symlink(target: u64, fd: u64, at: u64) -> Answer {
    create(fd, at, Node::new(Kind::Link(user::string(target)?), 0o777))
}

fn read_link(fd: u64, at: u64, to: u64, len: u64) -> Answer {
    let path = user::string(at)?;
    let target = match descriptor(&path) {
        Some(fd) => {
            let open = table::get(fd)?;
            open.file.node().map_or_else(|| format!("anon_inode:[{}]", open.file.stat().ino).into_bytes(), Node::path)
        }
        None => match &tree::find(&base_of(fd, &path)?, &path, false)?.kind {
            Kind::Link(target) => target.clone(),
            Kind::MadeLink(make) => make(),
            _ => return Err(EINVAL),
        },
    };
    let len = (len as usize).min(target.len());
    user::bytes_mut(to, len as u64)?.copy_from_slice(&target[..len]);
    Ok(len as u64)
}

fn change_mode(node: Rc<Node>, mode: u64) -> Answer {
    if node.spot.borrow().is_some() && (node.mode.get() ^ mode as u32) & 0o7777 != 0 {
        // The host's files keep the rights that they were made with.
        return Err(EPERM);
    }
    node.mode.set(node.mode.get() & fs::S_IFMT | mode as u32 & 0o7777);
    Ok(0)
}

/// Sets the time of change: now, or the second of two `timespec`s.
fn times(node: Rc<Node>, at: u64) -> Answer {
    const NOW: u64 = 0x3fff_ffff;
    const OMIT: u64 = 0x3fff_fffe;
    let new = match at {
        0 => time::realtime(),
        at => match user::read::<[u64; 2]>(at + 16)? {
            [_, OMIT] => return Ok(0),
            [_, NOW] => time::realtime(),
            _ => time::get(at + 16)?,
        },
    };
    node.mtime.set(new);
    Ok(0)
}

fn stat_fs(at: u64) -> Answer {
    const TMPFS: u64 = 0x0102_1994;
    let (used, limit) = phys::usage();
    let free = limit.saturating_sub(used) / 4096;
    user::write(at, [TMPFS, 4096, limit / 4096, free, free, 1 << 20, 1 << 20, 0, 255, 4096, 0, 0, 0, 0, 0])?;
    Ok(0)
}
