//! One WebSocket to an instance, as two tasks: one reads, one writes. Neither waits for the other.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{Bytes, Message, Utf8Bytes, protocol::WebSocketConfig},
};
use tokio_util::task::AbortOnDropHandle;

use super::book::{LinkId, MOST};
use crate::{
    backend::{Backend, Lease},
    limits::Limits,
    upstream::ConnectError,
};

/// Texts on their way to an instance: all subscriptions at once, and then some.
const QUEUE: usize = 2 * MOST;
/// The longest message of an instance's: a block, or all accounts of a program.
const LONGEST: usize = 256 << 20;
/// For an instance to take the WebSocket.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// What is read in one go.
const READ_BUFFER: usize = 16 << 10;
/// What the barrier ping says.
const BARRIER: &[u8] = b"osvm-barrier";

/// What a link tells its session.
#[derive(Debug)]
pub(super) enum Event {
    Text(Utf8Bytes),
    /// All that the instance had sent before it saw the barrier has arrived.
    Barrier,
    Closed,
}

/// A link that is up. Dropping it closes it.
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) backend: Arc<Backend>,
    queue: mpsc::Sender<Message>,
    _lease: Lease,
    _reader: AbortOnDropHandle<()>,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the instance cannot be reached")]
    Connect(#[source] ConnectError),
    #[error("the instance refused the WebSocket")]
    Handshake(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    #[error("the instance did not answer the WebSocket handshake in time")]
    Timeout,
}

impl Link {
    /// Dials the instance of the lease. Its events go to `events`, marked with `id`.
    pub(super) async fn open(
        id: LinkId,
        lease: Lease,
        path: &str,
        limits: &Limits,
        events: mpsc::Sender<(LinkId, Event)>,
    ) -> Result<Self, LinkError> {
        let backend = Arc::clone(&lease.backend);
        let stream = backend.dial(limits).await.map_err(LinkError::Connect)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(LONGEST))
            .max_frame_size(Some(LONGEST));
        // The host is nobody's name: instances are reached by vsock.
        let handshake = client_async_with_config(format!("ws://instance{path}"), stream, Some(config));
        let (socket, _) = timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| LinkError::Timeout)?
            .map_err(|error| LinkError::Handshake(Box::new(error)))?;
        lease.count();
        let (mut sink, mut source) = socket.split();
        let (queue, mut queued) = mpsc::channel::<Message>(QUEUE);
        // Ends when the link is dropped and the queue is empty, and then closes.
        tokio::spawn(async move {
            while let Some(message) = queued.recv().await {
                let fed = match queued.is_empty() {
                    true => sink.send(message).await,
                    false => sink.feed(message).await,
                };
                if fed.is_err() {
                    return;
                }
            }
            let _ = timeout(crate::limits::CUT_TIMEOUT, sink.close()).await;
        });
        let reader = tokio::spawn(async move {
            loop {
                let event = match source.next().await {
                    Some(Ok(Message::Text(text))) => Event::Text(text),
                    Some(Ok(Message::Pong(payload))) if payload == BARRIER => Event::Barrier,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => Event::Closed,
                    Some(Ok(_)) => continue,
                };
                let last = matches!(event, Event::Closed);
                if events.send((id, event)).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(Self { id, backend, queue, _lease: lease, _reader: AbortOnDropHandle::new(reader) })
    }

    /// Queues a text; false if the link takes no more and is as good as dead.
    pub(super) fn send(&self, text: String) -> bool {
        self.queue.try_send(Message::text(text)).is_ok()
    }

    /// Asks for an [`Event::Barrier`].
    pub(super) fn barrier(&self) -> bool {
        let ping = Message::Ping(Bytes::from_static(BARRIER));
        !matches!(self.queue.try_send(ping), Err(TrySendError::Closed(_)))
    }

    /// Whether a client may go on to send.
    pub(super) fn has_room(&self) -> bool {
        self.queue.capacity() > MOST
    }
}
