//! Memory: mmap and its family.

use alloc::rc::Rc;

use crate::{
    abi::PAGE,
    errno::{Answer, EBADF, EEXIST, EINVAL, ENODEV, ENOMEM, ENOSYS},
    fs::{Content, S_IFCHR, S_IFMT, table},
    mm::{self, Backing, MM, round_up},
    user,
};

const MAP_SHARED: u64 = 1;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_POPULATE: u64 = 0x8000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;

const DONTNEED: u64 = 4;
const FREE: u64 = 8;
const REMOVE: u64 = 9;

pub fn call(number: u64, a: [u64; 6]) -> Answer {
    match number {
        9 => map(a[0], a[1], a[2], a[3], a[4], a[5]),
        10 => {
            let len = range(a[0], a[1])?;
            if len > 0 {
                MM.get().protect(a[0], len, rights(a[2]))?;
            }
            Ok(0)
        }
        11 => {
            let len = range(a[0], a[1])?;
            if len == 0 {
                return Err(EINVAL);
            }
            MM.get().remove(a[0], len);
            Ok(0)
        }
        12 => Ok(MM.get().set_brk(a[0])),
        25 => {
            let (old, new) = (range(a[0], a[1])?, round_up(a[2]));
            if new == 0 || (old == 0 && a[1] == 0) {
                return Err(EINVAL);
            }
            MM.get().remap(a[0], old, new, a[3], a[4])
        }
        // msync, mlock and its family: memory is never swapped, and there is no disk behind it.
        26 | 149..=152 | 325 => Ok(0),
        27 => {
            let pages = range(a[0], a[1])? / PAGE;
            user::bytes_mut(a[2], pages)?.fill(1);
            Ok(0)
        }
        28 => advise(a[0], a[1], a[2]),
        // membarrier: one vCPU sees its own writes. QUERY tells the private expedited and global ones.
        324 => match a[0] {
            0 => Ok(1 | 8 | 16),
            1 | 8 | 16 => Ok(0),
            _ => Err(EINVAL),
        },
        _ => Err(ENOSYS),
    }
}

/// Length in whole pages of a range that begins at a page and may be the program's.
fn range(at: u64, len: u64) -> Result<u64, crate::errno::Errno> {
    if at & (PAGE - 1) != 0 || len > 1 << 47 {
        return Err(EINVAL);
    }
    let len = round_up(len);
    if len > 0 && !mm::allowed(at, len) {
        return Err(EINVAL);
    }
    Ok(len)
}

fn rights(protection: u64) -> u32 {
    (protection & 7) as u32
}

fn map(at: u64, len: u64, protection: u64, flags: u64, fd: u64, offset: u64) -> Answer {
    if len == 0 || offset & (PAGE - 1) != 0 || len > 1 << 46 {
        return Err(EINVAL);
    }
    let len = round_up(len);
    let backing = if flags & MAP_ANONYMOUS != 0 && flags & 3 == MAP_SHARED {
        // Children have the same memory, so it is a file's that has no name.
        let file = Rc::new(Content::new());
        file.truncate(len)?;
        Backing::File { file, offset: 0, shared: true }
    } else if flags & MAP_ANONYMOUS != 0 {
        Backing::Anonymous
    } else {
        let open = table::get(fd)?;
        match open.file.content() {
            Some(file) if flags & 3 == MAP_SHARED && protection & 2 != 0 && !file.can_be_shared() => return Err(ENODEV),
            Some(file) => Backing::File { file, offset, shared: flags & 3 == MAP_SHARED },
            // /dev/zero
            None if open.file.stat().mode & S_IFMT == S_IFCHR
                && open.file.stat().rdev == crate::fs::file::ZERO.into() =>
            {
                Backing::Anonymous
            }
            None if open.file.node().is_some() => return Err(ENODEV),
            None => return Err(EBADF),
        }
    };
    let mut mm = MM.get();
    let place = if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
        if at & (PAGE - 1) != 0 {
            return Err(EINVAL);
        }
        if !mm::allowed(at, len) {
            return Err(ENOMEM);
        }
        if flags & MAP_FIXED != 0 {
            mm.remove(at, len);
        } else if !mm.is_free(at, len) {
            return Err(EEXIST);
        }
        at
    } else {
        let hint = round_up(at);
        if at != 0 && mm::allowed(hint, len) && mm.is_free(hint, len) {
            hint
        } else {
            mm.room(len, PAGE).ok_or(ENOMEM)?
        }
    };
    mm.add(place, len, rights(protection), backing, "");
    if flags & MAP_POPULATE != 0 && protection & 7 != 0 {
        // What does not fit now comes, or fails, at its touch.
        mm.ready(place, len, protection & 2 != 0);
    }
    Ok(place)
}

fn advise(at: u64, len: u64, advice: u64) -> Answer {
    let len = range(at, len)?;
    match advice {
        // A page of a file is read again; one of nothing is zero again.
        DONTNEED | FREE => {
            MM.get().forget(at, len);
            Ok(0)
        }
        REMOVE => Err(ENOSYS),
        _ => Ok(0),
    }
}
