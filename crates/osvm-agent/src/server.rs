//! The agent's side of a connection: preamble, request, and who answers it.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::SyncSender,
    },
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process_group},
    time::{ClockId, clock_gettime},
};

use crate::{
    Code, Error, Failure, Info, Reply, Request, copy, exec, forward,
    wire::{self, Frame, Kind, Sender},
};

/// Connections at a time. One more is answered with [`Code::Busy`].
pub const MOST_CONNECTIONS: usize = 256;
/// How long the host may take for its preamble and its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What all connections share.
#[derive(Debug)]
pub struct Agent {
    connections: AtomicUsize,
    running: Mutex<Running>,
    ready_ms: u64,
    stop: SyncSender<()>,
}

/// The programs that were started and not yet waited for, by their number.
#[derive(Debug, Default)]
struct Running {
    last: u64,
    groups: HashMap<u64, Pid>,
}

impl Agent {
    /// An agent that is ready now. It says on `stop` that the guest is to end.
    pub fn new(stop: SyncSender<()>) -> Arc<Self> {
        let up = clock_gettime(ClockId::Boottime);
        let ready_ms = u64::try_from(up.tv_sec * 1000 + up.tv_nsec / 1_000_000).unwrap_or(0);
        Arc::new(Self { connections: AtomicUsize::new(0), running: Mutex::default(), ready_ms, stop })
    }

    /// Answers one connection in a thread of its own.
    pub fn take(self: &Arc<Self>, stream: UnixStream) {
        let agent = Arc::clone(self);
        let full = agent.connections.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS;
        let work = move || {
            // What went wrong was told to the host where it can be told; there is nobody else to tell.
            let _ = agent.answer(stream, full);
            agent.connections.fetch_sub(1, Ordering::Relaxed);
        };
        // Without memory for a thread the stream is dropped with the closure: the host sees the connection end.
        if std::thread::Builder::new().spawn(work).is_err() {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Reads the request and has it answered.
    fn answer(&self, mut stream: UnixStream, full: bool) -> Result<(), Error> {
        stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
        wire::write_preamble(&mut &stream)?;
        wire::read_preamble(&mut stream)?;
        if full {
            let what = format!("{MOST_CONNECTIONS} connections are open, which is the most");
            return refuse(&stream, Code::Busy, what);
        }
        let Some(Frame { kind, payload }) = wire::read_frame(&mut stream, Sender::Host)? else { return Ok(()) };
        if kind != Kind::Request {
            return refuse(&stream, Code::Bad, "a request comes first".to_owned());
        }
        let request = match serde_json::from_slice::<Request>(&payload) {
            Ok(request) => request,
            Err(error) => return refuse(&stream, Code::Bad, format!("no request: {error}")),
        };
        if let Err(bad) = request.check() {
            return refuse(&stream, Code::Bad, bad.to_string());
        }
        stream.set_read_timeout(None)?;
        match request {
            Request::Info => reply(&stream, &Reply::Info(self.info())),
            Request::Exec(wanted) => exec::run(self, stream, &wanted),
            Request::Signal { exec, signal } => self.signal(&stream, exec, signal),
            Request::Read { path } => copy::read(&stream, &path),
            Request::Write { path, mode, size } => copy::write(&stream, &path, mode, size),
            Request::Forward { port } => forward::join(&stream, port),
            Request::Shutdown => {
                let told = reply(&stream, &Reply::Done);
                // One word is enough; a second one finds the channel full.
                let _ = self.stop.try_send(());
                told
            }
        }
    }

    fn info(&self) -> Info {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        Info { agent: env!("CARGO_PKG_VERSION").to_owned(), kernel, ready_ms: self.ready_ms }
    }

    /// The lock is held while the signal is sent: a group is taken off the list before it is waited for, so its number is not
    /// another's yet.
    fn signal(&self, stream: &UnixStream, exec: u64, signal: i32) -> Result<(), Error> {
        let sent = match (self.running().groups.get(&exec), Signal::from_named_raw(signal)) {
            (_, None) => return refuse(stream, Code::Bad, format!("signal {signal} has no name")),
            (None, _) => return refuse(stream, Code::Missing, format!("program {exec} does not run")),
            (Some(&group), Some(signal)) => kill_process_group(group, signal),
        };
        match sent {
            Ok(()) => reply(stream, &Reply::Done),
            Err(error) => refuse_io(stream, &error.into()),
        }
    }

    /// Notes a program that has just been started.
    pub(crate) fn started(&self, group: Pid) -> u64 {
        let mut running = self.running();
        running.last += 1;
        let number = running.last;
        running.groups.insert(number, group);
        number
    }

    /// Kills what is left of a program's group, if it still runs.
    pub(crate) fn kill(&self, number: u64) {
        if let Some(&group) = self.running().groups.get(&number) {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Takes a program off the list. To be called after it ended and before it is waited for.
    pub(crate) fn ended(&self, number: u64) {
        self.running().groups.remove(&number);
    }

    /// Kills every program that was started here.
    pub fn kill_all(&self) {
        for &group in self.running().groups.values() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// No code panics while it holds the lock, and the list is whole between any two calls.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers yes.
pub(crate) fn reply(mut stream: &UnixStream, answer: &Reply) -> Result<(), Error> {
    wire::write_json(&mut stream, Kind::Reply, answer)
}

/// Answers no.
pub(crate) fn refuse(mut stream: &UnixStream, code: Code, what: String) -> Result<(), Error> {
    wire::write_json(&mut stream, Kind::Failure, &Failure { code, what })
}

/// Answers no, with what the guest's kernel said.
pub(crate) fn refuse_io(stream: &UnixStream, error: &io::Error) -> Result<(), Error> {
    let code = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Code::Missing,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => Code::Full,
        io::ErrorKind::InvalidInput => Code::Bad,
        _ => Code::Other,
    };
    refuse(stream, code, error.to_string())
}
