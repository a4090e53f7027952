//! A client of one server: asks which protocol it speaks, calls it, and trusts nothing that it says.

use std::{
    path::Path,
    process::ExitStatus,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use osvm_jail::Spec;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin},
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    caller::Caller,
    incoming::{Incoming, Open, Pending},
    launch,
    version::{self, Version},
    wire::{RpcError, line},
};

/// Calls that may be open at one server.
const MOST_OPEN: usize = 64;
/// Messages that may wait to be written to one server, and changes of resources to be told.
const MOST_WAITING: usize = 64;
/// How long a server may take to answer which protocol it speaks, before the older way is tried.
const PROBE: Duration = Duration::from_secs(5);
/// How long the older way may take: programs that have to load a lot start slowly.
const START: Duration = Duration::from_secs(30);
/// How long a server is given to end by itself, twice: after its stdin is closed, and after SIGTERM.
const END: Duration = Duration::from_secs(2);
/// Pages of a list that are asked for, and entries that are taken.
const MOST_PAGES: usize = 64;
const MOST_ENTRIES: usize = 4096;

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server did not start.
    #[error("the server does not start")]
    Start(#[from] launch::Error),
    /// The server answered with an error.
    #[error("the server refuses: {0}")]
    Refused(RpcError),
    /// No answer in time. The server was told to stop.
    #[error("no answer to {method} within {} s", limit.as_secs())]
    Late {
        /// What was asked.
        method: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The server has ended, or was ended for what it wrote.
    #[error("the server has ended")]
    Ended,
    /// Too many calls are open.
    #[error("{MOST_OPEN} calls are open at the server already")]
    Busy,
    /// It speaks no protocol that is known here.
    #[error("the server speaks protocol {0:?}, which is not known here")]
    Version(String),
    /// An answer of another shape than the protocol's.
    #[error("the server's answer to {0} is not understood")]
    Answer(String),
}

/// One running server.
pub struct Connection {
    child: Child,
    out: mpsc::Sender<Vec<u8>>,
    open: Open,
    next: AtomicU64,
    version: Version,
    /// Whether the server said that its tools are others now.
    stale: Arc<AtomicBool>,
    /// The level of log messages that an older server was told last.
    level: Mutex<Option<String>>,
}

/// An open call. Dropped before its answer came, it takes itself off the list and tells the server.
struct Call<'a> {
    id: u64,
    connection: &'a Connection,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let was_open =
            self.connection.open.with(|open| open.as_mut().is_some_and(|open| open.remove(&self.id).is_some()));
        if was_open {
            let params = json!({ "requestId": self.id, "reason": "nobody waits for it any more" });
            self.connection.tell("notifications/cancelled", params);
        }
    }
}

impl Connection {
    /// Starts a server and finds out what it speaks. `monitor` is the file of this program. `updates` gets its notifications that a
    /// resource has changed. With `older`, it is taken for a server with a handshake and not asked.
    ///
    /// # Errors
    /// When it does not start, ends, or speaks nothing that is known here.
    pub async fn start(monitor: &Path, spec: &Spec, older: bool, updates: mpsc::Sender<Value>) -> Result<Self, Error> {
        let mut child = launch::start(monitor, spec).await?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { return Err(Error::Ended) };
        let open = Open::new();
        let (out, waiting) = mpsc::channel(MOST_WAITING);
        tokio::spawn(write(stdin, waiting));
        let incoming = Incoming::new(open.clone(), out.clone().downgrade(), updates);
        let stale = incoming.stale.clone();
        tokio::spawn(incoming.read(stdout));
        let (next, version) = (AtomicU64::new(1), Version::Modern);
        let mut connection = Self { child, out, open, next, version, stale, level: Mutex::default() };
        connection.version = connection.negotiate(older).await?;
        Ok(connection)
    }

    /// Room for the changes of one server's resources.
    pub fn updates() -> (mpsc::Sender<Value>, mpsc::Receiver<Value>) {
        mpsc::channel(MOST_WAITING)
    }

    async fn negotiate(&self, older: bool) -> Result<Version, Error> {
        let nobody = Caller::plain("");
        if !older {
            match self.request("server/discover", json!({}), PROBE, &nobody).await {
                Ok(found) => {
                    let versions = found["supportedVersions"].as_array();
                    if versions.is_some_and(|all| all.iter().any(|version| version == version::MODERN)) {
                        return Ok(Version::Modern);
                    }
                }
                Err(Error::Refused(_) | Error::Late { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let params = json!({
            "protocolVersion": version::LEGACY[0],
            // What the gateway passes on to a client that can do it.
            "capabilities": { "sampling": {}, "elicitation": {}, "roots": {} },
            "clientInfo": version::own_info(),
        });
        let found = self.send("initialize", params, START, &nobody).await?;
        let spoken = found["protocolVersion"].as_str().unwrap_or_default();
        if !version::LEGACY.contains(&spoken) {
            return Err(Error::Version(spoken.to_owned()));
        }
        self.tell("notifications/initialized", json!({}));
        Ok(Version::Legacy)
    }

    /// What it speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether it can be called.
    pub fn alive(&self) -> bool {
        self.open.with(|open| open.is_some())
    }

    /// Calls that are open.
    pub fn calls(&self) -> usize {
        self.open.with(|open| open.as_ref().map_or(0, std::collections::HashMap::len))
    }

    /// Whether the server has said since the last question that its tools are others now.
    pub fn take_stale(&self) -> bool {
        self.stale.swap(false, Ordering::Relaxed)
    }

    /// Calls a method. The result has no trace of the protocol's version, but for `resultType` where a client of the modern version is
    /// to give input first.
    ///
    /// # Errors
    /// When there is no result. A call is never sent twice.
    pub async fn request(&self, method: &str, params: Value, limit: Duration, caller: &Caller) -> Result<Value, Error> {
        if self.version == Version::Legacy
            && let Some(level) = &caller.log_level
        {
            self.set_level(level, limit, caller).await?;
        }
        let mut result = self.send(method, params, limit, caller).await?;
        let Some(fields) = result.as_object_mut() else { return Err(Error::Answer(method.to_owned())) };
        // Who the server is stays here.
        fields.remove("_meta");
        match fields.get("resultType").and_then(Value::as_str) {
            Some("input_required") if version::may_ask(method) && caller.version == Version::Modern => Ok(result),
            Some("complete") => {
                fields.remove("resultType");
                Ok(result)
            }
            None if !fields.contains_key("resultType") => Ok(result),
            // A server that wants input first: this client cannot be asked.
            _ => Err(Error::Answer(method.to_owned())),
        }
    }

    /// An older server has one level for all; what is below a client's own level is left out on the way.
    async fn set_level(&self, level: &str, limit: Duration, caller: &Caller) -> Result<(), Error> {
        let current = || self.level.lock().unwrap_or_else(PoisonError::into_inner);
        if current().as_deref() == Some(level) {
            return Ok(());
        }
        match self.send("logging/setLevel", json!({ "level": level }), limit, caller).await {
            // A server without log messages.
            Ok(_) | Err(Error::Refused(_)) => *current() = Some(level.to_owned()),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn send(&self, method: &str, mut params: Value, limit: Duration, caller: &Caller) -> Result<Value, Error> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut meta = caller.meta(self.version, id);
        if self.version == Version::Modern {
            version::add_meta(&mut meta);
        }
        if !meta.is_empty() {
            params["_meta"] = Value::Object(meta);
        }
        let (reply, answer) = oneshot::channel();
        self.open.with(|open| match open {
            None => Err(Error::Ended),
            Some(open) if open.len() >= MOST_OPEN => Err(Error::Busy),
            Some(open) => {
                open.insert(id, Pending { reply, caller: caller.clone() });
                Ok(())
            }
        })?;
        let _call = Call { id, connection: self };
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let whole = async {
            self.out.send(line(&message)).await.map_err(|_| Error::Ended)?;
            answer.await.map_err(|_| Error::Ended)?.map_err(Error::Refused)
        };
        timeout(limit, whole).await.unwrap_or_else(|_| Err(Error::Late { method: method.to_owned(), limit }))
    }

    /// Sends a notification, if there is room.
    fn tell(&self, method: &str, params: Value) {
        let _ = self.out.try_send(line(&json!({ "jsonrpc": "2.0", "method": method, "params": params })));
    }

    /// A whole list, all pages: `tools/list` and its field `tools`.
    ///
    /// # Errors
    /// When a page has no answer, or there is no end of them.
    pub async fn list(&self, method: &str, field: &str, limit: Duration) -> Result<Vec<Value>, Error> {
        let nobody = Caller::plain("");
        let mut entries = Vec::new();
        let mut params = Map::new();
        for _ in 0..MOST_PAGES {
            let mut page = self.request(method, Value::Object(params.clone()), limit, &nobody).await?;
            let Value::Array(found) = page[field].take() else { return Err(Error::Answer(method.to_owned())) };
            entries.extend(found);
            if entries.len() > MOST_ENTRIES {
                break;
            }
            match page["nextCursor"].take() {
                Value::String(cursor) => params.insert("cursor".to_owned(), Value::String(cursor)),
                _ => return Ok(entries),
            };
        }
        Err(Error::Answer(method.to_owned()))
    }

    /// Ends it: its stdin is closed, then it is asked by SIGTERM, then killed.
    pub async fn stop(self) -> Option<ExitStatus> {
        let Self { mut child, out, .. } = self;
        drop(out);
        if let Ok(ended) = timeout(END, child.wait()).await {
            return ended.ok();
        }
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        if let Ok(ended) = timeout(END, child.wait()).await {
            return ended.ok();
        }
        let _ = child.kill().await;
        child.wait().await.ok()
    }
}

async fn write(mut stdin: ChildStdin, mut waiting: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = waiting.recv().await {
        if stdin.write_all(&message).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
}
