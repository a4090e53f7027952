//! `alarm` and interval timers by SIGALRM: one real-time timer a process.

use core::cell::Cell;

use crate::{
    errno::{Answer, EINVAL, ENOSYS, Errno},
    process, signal, time, user,
};

const MICROSECOND: u64 = 1000;

/// A process's timer.
pub struct Alarm {
    /// Monotonic nanoseconds; `u64::MAX`: off.
    next: Cell<u64>,
    interval: Cell<u64>,
}

impl Default for Alarm {
    fn default() -> Self {
        Self { next: Cell::new(u64::MAX), interval: Cell::new(0) }
    }
}

impl Alarm {
    /// Starts it: nanoseconds from now, 0 is off; and again each `interval`.
    pub fn set(&self, value: u64, interval: u64) {
        self.next.set(if value == 0 { u64::MAX } else { time::monotonic().saturating_add(value) });
        self.interval.set(interval);
        ANY.store(ANY.load(Relaxed) | (value != 0), Relaxed);
    }

    /// Nanoseconds left, 0 if it is off.
    fn left(&self) -> u64 {
        match self.next.get() {
            u64::MAX => 0,
            next => next.saturating_sub(time::monotonic()).max(1),
        }
    }
}

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether any timer may be on.
static ANY: AtomicBool = AtomicBool::new(false);

/// Sends the signals that are due; the next moment at which one is.
pub fn fire() -> u64 {
    if !ANY.load(Relaxed) {
        return u64::MAX;
    }
    let mut next = u64::MAX;
    for process in process::living() {
        let alarm = &process.alarm;
        if alarm.next.get() != u64::MAX {
            let now = time::monotonic();
            if alarm.next.get() <= now {
                let interval = alarm.interval.get();
                alarm.next.set(if interval == 0 { u64::MAX } else { now + interval });
                signal::to_process(&process, signal::SIGALRM);
            }
            next = next.min(alarm.next.get());
        }
    }
    ANY.store(next != u64::MAX, Relaxed);
    next
}

fn get(at: u64) -> Result<u64, Errno> {
    let [seconds, micros] = user::read::<[u64; 2]>(at)?;
    if micros >= 1_000_000 || seconds > i64::MAX as u64 {
        return Err(EINVAL);
    }
    Ok(seconds.saturating_mul(time::SECOND).saturating_add(micros * MICROSECOND))
}

fn put(at: u64, nanoseconds: u64) -> Result<(), Errno> {
    user::write(at, [nanoseconds / time::SECOND, nanoseconds % time::SECOND / MICROSECOND])
}

fn show(at: u64) -> Answer {
    let alarm = &process::current().alarm;
    put(at, alarm.interval.get())?;
    put(at + 16, if alarm.left() == 0 { 0 } else { alarm.left().max(MICROSECOND) })?;
    Ok(0)
}

/// `getitimer`. Timers of processor time are not there.
pub fn get_timer(which: u64, at: u64) -> Answer {
    if which != 0 { Err(ENOSYS) } else { show(at) }
}

/// `setitimer`.
pub fn set_timer(which: u64, new: u64, old: u64) -> Answer {
    if which != 0 {
        return Err(ENOSYS);
    }
    let wanted = if new == 0 { (0, 0) } else { (get(new + 16)?, get(new)?) };
    if old != 0 {
        show(old)?;
    }
    process::current().alarm.set(wanted.0, wanted.1);
    Ok(0)
}

/// `alarm`.
pub fn alarm(seconds: u64) -> Answer {
    let alarm = &process::current().alarm;
    let left = alarm.left().div_ceil(time::SECOND);
    alarm.set(u64::from(seconds as u32) * time::SECOND, 0);
    Ok(left)
}
