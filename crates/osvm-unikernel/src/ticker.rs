//! The second thread: it interrupts the vCPU when a program runs long although something waits for it, and ends a VM whose time is up.
//!
//! It sleeps while the vCPU does, and there is none before the first tick: a program that ends sooner needs none.

use std::{
    cell::OnceCell,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::{
    memory::control,
    sys::{self, Region, Thread},
};

/// How long a program runs before others, or input, get their turn.
const TICK: Duration = Duration::from_millis(2);
/// Ticks that the vCPU must have been still before the ticker sleeps for good.
const PATIENCE: u32 = 4;

/// What vCPU thread and ticker tell each other.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The vCPU is in the guest, or about to be.
    running: AtomicBool,
    parked: AtomicBool,
    /// The VM is to end, as its time is up.
    expired: AtomicBool,
    done: AtomicBool,
    ticks: AtomicU32,
}

/// The thread, and what it is started with.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    ram: Arc<Region>,
    epoll: Arc<OwnedFd>,
    limit: Option<Instant>,
    thread: OnceCell<JoinHandle<()>>,
}

impl Shared {
    fn work(&self, vcpu: Thread, ram: &Region, epoll: &OwnedFd, limit: Option<Instant>) {
        let mut still = 0;
        while !self.done.load(Ordering::Acquire) {
            let left = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                self.expired.store(true, Ordering::Release);
                sys::kick(vcpu);
                thread::sleep(TICK);
                continue;
            }
            if self.running.load(Ordering::Acquire) {
                still = 0;
                let word = |at| ram.read::<u32>(at).unwrap_or(0) != 0;
                if word(control!(want_tick)) || word(control!(dirty)) || waits(epoll) {
                    self.ticks.fetch_add(1, Ordering::Relaxed);
                    sys::kick(vcpu);
                }
            } else {
                still += 1;
            }
            if still < PATIENCE {
                // The end of the VM wakes it early.
                thread::park_timeout(TICK);
                continue;
            }
            self.parked.store(true, Ordering::SeqCst);
            if !self.running.load(Ordering::SeqCst) && !self.done.load(Ordering::SeqCst) {
                match left {
                    Some(left) => thread::park_timeout(left),
                    None => thread::park(),
                }
            }
            self.parked.store(false, Ordering::SeqCst);
            still = 0;
        }
    }
}

fn waits(epoll: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(epoll, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

impl Ticker {
    /// Starts it for the calling thread, which is the vCPU's: at its first tick, of which the kernel's alarm tells.
    pub(crate) fn new(ram: Arc<Region>, epoll: Arc<OwnedFd>, limit: Option<Duration>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { running: AtomicBool::new(true), ..Shared::default() });
        let limit = limit.and_then(|limit| Instant::now().checked_add(limit));
        sys::alarm(TICK)?;
        Ok(Self { shared, ram, epoll, limit, thread: OnceCell::new() })
    }

    fn begin(&self) {
        let (shared, ram, epoll) = (Arc::clone(&self.shared), Arc::clone(&self.ram), Arc::clone(&self.epoll));
        let (vcpu, limit) = (sys::this_thread(), self.limit);
        let thread = thread::Builder::new()
            .name("ticker".to_owned())
            .stack_size(64 << 10)
            .spawn(move || shared.work(vcpu, &ram, &epoll, limit));
        // A host that has no thread to give is asked again at the next alarm.
        if let Ok(thread) = thread {
            let _ = self.thread.set(thread);
            let _ = sys::alarm(Duration::ZERO);
        }
    }

    /// The vCPU stands still, or goes on.
    pub(crate) fn running(&self, is: bool) {
        self.shared.running.store(is, Ordering::SeqCst);
        if is && self.shared.parked.load(Ordering::SeqCst) {
            self.unpark();
        }
    }

    /// Whether the VM's time is up. Also starts the thread when it is time for that.
    pub(crate) fn expired(&self) -> bool {
        if self.thread.get().is_none() && sys::alarmed() {
            self.begin();
        }
        self.shared.expired.load(Ordering::Acquire)
    }

    /// How often it interrupted the vCPU.
    pub(crate) fn ticks(&self) -> u32 {
        self.shared.ticks.load(Ordering::Relaxed)
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::SeqCst);
        self.unpark();
        if let Some(thread) = self.thread.take() {
            // A ticker that panicked has said so.
            let _ = thread.join();
        }
    }
}
