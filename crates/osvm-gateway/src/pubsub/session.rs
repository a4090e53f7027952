//! One client's session: keeps a link to the instance that serves, opens one in advance to the instance that is to serve, and
//! changes over without the client's noticing more than a pause.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt};
use osvm_model::BackendRole;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{self, Message, protocol::frame::coding::CloseCode};

use super::{
    book::{Book, LinkId, Out},
    client::{Asked, Deaf, Mouth},
    link::{Event, Link, LinkError},
    registry::{Member, Progress},
};
use crate::{
    backend::{Backend, Lease, Use},
    connection::Client,
    limits,
    pool::{Pool, Unavailable, Wait},
    stats::Failure,
};

/// Events of both links that wait for the session.
const EVENTS: usize = 256;
/// For an instance to answer the barrier before the next one takes over regardless.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client is kept without any instance.
const WITHOUT_INSTANCE: Duration = Duration::from_secs(120);
/// A client is pinged so often.
const PING_EVERY: Duration = Duration::from_secs(20);
/// A client that said nothing for so long, not even to a ping, is gone.
const SILENCE: Duration = Duration::from_secs(65);

/// How a session ends, and what the client is told.
type End = Option<(CloseCode, &'static str)>;

type Opening = Pin<Box<dyn Future<Output = Result<Link, Failed>> + Send>>;

/// Why a link did not come about.
enum Failed {
    NoInstance(Unavailable),
    Link(Arc<Backend>, LinkError),
}

pub(super) struct Session {
    client: Client,
    pool: Arc<Pool>,
    path: Arc<str>,
    book: Book,
    mouth: Mouth,
    member: Member,
    links: Vec<Link>,
    opening: Option<(Option<Arc<Backend>>, Opening)>,
    next_link: LinkId,
    events: mpsc::Sender<(LinkId, Event)>,
    /// When the live link went; the client waits since.
    alone: Option<Instant>,
    barrier: Option<tokio::time::Instant>,
    retry_at: Option<tokio::time::Instant>,
}

impl Session {
    pub(super) fn new(
        client: Client,
        pool: Arc<Pool>,
        asked: &Asked,
        mouth: Mouth,
    ) -> (Self, mpsc::Receiver<(LinkId, Event)>) {
        let (events, received) = mpsc::channel(EVENTS);
        let member = pool.registry.enroll();
        let session = Self {
            client,
            pool,
            path: asked.path.as_str().into(),
            book: Book::default(),
            mouth,
            member,
            links: Vec::new(),
            opening: None,
            next_link: 0,
            events,
            alone: Some(Instant::now()),
            barrier: None,
            retry_at: None,
        };
        (session, received)
    }

    /// Serves until the client goes, or cannot be served.
    pub(super) async fn run(
        mut self,
        mut from_client: impl Stream<Item = tungstenite::Result<Message>> + Unpin,
        mut events: mpsc::Receiver<(LinkId, Event)>,
    ) {
        let end = self.serve(&mut from_client, &mut events).await;
        if let Some((code, reason)) = end {
            if code == CloseCode::Again && reason != SLOW {
                self.pool.counters.failure(Failure::Unavailable);
            }
            // Links and the entry in the registry go first: the instance need not wait for the client.
            let Self { mouth, member, links, opening, .. } = self;
            drop((member, links, opening));
            mouth.close(code, reason).await;
        }
    }

    async fn serve(
        &mut self,
        from_client: &mut (impl Stream<Item = tungstenite::Result<Message>> + Unpin),
        events: &mut mpsc::Receiver<(LinkId, Event)>,
    ) -> End {
        let pool = Arc::clone(&self.pool);
        let closed = self.client.listening.closed.clone();
        let mut heard = tokio::time::Instant::now();
        let mut pings = tokio::time::interval_at(heard + PING_EVERY, PING_EVERY);
        loop {
            // Asked for before the view is read, so that no change falls in between.
            let changed = pool.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Err(end) = self.reconcile() {
                return end;
            }
            if let Err(deaf) = self.flush() {
                return match deaf {
                    Deaf::Slow => Some((CloseCode::Again, SLOW)),
                    Deaf::Gone => None,
                };
            }
            self.report();
            let may_read = self.links.iter().all(Link::has_room);
            let wake = [self.barrier.map(|since| since + BARRIER_TIMEOUT), self.retry_at].into_iter().flatten().min();
            tokio::select! {
                () = closed.wait() => return Some((CloseCode::Away, "the gateway stops serving this address")),
                event = events.recv() => if let Some((link, event)) = event { self.on_event(link, event) },
                opened = ready(&mut self.opening) => {
                    let to_be_ready = self.opening.take().is_some_and(|(backend, _)| backend.is_some());
                    if let Err(end) = self.on_opened(to_be_ready, opened) {
                        return end;
                    }
                }
                () = &mut changed => self.retry_at = None,
                message = from_client.next(), if may_read => {
                    heard = tokio::time::Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => self.book.on_client(&text),
                        Some(Ok(Message::Binary(bytes))) => match std::str::from_utf8(&bytes) {
                            Ok(text) => self.book.on_client(text),
                            Err(_) => return Some((CloseCode::Unsupported, "JSON-RPC is text")),
                        },
                        Some(Ok(Message::Close(_))) | None => return Some((CloseCode::Normal, "")),
                        Some(Ok(_)) => {}
                        Some(Err(tungstenite::Error::Capacity(_))) => {
                            return Some((CloseCode::Size, "the message is longer than the limit"));
                        }
                        Some(Err(_)) => return None,
                    }
                }
                () = wait_until(wake) => self.on_time(),
                _ = pings.tick() => {
                    if heard.elapsed() > SILENCE || self.mouth.say(Message::Ping(tungstenite::Bytes::new())) == Err(Deaf::Gone) {
                        return None;
                    }
                }
            }
        }
    }

    /// Brings the links in line with the table in force.
    fn reconcile(&mut self) -> Result<(), End> {
        let view = self.pool.view();
        if view.gone {
            return Err(Some((CloseCode::Away, "the service is gone")));
        }
        if self.alone.is_some_and(|since| since.elapsed() > WITHOUT_INSTANCE) {
            return Err(Some((CloseCode::Again, "no instance serves")));
        }
        let role = |session: &Self, link: Option<LinkId>| {
            link.and_then(|id| session.link(id)).and_then(|link| view.role_of(&link.backend))
        };
        let (live, next) = (self.book.live(), self.book.next());
        let live_serves = role(self, live) == Some(BackendRole::Active);
        let next_role = role(self, next);
        let next_serves = next_role == Some(BackendRole::Active);
        if let Some(id) = next
            && !next_serves
            && (next_role != Some(BackendRole::Prepare) || self.book.is_shifted())
        {
            // It is neither to serve nor to be ready: given up, or the route went back.
            self.book.drop_next();
            self.drop_link(id);
            self.barrier = None;
            return self.reconcile();
        }
        if next_serves && !live_serves && !self.book.is_shifted() {
            self.book.shift(true);
            if live.and_then(|id| self.link(id)).is_some_and(Link::barrier) {
                self.barrier = Some(tokio::time::Instant::now());
            } else {
                self.promote();
            }
        }
        let is_served = live_serves || next_serves;
        let may_serve = self.book.live().is_none() || view.with_role(BackendRole::Active).next().is_some();
        let prepares = view.with_role(BackendRole::Prepare).next();
        if let Some((Some(backend), _)) = &self.opening
            && (!is_served || !matches!(view.role_of(backend), Some(BackendRole::Prepare | BackendRole::Active)))
        {
            // Being served goes before being ready.
            self.opening = None;
        }
        if self.opening.is_some() || self.retry_at.is_some() {
            return Ok(());
        }
        if !is_served && may_serve {
            self.open(None);
        } else if self.book.next().is_none()
            && let Some(backend) = prepares
        {
            self.open(Some(backend));
        }
        Ok(())
    }

    fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.iter().find(|link| link.id == id)
    }

    fn drop_link(&mut self, id: LinkId) {
        self.links.retain(|link| link.id != id);
    }

    /// Begins to dial: the given instance, to be ready, or whichever serves.
    fn open(&mut self, backend: Option<&Arc<Backend>>) {
        let id = self.next_link;
        self.next_link += 1;
        let (pool, path, events) = (Arc::clone(&self.pool), Arc::clone(&self.path), self.events.clone());
        let limits = Arc::clone(&self.client.gateway.limits);
        let forced = backend.map(|backend| Lease::force(backend, Use::Tunnel));
        let opening = async move {
            let lease = match forced {
                Some(lease) => lease,
                None => pool.acquire(Use::Tunnel, &limits, &mut Wait::default()).await.map_err(Failed::NoInstance)?,
            };
            let backend = Arc::clone(&lease.backend);
            Link::open(id, lease, &path, &limits, events).await.map_err(|error| Failed::Link(backend, error))
        };
        self.opening = Some((backend.cloned(), Box::pin(opening)));
    }

    fn on_opened(&mut self, to_be_ready: bool, opened: Result<Link, Failed>) -> Result<(), End> {
        match opened {
            Ok(link) => {
                let id = link.id;
                self.links.push(link);
                if self.book.live().is_none() && !to_be_ready {
                    self.book.attach_live(id);
                    self.served_again();
                } else {
                    let replaced = self.book.next();
                    self.book.attach_next(id);
                    if let Some(replaced) = replaced {
                        self.drop_link(replaced);
                    }
                }
            }
            Err(Failed::NoInstance(Unavailable::Gone)) => return Err(Some((CloseCode::Away, "the service is gone"))),
            // `WITHOUT_INSTANCE` ends that.
            Err(Failed::NoInstance(Unavailable::NoInstance | Unavailable::Crowded)) => self.retry_later(),
            Err(Failed::Link(backend, error)) => {
                tracing::debug!(endpoint = %backend.endpoint, error = %error, "no subscription link");
                if !to_be_ready && matches!(error, LinkError::Connect(_)) {
                    self.pool.mark_down(&backend, &self.client.gateway.limits);
                } else {
                    self.retry_later();
                }
            }
        }
        Ok(())
    }

    fn retry_later(&mut self) {
        self.retry_at = Some(tokio::time::Instant::now() + limits::RETRY_PAUSE_MAX);
    }

    fn served_again(&mut self) {
        if let Some(since) = self.alone.take() {
            self.pool.counters.wait(since.elapsed());
        }
    }

    fn on_event(&mut self, link: LinkId, event: Event) {
        if self.link(link).is_none() {
            return;
        }
        match event {
            Event::Text(text) => self.book.on_link(link, &text),
            Event::Barrier if self.book.live() == Some(link) && self.barrier.is_some() => self.promote(),
            Event::Barrier => {}
            Event::Closed => self.lost(link),
        }
    }

    fn lost(&mut self, link: LinkId) {
        if let Some(lost) = self.link(link) {
            lost.backend.count_reset();
        }
        self.book.detach(link);
        self.drop_link(link);
        if self.book.live().is_none() {
            self.barrier = None;
            self.alone.get_or_insert_with(Instant::now);
        } else if !self.book.is_shifted() {
            self.barrier = None;
        }
    }

    fn promote(&mut self) {
        let old = self.book.live();
        self.book.promote();
        self.barrier = None;
        if let Some(old) = old {
            self.drop_link(old);
        }
        self.served_again();
    }

    fn on_time(&mut self) {
        let now = tokio::time::Instant::now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if self.barrier.is_some_and(|since| since + BARRIER_TIMEOUT <= now) {
            self.promote();
        }
    }

    /// Passes on what the book has to say.
    fn flush(&mut self) -> Result<(), Deaf> {
        loop {
            let out = self.book.take_out();
            if out.is_empty() {
                return Ok(());
            }
            for out in out {
                match out {
                    Out::Client(text) => self.mouth.say(Message::text(text))?,
                    Out::Link(id, text) => {
                        if self.link(id).is_some_and(|link| !link.send(text)) {
                            self.lost(id);
                        }
                    }
                }
            }
        }
    }

    fn report(&mut self) {
        let view = self.pool.view();
        let prepares = view.with_role(BackendRole::Prepare).next();
        let next = self.book.next();
        let done = match prepares {
            None => true,
            Some(backend) => next.is_some_and(|id| {
                self.link(id).is_some_and(|link| Arc::ptr_eq(&link.backend, backend)) && self.book.is_settled(id)
            }),
        };
        let version = if done { view.version } else { 0 };
        let prepared = next.map_or(0, |id| self.book.open_on(id)) as u64;
        self.member.report(Progress { version, subscriptions: self.book.subscriptions() as u64, prepared });
    }
}

/// Told to a client that does not read what it subscribed to.
const SLOW: &str = "the client does not keep up with its subscriptions";

async fn ready(opening: &mut Option<(Option<Arc<Backend>>, Opening)>) -> Result<Link, Failed> {
    match opening {
        Some((_, opening)) => opening.await,
        None => std::future::pending().await,
    }
}

async fn wait_until(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
