//! Something that happens once and is then so for ever, cheap to ask for on every request and to wait for beside other work.
//!
//! A [`CancellationToken`] takes a lock whenever it is asked or polled, and all connections share it. Here an atomic flag answers,
//! and a connection registers with the token once in its life.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture, WaitForCancellationFutureOwned};

/// The event. Clones are the same event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signal {
    flag: Arc<AtomicBool>,
    token: CancellationToken,
}

impl Signal {
    /// Lets it happen.
    pub(crate) fn set(&self) {
        // The flag first: whoever is woken by the token looks at the flag.
        self.flag.store(true, SeqCst);
        self.token.cancel();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(SeqCst)
    }

    /// Returns once it happened.
    pub(crate) fn wait(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }

    /// The same for one task that looks often.
    pub(crate) fn watch(&self) -> Watch {
        let event = Box::pin(self.token.clone().cancelled_owned());
        Watch { flag: Arc::clone(&self.flag), event, registered: false }
    }
}

/// A wait that belongs to one task: it must not be polled by another after its first poll. May be polled after it was ready.
pub(crate) struct Watch {
    flag: Arc<AtomicBool>,
    event: Pin<Box<WaitForCancellationFutureOwned>>,
    registered: bool,
}

impl Watch {
    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(SeqCst)
    }
}

impl Future for Watch {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_set() {
            return Poll::Ready(());
        }
        // The task's waker stays the same, so being registered once is enough.
        if !self.registered {
            self.registered = true;
            return self.event.as_mut().poll(cx);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_wakes_its_task_however_often_it_was_polled_before() {
        let signal = Signal::default();
        let mut watch = signal.watch();
        let (polled, mut many) = tokio::sync::mpsc::channel(1);
        let waiting = tokio::spawn(async move {
            let mut times = 0;
            std::future::poll_fn(|cx| {
                times += 1;
                if times < 5 {
                    cx.waker().wake_by_ref();
                } else {
                    let _ = polled.try_send(());
                }
                Pin::new(&mut watch).poll(cx)
            })
            .await;
            // Still so.
            watch.await;
        });
        many.recv().await.unwrap();
        assert!(!signal.is_set() && !waiting.is_finished());
        signal.set();
        waiting.await.unwrap();
        assert!(signal.is_set());
        signal.wait().await;
    }
}
