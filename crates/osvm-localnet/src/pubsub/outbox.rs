//! What waits to be written to one WebSocket client: bounded in number and in bytes. Who falls behind is closed, not waited for.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;

use crate::limits::WS_QUEUE_BYTES;

/// The side that messages are put into. Clones share the queue.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<Utf8Bytes>,
    bytes: Arc<AtomicUsize>,
    overflow: CancellationToken,
}

/// The side that the connection reads.
#[derive(Debug)]
pub(crate) struct Waiting {
    receiver: mpsc::Receiver<Utf8Bytes>,
    bytes: Arc<AtomicUsize>,
    /// Set once a message found no room.
    pub(crate) overflow: CancellationToken,
}

/// A queue for `capacity` messages.
pub(crate) fn outbox(capacity: usize) -> (Outbox, Waiting) {
    let (sender, receiver) = mpsc::channel(capacity);
    let bytes = Arc::new(AtomicUsize::new(0));
    let overflow = CancellationToken::new();
    let outbox = Outbox { sender, bytes: Arc::clone(&bytes), overflow: overflow.clone() };
    (outbox, Waiting { receiver, bytes, overflow })
}

impl Outbox {
    /// Puts a message in. Without room the client is marked as too slow, and nothing is put in any more.
    pub(crate) fn push(&self, message: Utf8Bytes) {
        if self.overflow.is_cancelled() {
            return;
        }
        let size = message.len();
        let before = self.bytes.fetch_add(size, Ordering::Relaxed);
        // One message larger than the whole queue still goes through an empty one.
        let too_much = before > 0 && before + size > WS_QUEUE_BYTES;
        if too_much || matches!(self.sender.try_send(message), Err(mpsc::error::TrySendError::Full(_))) {
            self.overflow.cancel();
        }
    }
}

impl Waiting {
    /// The next message. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Option<Utf8Bytes> {
        let message = self.receiver.recv().await?;
        self.bytes.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }

    /// A message that waits already.
    pub(crate) fn try_next(&mut self) -> Option<Utf8Bytes> {
        let message = self.receiver.try_recv().ok()?;
        self.bytes.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_marks_the_client_and_takes_no_more() {
        let (outbox, mut waiting) = outbox(2);
        outbox.push("a".into());
        outbox.push("b".into());
        assert!(!waiting.overflow.is_cancelled());
        outbox.push("c".into());
        assert!(waiting.overflow.is_cancelled());
        assert_eq!(waiting.next().await.unwrap().as_str(), "a");
        outbox.push("d".into());
        assert_eq!(waiting.next().await.unwrap().as_str(), "b");
        drop(outbox);
        assert!(waiting.next().await.is_none());
    }

    #[tokio::test]
    async fn bytes_are_bounded_too() {
        let (outbox, waiting) = outbox(100);
        let half: Utf8Bytes = "x".repeat(WS_QUEUE_BYTES / 2).into();
        outbox.push(half.clone());
        outbox.push(half.clone());
        assert!(!waiting.overflow.is_cancelled());
        outbox.push(half);
        assert!(waiting.overflow.is_cancelled());
    }
}
