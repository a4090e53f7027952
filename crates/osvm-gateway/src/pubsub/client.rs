//! The client's side of a session: the handshake, and a queue that a slow client cannot make grow without end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use futures_util::{SinkExt, StreamExt, stream::SplitStream};
use tokio::{sync::mpsc, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use tokio_util::task::AbortOnDropHandle;

use crate::{
    connection::ClientStream,
    limits::{self, Limits},
};

/// Messages that wait for a slow client.
const QUEUE: usize = 4096;
/// Bytes that wait for a slow client: 64 MiB. One message may always wait, however long it is.
const QUEUE_BYTES: usize = 64 << 20;
/// The longest message of a client's: 64 KiB.
const LONGEST: usize = 64 << 10;

/// What a client asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) host: Option<String>,
    pub(super) path: String,
}

/// Takes the WebSocket; none if it is not one, or not in time.
pub(super) async fn accept<S: ClientStream>(stream: S, limits: &Limits) -> Option<(WebSocketStream<S>, Asked)> {
    let mut asked = Asked::default();
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST));
    #[expect(clippy::result_large_err, reason = "the signature is the WebSocket library's")]
    let note = |request: &Request, response: Response| {
        asked.host = request.headers().get("host").and_then(|host| host.to_str().ok()).map(str::to_owned);
        asked.path = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        Ok(response)
    };
    let handshake = accept_hdr_async_with_config(stream, note, Some(config));
    let socket = timeout(limits.head_timeout, handshake).await.ok()?.ok()?;
    Some((socket, asked))
}

/// The way to the client. Its writer is a task of its own.
pub(super) struct Mouth {
    queue: mpsc::Sender<Message>,
    queued: Arc<AtomicUsize>,
    /// What is queued is not written any more, but for the close frame.
    ending: Arc<AtomicBool>,
    writer: AbortOnDropHandle<()>,
}

/// Why the client is told no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deaf {
    Slow,
    Gone,
}

impl Mouth {
    pub(super) fn new<S: ClientStream>(socket: WebSocketStream<S>) -> (Self, SplitStream<WebSocketStream<S>>) {
        let (mut sink, source) = socket.split();
        let (queue, mut messages) = mpsc::channel::<Message>(QUEUE);
        let queued = Arc::new(AtomicUsize::new(0));
        let ending = Arc::new(AtomicBool::new(false));
        let (written, ends) = (Arc::clone(&queued), Arc::clone(&ending));
        let writer = tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                let length = message.len();
                if ends.load(Relaxed) && !message.is_close() {
                    continue;
                }
                let done = match messages.is_empty() {
                    true => sink.send(message).await,
                    false => sink.feed(message).await,
                };
                written.fetch_sub(length, Relaxed);
                if done.is_err() {
                    return;
                }
            }
            // The queue is closed and empty: the last message was the close frame.
            let _ = sink.close().await;
        });
        (Self { queue, queued, ending, writer: AbortOnDropHandle::new(writer) }, source)
    }

    pub(super) fn say(&self, message: Message) -> Result<(), Deaf> {
        let length = message.len();
        let before = self.queued.fetch_add(length, Relaxed);
        if before > 0 && before + length > QUEUE_BYTES {
            return Err(Deaf::Slow);
        }
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Deaf::Slow,
            mpsc::error::TrySendError::Closed(_) => Deaf::Gone,
        })
    }

    /// Says why, and ends. A client that does not read does not hold this up for long.
    pub(super) async fn close(self, code: CloseCode, reason: &'static str) {
        // What a slow client has not read would keep the frame from it.
        self.ending.store(code == CloseCode::Again, Relaxed);
        let frame = CloseFrame { code, reason: reason.into() };
        let last = async {
            // No queue, no writer: then the client is gone.
            let _ = self.queue.send(Message::Close(Some(frame))).await;
            drop(self.queue);
            let _ = self.writer.await;
        };
        // The writer ends with its handle.
        let _ = timeout(limits::CUT_TIMEOUT, last).await;
    }
}
