//! One server as the gateway has it: started by the first call, stopped when nobody calls it, its tools known meanwhile.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex as Lock, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::Mutex;

use crate::{
    client::{Connection, Error},
    config::Server,
    launch::{self, words},
    pins::{Pins, hash},
    watch::Watchers,
    wire::METHOD_NOT_FOUND,
};

/// What all servers of a gateway have in common.
pub(crate) struct Common {
    pub(crate) monitor: PathBuf,
    pub(crate) pins: Pins,
    /// The folder of installed packages.
    pub(crate) packages: PathBuf,
    pub(crate) watchers: Arc<Watchers>,
}

/// What of a server is known while it runs.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) connection: Arc<Connection>,
    /// Tools that may be listed and called.
    pub(crate) tools: Arc<Vec<Value>>,
}

pub(crate) struct Slot {
    name: String,
    pub(crate) server: Server,
    running: Mutex<Option<Running>>,
    used: Lock<Instant>,
}

impl Slot {
    pub(crate) fn new(name: String, server: Server) -> Self {
        Self { name, server, running: Mutex::new(None), used: Lock::new(Instant::now()) }
    }

    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.server.call_seconds)
    }

    /// The running server, started if need be. Only one start of a server goes on at a time; others are not held up by it.
    pub(crate) async fn running(&self, common: &Common) -> Result<Running, Error> {
        let mut slot = self.running.lock().await;
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if let Some(running) = slot.as_mut().filter(|running| running.connection.alive()) {
            if running.connection.take_stale() {
                running.tools = self.list(&running.connection, common).await?;
            }
            return Ok(running.clone());
        }
        *slot = None;
        let (updates, mut changed) = Connection::updates();
        let spec = launch::spec(&self.name, &self.server, &common.packages)?;
        let older = self.server.protocol.is_some_and(|protocol| protocol.is_older());
        let connection = Connection::start(&common.monitor, &spec, older, updates).await?;
        let (watchers, name) = (common.watchers.clone(), self.name.clone());
        // Ends with the connection, which has the other end.
        tokio::spawn(async move {
            while let Some(note) = changed.recv().await {
                watchers.tell(&name, note);
            }
        });
        let tools = self.list(&connection, common).await?;
        Ok(slot.insert(Running { connection: Arc::new(connection), tools }).clone())
    }

    /// Its approved tools, without a start if they are known from the last one.
    pub(crate) async fn tools(&self, common: &Common) -> Result<Arc<Vec<Value>>, Error> {
        if self.running.lock().await.is_none()
            && let Some(known) = common.pins.known(&self.name, &self.declared())
        {
            return Ok(Arc::new(self.offered(known)));
        }
        Ok(self.running(common).await?.tools)
    }

    /// Asks for the tools, and sorts out what is held or not to be offered.
    async fn list(&self, connection: &Connection, common: &Common) -> Result<Arc<Vec<Value>>, Error> {
        let name = &self.name;
        let tools = match connection.list("tools/list", "tools", self.limit()).await {
            Err(Error::Refused(error)) if error.code == METHOD_NOT_FOUND => Vec::new(),
            tools => tools?,
        };
        let unusable = |error| launch::Error::Declared(words(&error));
        let sorted = common.pins.sort(name, tools).map_err(unusable)?;
        if !sorted.held.is_empty() {
            let held = launch::plain(&sorted.held.join(", "));
            eprintln!("note: {name}: new or changed since they were approved, and held: {held}");
            eprintln!("  help: look at them with `osvm mcp tools {name} --held`, then `osvm mcp approve {name}`");
        }
        common.pins.learn(name, &self.declared(), &sorted.approved).map_err(unusable)?;
        Ok(Arc::new(self.offered(sorted.approved)))
    }

    fn offered(&self, mut tools: Vec<Value>) -> Vec<Value> {
        tools.retain(|tool| tool["name"].as_str().is_some_and(|name| self.server.offers(name)));
        tools
    }

    /// What its list depends on.
    fn declared(&self) -> String {
        serde_json::to_value(&self.server).map(|server| hash(&server)).unwrap_or_default()
    }

    /// Stops it if nobody has called it for as long as is declared.
    pub(crate) async fn stop_if_idle(&self) {
        let Ok(mut slot) = self.running.try_lock() else { return };
        let idle = self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let quiet = slot.as_ref().is_some_and(|running| running.connection.calls() == 0);
        if quiet && idle >= Duration::from_secs(self.server.idle_seconds) {
            end(slot.take()).await;
        }
    }

    pub(crate) async fn stop(&self) {
        let running = self.running.lock().await.take();
        end(running).await;
    }
}

/// A connection that a call still has is ended with that call.
async fn end(running: Option<Running>) {
    if let Some(connection) = running.and_then(|running| Arc::into_inner(running.connection)) {
        connection.stop().await;
    }
}
