//! One instance as the gateway sees it: what is in flight there, and the idle connections to it.
//!
//! The idle connections live inside the backend, and a backend is one generation at one endpoint. So a connection cannot
//! cross a generation: there is no way from one backend's stack to another's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    time::Duration,
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use osvm_model::{BackendRole, Endpoint, Generation, gateway::GenerationStats};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    http::body::OutBody,
    limits::{self, Limits},
    upstream::{self, ConnectError, Stream},
    workers,
};

/// For an idle connection to finish what its last request left, before another is used instead.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(50);
/// What one upstream connection buffers at most.
const READ_BUFFER: usize = 64 << 10;

/// An HTTP/1.1 connection to an instance.
pub(crate) type Sender = SendRequest<OutBody>;

/// Stacks of idle connections; workers beyond so many share them.
const SHARDS: usize = 16;

/// The idle connections of one worker, the last used on top.
#[derive(Debug, Default)]
struct Idle {
    /// Of requests that hyper carries: those of HTTP/2 clients.
    senders: Vec<Sender>,
    /// Of all others.
    streams: Vec<Stream>,
}

/// What a lease is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// One request and its answer.
    Request,
    /// A connection that lasts: TCP, an upgrade, a subscription socket.
    Tunnel,
}

/// One generation at one endpoint.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) generation: Generation,
    pub(crate) endpoint: Endpoint,
    /// Whether leases may be taken. See [`Lease::take`] for why this is apart from the pool's view.
    accepting: AtomicBool,
    /// It does not take connections; a prober watches for it to come back.
    down: AtomicBool,
    in_flight: AtomicU64,
    tunnels: AtomicU64,
    /// Something ended here after the backend stopped accepting.
    ended: Notify,
    /// Cancelled once the backend left the table: what is still tunnelled is cut.
    pub(crate) gone: CancellationToken,
    idle: [Mutex<Idle>; SHARDS],
    requests: AtomicU64,
    connect_errors: AtomicU64,
    resets: AtomicU64,
}

impl Backend {
    pub(crate) fn new(generation: Generation, endpoint: Endpoint) -> Self {
        Self {
            generation,
            endpoint,
            accepting: AtomicBool::new(false),
            down: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            tunnels: AtomicU64::new(0),
            ended: Notify::new(),
            gone: CancellationToken::new(),
            idle: Default::default(),
            requests: AtomicU64::new(0),
            connect_errors: AtomicU64::new(0),
            resets: AtomicU64::new(0),
        }
    }

    /// Lets leases be taken, or no more of them; then idle connections are closed too.
    pub(crate) fn set_accepting(&self, accepting: bool) {
        self.accepting.store(accepting, SeqCst);
        if !accepting {
            for shard in &self.idle {
                let idle = std::mem::take(&mut *shard.lock());
                // Closed outside the lock.
                drop(idle);
            }
        }
    }

    pub(crate) fn is_accepting(&self) -> bool {
        self.accepting.load(SeqCst)
    }

    pub(crate) fn is_up(&self) -> bool {
        !self.down.load(Relaxed)
    }

    /// Marks it as up or down; answers whether that is a change.
    pub(crate) fn set_down(&self, down: bool) -> bool {
        self.down.swap(down, SeqCst) != down
    }

    /// What the next request is weighed by.
    pub(crate) fn load(&self) -> u64 {
        self.in_flight.load(Relaxed) + self.tunnels.load(Relaxed)
    }

    /// Requests and tunnels in flight.
    pub(crate) fn busy(&self) -> (u64, u64) {
        (self.in_flight.load(SeqCst), self.tunnels.load(SeqCst))
    }

    /// Returns once nothing is in flight. With a backend that accepts, that is true for a moment only.
    pub(crate) async fn drained(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.busy() == (0, 0) {
                return;
            }
            ended.await;
        }
    }

    pub(crate) fn count_reset(&self) {
        self.resets.fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self, role: Option<BackendRole>) -> GenerationStats {
        let (in_flight, tunnels) = self.busy();
        GenerationStats {
            generation: self.generation,
            endpoint: self.endpoint.to_string(),
            role,
            in_flight,
            tunnels,
            requests: self.requests.load(Relaxed),
            connect_errors: self.connect_errors.load(Relaxed),
            resets: self.resets.load(Relaxed),
        }
    }

    /// A connection of its own, for a tunnel.
    pub(crate) async fn dial(&self, limits: &Limits) -> Result<Stream, ConnectError> {
        let dialled = upstream::connect(&self.endpoint, limits).await;
        if dialled.is_err() {
            self.connect_errors.fetch_add(1, Relaxed);
        }
        dialled
    }

    /// An HTTP connection that is ready for a request: an idle one, the last used first, or a new one.
    pub(crate) async fn connection(&self, limits: &Limits) -> Result<Sender, ConnectError> {
        loop {
            let Some(mut sender) = self.shard().lock().senders.pop() else { break };
            if sender.is_ready() {
                return Ok(sender);
            }
            if !sender.is_closed()
                && let Ok(Ok(())) = tokio::time::timeout(SETTLE_TIMEOUT, sender.ready()).await
            {
                return Ok(sender);
            }
        }
        self.new_connection(limits).await
    }

    pub(crate) async fn new_connection(&self, limits: &Limits) -> Result<Sender, ConnectError> {
        let stream = self.dial(limits).await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(READ_BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ConnectError::Http)?;
        // Its error, if any, reaches the request that is on the connection.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// Keeps a connection whose answer was read to its end.
    pub(crate) fn give_back(&self, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        self.keep(|idle| idle.senders.push(sender));
    }

    /// The stacks of the worker that asks. A connection is woken by the runtime that opened it, so no other takes it.
    fn shard(&self) -> &Mutex<Idle> {
        &self.idle[workers::index() % SHARDS]
    }

    fn keep(&self, push: impl FnOnce(&mut Idle)) {
        let mut idle = self.shard().lock();
        // Read under the lock, so that none is kept after `set_accepting(false)` cleared the stacks.
        if self.is_accepting() && idle.senders.len() + idle.streams.len() < limits::IDLE_UPSTREAM {
            push(&mut idle);
        }
    }

    /// The same as [`Backend::connection`], for a relay that speaks HTTP itself.
    pub(crate) async fn stream(&self, limits: &Limits) -> Result<Stream, ConnectError> {
        loop {
            let Some(stream) = self.shard().lock().streams.pop() else { break };
            if stream.is_quiet() {
                return Ok(stream);
            }
        }
        Box::pin(self.dial(limits)).await
    }

    /// Keeps a connection on which nothing is under way.
    pub(crate) fn give_back_stream(&self, stream: Stream) {
        self.keep(|idle| {
            // Those at the bottom are seldom used, so nobody else would find out that the instance closed them.
            if idle.streams.first().is_some_and(|oldest| !oldest.is_quiet()) {
                idle.streams.remove(0);
            }
            idle.streams.push(stream);
        });
    }
}

/// Counts as in flight on a backend until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) backend: Arc<Backend>,
    kind: Use,
}

impl Lease {
    /// Takes a lease unless the backend stopped accepting.
    ///
    /// It counts first and looks after: whoever stops the backend and then reads the counts sees every lease that was, or will
    /// be, granted.
    pub(crate) fn take(backend: &Arc<Backend>, kind: Use) -> Option<Self> {
        let lease = Self::force(backend, kind);
        backend.is_accepting().then_some(lease)
    }

    /// Takes a lease whatever the backend's role is.
    pub(crate) fn force(backend: &Arc<Backend>, kind: Use) -> Self {
        match kind {
            Use::Request => backend.in_flight.fetch_add(1, SeqCst),
            Use::Tunnel => backend.tunnels.fetch_add(1, SeqCst),
        };
        Self { backend: Arc::clone(backend), kind }
    }

    /// Counts a request that is about to be sent.
    pub(crate) fn count(&self) {
        self.backend.requests.fetch_add(1, Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let left = match self.kind {
            Use::Request => self.backend.in_flight.fetch_sub(1, SeqCst),
            Use::Tunnel => self.backend.tunnels.fetch_sub(1, SeqCst),
        };
        if left == 1 && !self.backend.is_accepting() {
            self.backend.ended.notify_waiters();
        }
    }
}
