//! A client of one server: asks which protocol it speaks, calls it, and trusts nothing that it says.

use std::{
    collections::HashMap,
    path::Path,
    process::ExitStatus,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use osvm_jail::Spec;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout},
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    launch,
    version::{self, Version},
    wire::{self, METHOD_NOT_FOUND, RpcError},
};

/// Calls that may be open at one server.
const MOST_OPEN: usize = 64;
/// Messages that may wait to be written to one server.
const MOST_WAITING: usize = 64;
/// Lines that are no messages, after which a server is ended.
const MOST_NOISE: u64 = 1000;
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

type Reply = oneshot::Sender<Result<Value, RpcError>>;

/// Calls that are open; None once the server has ended.
#[derive(Clone)]
struct Open(Arc<Mutex<Option<HashMap<u64, Reply>>>>);

impl Open {
    fn with<T>(&self, what: impl FnOnce(&mut Option<HashMap<u64, Reply>>) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One running server.
pub struct Connection {
    child: Child,
    out: mpsc::Sender<Vec<u8>>,
    open: Open,
    next: AtomicU64,
    version: Version,
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
    /// Starts a server and finds out what it speaks. `monitor` is the file of this program.
    ///
    /// # Errors
    /// When it does not start, ends, or speaks nothing that is known here.
    pub async fn start(monitor: &Path, spec: &Spec) -> Result<Self, Error> {
        let mut child = launch::start(monitor, spec).await?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { return Err(Error::Ended) };
        let open = Open(Arc::new(Mutex::new(Some(HashMap::new()))));
        let (out, waiting) = mpsc::channel(MOST_WAITING);
        tokio::spawn(write(stdin, waiting));
        tokio::spawn(read(stdout, open.clone(), out.clone().downgrade()));
        let mut connection = Self { child, out, open, next: AtomicU64::new(1), version: Version::Modern };
        connection.version = connection.negotiate().await?;
        Ok(connection)
    }

    async fn negotiate(&self) -> Result<Version, Error> {
        match self.request("server/discover", json!({}), PROBE).await {
            Ok(found) => {
                let speaks =
                    found["supportedVersions"].as_array().is_some_and(|all| all.iter().any(|v| v == version::MODERN));
                if speaks {
                    return Ok(Version::Modern);
                }
            }
            Err(Error::Refused(_) | Error::Late { .. }) => {}
            Err(error) => return Err(error),
        }
        let params = json!({
            "protocolVersion": version::LEGACY[0],
            "capabilities": {},
            "clientInfo": version::own_info(),
        });
        let found = self.send("initialize", params, START).await?;
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

    /// Calls a method. The result has no trace of the protocol's version.
    ///
    /// # Errors
    /// When there is no result. A call is never sent twice.
    pub async fn request(&self, method: &str, mut params: Value, limit: Duration) -> Result<Value, Error> {
        if self.version == Version::Modern {
            version::add_meta(&mut params);
        }
        let mut result = self.send(method, params, limit).await?;
        match result.as_object_mut().map(|fields| fields.remove("resultType")) {
            Some(None) => Ok(result),
            Some(Some(Value::String(kind))) if kind == "complete" => Ok(result),
            // A server that wants input first: nobody here can be asked.
            _ => Err(Error::Answer(method.to_owned())),
        }
    }

    async fn send(&self, method: &str, params: Value, limit: Duration) -> Result<Value, Error> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        self.open.with(|open| match open {
            None => Err(Error::Ended),
            Some(open) if open.len() >= MOST_OPEN => Err(Error::Busy),
            Some(open) => {
                open.insert(id, reply);
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
        let mut entries = Vec::new();
        let mut params = Map::new();
        for _ in 0..MOST_PAGES {
            let mut page = self.request(method, Value::Object(params.clone()), limit).await?;
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

fn line(message: &Value) -> Vec<u8> {
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}

async fn write(mut stdin: ChildStdin, mut waiting: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = waiting.recv().await {
        if stdin.write_all(&message).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
}

/// Until the server ends or its stream is of no use any more.
async fn read(stdout: ChildStdout, open: Open, out: mpsc::WeakSender<Vec<u8>>) {
    let mut from = BufReader::new(stdout);
    let mut text = Vec::new();
    let mut noise = 0;
    loop {
        match wire::read_line(&mut from, &mut text).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                eprintln!("note: a server is not listened to any more: {error}");
                break;
            }
        }
        let Ok(Value::Object(mut message)) = serde_json::from_slice::<Value>(&text) else {
            noise += 1;
            if noise > MOST_NOISE {
                eprintln!("note: a server is not listened to any more: it writes what is no JSON-RPC");
                break;
            }
            continue;
        };
        if message.contains_key("method") {
            // A request of the server's, or a notification, which needs nothing.
            if let (Some(id), Some(out)) = (message.get("id"), out.upgrade()) {
                let answer = match message.get("method").and_then(Value::as_str) {
                    Some("ping") => json!({ "jsonrpc": "2.0", "id": id, "result": {} }),
                    _ => RpcError::new(METHOD_NOT_FOUND, "not offered to servers").answer(id),
                };
                // A server that does not read its answers does not get them.
                let _ = out.try_send(line(&answer));
            }
            continue;
        }
        let Some(id) = message.get("id").and_then(Value::as_u64) else { continue };
        let answer = match (message.remove("result"), message.remove("error")) {
            (Some(result), None) => Ok(result),
            (_, Some(error)) => Err(RpcError {
                code: error["code"].as_i64().unwrap_or(wire::INTERNAL),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
                data: error.get("data").cloned(),
            }),
            (None, None) => continue,
        };
        if let Some(reply) = open.with(|open| open.as_mut().and_then(|open| open.remove(&id))) {
            let _ = reply.send(answer);
        }
    }
    // Each open call learns of it by its sender's end.
    open.with(Option::take);
}
