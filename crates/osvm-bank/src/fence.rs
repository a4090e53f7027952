//! The pause in which a leader that lost its standby acknowledges nothing, so that whoever could still tell that standby to lead
//! notices first ([`ALONE_AFTER`]). The writer's thread waits here before it publishes; it is let go early by [`crate::Bank::alone`],
//! which does not go through the queue, for the writer does not look at it meanwhile.

use std::time::Instant;

use osvm_model::handover::ALONE_AFTER;
use parking_lot::{Condvar, Mutex};

#[derive(Default)]
struct Held {
    until: Option<Instant>,
    /// The standby is given up: its loss is no reason to wait.
    dismissed: bool,
}

#[derive(Default)]
pub(crate) struct Fence {
    held: Mutex<Held>,
    changed: Condvar,
}

impl Fence {
    /// A standby that was in sync is lost.
    pub(crate) fn raise(&self) {
        let mut held = self.held.lock();
        if !held.dismissed {
            held.until = Some(Instant::now() + ALONE_AFTER);
        }
    }

    /// Nobody tells the standby to lead any more, neither the one that was lost nor the one that is there.
    pub(crate) fn dismiss(&self) {
        *self.held.lock() = Held { until: None, dismissed: true };
        self.changed.notify_all();
    }

    /// The standby that was dismissed is gone; the loss of another one is a loss again.
    pub(crate) fn settle(&self) {
        self.held.lock().dismissed = false;
    }

    /// Returns once what is published may be acknowledged.
    pub(crate) fn wait(&self) {
        let mut held = self.held.lock();
        while let Some(until) = held.until {
            if self.changed.wait_until(&mut held, until).timed_out() {
                held.until = None;
            }
        }
    }
}
