//! A pool: which instance gets the next request, and who waits when none can take it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use osvm_model::{BackendRole, Endpoint, Generation, Pool as PoolModel, gateway::PoolStats, route::ReplayPolicy};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, futures::Notified},
    time::timeout,
};

use crate::{
    backend::{Backend, Lease, Use},
    limits::{self, Limits},
    pubsub::registry::Registry,
    stats::Counters,
};

/// A pool; it lives as long as its name is in the table, its instances come and go.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: String,
    pub(crate) counters: Counters,
    /// The clients with Solana subscriptions.
    pub(crate) registry: Registry,
    view: ArcSwap<View>,
    /// Every backend that is in the table or still has something in flight.
    known: Mutex<Vec<Arc<Backend>>>,
    waiting: AtomicUsize,
    changed: Notify,
}

/// What the table in force says of the pool.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) version: u64,
    pub(crate) backends: Vec<(Arc<Backend>, BackendRole)>,
    pub(crate) hold: bool,
    pub(crate) replay: ReplayPolicy,
    pub(crate) wait: Duration,
    /// The pool is no longer in the table.
    pub(crate) gone: bool,
}

impl View {
    pub(crate) fn with_role(&self, role: BackendRole) -> impl Iterator<Item = &Arc<Backend>> {
        self.backends.iter().filter(move |(_, its)| *its == role).map(|(backend, _)| backend)
    }

    pub(crate) fn role_of(&self, backend: &Arc<Backend>) -> Option<BackendRole> {
        self.backends.iter().find(|(other, _)| Arc::ptr_eq(other, backend)).map(|(_, role)| *role)
    }
}

/// Why no instance was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error("no instance took the request in time")]
    NoInstance,
    #[error("too many requests wait for an instance")]
    Crowded,
    #[error("the service is gone")]
    Gone,
}

/// How long one request has waited, over all its tries.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    began: Option<Instant>,
    reached: Option<Instant>,
    pause: Duration,
}

impl Wait {
    /// From here on the request waits.
    pub(crate) fn begin(&mut self) -> Instant {
        *self.began.get_or_insert_with(Instant::now)
    }

    /// An instance takes the request; if that comes to nothing, the wait goes on.
    pub(crate) fn reached(&mut self) {
        if self.began.is_some() {
            self.reached = Some(Instant::now());
        }
    }

    /// The request was answered, or given up: what it waited is counted, up to where an instance took it at last.
    pub(crate) fn end(&mut self, counters: &Counters) {
        if let Some(began) = self.began.take() {
            counters.wait(self.reached.take().unwrap_or_else(Instant::now) - began);
        }
    }

    /// No instance was found.
    fn give_up(&mut self, counters: &Counters) {
        self.reached = None;
        self.end(counters);
    }

    fn next_pause(&mut self) -> Duration {
        self.pause = (self.pause * 2).clamp(limits::RETRY_PAUSE, limits::RETRY_PAUSE_MAX);
        self.pause
    }
}

/// A place among those that wait; dropping it frees the place.
struct Place<'a>(&'a Pool);

impl<'a> Place<'a> {
    fn take(pool: &'a Pool, limits: &Limits) -> Result<Self, Unavailable> {
        let place = Self(pool);
        if pool.waiting.fetch_add(1, Relaxed) < limits.waiters { Ok(place) } else { Err(Unavailable::Crowded) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

impl Pool {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            counters: Counters::new(),
            registry: Registry::default(),
            view: ArcSwap::default(),
            known: Mutex::default(),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    pub(crate) fn view(&self) -> arc_swap::Guard<Arc<View>> {
        self.view.load()
    }

    /// Puts what the new table says into force, in one step for every request.
    ///
    /// The order matters: an instance that becomes active accepts before anybody is sent to it, and one that ceases to be
    /// active refuses only when nobody is sent to it any more. A request in between finds an instance on its second look.
    pub(crate) fn apply(&self, version: u64, model: Option<&PoolModel>) {
        let mut known = self.known.lock();
        let view = match model {
            Some(model) => View {
                version,
                backends: model
                    .backends
                    .iter()
                    .map(|backend| (find_or_add(&mut known, backend.generation, &backend.endpoint), backend.role))
                    .collect(),
                hold: model.hold,
                replay: model.replay,
                wait: Duration::from_millis(model.wait_ms),
                gone: false,
            },
            None => View { version, gone: true, ..View::default() },
        };
        let view = Arc::new(view);
        for backend in view.with_role(BackendRole::Active) {
            backend.set_accepting(true);
        }
        self.view.store(Arc::clone(&view));
        known.retain(|backend| {
            let role = view.role_of(backend);
            if role != Some(BackendRole::Active) {
                backend.set_accepting(false);
            }
            if role.is_none() {
                backend.gone.cancel();
            }
            role.is_some() || backend.busy() != (0, 0)
        });
        drop(known);
        self.changed.notify_waiters();
    }

    /// The instance of a generation, if it is in the table or has something in flight.
    pub(crate) fn backend(&self, generation: Generation) -> Option<Arc<Backend>> {
        self.known.lock().iter().find(|backend| backend.generation == generation).cloned()
    }

    /// Returns at the next change of the pool: a new table, or an instance that is back.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// A lease on the instance with the fewest in flight, if one can take it now.
    pub(crate) fn try_acquire(&self, kind: Use) -> Option<Lease> {
        // A lease is refused only when the view has just been replaced.
        loop {
            let view = self.view.load();
            if view.hold {
                return None;
            }
            let best = view.with_role(BackendRole::Active).filter(|b| b.is_up()).min_by_key(|b| b.load())?;
            if let Some(lease) = Lease::take(best, kind) {
                return Some(lease);
            }
            std::hint::spin_loop();
        }
    }

    /// A lease on an instance, as soon as one can take it; at the latest when the pool's wait is over.
    pub(crate) async fn acquire(&self, kind: Use, limits: &Limits, wait: &mut Wait) -> Result<Lease, Unavailable> {
        if let Some(lease) = self.try_acquire(kind) {
            return Ok(lease);
        }
        let found = Box::pin(self.await_lease(kind, limits, wait.begin())).await;
        if found.is_err() {
            wait.give_up(&self.counters);
        }
        found
    }

    async fn await_lease(&self, kind: Use, limits: &Limits, began: Instant) -> Result<Lease, Unavailable> {
        let _place = Place::take(self, limits)?;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(lease) = self.try_acquire(kind) {
                return Ok(lease);
            }
            let left = self.left(began)?;
            if timeout(left, changed).await.is_err() {
                return Err(Unavailable::NoInstance);
            }
        }
    }

    /// Waits before a try is repeated: for the next change, at most for a pause that grows.
    pub(crate) async fn pause(&self, limits: &Limits, wait: &mut Wait) -> Result<(), Unavailable> {
        let began = wait.begin();
        let may_wait = Place::take(self, limits).and_then(|place| Ok((place, self.left(began)?)));
        let (_place, left) = may_wait.inspect_err(|_| wait.give_up(&self.counters))?;
        let changed = self.changed.notified();
        // Either end of the pause is fine.
        let _ = timeout(wait.next_pause().min(left), changed).await;
        Ok(())
    }

    /// What is left of the wait.
    fn left(&self, began: Instant) -> Result<Duration, Unavailable> {
        let view = self.view.load();
        if view.gone {
            return Err(Unavailable::Gone);
        }
        view.wait.checked_sub(began.elapsed()).filter(|left| !left.is_zero()).ok_or(Unavailable::NoInstance)
    }

    /// Takes an instance out of the choice until it accepts connections again. One task dials it, so that those who wait need
    /// not.
    pub(crate) fn mark_down(self: &Arc<Self>, backend: &Arc<Backend>, limits: &Arc<Limits>) {
        if !backend.set_down(true) {
            return;
        }
        let (pool, backend, limits) = (Arc::clone(self), Arc::clone(backend), Arc::clone(limits));
        tokio::spawn(async move {
            let mut pause = limits::RETRY_PAUSE;
            loop {
                tokio::select! {
                    () = backend.gone.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                if let Ok(stream) = backend.dial(&limits).await {
                    backend.give_back_stream(stream);
                    break;
                }
                pause = (pause * 2).min(limits::RETRY_PAUSE_MAX);
            }
            backend.set_down(false);
            pool.changed.notify_waiters();
        });
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed) as u64
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let view = self.view.load();
        let (pubsub_clients, subscriptions) = self.registry.counts();
        let mut generations: Vec<_> =
            self.known.lock().iter().map(|backend| backend.stats(view.role_of(backend))).collect();
        generations.sort_by_key(|stats| stats.generation);
        PoolStats { waiting: self.waiting(), pubsub_clients, subscriptions, generations, ..self.counters.since_reset() }
    }
}

fn find_or_add(known: &mut Vec<Arc<Backend>>, generation: Generation, endpoint: &Endpoint) -> Arc<Backend> {
    let same = |backend: &&Arc<Backend>| {
        backend.generation == generation && backend.endpoint == *endpoint && !backend.gone.is_cancelled()
    };
    if let Some(backend) = known.iter().find(same) {
        return Arc::clone(backend);
    }
    let backend = Arc::new(Backend::new(generation, endpoint.clone()));
    known.push(Arc::clone(&backend));
    backend
}
