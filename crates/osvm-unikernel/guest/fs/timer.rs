//! timerfd.

use alloc::{rc::Rc, rc::Weak, vec::Vec};
use core::cell::Cell;

use super::{File, IN, Stat};
use crate::{
    cell::Global,
    errno::{Answer, EAGAIN, EINVAL},
    time,
};

const ABSOLUTE: u64 = 1;

/// A timer.
pub struct Timer {
    clock: u64,
    /// Monotonic nanoseconds; `u64::MAX`: off.
    next: Cell<u64>,
    interval: Cell<u64>,
    ins: Cell<u64>,
    /// Its event was told since it was armed.
    told: Cell<bool>,
}

static ALL: Global<Vec<Weak<Timer>>> = Global::new(Vec::new());

/// The next moment at which a timer fires that has not been told.
pub fn next() -> u64 {
    let mut all = ALL.get();
    if all.is_empty() {
        return u64::MAX;
    }
    all.retain(|timer| timer.strong_count() > 0);
    all.iter()
        .filter_map(Weak::upgrade)
        .filter(|timer| !timer.told.get())
        .map(|timer| timer.next.get())
        .min()
        .unwrap_or(u64::MAX)
}

/// Whether a timer has fired since the last look.
pub fn due() -> bool {
    let all = ALL.get();
    if all.is_empty() {
        return false;
    }
    let now = time::monotonic();
    let mut any = false;
    for timer in all.iter().filter_map(Weak::upgrade) {
        if !timer.told.get() && timer.next.get() <= now {
            timer.told.set(true);
            timer.ins.set(timer.ins.get() + 1);
            any = true;
        }
    }
    any
}

impl Timer {
    /// On a clock; off.
    pub fn create(clock: u64) -> Rc<Self> {
        let timer = Rc::new(Self {
            clock,
            next: Cell::new(u64::MAX),
            interval: Cell::new(0),
            ins: Cell::new(0),
            told: Cell::new(false),
        });
        ALL.get().push(Rc::downgrade(&timer));
        timer
    }

    /// `timerfd_settime`.
    pub fn set(&self, flags: u64, new: u64, old: u64) -> Answer {
        let (interval, value) = (time::get(new)?, time::get(new + 16)?);
        if old != 0 {
            self.show(old)?;
        }
        self.interval.set(interval);
        self.told.set(false);
        self.next.set(match value {
            0 => u64::MAX,
            value if flags & ABSOLUTE != 0 => time::absolute(self.clock, value),
            value => time::monotonic().saturating_add(value),
        });
        Ok(0)
    }

    /// `timerfd_gettime`.
    pub fn show(&self, at: u64) -> Answer {
        time::put(at, self.interval.get())?;
        let left = match self.next.get() {
            u64::MAX => 0,
            next => next.saturating_sub(time::monotonic()).max(1),
        };
        time::put(at + 16, left)?;
        Ok(0)
    }
}

impl File for Timer {
    fn read(&self, out: &mut [u8]) -> Answer {
        let place = out.get_mut(..8).ok_or(EINVAL)?;
        let (now, next, interval) = (time::monotonic(), self.next.get(), self.interval.get());
        if now < next {
            return Err(EAGAIN);
        }
        let fired = if interval == 0 { 1 } else { (now - next) / interval + 1 };
        self.next.set(if interval == 0 { u64::MAX } else { next + fired * interval });
        self.told.set(false);
        place.copy_from_slice(&fired.to_le_bytes());
        Ok(8)
    }
    fn poll(&self) -> u32 {
        u32::from(time::monotonic() >= self.next.get()) * IN
    }
    fn edges(&self) -> (u64, u64) {
        (self.ins.get(), 0)
    }
    fn stat(&self) -> Stat {
        Stat::of(0o600, 6)
    }
    fn timer(&self) -> Option<&Timer> {
        Some(self)
    }
}
