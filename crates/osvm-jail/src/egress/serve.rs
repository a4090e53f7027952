//! The proxy at work: takes connections from the jail's listener, reads what they ask for, decides, connects and copies.
//!
//! A connection has one thread. The decision has one place, [`Proxy::open`], through which SOCKS and both kinds of HTTP go.

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{Shutdown, SocketFlags, accept_with, shutdown, sockopt},
};

use super::{
    dns::Resolver,
    event::{Message, Reason, Refusal},
    http::{self, Bad, Request},
    io as net,
    socks::{self, Read, Reply},
    target::{Allowed, Host, Target},
};
use crate::relay::{self, Flow};

/// Connections at one time, in all their states.
pub(crate) const MOST_CONNECTIONS: usize = 128;
/// How long a request may take to arrive.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// How long the look-up of a name and the connection may take together.
const CONNECT_TIME: Duration = Duration::from_secs(20);
/// How long an answer of the proxy itself may take to be read.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How long a connection may be silent in both directions.
const IDLE_TIME: Duration = Duration::from_secs(3600);
/// How long what the program sent is still passed on when its jail is gone.
pub(crate) const LAST_TIME: Duration = Duration::from_secs(2);
/// How long a connection may be silent until it is asked whether it is still there, and how long between two questions.
const ALIVE_TIME: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));
/// How many questions may stay without an answer.
const ALIVE_TRIES: u32 = 3;
/// Addresses of a name that are tried.
const MOST_TRIES: usize = 4;
/// What is still read of a request that was refused, so that the answer arrives: bytes.
const MOST_DRAINED: usize = 256 << 10;
/// The pause after which connections are taken again when there was no file descriptor or memory for one.
const SHORTAGE_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// The stack of a connection's thread.
const STACK: usize = 128 << 10;

/// All that the proxy knows.
pub(crate) struct Proxy {
    pub(crate) allowed: Allowed,
    pub(crate) resolver: Resolver,
    /// Where refusals are told.
    pub(crate) events: OwnedFd,
    /// The monitor lets go of its other end when the jail is gone.
    pub(crate) stay: OwnedFd,
    pub(crate) copies: Copies,
}

/// How many connections are being copied.
#[derive(Default)]
pub(crate) struct Copies {
    count: Mutex<usize>,
    none: Condvar,
}

impl Copies {
    fn during(&self, copy: impl FnOnce()) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        copy();
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.none.notify_all();
    }

    fn wait_for_none(&self) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.none.wait_timeout_while(count, LAST_TIME, |count| *count > 0));
    }
}

/// Why there is no connection to a destination.
enum No {
    Refused(Refusal),
    /// The name has no address.
    Unknown(io::Error),
    /// Nobody answers at the address.
    Unreachable(io::Error),
}

/// Serves until the monitor lets go of `stay`, and until what the program had sent by then is where it was to go.
pub(crate) fn serve(proxy: Proxy, listener: &OwnedFd) -> io::Result<()> {
    let proxy = Arc::new(proxy);
    let stay = &proxy.stay;
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let mut files = [PollFd::new(stay, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut files, None))?;
        if !files[0].revents().is_empty() {
            proxy.copies.wait_for_none();
            return Ok(());
        }
        let client = match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(client) => client,
            Err(Errno::INTR | Errno::AGAIN | Errno::CONNABORTED) => continue,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                let _ = poll(&mut [PollFd::new(stay, PollFlags::IN)], Some(&SHORTAGE_PAUSE));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let taken = open.fetch_add(1, Ordering::AcqRel) < MOST_CONNECTIONS;
        let started = taken && {
            let (proxy, open) = (Arc::clone(&proxy), Arc::clone(&open));
            let work = move || {
                proxy.client(&client);
                drop(client);
                open.fetch_sub(1, Ordering::AcqRel);
            };
            thread::Builder::new().stack_size(STACK).spawn(work).is_ok()
        };
        if !started {
            open.fetch_sub(1, Ordering::AcqRel);
            proxy.tell(Refusal::new("", Reason::TooMany, "it has as many connections as it may have"));
        }
    }
}

/// Tells the monitor. Each line is written whole.
pub(crate) fn tell(events: &OwnedFd, message: &Message) {
    if let Ok(mut line) = serde_json::to_vec(message) {
        line.push(b'\n');
        let _ = rustix::io::write(events, &line);
    }
}

impl Proxy {
    /// Before the program has its answer, so that no refusal of which it knows is missing.
    fn tell(&self, refusal: Refusal) {
        // A line at once, so that lines of several threads and of the program do not mix.
        let _ = io::stderr().write_all(format!("osvm-jail: {refusal}\n").as_bytes());
        tell(&self.events, &Message::Refused(refusal));
    }

    /// The one decision: a destination of the list, at an address that may be reached, and a connection to that very address.
    fn open(&self, target: &Target) -> Result<OwnedFd, No> {
        if !self.allowed.has(target) {
            let refusal = Refusal::new(&target.to_string(), Reason::NotAllowed, "it is not on the list (--allow)");
            return Err(No::Refused(refusal));
        }
        let deadline = Instant::now() + CONNECT_TIME;
        let addresses = match &target.host {
            Host::Address(address) => vec![*address],
            // Only names of the list are ever looked up: a question to a name server is a way out too.
            Host::Name(name) => self.resolver.look_up(name, deadline).map_err(No::Unknown)?,
        };
        // One wrong address is enough: whoever answers for the name is not to be trusted with the others.
        for address in &addresses {
            if let Some(what) = self.allowed.denies(*address, target.port) {
                let detail = format!("{address} is {what}, and not on the list itself");
                let refusal = Refusal::new(&target.to_string(), Reason::ForbiddenAddress, detail);
                return Err(No::Refused(Refusal { address: Some(*address), ..refusal }));
            }
        }
        connect(&addresses, target.port, deadline).map_err(No::Unreachable)
    }

    fn client(&self, client: &OwnedFd) {
        tune(client);
        let mut wire = Wire { client, bytes: Vec::new(), deadline: Instant::now() + REQUEST_TIME };
        match wire.first() {
            Some(socks::VERSION) => self.socks(&mut wire),
            Some(_) => self.http(&mut wire),
            // It went away without a word, or did not say one in time.
            None => {}
        }
    }

    fn http(&self, wire: &mut Wire<'_>) {
        let head = match wire.until(http::LONGEST_HEAD, http::end_of_head) {
            Ok(length) => wire.take(length),
            Err(Unread::TooLong) => {
                let bad = Bad { target: String::new(), why: "its head is longer than 16 KiB" };
                return self.answer_bad(wire, bad);
            }
            Err(Unread::Gone) => return,
        };
        let request = match http::parse(&head) {
            Ok(request) => request,
            Err(bad) => return self.answer_bad(wire, bad),
        };
        let (Request::Connect(target) | Request::Forward { target, .. }) = &request;
        let server = match self.open(target) {
            Ok(server) => server,
            Err(No::Refused(refusal)) => {
                let words = refusal.to_string();
                self.tell(refusal);
                return wire.refuse("403 Forbidden", &words);
            }
            Err(No::Unknown(error)) => {
                return wire.refuse("502 Bad Gateway", &format!("{target} cannot be looked up: {error}"));
            }
            Err(No::Unreachable(error)) => {
                let status =
                    if error.kind() == io::ErrorKind::TimedOut { "504 Gateway Timeout" } else { "502 Bad Gateway" };
                return wire.refuse(status, &format!("{target} cannot be reached: {error}"));
            }
        };
        match request {
            Request::Connect(_) => {
                let done = b"HTTP/1.1 200 Connection established\r\n\r\n";
                if wire.say(done).is_ok() {
                    let early = std::mem::take(&mut wire.bytes);
                    self.copy(wire.client, &server, Flow { ready: early, left: None });
                }
            }
            Request::Forward { head, body, .. } => {
                let mut ready = head;
                let early = usize::try_from(body).unwrap_or(usize::MAX).min(wire.bytes.len());
                ready.extend(&wire.bytes[..early]);
                self.copy(wire.client, &server, Flow { ready, left: Some(body - early as u64) });
                drop(server);
                // What the program sent beyond its one request is not passed on.
                wire.end();
            }
        }
    }

    fn copy(&self, client: &OwnedFd, server: &OwnedFd, flow: Flow) {
        let end = Some(self.stay.as_fd());
        self.copies.during(|| relay::join(client.as_fd(), server.as_fd(), flow, Some(IDLE_TIME), end));
    }

    fn answer_bad(&self, wire: &mut Wire<'_>, bad: Bad) {
        let refusal = Refusal::new(&bad.target, Reason::BadRequest, bad.why);
        let words = refusal.to_string();
        self.tell(refusal);
        wire.refuse("400 Bad Request", &words);
    }

    fn socks(&self, wire: &mut Wire<'_>) {
        let whole = |read: &Read<bool>| matches!(read, Read::Whole(..));
        let Ok(Read::Whole(fits, length)) = wire.message(socks::greeting, whole) else { return };
        wire.take(length);
        if !fits {
            self.tell(Refusal::new("", Reason::BadRequest, "it wants to authenticate itself over SOCKS5"));
            let _ = wire.say(&socks::NONE_CHOSEN);
            return wire.end();
        }
        if wire.say(&socks::CHOSEN).is_err() {
            return;
        }
        let Ok(Read::Whole(request, length)) = wire.message(socks::request, |read| matches!(read, Read::Whole(..)))
        else {
            return;
        };
        wire.take(length);
        let target = match request {
            Ok(target) => target,
            Err((bad, reply)) => {
                self.tell(Refusal::new(&bad.target, Reason::BadRequest, bad.why));
                let _ = wire.say(&reply.bytes());
                return wire.end();
            }
        };
        let reply = match self.open(&target) {
            Ok(server) => {
                if wire.say(&Reply::Done.bytes()).is_ok() {
                    let early = std::mem::take(&mut wire.bytes);
                    self.copy(wire.client, &server, Flow { ready: early, left: None });
                }
                return;
            }
            Err(No::Refused(refusal)) => {
                self.tell(refusal);
                Reply::NotAllowed
            }
            Err(No::Unreachable(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Reply::Refused,
            Err(No::Unknown(_) | No::Unreachable(_)) => Reply::HostUnreachable,
        };
        let _ = wire.say(&reply.bytes());
        wire.end();
    }
}

/// A connection to the first of these addresses that answers.
fn connect(addresses: &[IpAddr], port: u16, deadline: Instant) -> io::Result<OwnedFd> {
    let tried = &addresses[..addresses.len().min(MOST_TRIES)];
    let mut last = io::Error::other("it has no address");
    for (index, address) in tried.iter().enumerate() {
        // Each has its part of the time that is left.
        let left = deadline.saturating_duration_since(Instant::now());
        let part = left / u32::try_from(tried.len() - index).unwrap_or(1);
        match net::connect(SocketAddr::new(*address, port), Instant::now() + part) {
            Ok(server) => {
                tune(&server);
                return Ok(server);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Bytes are not held back, and a peer that vanished is noticed, though nobody speaks. What of it fails does no harm.
fn tune(socket: &OwnedFd) {
    let _ = sockopt::set_tcp_nodelay(socket, true);
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, ALIVE_TIME.0);
    let _ = sockopt::set_tcp_keepintvl(socket, ALIVE_TIME.1);
    let _ = sockopt::set_tcp_keepcnt(socket, ALIVE_TRIES);
}

/// Why a request was not read.
enum Unread {
    TooLong,
    Gone,
}

/// The program's side of a connection, while the proxy itself speaks with it.
struct Wire<'a> {
    client: &'a OwnedFd,
    /// What has arrived and was not taken.
    bytes: Vec<u8>,
    deadline: Instant,
}

impl Wire<'_> {
    fn more(&mut self) -> Result<(), Unread> {
        let mut buffer = [0; 4096];
        match net::receive(self.client, &mut buffer, self.deadline) {
            Ok(0) | Err(_) => Err(Unread::Gone),
            Ok(n) => {
                self.bytes.extend(&buffer[..n]);
                Ok(())
            }
        }
    }

    fn first(&mut self) -> Option<u8> {
        if self.bytes.is_empty() {
            self.more().ok()?;
        }
        self.bytes.first().copied()
    }

    /// Reads until `end` finds one, and not more than `most` bytes before that.
    fn until(&mut self, most: usize, end: impl Fn(&[u8]) -> Option<usize>) -> Result<usize, Unread> {
        loop {
            match end(&self.bytes) {
                Some(at) if at <= most => return Ok(at),
                Some(_) => return Err(Unread::TooLong),
                None if self.bytes.len() >= most => return Err(Unread::TooLong),
                None => self.more()?,
            }
        }
    }

    /// Reads a message of SOCKS5, each of which has its longest form built in.
    fn message<T>(&mut self, read: impl Fn(&[u8]) -> T, whole: impl Fn(&T) -> bool) -> Result<T, Unread> {
        loop {
            let message = read(&self.bytes);
            if whole(&message) {
                return Ok(message);
            }
            self.more()?;
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.bytes.split_off(length);
        std::mem::replace(&mut self.bytes, rest)
    }

    fn say(&self, bytes: &[u8]) -> io::Result<()> {
        net::send_all(self.client, bytes, Instant::now() + ANSWER_TIME)
    }

    fn refuse(&self, status: &str, words: &str) {
        let length = words.len() + 1;
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{words}\n"
        );
        let _ = self.say(answer.as_bytes());
        self.end();
    }

    /// Ends the connection such that what was said arrives: closed with unread bytes, it would be reset.
    fn end(&self) {
        let _ = shutdown(self.client, Shutdown::Write);
        let deadline = Instant::now() + ANSWER_TIME;
        let mut buffer = [0; 4096];
        let mut drained = 0;
        while drained < MOST_DRAINED {
            match net::receive(self.client, &mut buffer, deadline) {
                Ok(0) | Err(_) => return,
                Ok(n) => drained += n,
            }
        }
    }
}
