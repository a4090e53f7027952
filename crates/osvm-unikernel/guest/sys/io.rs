//! Reading and writing by descriptor, and what is done to descriptors themselves.

use alloc::{rc::Rc, vec, vec::Vec};

use super::blocking;
use crate::{
    errno::{Answer, EBADF, EINVAL, EMFILE, ENOSYS, ENOTTY, ESPIPE, Errno},
    fs::{self, O_APPEND, O_CLOEXEC, O_NONBLOCK, Open, event::Event, pipe, table, timer::Timer},
    user,
};

/// Parts of one vectored call.
const IOV_MAX: u64 = 1024;
/// Bytes that one call moves at most, as on Linux.
const MOST: u64 = 0x7fff_f000;
/// Bytes copied at a time from file to file.
const PIECE: usize = 64 << 10;

const FIONBIO: u64 = 0x5421;
const FIOCLEX: u64 = 0x5451;
const FIONCLEX: u64 = 0x5450;
const FIONREAD: u64 = 0x541b;
const FIOASYNC: u64 = 0x5452;

pub fn call(number: u64, a: [u64; 6]) -> Answer {
    let fd = a[0];
    match number {
        0 => {
            let open = readable(fd)?;
            let out = user::bytes_mut(a[1], a[2].min(MOST))?;
            blocking(&open, u64::MAX, || open.file.read(out))
        }
        1 => {
            let open = writable(fd)?;
            write_all(&open, &[user::bytes(a[1], a[2].min(MOST))?])
        }
        3 => table::close(fd),
        8 => table::get(fd)?.file.seek(a[1] as i64, a[2]),
        16 => ioctl(fd, a[1], a[2]),
        17 => readable(fd)?.file.read_at(offset(a[3])?, user::bytes_mut(a[1], a[2].min(MOST))?),
        18 => writable(fd)?.file.write_at(offset(a[3])?, user::bytes(a[1], a[2].min(MOST))?),
        19 => {
            let open = readable(fd)?;
            let parts = vector(a[1], a[2])?;
            let mut done = 0;
            for (at, len) in parts {
                let out = user::bytes_mut(at, len)?;
                if out.is_empty() {
                    continue;
                }
                // Only the first part waits.
                let got =
                    if done == 0 { blocking(&open, u64::MAX, || open.file.read(out)) } else { open.file.read(out) };
                match got {
                    Ok(got) => {
                        done += got;
                        if got < len {
                            break;
                        }
                    }
                    Err(error) if done == 0 => return Err(error),
                    Err(_) => break,
                }
            }
            Ok(done)
        }
        20 => {
            let open = writable(fd)?;
            let parts = vector(a[1], a[2])?;
            let mut slices = Vec::with_capacity(parts.len());
            for (at, len) in parts {
                slices.push(user::bytes(at, len)?);
            }
            write_all(&open, &slices)
        }
        // preadv, pwritev and their newer forms: an offset of -1 is the file's own.
        295 | 296 | 327 | 328 => {
            let writes = number == 296 || number == 328;
            if number >= 327 && a[3] == u64::MAX {
                return call(if writes { 20 } else { 19 }, a);
            }
            let open = table::get(fd)?;
            let mut at = offset(a[3])?;
            let mut done = 0;
            for (from, len) in vector(a[1], a[2])? {
                let moved = if writes {
                    open.file.write_at(at, user::bytes(from, len)?)?
                } else {
                    open.file.read_at(at, user::bytes_mut(from, len)?)?
                };
                (at, done) = (at + moved, done + moved);
                if moved < len {
                    break;
                }
            }
            Ok(done)
        }
        22 => pipes(fd, 0),
        293 => pipes(fd, a[1]),
        32 => table::add(table::get(fd)?, false),
        33 if fd == a[1] => table::get(fd).map(|_| fd),
        33 => table::set(a[1], table::get(fd)?, false),
        292 if fd == a[1] => Err(EINVAL),
        292 => table::set(a[1], table::get(fd)?, a[2] as u32 & O_CLOEXEC != 0),
        40 => send_file(a[0], a[1], a[2], a[3]),
        326 => copy_range(a[0], a[1], a[2], a[3], a[4]),
        72 => control(fd, a[1], a[2]),
        73 => table::get(fd)?.file.lock(a[1]),
        // fsync, fdatasync, syncfs, sync_file_range
        74 | 75 | 306 | 277 => table::get(fd)?.file.sync(),
        // fadvise
        221 => table::get(fd).map(|_| 0),
        76 => fs::tree::find(&fs::tree::cwd(), &user::string(a[0])?, true).and_then(|node| match &node.kind {
            fs::Kind::File(content) => content.truncate(a[1]),
            _ => Err(EINVAL),
        }),
        77 => writable(fd)?.file.content().ok_or(EINVAL)?.truncate(a[1]),
        285 => {
            let content = writable(fd)?.file.content().ok_or(ESPIPE)?;
            let end = a[2].checked_add(a[3]).ok_or(EINVAL)?;
            match a[1] {
                0 if end > content.len() => content.truncate(end),
                0 | 1 => Ok(0),
                _ => Err(crate::errno::EOPNOTSUPP),
            }
        }
        284 => event(a[0], 0),
        290 => event(a[0], a[1] as u32),
        436 => {
            for fd in table::all().into_iter().filter(|fd| (a[0]..=a[1]).contains(fd)) {
                if a[2] & 4 != 0 {
                    table::close_on_exec(fd, Some(true))?;
                } else {
                    table::close(fd)?;
                }
            }
            Ok(0)
        }
        _ => Err(ENOSYS),
    }
}

fn readable(fd: u64) -> Result<Rc<Open>, Errno> {
    let open = table::get(fd)?;
    if open.flags.get() & fs::O_ACCMODE == 1 { Err(EBADF) } else { Ok(open) }
}

fn writable(fd: u64) -> Result<Rc<Open>, Errno> {
    let open = table::get(fd)?;
    if open.flags.get() & fs::O_ACCMODE == 0 { Err(EBADF) } else { Ok(open) }
}

fn offset(at: u64) -> Result<u64, Errno> {
    if at > i64::MAX as u64 { Err(EINVAL) } else { Ok(at) }
}

/// Address and length of each part.
pub fn vector(at: u64, count: u64) -> Result<Vec<(u64, u64)>, Errno> {
    if count > IOV_MAX {
        return Err(EINVAL);
    }
    let mut total = 0u64;
    (0..count)
        .map(|n| {
            let [at, len] = user::read::<[u64; 2]>(at + n * 16)?;
            total = total.checked_add(len).filter(|total| *total <= i64::MAX as u64).ok_or(EINVAL)?;
            Ok((at, len))
        })
        .collect()
}

/// Writes all parts as one; a descriptor that waits has all of it taken.
pub fn write_all(open: &Rc<Open>, parts: &[&[u8]]) -> Answer {
    // Parts of a console line, or of a pipe's message, go together.
    let joined;
    let parts = if parts.len() > 1 && parts.iter().map(|part| part.len()).sum::<usize>() <= PIECE {
        joined = [parts.concat()];
        &[&joined[0][..]][..]
    } else {
        parts
    };
    let mut done = 0;
    for part in parts {
        let mut left = *part;
        loop {
            match blocking(open, u64::MAX, || open.file.write(left)) {
                Ok(wrote) => {
                    done += wrote;
                    left = &left[wrote as usize..];
                    if left.is_empty() || open.nonblocking() {
                        break;
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
        }
        if !left.is_empty() {
            break;
        }
    }
    Ok(done)
}

fn ioctl(fd: u64, request: u64, argument: u64) -> Answer {
    let open = table::get(fd)?;
    match request {
        FIONBIO => {
            let on = user::read::<u32>(argument)? != 0;
            open.flags.set(open.flags.get() & !O_NONBLOCK | if on { O_NONBLOCK } else { 0 });
            Ok(0)
        }
        // Said before SIGIO is wanted, which is never sent: who waits by `poll` as well does not miss it.
        FIOASYNC => Ok(0),
        FIOCLEX | FIONCLEX => table::close_on_exec(fd, Some(request == FIOCLEX)).map(|_| 0),
        _ => open.file.ioctl(request, argument),
    }
}

/// FIONREAD: how many bytes are there.
pub fn fionread(request: u64, argument: u64, held: usize) -> Answer {
    if request != FIONREAD {
        return Err(ENOTTY);
    }
    user::write(argument, held as u32)?;
    Ok(0)
}

fn pipes(at: u64, flags: u64) -> Answer {
    let flags = flags as u32;
    let (reader, writer) = pipe::pair();
    let close = flags & O_CLOEXEC != 0;
    let reader = table::add(Open::new(reader, flags & O_NONBLOCK), close)?;
    let writer = table::add(Open::new(writer, flags & O_NONBLOCK | 1), close).inspect_err(|_| {
        let _ = table::close(reader);
    })?;
    user::write(at, [reader as u32, writer as u32])?;
    Ok(0)
}

fn event(count: u64, flags: u32) -> Answer {
    const SEMAPHORE: u32 = 1;
    let file = Rc::new(Event::new(count & 0xffff_ffff, flags & SEMAPHORE != 0));
    table::add(Open::new(file, flags & O_NONBLOCK | 2), flags & O_CLOEXEC != 0)
}

/// `timerfd_create`.
pub fn timer(clock: u64, flags: u64) -> Answer {
    crate::time::clock(clock)?;
    let flags = flags as u32;
    table::add(Open::new(Timer::create(clock), flags & O_NONBLOCK | 2), flags & O_CLOEXEC != 0)
}

fn control(fd: u64, command: u64, argument: u64) -> Answer {
    let open = table::get(fd)?;
    match command {
        // F_DUPFD and F_DUPFD_CLOEXEC
        0 | 1030 => table::add_from(argument, open, command == 1030).map_err(|e| if e == EINVAL { EMFILE } else { e }),
        1 => table::close_on_exec(fd, None),
        2 => table::close_on_exec(fd, Some(argument & 1 != 0)).map(|_| 0),
        3 => Ok(open.flags.get().into()),
        4 => {
            const CHANGEABLE: u32 = O_APPEND | O_NONBLOCK | 0o1040000 | 0o40000;
            open.flags.set(open.flags.get() & !CHANGEABLE | argument as u32 & CHANGEABLE);
            Ok(0)
        }
        // Record locks, of which no other process takes one. A question is answered by F_UNLCK.
        5 | 36 => {
            user::write(argument, 2u16)?;
            Ok(0)
        }
        6 | 7 | 37 | 38 => Ok(0),
        // F_GETPIPE_SZ, F_SETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS
        1031 | 1032 => Ok(65536),
        1033 | 1034 => Ok(0),
        8 | 9 | 10 | 11 => Ok(0),
        _ => Err(EINVAL),
    }
}

/// Moves up to `count` bytes by a buffer; `source` is asked once a piece.
fn pump(target: &Rc<Open>, count: u64, mut source: impl FnMut(&mut [u8], u64) -> Answer) -> Answer {
    let mut piece = vec![0; PIECE.min(count as usize)];
    let mut done = 0;
    while done < count {
        let want = piece.len().min((count - done) as usize);
        let got = match source(&mut piece[..want], done) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        };
        match write_all(target, &[&piece[..got as usize]]) {
            Ok(wrote) => {
                done += wrote;
                if wrote < got {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn send_file(to: u64, from: u64, at: u64, count: u64) -> Answer {
    let (target, source) = (writable(to)?, readable(from)?);
    let count = count.min(MOST);
    let start = if at == 0 { source.file.seek(0, 1)? } else { user::read(at)? };
    let done = pump(&target, count, |out, done| source.file.read_at(start + done, out))?;
    if at == 0 {
        source.file.seek((start + done) as i64, 0)?;
    } else {
        user::write(at, start + done)?;
    }
    Ok(done)
}

fn copy_range(from: u64, from_at: u64, to: u64, to_at: u64, count: u64) -> Answer {
    let (source, target) = (readable(from)?, writable(to)?);
    let place = |open: &Rc<Open>, at: u64| if at == 0 { open.file.seek(0, 1) } else { user::read(at) };
    let (read_from, write_to) = (place(&source, from_at)?, place(&target, to_at)?);
    let mut piece = vec![0; PIECE];
    let mut done = 0;
    while done < count.min(MOST) {
        let want = PIECE.min((count - done) as usize);
        let got = source.file.read_at(read_from + done, &mut piece[..want])? as usize;
        if got == 0 {
            break;
        }
        done += target.file.write_at(write_to + done, &piece[..got])?;
    }
    for (open, at, end) in [(&source, from_at, read_from + done), (&target, to_at, write_to + done)] {
        if at == 0 {
            open.file.seek(end as i64, 0)?;
        } else {
            user::write(at, end)?;
        }
    }
    Ok(done)
}
