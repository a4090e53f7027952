//! The state that all connections share, and the one place where it changes: [`Gateway::apply`].

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use osvm_model::{
    BackendRole, ListenerProtocol, RouteTable,
    gateway::{GatewayStats, RoutesApplied},
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{
    limits::{self, Limits},
    listener::{self, Bound},
    pool::Pool,
    signal::Signal,
    table::{self, Plan, TableError},
    workers::Workers,
};

/// One gateway.
pub(crate) struct Gateway {
    pub(crate) limits: Arc<Limits>,
    model: ArcSwapOption<RouteTable>,
    pools: Mutex<HashMap<String, Arc<Pool>>>,
    listeners: Mutex<HashMap<SocketAddr, Arc<Listening>>>,
    inherited: Mutex<Vec<std::net::TcpListener>>,
    /// One table at a time.
    applying: tokio::sync::Mutex<()>,
    /// One permit a client connection.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    pub(crate) workers: Workers,
    pub(crate) ending: Ending,
    pub(crate) request_ids: RequestIds,
}

/// The steps of an end, in order.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// Clients are told to go elsewhere; new ones are still taken.
    pub(crate) announce: Signal,
    /// No new connections, and none is kept for a next request.
    pub(crate) stop: Signal,
    /// What is left is cut.
    pub(crate) cut: Signal,
}

/// An address that is served.
pub(crate) struct Listening {
    pub(crate) addr: SocketAddr,
    pub(crate) socket: std::net::TcpListener,
    pub(crate) plan: ArcSwap<Plan>,
    /// The address left the table, or the gateway stops.
    pub(crate) closed: Signal,
}

impl Gateway {
    pub(crate) fn new(limits: Limits, inherited: Vec<std::net::TcpListener>, workers: Workers) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
            limits: Arc::new(limits),
            model: ArcSwapOption::empty(),
            pools: Mutex::default(),
            listeners: Mutex::default(),
            inherited: Mutex::new(inherited),
            applying: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
            workers,
            ending: Ending::default(),
            request_ids: RequestIds::default(),
        }
    }

    /// The table in force.
    pub(crate) fn model(&self) -> Option<Arc<RouteTable>> {
        self.model.load_full()
    }

    pub(crate) fn pool(&self, name: &str) -> Option<Arc<Pool>> {
        self.pools.lock().get(name).cloned()
    }

    /// All pools, by name.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        let mut pools: Vec<_> = self.pools.lock().values().cloned().collect();
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        pools
    }

    /// Puts a table into force: all of it, or nothing if it is refused.
    pub(crate) async fn apply(self: &Arc<Self>, model: RouteTable) -> Result<RoutesApplied, TableError> {
        let applying = self.applying.lock().await;
        match self.model() {
            Some(now) if now.version > model.version => {
                return Err(TableError::Older { offered: model.version, in_force: now.version });
            }
            Some(now) if now.version == model.version && *now != model => {
                return Err(TableError::Differs(model.version));
            }
            _ => {}
        }
        let mut fresh: HashMap<String, Arc<Pool>> = HashMap::new();
        let plans = table::plans(&model, |name| {
            if !model.pools.contains_key(name) {
                return None;
            }
            let make = || Arc::new(Pool::new(name.to_owned()));
            Some(self.pool(name).unwrap_or_else(|| Arc::clone(fresh.entry(name.to_owned()).or_insert_with(make))))
        })?;
        for name in model.pools.keys() {
            if self.pool(name).is_none() && !fresh.contains_key(name) {
                fresh.insert(name.clone(), Arc::new(Pool::new(name.clone())));
            }
        }
        let new_sockets = self.open_missing(&plans)?;
        // From here on nothing fails.
        self.switch(&model, plans, fresh, new_sockets);
        drop(applying);
        Ok(self.await_prepared(&model).await)
    }

    /// Sockets for the addresses that are not served yet.
    fn open_missing(&self, plans: &[(SocketAddr, Plan)]) -> Result<HashMap<SocketAddr, Bound>, TableError> {
        let listeners = self.listeners.lock();
        let mut inherited = self.inherited.lock();
        let mut opened = HashMap::new();
        for (addr, _) in plans.iter().filter(|(addr, _)| !listeners.contains_key(addr)) {
            let bound =
                listener::open(*addr, &mut inherited).map_err(|source| TableError::Listen { addr: *addr, source })?;
            opened.insert(*addr, bound);
        }
        Ok(opened)
    }

    fn switch(
        self: &Arc<Self>,
        model: &RouteTable,
        plans: Vec<(SocketAddr, Plan)>,
        fresh: HashMap<String, Arc<Pool>>,
        mut opened: HashMap<SocketAddr, Bound>,
    ) {
        let mut pools = self.pools.lock();
        pools.extend(fresh);
        for (name, pool) in pools.iter() {
            if let Some(pool_model) = model.pools.get(name) {
                pool.apply(model.version, Some(pool_model));
            }
        }
        let mut listeners = self.listeners.lock();
        let mut served = HashMap::with_capacity(plans.len());
        for (addr, plan) in plans {
            if let Some(listening) = listeners.remove(&addr) {
                listening.plan.store(Arc::new(plan));
                served.insert(addr, listening);
            } else if let Some(bound) = opened.remove(&addr) {
                let listening = Arc::new(Listening {
                    addr: bound.addr,
                    socket: bound.socket,
                    plan: ArcSwap::from_pointee(plan),
                    closed: Signal::default(),
                });
                // Under the lock of the listeners, as in `end`: none is overlooked.
                if self.ending.stop.is_set() {
                    listening.closed.set();
                }
                self.tasks.spawn(listener::accept_all(Arc::clone(self), Arc::clone(&listening), bound.listener));
                served.insert(addr, listening);
            }
        }
        for (_, left) in std::mem::replace(&mut *listeners, served) {
            left.closed.set();
        }
        // Pools that left go last: no route leads to them any more.
        pools.retain(|name, pool| {
            let stays = model.pools.contains_key(name);
            if !stays {
                pool.apply(model.version, None);
            }
            stays
        });
        self.model.store(Some(Arc::new(model.clone())));
    }

    /// Waits for the subscriptions that are to be opened in advance.
    async fn await_prepared(&self, model: &RouteTable) -> RoutesApplied {
        let mut applied = RoutesApplied { version: model.version, ..RoutesApplied::default() };
        let deadline = tokio::time::Instant::now() + limits::PREPARE_TIMEOUT;
        let of_pubsub = model.listeners.iter().filter(|listener| listener.protocol == ListenerProtocol::SolanaPubsub);
        for name in of_pubsub.flat_map(|listener| &listener.routes).map(|route| &route.pool) {
            let prepares =
                model.pools.get(name).is_some_and(|p| p.backends.iter().any(|b| b.role == BackendRole::Prepare));
            if prepares
                && !applied.prepared.contains_key(name)
                && let Some(pool) = self.pool(name)
            {
                let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                applied.prepared.insert(name.clone(), pool.registry.prepared(model.version, left).await);
            }
        }
        applied
    }

    pub(crate) fn open_connections(&self) -> u64 {
        self.limits.connections.saturating_sub(self.connections.available_permits()) as u64
    }

    /// Figures of all pools, or of one.
    pub(crate) fn stats(&self, pool: Option<&str>) -> GatewayStats {
        let wanted = |one: &Arc<Pool>| pool.is_none_or(|name| name == one.name);
        GatewayStats {
            version: self.model().map_or(0, |model| model.version),
            pid: std::process::id(),
            connections: self.open_connections(),
            pools: self.pools().into_iter().filter(wanted).map(|p| (p.name.clone(), p.stats())).collect(),
        }
    }

    /// Copies of the listening sockets, with the addresses they are known by.
    pub(crate) fn sockets(&self) -> std::io::Result<Vec<(SocketAddr, OwnedFd)>> {
        let listeners = self.listeners.lock();
        listeners.values().map(|one| Ok((one.addr, one.socket.try_clone()?.into()))).collect()
    }

    /// Ends in three steps; returns once nothing is left.
    pub(crate) async fn end(&self) {
        self.ending.announce.set();
        tokio::time::sleep(self.limits.announce).await;
        {
            let listeners = self.listeners.lock();
            self.ending.stop.set();
            for listening in listeners.values() {
                listening.closed.set();
            }
        }
        self.tasks.close();
        if timeout(self.limits.drain, self.tasks.wait()).await {
            return;
        }
        tracing::warn!(connections = self.open_connections(), "cutting what did not end in time");
        self.ending.cut.set();
        timeout(limits::CUT_TIMEOUT * 2, self.tasks.wait()).await;
    }
}

async fn timeout(limit: Duration, work: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(limit, work).await.is_ok()
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Makes ids for requests that came without one: a part that is random to each process, and a count.
#[derive(Debug)]
pub(crate) struct RequestIds {
    process: u64,
    count: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        use std::hash::BuildHasher;
        let process = std::hash::RandomState::new().hash_one(std::process::id());
        Self { process, count: AtomicU64::new(0) }
    }
}

impl RequestIds {
    /// Writes 32 hex digits.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        for number in [self.process, self.count.fetch_add(1, Relaxed)] {
            to.extend((0..16).rev().map(|place| HEX[(number >> (4 * place)) as usize & 15]));
        }
    }

    /// 32 hex digits.
    pub(crate) fn next(&self) -> String {
        let mut id = Vec::with_capacity(32);
        self.write(&mut id);
        String::from_utf8(id).unwrap_or_default()
    }
}
