//! Clocks, from the time stamp counter and the monitor's page.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::{
    errno::{EINVAL, Errno},
    hyper::shared,
    regs, user,
};

/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;

/// Monotonic time never goes back, also when the monitor corrects the clock.
static LATEST: AtomicU64 = AtomicU64::new(0);
static STARTED: AtomicU64 = AtomicU64::new(0);

fn since_base() -> u64 {
    let ticks = regs::tsc().wrapping_sub(shared!(clock.tsc));
    (u128::from(ticks) * u128::from(shared!(clock.scale)) >> 32) as u64
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic() -> u64 {
    let now = shared!(clock.monotonic).wrapping_add(since_base());
    LATEST.fetch_max(now, Ordering::Relaxed).max(now)
}

/// CLOCK_REALTIME in nanoseconds.
pub fn realtime() -> u64 {
    shared!(clock.realtime).wrapping_add(since_base())
}

/// Remembers when the VM started.
pub fn init() {
    STARTED.store(monotonic(), Ordering::Relaxed);
}

/// Since the VM started: what it used of its one processor is at most that.
pub fn since_start() -> u64 {
    monotonic() - STARTED.load(Ordering::Relaxed)
}

/// A clock by its Linux number.
pub fn clock(id: u64) -> Result<u64, Errno> {
    match id as i32 {
        0 | 5 | 8 | 11 => Ok(realtime()),
        1 | 4 | 6 | 7 | 9 => Ok(monotonic()),
        // Processor time of the process or a thread; negative numbers name them too.
        2 | 3 => Ok(since_start()),
        id if id < 0 => Ok(since_start()),
        _ => Err(EINVAL),
    }
}

/// Writes a `timespec`.
pub fn put(at: u64, nanoseconds: u64) -> Result<(), Errno> {
    user::write(at, [nanoseconds / SECOND, nanoseconds % SECOND])
}

/// Reads a `timespec` as nanoseconds.
pub fn get(at: u64) -> Result<u64, Errno> {
    let [seconds, nanoseconds] = user::read::<[u64; 2]>(at)?;
    if nanoseconds >= SECOND || seconds > i64::MAX as u64 {
        return Err(EINVAL);
    }
    Ok(seconds.saturating_mul(SECOND).saturating_add(nanoseconds))
}

/// Reads an optional relative `timespec` as a monotonic deadline. None in the program means for ever.
pub fn deadline(at: u64) -> Result<u64, Errno> {
    if at == 0 { Ok(u64::MAX) } else { Ok(monotonic().saturating_add(get(at)?)) }
}

/// A deadline on a clock as one of the monotonic clock.
pub fn absolute(id: u64, at: u64) -> u64 {
    match id {
        0 => at.saturating_sub(realtime()).saturating_add(monotonic()),
        _ => at,
    }
}
