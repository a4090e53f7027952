//! The gateway's supervisor: one process on the daemon's listening sockets, which always has the newest table.
//!
//! It is started when the first service needs it, started again at once when it dies, and adopted if it outlived a daemon. Tables
//! are sent one after the other by one task, so that they arrive in the order in which they were made.

mod admin;
mod process;
mod sockets;
mod table;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use osvm_model::{
    EventKind, Generation, ServiceName,
    gateway::{Drained, RoutesApplied},
};
use osvm_runtime::Process;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

pub(crate) use admin::Admin;
pub(crate) use sockets::PortError;
pub(crate) use table::{ServiceRoutes, pool_name};

use crate::{
    GatewayCommand,
    error::chain,
    events::{Events, Note},
    exchange::ExchangeError,
    paths::Paths,
    store::{Store, StoreError},
};
use admin::Pushed;
use sockets::Sockets;

/// How long whoever changes routes waits for them to be in force, over restarts of the gateway.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// First pause before a gateway that died is started again; it doubles up to [`RESTART_PAUSE_MAX`].
const RESTART_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause before it is started again.
const RESTART_PAUSE_MAX: Duration = Duration::from_millis(500);
/// Pause before a table that the gateway did not take is sent again.
const PUSH_PAUSE: Duration = Duration::from_millis(500);
/// A gateway that lived so long was sound: the next restart comes without much ado.
const SOUND_AFTER: Duration = Duration::from_secs(10);
/// For the gateway to end by itself when it is stopped.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// Requests to the supervisor that wait.
const QUEUE: usize = 64;

/// Why routes are not in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayError {
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("{addr} is taken by service {holder}")]
    Taken { addr: SocketAddr, holder: ServiceName },
    #[error("the gateway did not start")]
    Start(#[source] std::io::Error),
    #[error("the gateway did not take the routes")]
    Refused(#[source] ExchangeError),
    #[error("the gateway did not take the routes within {} s", APPLY_TIMEOUT.as_secs())]
    Timeout,
    #[error("the gateway is being stopped")]
    Stopped,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl GatewayError {
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::Port(error) => Some(error.help()),
            Self::Taken { holder, .. } => {
                Some(format!("choose another port, or stop that service: osvm stop {holder}"))
            }
            Self::Store(error) => error.help(),
            _ => None,
        }
    }
}

enum Request {
    Reserve {
        service: ServiceName,
        addrs: Vec<SocketAddr>,
        reply: oneshot::Sender<Result<(), GatewayError>>,
    },
    Apply {
        service: ServiceName,
        routes: Option<ServiceRoutes>,
        reply: oneshot::Sender<Result<RoutesApplied, GatewayError>>,
    },
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// A handle on the supervisor.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    requests: mpsc::Sender<Request>,
    admin: Admin,
    pid: Arc<AtomicU32>,
}

impl Gateway {
    /// Starts the supervisor. Adopts the gateway of an earlier daemon if it lives.
    pub(crate) async fn open(
        command: GatewayCommand,
        paths: Paths,
        store: Store,
        events: Events,
    ) -> Result<Self, StoreError> {
        let (requests, inbox) = mpsc::channel(QUEUE);
        let admin = Admin::new(paths.gateway_socket());
        let pid = Arc::new(AtomicU32::new(0));
        // Versions grow from daemon to daemon without a write for each: the upper half counts daemons.
        let epoch = store.meta::<u64>("table_epoch")?.unwrap_or(0) + 1;
        store.set_meta("table_epoch", &epoch)?;
        let mut supervisor = Supervisor {
            command,
            paths,
            store,
            events,
            admin: admin.clone(),
            sockets: Sockets::default(),
            services: BTreeMap::new(),
            version: epoch << 32,
            process: None,
            pid: Arc::clone(&pid),
            pause: RESTART_PAUSE,
            started: Instant::now(),
            behind: false,
        };
        supervisor.adopt().await?;
        tokio::spawn(supervisor.run(inbox));
        Ok(Self { requests, admin, pid })
    }

    /// The gateway's process.
    pub(crate) fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    pub(crate) fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Makes sure that the service can listen on these addresses.
    pub(crate) async fn reserve(&self, service: &ServiceName, addrs: Vec<SocketAddr>) -> Result<(), GatewayError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Reserve { service: service.clone(), addrs, reply }).await?;
        answer.await.unwrap_or(Err(GatewayError::Stopped))
    }

    /// Changes the routes of one service, or removes them. Returns once they are in force.
    pub(crate) async fn apply(
        &self,
        service: &ServiceName,
        routes: Option<ServiceRoutes>,
    ) -> Result<RoutesApplied, GatewayError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Apply { service: service.clone(), routes, reply }).await?;
        match tokio::time::timeout(APPLY_TIMEOUT, answer).await {
            Ok(answer) => answer.unwrap_or(Err(GatewayError::Stopped)),
            Err(_) => Err(GatewayError::Timeout),
        }
    }

    /// Waits until nothing is in flight on an instance in any of the pools; what is left when the time is over.
    pub(crate) async fn drained(&self, pools: &[String], generation: Generation, limit: Duration) -> Vec<Drained> {
        let waits = pools.iter().map(|pool| self.admin.drained(pool, generation, limit));
        let ended = futures_util::future::join_all(waits).await;
        // A gateway that died has nothing in flight.
        ended.into_iter().flatten().collect()
    }

    /// Ends the gateway.
    pub(crate) async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.ask(Request::Stop { reply }).await.is_ok() {
            let _ = answer.await;
        }
    }

    async fn ask(&self, request: Request) -> Result<(), GatewayError> {
        self.requests.send(request).await.map_err(|_| GatewayError::Stopped)
    }
}

struct Supervisor {
    command: GatewayCommand,
    paths: Paths,
    store: Store,
    events: Events,
    admin: Admin,
    sockets: Sockets,
    services: BTreeMap<ServiceName, ServiceRoutes>,
    version: u64,
    process: Option<Process>,
    pid: Arc<AtomicU32>,
    pause: Duration,
    started: Instant,
    /// The newest table is not in force.
    behind: bool,
}

impl Supervisor {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        loop {
            let process = self.process.clone();
            let died = async move {
                match process {
                    Some(process) => process.exited().await,
                    None => std::future::pending().await,
                }
            };
            let again =
                async { if self.behind { tokio::time::sleep(PUSH_PAUSE).await } else { std::future::pending().await } };
            tokio::select! {
                exit = died => self.restart(&exit.to_string()).await,
                () = again => {
                    if let Err(error) = self.push().await {
                        tracing::warn!(error = chain(&error), "the gateway still does not take the routes");
                    }
                }
                request = inbox.recv() => match request {
                    Some(Request::Reserve { service, addrs, reply }) => {
                        let _ = reply.send(self.reserve(&service, &addrs));
                    }
                    Some(Request::Apply { service, routes, reply }) => {
                        let _ = reply.send(self.apply(service, routes).await);
                    }
                    Some(Request::Stop { reply }) => {
                        self.stop().await;
                        let _ = reply.send(());
                        return;
                    }
                    // The daemon ends and leaves the gateway to the next one.
                    None => return,
                },
            }
        }
    }

    fn reserve(&mut self, service: &ServiceName, addrs: &[SocketAddr]) -> Result<(), GatewayError> {
        let mut bound = Vec::new();
        for addr in addrs {
            let holder = self
                .services
                .iter()
                .find(|(name, routes)| *name != service && routes.ports.iter().any(|port| port.listen == *addr));
            let taken = match holder {
                Some((holder, _)) => Err(GatewayError::Taken { addr: *addr, holder: holder.clone() }),
                None if self.sockets.has(*addr) => continue,
                None => self.sockets.bind(*addr).map_err(GatewayError::from),
            };
            if let Err(error) = taken {
                bound.into_iter().for_each(|addr| self.sockets.release(addr));
                return Err(error);
            }
            bound.push(*addr);
        }
        Ok(())
    }

    async fn apply(
        &mut self,
        service: ServiceName,
        routes: Option<ServiceRoutes>,
    ) -> Result<RoutesApplied, GatewayError> {
        let before = match routes {
            Some(routes) => self.services.insert(service, routes),
            None => self.services.remove(&service),
        };
        self.version += 1;
        let addrs = |routes: &ServiceRoutes| routes.ports.iter().map(|port| port.listen).collect::<Vec<_>>();
        let wanted: Vec<SocketAddr> = self.services.values().flat_map(addrs).collect();
        let gone: Vec<_> = before.iter().flat_map(addrs).filter(|addr| !wanted.contains(addr)).collect();
        gone.into_iter().for_each(|addr| self.sockets.release(addr));
        if self.process.is_none() {
            if wanted.is_empty() {
                return Ok(RoutesApplied { version: self.version, ..RoutesApplied::default() });
            }
            for addr in &wanted {
                self.sockets.bind(*addr)?;
            }
            self.start().await?;
            return self.push().await;
        }
        // A living gateway cannot be given sockets: it binds new ones itself, and hands out handles on them afterwards.
        let known = before.iter().flat_map(addrs).collect::<Vec<_>>();
        let new: Vec<_> = wanted.iter().filter(|addr| !known.contains(addr) && !self.pushed(**addr)).copied().collect();
        for addr in &new {
            self.sockets.release(*addr);
        }
        let applied = self.push_or_restart().await;
        if !new.is_empty() {
            self.fetch().await;
        }
        applied
    }

    /// Whether a service other than the one being changed had the address before.
    fn pushed(&self, addr: SocketAddr) -> bool {
        self.services.values().filter(|routes| routes.ports.iter().any(|port| port.listen == addr)).count() > 1
    }

    async fn push_or_restart(&mut self) -> Result<RoutesApplied, GatewayError> {
        match self.push().await {
            Err(error @ GatewayError::Refused(_)) => {
                let exit = self.process.as_ref().and_then(Process::try_exit);
                match exit {
                    Some(exit) => {
                        self.restart(&exit.to_string()).await;
                        self.push().await
                    }
                    None => Err(error),
                }
            }
            done => done,
        }
    }

    /// Sends the newest table. If it does not arrive it is sent again later.
    async fn push(&mut self) -> Result<RoutesApplied, GatewayError> {
        let pushed = self.push_once().await;
        self.behind = pushed.is_err();
        pushed
    }

    async fn push_once(&mut self) -> Result<RoutesApplied, GatewayError> {
        let deadline = Instant::now() + APPLY_TIMEOUT;
        loop {
            let table = table::build(self.version, &self.services);
            match self.admin.put_routes(&table).await {
                Ok(Pushed::Applied(applied)) => return Ok(applied),
                // The gateway has a table of a daemon whose store was lost.
                Ok(Pushed::Older) if Instant::now() < deadline => {
                    let theirs = self.admin.routes_version().await.map_err(GatewayError::Refused)?;
                    self.version = self.version.max(theirs) + 1;
                }
                Ok(Pushed::Older) => return Err(GatewayError::Timeout),
                Err(error) => {
                    // It may have died under the request, and its exit may not be noticed yet.
                    if let Some(process) = &self.process {
                        let _ = tokio::time::timeout(RESTART_PAUSE, process.exited()).await;
                    }
                    return Err(GatewayError::Refused(error));
                }
            }
        }
    }

    fn note(&self, message: String) {
        self.events.note(Note::new(EventKind::Gateway, message).pid(self.pid.load(Ordering::Relaxed)));
    }

    /// Starts a gateway again, and again, until it has the table. Requests wait meanwhile.
    async fn restart(&mut self, exit: &str) {
        self.forget();
        if self.started.elapsed() > SOUND_AFTER {
            self.pause = RESTART_PAUSE;
        }
        self.note(format!("the gateway ended ({exit}) and is started again on its sockets"));
        loop {
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(RESTART_PAUSE_MAX);
            for routes in self.services.values() {
                for port in &routes.ports {
                    if let Err(error) = self.sockets.bind(port.listen) {
                        self.note(format!("the gateway goes without {}: {}", port.listen, chain(&error)));
                    }
                }
            }
            let started = match self.start().await {
                Ok(()) => self.push().await.map(drop),
                Err(error) => Err(error),
            };
            match started {
                Ok(()) => return,
                Err(error) => {
                    self.note(format!("the gateway did not start again: {}", chain(&error)));
                    if let Some(process) = self.process.take() {
                        process.kill().await;
                    }
                }
            }
        }
    }

    fn forget(&mut self) {
        self.process = None;
        self.pid.store(0, Ordering::Relaxed);
    }

    async fn fetch(&mut self) {
        let mut path = self.admin.socket().as_os_str().to_owned();
        path.push(".fds");
        if let Err(error) = self.sockets.fetch(path.as_ref()).await {
            // Only a restart of the gateway would miss them: it binds them anew.
            tracing::warn!(%error, "the gateway did not hand out its sockets");
        }
    }

    async fn stop(&mut self) {
        let Some(process) = self.process.take() else { return };
        process.terminate(STOP_GRACE).await;
        self.note("the gateway ended".to_owned());
        self.forget();
        if let Err(error) = self.store.set_meta("gateway", &None::<(u32, u64)>) {
            tracing::warn!(error = chain(&error), "cannot note that the gateway ended");
        }
    }
}
