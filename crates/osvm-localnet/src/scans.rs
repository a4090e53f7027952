//! Places for calls that read many accounts or the disk: a few run, a bounded number waits, the rest is refused at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::SCANS_WAITING;

/// Hands out the places.
#[derive(Debug)]
pub(crate) struct Scans {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// A place in the queue.
#[derive(Debug)]
pub(crate) struct Ticket {
    running: Arc<Semaphore>,
    _waiting: OwnedSemaphorePermit,
}

impl Scans {
    /// `running` scans at once.
    pub(crate) fn new(running: usize) -> Self {
        Self { running: Arc::new(Semaphore::new(running)), waiting: Arc::new(Semaphore::new(running + SCANS_WAITING)) }
    }

    /// A place in the queue, or none if it is full.
    pub(crate) fn queue(&self) -> Option<Ticket> {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        Some(Ticket { running: Arc::clone(&self.running), _waiting: waiting })
    }
}

impl Ticket {
    /// Waits for a place among those that run. It is given back when both halves are dropped.
    pub(crate) async fn place(self) -> (Option<OwnedSemaphorePermit>, Self) {
        // The semaphore is never closed.
        let running = Arc::clone(&self.running).acquire_owned().await.ok();
        (running, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_freed_place_takes_again() {
        let scans = Scans::new(1);
        let mut tickets: Vec<_> = (0..=SCANS_WAITING).map(|_| scans.queue().unwrap()).collect();
        assert!(scans.queue().is_none());
        drop(tickets.pop());
        assert!(scans.queue().is_some());
    }
}
