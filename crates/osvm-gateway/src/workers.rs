//! The threads that serve clients: one a core, each with a runtime of its own.
//!
//! A connection stays on the thread that it was given to, with the connections to instances that it uses. So nothing that a
//! request waits for is woken from another thread. The price: no thread takes over what another has too much of; connections
//! are handed out in turn, and a request is short.

use std::{
    cell::Cell,
    io,
    num::NonZero,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

/// Which worker this thread is; 0 on threads that are none.
pub(crate) fn index() -> usize {
    INDEX.get()
}

/// The threads. Dropping it ends them, and with them what they still serve.
#[derive(Debug)]
pub(crate) struct Workers {
    handles: Vec<Handle>,
    next: AtomicUsize,
    end: CancellationToken,
}

impl Workers {
    /// Starts so many; 0 means one a core.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let count = match count {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            count => count,
        };
        let mut workers =
            Self { handles: Vec::with_capacity(count), next: AtomicUsize::new(0), end: CancellationToken::new() };
        for index in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            workers.handles.push(runtime.handle().clone());
            let end = workers.end.clone();
            thread::Builder::new().name(format!("gateway-{index}")).spawn(move || {
                INDEX.set(index);
                runtime.block_on(end.cancelled());
                // What does not end by itself, a look-up of a name for example, is not waited for.
                runtime.shutdown_background();
            })?;
        }
        Ok(workers)
    }

    /// Whose turn it is.
    pub(crate) fn next(&self) -> &Handle {
        &self.handles[self.next.fetch_add(1, Relaxed) % self.handles.len()]
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_handed_out_in_turn() {
        let workers = Workers::start(3).unwrap();
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(workers.next().spawn(async { index() }).await.unwrap());
        }
        assert_eq!(seen, [0, 1, 2, 0, 1, 2]);
        let ended = workers.next().spawn(std::future::pending::<()>());
        drop(workers);
        assert!(ended.await.unwrap_err().is_cancelled());
    }
}
