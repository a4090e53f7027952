//! What waits to be sent to a peer, and what the peer has acknowledged.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// Bytes that may wait.
const MAX_WAITING: usize = 64 << 20;

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    closed: bool,
}

/// A bounded queue of encoded messages.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Outbox {
    /// Puts a message in, waiting for room. False: there was none in time, or it is closed.
    pub(crate) fn push(&self, message: Vec<u8>, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut waiting = self.waiting.lock();
        while waiting.bytes > MAX_WAITING && !waiting.closed {
            if self.changed.wait_until(&mut waiting, deadline).timed_out() {
                return false;
            }
        }
        if waiting.closed {
            return false;
        }
        waiting.bytes += message.len();
        waiting.messages.push_back(message);
        self.changed.notify_all();
        true
    }

    /// The next message; None once it is closed.
    pub(crate) fn pop(&self) -> Option<Vec<u8>> {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.closed {
                return None;
            }
            if let Some(message) = waiting.messages.pop_front() {
                waiting.bytes -= message.len();
                self.changed.notify_all();
                return Some(message);
            }
            self.changed.wait(&mut waiting);
        }
    }

    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.changed.notify_all();
    }
}

#[derive(Default)]
struct Acked {
    entry: u64,
    token: Option<u64>,
    lost: bool,
}

/// What the other end has acknowledged.
#[derive(Default)]
pub(crate) struct Acks {
    acked: Mutex<Acked>,
    changed: Condvar,
}

impl Acks {
    pub(crate) fn entry(&self, seq: u64) {
        let mut acked = self.acked.lock();
        acked.entry = acked.entry.max(seq);
        self.changed.notify_all();
    }

    pub(crate) fn token(&self, seq: u64) {
        self.acked.lock().token = Some(seq);
        self.changed.notify_all();
    }

    pub(crate) fn lost(&self) {
        self.acked.lock().lost = true;
        self.changed.notify_all();
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&Acked) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        let mut acked = self.acked.lock();
        loop {
            if done(&acked) {
                return true;
            }
            if acked.lost || self.changed.wait_until(&mut acked, deadline).timed_out() {
                return done(&acked);
            }
        }
    }

    /// Waits until entry `seq` is acknowledged. False: it was not in time, or the stream ended.
    pub(crate) fn wait_entry(&self, seq: u64, timeout: Duration) -> bool {
        self.wait(timeout, |acked| acked.entry >= seq)
    }

    pub(crate) fn wait_token(&self, seq: u64, timeout: Duration) -> bool {
        self.wait(timeout, |acked| acked.token == Some(seq))
    }
}
