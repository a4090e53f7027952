//! eventfd.

use core::cell::Cell;

use super::{File, IN, OUT, Stat};
use crate::{
    errno::{Answer, EAGAIN, EINVAL},
    task,
};

/// A counter.
pub struct Event {
    count: Cell<u64>,
    semaphore: bool,
    ins: Cell<u64>,
    outs: Cell<u64>,
}

impl Event {
    /// With its first count.
    pub fn new(count: u64, semaphore: bool) -> Self {
        Self { count: Cell::new(count), semaphore, ins: Cell::new(0), outs: Cell::new(0) }
    }
}

impl File for Event {
    fn read(&self, out: &mut [u8]) -> Answer {
        let place = out.get_mut(..8).ok_or(EINVAL)?;
        let count = self.count.get();
        if count == 0 {
            return Err(EAGAIN);
        }
        let taken = if self.semaphore { 1 } else { count };
        self.count.set(count - taken);
        self.outs.set(self.outs.get() + 1);
        place.copy_from_slice(&taken.to_le_bytes());
        if count == u64::MAX - 1 {
            task::notify();
        }
        Ok(8)
    }
    fn write(&self, bytes: &[u8]) -> Answer {
        let word: [u8; 8] = bytes.get(..8).ok_or(EINVAL)?.try_into().map_err(|_| EINVAL)?;
        let more = u64::from_le_bytes(word);
        if more == u64::MAX {
            return Err(EINVAL);
        }
        let sum = self.count.get().checked_add(more).filter(|sum| *sum < u64::MAX).ok_or(EAGAIN)?;
        self.count.set(sum);
        self.ins.set(self.ins.get() + 1);
        task::notify();
        Ok(8)
    }
    fn poll(&self) -> u32 {
        u32::from(self.count.get() > 0) * IN | u32::from(self.count.get() < u64::MAX - 1) * OUT
    }
    fn edges(&self) -> (u64, u64) {
        (self.ins.get(), 0)
    }
    fn stat(&self) -> Stat {
        Stat::of(0o600, 5)
    }
}
