//! Files: one tree in memory, whose files may lie in the read-only image until they are written.

pub mod content;
pub mod dir;
pub mod epoll;
pub mod event;
pub mod file;
pub mod folder;
pub mod image;
pub mod pipe;
pub mod proc;
pub mod table;
pub mod timer;
pub mod tree;

pub use content::Content;
pub use file::{File, Open};
pub use tree::{Kind, Node};

/// Readable, writable, error, hang-up, peer's end: the bits of `poll` and `epoll`.
pub const IN: u32 = 1;
pub const OUT: u32 = 4;
pub const ERR: u32 = 8;
pub const HUP: u32 = 16;
pub const RDHUP: u32 = 0x2000;

/// `open` flags.
pub const O_ACCMODE: u32 = 3;
pub const O_CREAT: u32 = 0o100;
pub const O_EXCL: u32 = 0o200;
pub const O_TRUNC: u32 = 0o1000;
pub const O_APPEND: u32 = 0o2000;
pub const O_NONBLOCK: u32 = 0o4000;
pub const O_DIRECTORY: u32 = 0o200000;
pub const O_NOFOLLOW: u32 = 0o400000;
pub const O_CLOEXEC: u32 = 0o2000000;
pub const O_PATH: u32 = 0o10000000;
pub const O_TMPFILE: u32 = 0o20000000;

/// Kinds in `st_mode`.
pub const S_IFMT: u32 = 0o170000;
pub const S_IFIFO: u32 = 0o010000;
pub const S_IFCHR: u32 = 0o020000;
pub const S_IFDIR: u32 = 0o040000;
pub const S_IFREG: u32 = 0o100000;
pub const S_IFLNK: u32 = 0o120000;
pub const S_IFSOCK: u32 = 0o140000;

/// Linux' `struct stat`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    pub nlink: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pad: u32,
    pub rdev: u64,
    pub size: u64,
    pub blksize: u64,
    pub blocks: u64,
    pub atime: [u64; 2],
    pub mtime: [u64; 2],
    pub ctime: [u64; 2],
    unused: [u64; 3],
}

impl Stat {
    /// A file without a place in the tree.
    pub fn of(mode: u32, ino: u64) -> Self {
        Self { dev: 1, ino, nlink: 1, mode, blksize: 4096, ..Self::default() }
    }
}
