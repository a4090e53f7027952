//! epoll: level and edge triggered, and one-shot. A wait looks at each interest, so its cost grows with their number.

use alloc::{
    collections::BTreeMap,
    rc::{Rc, Weak},
};
use core::cell::{Cell, RefCell};

use super::{ERR, File, HUP, IN, Open, Stat};
use crate::{
    errno::{Answer, EEXIST, EINVAL, ELOOP, ENOENT, EPERM, Errno},
    user,
};

const ONESHOT: u32 = 1 << 30;
const EDGE: u32 = 1 << 31;
struct Interest {
    open: Weak<Open>,
    events: Cell<u32>,
    data: Cell<u64>,
    /// Edges of reading and writing when it was last told.
    told: Cell<Option<(u64, u64)>>,
}

/// An epoll instance.
#[derive(Default)]
pub struct Epoll {
    interests: RefCell<BTreeMap<u64, Interest>>,
    /// Where the next look begins, so that a small buffer starves nobody.
    from: Cell<u64>,
}

impl Epoll {
    /// `epoll_ctl`.
    pub fn control(&self, op: u64, fd: u64, open: &Rc<Open>, at: u64) -> Answer {
        let (events, data) = if op == 2 {
            (0, 0)
        } else {
            let packed: [u32; 3] = user::read(at)?;
            (packed[0], u64::from(packed[1]) | u64::from(packed[2]) << 32)
        };
        if open.file.epoll().is_some_and(|other| core::ptr::eq(other, self)) {
            return Err(EINVAL);
        }
        if open.file.epoll().is_some() && op == 1 && self.interests.borrow().len() > 512 {
            return Err(ELOOP);
        }
        if open.file.content().is_some() {
            return Err(EPERM);
        }
        let mut interests = self.interests.borrow_mut();
        interests.retain(|_, interest| interest.open.strong_count() > 0);
        let same = interests.get(&fd).is_some_and(|interest| core::ptr::eq(interest.open.as_ptr(), Rc::as_ptr(open)));
        match op {
            1 if same => return Err(EEXIST),
            1 => {
                let interest = Interest {
                    open: Rc::downgrade(open),
                    events: Cell::new(events | ERR | HUP),
                    data: Cell::new(data),
                    told: Cell::new(None),
                };
                interests.insert(fd, interest);
            }
            2 | 3 if !same => return Err(ENOENT),
            2 => {
                interests.remove(&fd);
            }
            3 => {
                let interest = &interests[&fd];
                interest.events.set(events | ERR | HUP);
                interest.data.set(data);
                interest.told.set(None);
            }
            _ => return Err(EINVAL),
        }
        drop(interests);
        crate::task::notify();
        Ok(0)
    }

    /// What an interest has to tell now; 0 is nothing.
    fn look(interest: &Interest, open: &Open, take: bool) -> u32 {
        let events = interest.events.get();
        if events & !(EDGE | ONESHOT | ERR | HUP) == 0 && events & ONESHOT != 0 {
            return 0;
        }
        // Edges first: the monitor may bring bytes between the two, and then they are told once too often, never not at all.
        let edges = if events & EDGE != 0 { open.file.edges() } else { (0, 0) };
        let mut ready = open.file.poll() & events;
        if ready != 0 && events & EDGE != 0 {
            if interest.told.get() == Some(edges) {
                ready = 0;
            } else if take {
                interest.told.set(Some(edges));
            }
        }
        if take && ready != 0 && events & ONESHOT != 0 {
            interest.events.set(ONESHOT);
        }
        ready
    }

    /// Writes what is ready; how many.
    pub fn collect(&self, at: u64, most: usize) -> Result<u64, Errno> {
        let interests = self.interests.borrow();
        let from = self.from.get();
        let mut count = 0;
        for (fd, interest) in interests.range(from..).chain(interests.range(..from)) {
            let Some(open) = interest.open.upgrade() else { continue };
            let ready = Self::look(interest, &open, true);
            if ready != 0 {
                let data = interest.data.get();
                user::write(at + count as u64 * 12, [ready, data as u32, (data >> 32) as u32])?;
                count += 1;
                if count == most {
                    self.from.set(fd + 1);
                    break;
                }
            }
        }
        Ok(count as u64)
    }
}

impl File for Epoll {
    fn poll(&self) -> u32 {
        let interests = self.interests.borrow();
        let any = interests
            .values()
            .any(|interest| interest.open.upgrade().is_some_and(|open| Self::look(interest, &open, false) != 0));
        u32::from(any) * IN
    }
    fn stat(&self) -> Stat {
        Stat::of(0o600, 7)
    }
    fn epoll(&self) -> Option<&Epoll> {
        Some(self)
    }
}
