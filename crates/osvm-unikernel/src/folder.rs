//! Folders of the host that a guest may use. The guest names open folders and files by numbers of this module, and things in them by
//! single names: no path, no link, no other mount leads out of a folder.

use std::{
    collections::BTreeMap,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{
        AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RawDir, Stat, flock, fstat, fsync, ftruncate, mkdirat,
        openat, renameat, statat, unlinkat,
    },
    io::Errno,
};

use crate::{
    abi::{AGAIN, Entry, folder as op},
    error::Error,
    memory::Memory,
};

/// Open folders and files of one guest.
const MOST_HANDLES: usize = 4096;
/// Names of one folder that are listed.
const MOST_NAMES: usize = 1 << 16;
/// Files on their way to the disk, and answers that nobody has asked for.
const MOST_TICKETS: usize = 1024;
/// Rights that a guest may give a new file or folder.
const RIGHTS: u64 = 0o777;
/// Bytes of a batch of names.
const BATCH: usize = 32 << 10;

/// A folder of the host, and where the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// On the host.
    pub source: PathBuf,
    /// In the guest.
    pub target: String,
    /// Whether the guest may change it.
    pub writable: bool,
}

#[derive(Debug)]
struct Handle {
    fd: Arc<OwnedFd>,
    is_folder: bool,
    writable: bool,
    /// What [`op::LIST`] goes through.
    names: Vec<(Entry, Vec<u8>)>,
}

/// What became of tickets: none yet, 0, or an error.
type Tickets = Arc<Mutex<BTreeMap<u64, Option<i64>>>>;

/// All open folders and files.
#[derive(Debug)]
pub(crate) struct Folders {
    handles: BTreeMap<u32, Handle>,
    next: u32,
    event: Arc<OwnedFd>,
    tickets: Tickets,
    next_ticket: u64,
    /// The thread that waits for the disk, once there is something to wait for.
    disk: Option<SyncSender<(u64, Arc<OwnedFd>)>>,
}

/// An answer of the host, as the guest gets it.
type Done = Result<i64, Errno>;

/// A name that leads nowhere else.
fn name(bytes: &[u8]) -> Result<&[u8], Errno> {
    let plain = !bytes.is_empty() && bytes != b"." && bytes != b".." && !bytes.contains(&b'/') && !bytes.contains(&0);
    match bytes.len() {
        _ if !plain => Err(Errno::INVAL),
        len if len > op::NAME => Err(Errno::NAMETOOLONG),
        _ => Ok(bytes),
    }
}

fn mode(number: u64) -> Mode {
    Mode::from_raw_mode((number & RIGHTS) as u32)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn entry(stat: &Stat, len: usize) -> Entry {
    let nanoseconds = stat.st_mtime.wrapping_mul(1_000_000_000).wrapping_add_unsigned(stat.st_mtime_nsec);
    Entry { mode: stat.st_mode, name: len as u32, size: stat.st_size as u64, mtime: nanoseconds as u64 }
}

impl Folders {
    /// Opens the folders that the guest starts with.
    pub(crate) fn open(folders: &[Folder]) -> Result<Self, Error> {
        let mut handles = BTreeMap::new();
        if folders.len() > op::MOST as usize {
            return Err(Error::Host("open so many folders", io::ErrorKind::InvalidInput.into()));
        }
        for (number, folder) in (1..).zip(folders) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = openat(CWD, &folder.source, flags, Mode::empty())
                .map_err(|error| Error::File { path: folder.source.clone(), source: error.into() })?;
            handles.insert(
                number,
                Handle { fd: Arc::new(fd), is_folder: true, writable: folder.writable, names: Vec::new() },
            );
        }
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::Host("make an event descriptor", error.into()))?;
        Ok(Self {
            next: folders.len() as u32 + 1,
            handles,
            event: Arc::new(event),
            tickets: Tickets::default(),
            next_ticket: 1,
            disk: None,
        })
    }

    /// Written whenever a ticket has its answer.
    pub(crate) fn event(&self) -> &OwnedFd {
        &self.event
    }

    /// One hypercall. An error ends the VM: the guest broke the interface.
    pub(crate) fn call(&mut self, memory: &Memory, args: [u64; 4]) -> Result<i64, Error> {
        let [operation, number, at, len] = args;
        let (operation, handle) = (operation as u32, (operation >> 32) as u32);
        if len > op::BUFFER || !memory.holds(at, len) {
            return Err(Error::Guest("a folder's buffer lies outside its memory"));
        }
        let done = match operation {
            op::OPEN => self.open_in(handle, number, &bytes(memory, at, len)),
            op::CLOSE => self.close(handle),
            op::READ => self.file(handle, false).and_then(|file| {
                let place = offset(number, len)?;
                memory.ram().read_at(file, place, (at, len)).map(|got| got as i64).map_err(|error| errno(&error))
            }),
            op::WRITE_TO => self.file(handle, true).and_then(|file| {
                let place = offset(number, len)?;
                memory.ram().write_at(file, place, (at, len)).map(|put| put as i64).map_err(|error| errno(&error))
            }),
            op::TRUNCATE => self.file(handle, true).and_then(|file| ftruncate(file, offset(number, 0)?)).map(|()| 0),
            op::LENGTH => self.file(handle, false).and_then(fstat).map(|stat| stat.st_size),
            op::SYNC => self.sync(handle),
            op::SYNCED => Ok(self.synced(number)),
            op::LIST => self.list(memory, handle, number, at, len),
            op::RENAME => self.rename(handle, number, &bytes(memory, at, len)),
            op::UNLINK => self.folder(handle, true).and_then(|folder| {
                let flags = if number == 1 { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                unlinkat(folder, name(&bytes(memory, at, len))?, flags).map(|()| 0)
            }),
            op::MAKE => self
                .folder(handle, true)
                .and_then(|folder| mkdirat(folder, name(&bytes(memory, at, len))?, mode(number)).map(|()| 0)),
            op::LOCK => self.lock(handle, number),
            _ => return Err(Error::Guest("it asked for something about a folder that there is not")),
        };
        Ok(done.unwrap_or_else(|error| match -i64::from(error.raw_os_error()) {
            // No answer but one that says so means "again".
            AGAIN if operation != op::LOCK => -i64::from(Errno::IO.raw_os_error()),
            error => error,
        }))
    }

    fn handle(&self, number: u32, write: bool, is_folder: bool) -> Result<&Handle, Errno> {
        let handle = self.handles.get(&number).ok_or(Errno::BADF)?;
        match handle {
            Handle { is_folder: true, .. } if !is_folder => Err(Errno::ISDIR),
            Handle { is_folder: false, .. } if is_folder => Err(Errno::NOTDIR),
            Handle { writable: false, .. } if write => Err(Errno::ROFS),
            handle => Ok(handle),
        }
    }

    fn folder(&self, number: u32, write: bool) -> Result<BorrowedFd<'_>, Errno> {
        self.handle(number, write, true).map(|handle| handle.fd.as_fd())
    }

    fn file(&self, number: u32, write: bool) -> Result<BorrowedFd<'_>, Errno> {
        self.handle(number, write, false).map(|handle| handle.fd.as_fd())
    }

    fn open_in(&mut self, handle: u32, number: u64, bytes: &[u8]) -> Done {
        if self.handles.len() >= MOST_HANDLES {
            return Err(Errno::NFILE);
        }
        let (write, new) = (number & (op::WRITE | op::NEW) != 0, number & op::NEW != 0);
        let is_folder = number & op::FOLDER != 0;
        // A folder may be opened to be changed; that right is asked for again where it matters.
        let inside = self.handle(handle, write && !is_folder, true)?;
        let mut flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let rights = if new { mode(number >> 32) } else { Mode::empty() };
        flags |= match (is_folder, write) {
            (true, _) => OFlags::RDONLY | OFlags::DIRECTORY,
            (false, true) => OFlags::RDWR,
            (false, false) => OFlags::RDONLY,
        };
        flags |= if new { OFlags::CREATE | OFlags::EXCL } else { OFlags::empty() };
        // A single name that is no link stays in its folder. `openat2` would say so once more, but the jail's filter cannot see its mode.
        let fd = openat(&inside.fd, name(bytes)?, flags, rights)?;
        let wanted = if is_folder { FileType::Directory } else { FileType::RegularFile };
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != wanted {
            return Err(Errno::ACCESS);
        }
        let opened = Handle {
            fd: Arc::new(fd),
            is_folder,
            writable: inside.writable && (is_folder || write),
            names: Vec::new(),
        };
        let number = self.next;
        self.next = self.next.checked_add(1).ok_or(Errno::NFILE)?;
        self.handles.insert(number, opened);
        Ok(number.into())
    }

    fn close(&mut self, handle: u32) -> Done {
        self.handles.remove(&handle).map(|_| 0).ok_or(Errno::BADF)
    }

    fn rename(&self, from: u32, to: u64, both: &[u8]) -> Done {
        let at = both.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
        let (old, new) = (name(&both[..at])?, name(&both[at + 1..])?);
        let to = self.folder(u32::try_from(to).map_err(|_| Errno::BADF)?, true)?;
        renameat(self.folder(from, true)?, old, to, new).map(|()| 0)
    }

    fn lock(&self, handle: u32, how: u64) -> Done {
        let how = match how {
            1 => FlockOperation::NonBlockingLockShared,
            2 => FlockOperation::NonBlockingLockExclusive,
            8 => FlockOperation::NonBlockingUnlock,
            _ => return Err(Errno::INVAL),
        };
        flock(self.file(handle, false)?, how).map(|()| 0)
    }

    /// Hands a file or folder to the thread that waits for the disk.
    fn sync(&mut self, handle: u32) -> Done {
        let fd = Arc::clone(&self.handles.get(&handle).ok_or(Errno::BADF)?.fd);
        let disk = match &self.disk {
            Some(disk) => disk,
            None => {
                let disk = start(Arc::clone(&self.event), Arc::clone(&self.tickets)).map_err(|error| errno(&error))?;
                self.disk.insert(disk)
            }
        };
        let ticket = self.next_ticket;
        {
            let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
            if tickets.len() >= MOST_TICKETS {
                return Err(Errno::NOBUFS);
            }
            tickets.insert(ticket, None);
        }
        self.next_ticket += 1;
        // There is room for as many as there are tickets.
        disk.try_send((ticket, fd)).map_err(|_| Errno::IO)?;
        Ok(ticket as i64)
    }

    fn synced(&self, ticket: u64) -> i64 {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        match tickets.get(&ticket) {
            None => -i64::from(Errno::INVAL.raw_os_error()),
            Some(None) => AGAIN,
            Some(Some(answer)) => {
                let answer = *answer;
                tickets.remove(&ticket);
                answer
            }
        }
    }

    fn list(&mut self, memory: &Memory, handle: u32, first: u64, at: u64, len: u64) -> Done {
        if first == 0 {
            let names = names(self.folder(handle, false)?)?;
            self.handles.get_mut(&handle).ok_or(Errno::BADF)?.names = names;
        }
        let names = &self.handle(handle, false, true)?.names;
        let mut out = Vec::new();
        for (entry, name) in names.iter().skip(usize::try_from(first).unwrap_or(usize::MAX)) {
            let end = out.len() + (size_of::<Entry>() + name.len()).next_multiple_of(8);
            if end as u64 > len {
                break;
            }
            out.extend_from_slice(&entry.mode.to_ne_bytes());
            out.extend_from_slice(&entry.name.to_ne_bytes());
            out.extend_from_slice(&entry.size.to_ne_bytes());
            out.extend_from_slice(&entry.mtime.to_ne_bytes());
            out.extend_from_slice(name);
            out.resize(end, 0);
        }
        memory.fill(at, &out);
        Ok(out.len() as i64)
    }
}

/// Files and folders of a folder. What is neither, a link above all, is not shown.
fn names(folder: BorrowedFd<'_>) -> Result<Vec<(Entry, Vec<u8>)>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = openat(folder, c".", flags, Mode::empty())?;
    let mut batch = [MaybeUninit::uninit(); BATCH];
    let mut all = RawDir::new(&own, &mut batch);
    let mut out = Vec::new();
    while let Some(found) = all.next() {
        let found = found?;
        let text = found.file_name().to_bytes();
        if name(text).is_err() {
            continue;
        }
        // It may have gone since.
        let Ok(stat) = statat(folder, found.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory) {
            out.push((entry(&stat, text.len()), text.to_vec()));
        }
        if out.len() > MOST_NAMES {
            return Err(Errno::OVERFLOW);
        }
    }
    Ok(out)
}

fn bytes(memory: &Memory, at: u64, len: u64) -> Vec<u8> {
    // The caller has checked the range.
    memory.ram().copy(at, len.min(2 * op::NAME as u64 + 1)).unwrap_or_default()
}

fn offset(number: u64, len: u64) -> Result<u64, Errno> {
    let end = number.checked_add(len).ok_or(Errno::FBIG)?;
    if end > i64::MAX as u64 { Err(Errno::FBIG) } else { Ok(number) }
}

/// The thread that waits for the disk. It ends when nobody can give it more.
fn start(event: Arc<OwnedFd>, tickets: Tickets) -> io::Result<SyncSender<(u64, Arc<OwnedFd>)>> {
    let (sender, receiver) = sync_channel::<(u64, Arc<OwnedFd>)>(MOST_TICKETS);
    thread::Builder::new().name("disk".to_owned()).spawn(move || {
        for (ticket, fd) in receiver {
            let answer = fsync(&fd).map_or_else(|error| -i64::from(error.raw_os_error()), |()| 0);
            drop(fd);
            tickets.lock().unwrap_or_else(PoisonError::into_inner).insert(ticket, Some(answer));
            // A full counter wakes as well.
            let _ = rustix::io::write(&event, &1u64.to_ne_bytes());
        }
    })?;
    Ok(sender)
}
