//! What the vCPU's thread does while the vCPU stands still: the unix socket, connections, standard input, signals.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{ErrorKind, Write},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::event::{
    PollFd, PollFlags, Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};

use crate::{
    conns::{Conns, request},
    error::Error,
    memory::{Memory, control},
    snapshot::Standing,
    sys,
};

/// Signals that are passed on to the program.
const PASSED: [i32; 5] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];
/// Connections that have not said yet where they want to.
const MOST_PENDING: usize = 128;
/// How long they may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long the peers of a program that has ended may take to read what it sent.
const LINGER: Duration = Duration::from_secs(1);
/// Ports that a guest may listen on at a time.
const MOST_PORTS: usize = 1024;
/// Events taken at a time.
const EVENTS: usize = 64;

const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const INPUT: u64 = 2;
const FOLDERS: u64 = 3;
/// Connections: the generation above the place.
const CONN: u64 = 1 << 32;
const PENDING: u64 = 1 << 63;

fn conn_token(generation: u32, place: u32) -> EventData {
    EventData::new_u64((CONN * u64::from(generation)) | u64::from(place))
}

/// Everything that can wake a guest.
#[derive(Debug)]
pub(crate) struct Io {
    epoll: Arc<OwnedFd>,
    listener: Option<(UnixListener, PathBuf)>,
    signals: OwnedFd,
    passed: u64,
    pending: BTreeMap<u64, (UnixStream, Instant)>,
    next_pending: u64,
    conns: Conns,
    ports: BTreeSet<u32>,
    activity: u32,
    waits_for_input: bool,
}

fn host(what: &'static str) -> impl Fn(rustix::io::Errno) -> Error {
    move |error| Error::Host(what, error.into())
}

impl Io {
    /// Listens on the unix socket, if there is one, and for signals.
    pub(crate) fn new(socket: Option<&Path>) -> Result<Self, Error> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(host("make an epoll instance"))?;
        let signals = sys::prepare_signals(&PASSED).map_err(|error| Error::Host("prepare signals", error))?;
        epoll::add(&epoll, &signals, EventData::new_u64(SIGNALS), EventFlags::IN).map_err(host("wait for signals"))?;
        let listener = match socket {
            None => None,
            Some(path) => {
                let broken = |source| Error::Listen { path: path.to_owned(), source };
                // A monitor that was killed leaves its socket's name behind.
                match UnixStream::connect(path) {
                    Ok(_) => return Err(broken(ErrorKind::AddrInUse.into())),
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                        std::fs::remove_file(path).map_err(broken)?;
                    }
                    Err(_) => {}
                }
                let listener = UnixListener::bind(path).map_err(broken)?;
                listener.set_nonblocking(true).map_err(broken)?;
                epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)
                    .map_err(host("wait for connections"))?;
                Some((listener, path.to_owned()))
            }
        };
        Ok(Self {
            epoll: Arc::new(epoll),
            listener,
            signals,
            passed: 0,
            pending: BTreeMap::new(),
            next_pending: 0,
            conns: Conns::default(),
            ports: BTreeSet::new(),
            activity: 0,
            waits_for_input: false,
        })
    }

    /// What a snapshot holds of it; refused while a connection is open, as that has an end outside.
    pub(crate) fn standing(&self) -> Result<Standing, Error> {
        if !self.conns.places().is_empty() || !self.pending.is_empty() {
            return Err(Error::Snapshot("a connection is open"));
        }
        let ports = self.ports.iter().copied().collect();
        let next_generation = self.conns.next_generation();
        Ok(Standing { ports, activity: self.activity, passed: self.passed, next_generation })
    }

    /// Goes on where another stood.
    pub(crate) fn go_on(&mut self, from: &Standing) {
        self.ports = from.ports.iter().copied().take(MOST_PORTS).collect();
        (self.activity, self.passed) = (from.activity, from.passed);
        self.conns.go_on(from.next_generation);
        self.wait_for_input();
    }

    /// Whether the guest listens on a port.
    pub(crate) fn listens(&self, port: u16) -> bool {
        self.ports.contains(&port.into())
    }

    /// For the ticker, which asks it whether anything waits.
    pub(crate) fn epoll(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.epoll)
    }

    /// Changes with everything that the guest has to look at.
    pub(crate) fn activity(&self) -> u32 {
        self.activity
    }

    fn active(&mut self, memory: &Memory) {
        self.activity = self.activity.wrapping_add(1);
        memory.write(control!(activity), self.activity);
    }

    /// Takes connections to a port, or no longer; false: too many ports.
    pub(crate) fn listen(&mut self, port: u32, on: bool) -> bool {
        if !on {
            self.ports.remove(&port);
            return true;
        }
        self.ports.len() < MOST_PORTS && {
            self.ports.insert(port);
            true
        }
    }

    /// Wakes the guest whenever this event descriptor was written.
    pub(crate) fn watch(&self, event: &OwnedFd) -> Result<(), Error> {
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&self.epoll, event, EventData::new_u64(FOLDERS), flags).map_err(host("wait for the disk"))
    }

    /// Standard input held nothing: the guest is woken when it does. Files and the like never wait.
    pub(crate) fn wait_for_input(&mut self) {
        if !self.waits_for_input {
            self.waits_for_input =
                epoll::add(&self.epoll, std::io::stdin(), EventData::new_u64(INPUT), EventFlags::IN).is_ok();
        }
    }

    /// Whether a read of standard input would not wait.
    pub(crate) fn input_is_ready() -> bool {
        let stdin = std::io::stdin();
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        // A descriptor that cannot be polled does not wait either.
        rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map_or(true, |ready| ready > 0)
    }

    /// Moves what guest and host have for each other on all connections.
    pub(crate) fn rings(&mut self, memory: &Memory) -> Result<(), Error> {
        memory.write(control!(dirty), 0u32);
        for place in self.conns.places() {
            self.connection(memory, place, false)?;
        }
        Ok(())
    }

    /// The program has ended: what it sent before goes to its peers, as far as they take it within [`LINGER`].
    pub(crate) fn finish(&mut self, memory: &Memory) -> Result<(), Error> {
        self.rings(memory)?;
        let until = Instant::now() + LINGER;
        while self.conns.is_blocked() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.turn(memory, Some(left))?;
        }
        Ok(())
    }

    fn connection(&mut self, memory: &Memory, place: u32, readable: bool) -> Result<(), Error> {
        let (changed, wants) = self.conns.turn(memory.rings(), place, readable)?;
        if let (Some((reads, writes)), Some(stream)) = (wants, self.conns.stream(place)) {
            let mut flags = EventFlags::empty();
            flags.set(EventFlags::IN, reads);
            flags.set(EventFlags::OUT, writes);
            // One that hung up is no longer waited for.
            let generation = self.conns.generation(place).unwrap_or(0);
            let _ = epoll::modify(&self.epoll, stream, conn_token(generation, place), flags);
        }
        if changed {
            self.active(memory);
        }
        Ok(())
    }

    /// Waits up to `timeout` for events and sees to them; false if none came. An interruption counts as an event.
    pub(crate) fn turn(&mut self, memory: &Memory, timeout: Option<Duration>) -> Result<bool, Error> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let empty = Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        let mut events = [empty; EVENTS];
        let count = match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => return Ok(true),
            Err(error) => return Err(host("wait for events")(error)),
        };
        for event in &events[..count] {
            let token = event.data.u64();
            match token {
                LISTENER => self.accept(),
                SIGNALS => self.take_signals(memory),
                INPUT => {
                    let _ = epoll::delete(&self.epoll, std::io::stdin());
                    self.waits_for_input = false;
                    self.active(memory);
                }
                FOLDERS => self.active(memory),
                token if token & PENDING != 0 => self.handshake(memory, token),
                token => {
                    let flags = event.flags;
                    let hung_up = flags.intersects(EventFlags::HUP | EventFlags::ERR);
                    let place = token as u32;
                    if self.conns.generation(place).map(u64::from) != Some(token / CONN) {
                        continue;
                    }
                    self.connection(memory, place, true)?;
                    // Epoll tells of a hang-up whether asked for or not, so a connection that only waits for its guest would spin.
                    if hung_up && let Some(stream) = self.conns.stream(place) {
                        let _ = epoll::delete(&self.epoll, stream);
                    }
                }
            }
        }
        Ok(count > 0)
    }

    fn accept(&mut self) {
        let Some((listener, _)) = &self.listener else { return };
        while let Ok((stream, _)) = listener.accept() {
            let now = Instant::now();
            self.pending.retain(|_, (_, since)| now.duration_since(*since) < HANDSHAKE);
            if self.pending.len() >= MOST_PENDING || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let token = PENDING | self.next_pending;
            self.next_pending = (self.next_pending + 1) & 0xffff_ffff;
            if epoll::add(&self.epoll, &stream, EventData::new_u64(token), EventFlags::IN).is_ok() {
                self.pending.insert(token, (stream, now));
            }
        }
    }

    /// A connection said where it wants to, or goes.
    fn handshake(&mut self, memory: &Memory, token: u64) {
        let Some((stream, _)) = self.pending.get(&token) else { return };
        let port = match request(stream) {
            Ok(None) => return,
            Ok(Some(port)) => Some(port),
            Err(_) => None,
        };
        let Some((mut stream, _)) = self.pending.remove(&token) else { return };
        let Some(port) = port.filter(|port| self.ports.contains(port)) else { return };
        // A new socket's buffer takes one line.
        if stream.write_all(format!("OK {port}\n").as_bytes()).is_err() {
            return;
        }
        let Some(place) = self.conns.open(memory.rings(), stream, port) else { return };
        if let Some(stream) = self.conns.stream(place) {
            let generation = self.conns.generation(place).unwrap_or(0);
            let _ = epoll::modify(&self.epoll, stream, conn_token(generation, place), EventFlags::IN);
        }
        self.active(memory);
    }

    fn take_signals(&mut self, memory: &Memory) {
        for signal in sys::signals(&self.signals) {
            self.passed |= 1 << (signal.clamp(1, 64) - 1);
        }
        memory.write(control!(signals), self.passed);
        self.active(memory);
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.listener {
            // Somebody else may have removed it.
            let _ = std::fs::remove_file(path);
        }
    }
}
