//! Bodies on their way: a client's to an instance, an instance's to a client.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use crate::{
    backend::{Lease, Sender},
    pool::Pool,
    stats::Failure,
};

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is longer than the limit")]
    TooLong,
    #[error("the client sent nothing in time")]
    Slow,
    #[error("the client broke off")]
    Client(#[source] hyper::Error),
    #[error("the instance broke off")]
    Instance(#[source] hyper::Error),
}

/// What became of a client's body, for whoever has to answer the client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate(Arc<AtomicU8>);

/// A client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    TooLong,
    Slow,
    Gone,
}

impl Fate {
    fn set(&self, error: &BodyError) {
        let code = match error {
            BodyError::TooLong => 1,
            BodyError::Slow => 2,
            BodyError::Client(_) | BodyError::Instance(_) => 3,
        };
        self.0.store(code, Relaxed);
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        match self.0.load(Relaxed) {
            1 => Some(Fault::TooLong),
            2 => Some(Fault::Slow),
            3 => Some(Fault::Gone),
            _ => None,
        }
    }
}

/// A client's body, counted and timed.
#[derive(Debug)]
pub(crate) struct ClientBody {
    incoming: Incoming,
    left: u64,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    fate: Fate,
}

impl ClientBody {
    /// At most `most` bytes, and never more than `limit` between two pieces.
    pub(crate) fn new(incoming: Incoming, most: u64, limit: Duration) -> Self {
        Self { incoming, left: most, limit, timer: Box::pin(sleep(limit)), fate: Fate::default() }
    }

    pub(crate) fn fate(&self) -> Fate {
        self.fate.clone()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                let Some(left) = self.left.checked_sub(length) else {
                    return Poll::Ready(Some(Err(BodyError::TooLong)));
                };
                self.left = left;
                self.timer.as_mut().reset(Instant::now() + self.limit);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Client(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(self.timer.as_mut().poll(cx));
                Poll::Ready(Some(Err(BodyError::Slow)))
            }
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll(cx));
        if let Some(Err(error)) = &frame {
            self.fate.set(error);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A request's body as it is sent to an instance.
#[derive(Debug)]
pub(crate) enum OutBody {
    /// In memory, so that it can be sent again.
    Whole(Bytes),
    /// Read ahead in vain: it was too long to be kept.
    Begun(Bytes, Box<ClientBody>),
    Stream(Box<ClientBody>),
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(bytes) | Self::Begun(bytes, _) if !bytes.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
            Self::Whole(_) => Poll::Ready(None),
            Self::Begun(_, body) | Self::Stream(body) => Pin::new(body.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Begun(bytes, body) => bytes.is_empty() && body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Begun(bytes, body) => match body.size_hint().exact() {
                Some(rest) => SizeHint::with_exact(bytes.len() as u64 + rest),
                None => SizeHint::new(),
            },
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// An answer's body on its way to the client.
pub(crate) enum AnswerBody {
    /// In memory.
    Whole(Bytes),
    /// As the instance sends it.
    Stream(Box<Streaming>),
}

/// A body that an instance is sending. Its end gives the connection back, its breaking off is counted.
pub(crate) struct Streaming {
    incoming: Incoming,
    pool: Arc<Pool>,
    lease: Lease,
    sender: Option<Sender>,
}

impl Streaming {
    pub(crate) fn new(incoming: Incoming, pool: Arc<Pool>, lease: Lease, sender: Sender) -> Self {
        let mut body = Self { incoming, pool, lease, sender: Some(sender) };
        body.give_back_at_end();
        body
    }

    fn give_back_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(sender) = self.sender.take()
        {
            self.lease.backend.give_back(sender);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(body) => {
                let frame = ready!(Pin::new(&mut body.incoming).poll_frame(cx));
                match &frame {
                    Some(Ok(_)) => body.give_back_at_end(),
                    None => {
                        if let Some(sender) = body.sender.take() {
                            body.lease.backend.give_back(sender);
                        }
                    }
                    Some(Err(_)) => {
                        body.sender = None;
                        body.lease.backend.count_reset();
                        body.pool.counters.failure(Failure::Broken);
                    }
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Instance)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body) => body.incoming.size_hint(),
        }
    }
}
