//! Outbound connections: a proxy that lets a program reach the destinations of a list, and nothing else.
//!
//! # Who is who
//!
//! The program has no network but its own loopback. There a socket listens, on 127.0.0.1 and [`PORT`], that the jail's first process made
//! and handed out: the proxy accepts from it, outside. So nothing inside copies bytes, and the proxy has no way in.
//!
//! The proxy is a process of its own, started by the monitor before the jail and ended with it. It has the host's network and nothing
//! else of the host: namespaces of processes, mounts, IPC, host name and control groups of its own; an empty read-only root; a user of
//! its own that is not the program's; no capability; Landlock without a single path (and, from version 4 on, with the list's ports as the
//! only ones to connect to); its own seccomp list, in which there is no call that opens a file. It lives in the instance's control group: what
//! a program causes counts as the program's. It is forked, not executed, so its memory begins as a copy of the monitor's.
//!
//! # What it lets through
//!
//! A request names its destination in HTTP's CONNECT, in `http://…`, or in SOCKS5. There is one way to write each ([`target`]); what is
//! written in another is refused. The destination has to be on the list as it is. Only then is its name looked up ([`dns`]), once; if one of
//! its addresses is not public ([`address`]) and not on the list itself, the request is refused; else the connection goes to that very
//! address. The proxy does not look into a tunnel: who speaks through an allowed destination to others is that destination's business.
//!
//! Every refusal is a line on stderr and counted in the [`crate::Outcome`], before the program has its answer.
//!
//! # When something ends
//!
//! A proxy that cannot be confined means that the program does not start. A proxy that ends takes the listener with it: the program's
//! connections fail, and nothing else happens to it. The monitor's end is the proxy's. When the jail has ended, what the program had sent is
//! passed on, for two seconds at most; nothing is brought back any more.

pub(crate) mod address;
mod dns;
mod event;
mod http;
mod io;
mod serve;
mod socks;
pub(crate) mod target;

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::{Ipv4Addr, TcpListener},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use event::Message;
pub use event::{Egress, MOST_REFUSALS, Reason, Refusal};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    pipe::{PipeFlags, pipe_with},
    process::{
        DumpableBehavior, Resource, Rlimit, Signal, WaitId, WaitIdOptions, pidfd_send_signal, setrlimit, waitid,
    },
};

use crate::{
    cgroup::Entrance,
    error::{At, Error},
    init,
    lockdown::{self, HostProc},
    root,
    seccomp::{Filter, Kind},
    spec::Spec,
    sys::{self, Fork},
};
use dns::Resolver;
use target::Allowed;

/// The proxy's port on 127.0.0.1 inside.
pub const PORT: u16 = 3128;
/// Files that it may have open: two a connection, one for a look-up, and its own.
const MOST_FILES: u64 = 3 * serve::MOST_CONNECTIONS as u64 + 16;
/// Memory that it may write to, bytes.
const MOST_MEMORY: u64 = 128 << 20;
/// The longest line from it, bytes: what a pipe takes at once.
const LONGEST_LINE: usize = 4096;

/// The variables by which programs find a proxy, and those by which they find out when not to use it. Each is known in both cases.
const VARIABLES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];
/// Not for the proxy: what listens in the jail itself.
const INSIDE: &str = "localhost,127.0.0.1,::1";

/// The variables to add to a program's environment: none that its specification has in either case.
pub(crate) fn environment(spec: &Spec) -> Vec<(String, String)> {
    if spec.network.allow.is_empty() {
        return Vec::new();
    }
    let is_set = |name: &&str| spec.env.keys().any(|set| set.eq_ignore_ascii_case(name));
    let pair = |name: &str| {
        let value = if name == "NO_PROXY" { INSIDE.to_owned() } else { format!("http://127.0.0.1:{PORT}") };
        [(name.to_owned(), value.clone()), (name.to_ascii_lowercase(), value)]
    };
    VARIABLES.into_iter().filter(|name| !is_set(name)).flat_map(pair).collect()
}

/// The monitor's side of a proxy that runs. The proxy is ended when this is dropped.
pub(crate) struct Running {
    pidfd: OwnedFd,
    /// Over which the jail hands out its listener.
    pub(crate) handover: Option<OwnedFd>,
    /// What the proxy tells, to be read with [`Told::read`].
    pub(crate) events: OwnedFd,
    /// The proxy lives as long as somebody holds this.
    stay: Option<OwnedFd>,
}

impl Running {
    /// Lets it pass on what the program has sent, for a moment, and ends it. The jail is gone.
    pub(crate) fn end(&mut self) {
        self.stay = None;
        let time = Timespec::try_from(serve::LAST_TIME).ok();
        let _ = rustix::io::retry_on_intr(|| {
            poll(&mut [PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN)], time.as_ref())
        });
        self.kill();
    }

    pub(crate) fn kill(&self) {
        // It may be gone already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED));
    }
}

/// Starts the proxy and waits until it is confined. `user` is its own on the host, none when rootless.
pub(crate) fn start(
    spec: &Spec,
    user: Option<u32>,
    caller: (u32, u32),
    entrance: Entrance,
) -> Result<(Running, Told), Error> {
    let allowed = Allowed::new(&spec.network.allow)?;
    let filter = Filter::new(Kind::Egress);
    let pipe = || pipe_with(PipeFlags::CLOEXEC).at("making a pipe");
    let (events, events_out) = pipe()?;
    let (stay_in, stay) = pipe()?;
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let (handover, handover_in) = pair.at("making a pair of sockets")?;
    let mut namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if user.is_none() {
        namespaces |= libc::CLONE_NEWUSER;
    }
    let pidfd = match sys::fork_into(namespaces, entrance.born()).at("starting the egress proxy")? {
        Fork::Child => {
            drop((events, stay, handover));
            be(Child {
                user,
                caller,
                entrance,
                allowed,
                filter,
                events: events_out,
                stay: stay_in,
                handover: handover_in,
            })
        }
        Fork::Parent { pidfd, .. } => pidfd,
    };
    drop((events_out, stay_in, handover_in));
    let running = Running { pidfd, handover: Some(handover), events, stay: Some(stay) };
    let mut told = Told::default();
    while !told.ready {
        if !told.read(&running.events)? {
            return Err(Error::Egress { step: "starting".to_owned(), why: "it ended without a word".to_owned() });
        }
    }
    Ok((running, told))
}

/// What the proxy has told so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    ready: bool,
    line: Vec<u8>,
    pub(crate) egress: Egress,
}

impl Told {
    /// Reads what is there, waits if nothing is. False at the end.
    pub(crate) fn read(&mut self, events: &OwnedFd) -> Result<bool, Error> {
        let mut buffer = [0; LONGEST_LINE];
        let n =
            rustix::io::retry_on_intr(|| rustix::io::read(events, &mut buffer)).at("listening to the egress proxy")?;
        for byte in &buffer[..n] {
            if *byte != b'\n' {
                self.line.push(*byte);
                // Whoever says more than a line is not the proxy that was started: it is not listened to any more.
                if self.line.len() > LONGEST_LINE {
                    return Ok(false);
                }
                continue;
            }
            match serde_json::from_slice(&std::mem::take(&mut self.line)) {
                Ok(Message::Ready) => self.ready = true,
                Ok(Message::Refused(refusal)) => {
                    self.egress.refused += 1;
                    if self.egress.refusals.len() < MOST_REFUSALS {
                        self.egress.refusals.push(refusal);
                    }
                }
                Ok(Message::Failed { step, why }) if !self.ready => return Err(Error::Egress { step, why }),
                Ok(Message::Failed { .. }) | Err(_) => return Ok(false),
            }
        }
        Ok(n > 0)
    }

    /// The proxy is gone, though the program is not.
    pub(crate) fn lost(&mut self) {
        self.egress.lost = true;
        // The monitor waits for nobody who does not read.
        let stderr = rustix::stdio::stderr();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)], Some(&now)) == Ok(1) {
            let line = b"osvm-jail: the egress proxy has ended: the program has no network any more\n";
            let _ = std::io::stderr().write_all(line);
        }
    }
}

/// In the jail's first process: makes the listener and hands it out.
pub(crate) fn hand_over(to: &OwnedFd) -> Result<(), Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).at("listening for the egress proxy")?;
    let files = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(to, &[IoSlice::new(&[1])], &mut control, SendFlags::NOSIGNAL)
        .at("handing out the egress proxy's listener")?;
    Ok(())
}

/// In the proxy: the listener; none if the jail was not made.
fn take_over(from: &OwnedFd) -> std::io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::io::retry_on_intr(|| {
        recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    Ok(files.next().and_then(|mut files| files.next()))
}

/// What the proxy's process was given.
struct Child {
    user: Option<u32>,
    caller: (u32, u32),
    entrance: Entrance,
    allowed: Allowed,
    filter: Filter,
    events: OwnedFd,
    stay: OwnedFd,
    handover: OwnedFd,
}

/// The proxy's process.
fn be(child: Child) -> ! {
    let Child { user, caller, entrance, allowed, filter, events, stay, handover } = child;
    let kept = [&events, &stay, &handover];
    let resolver = match confine(user, caller, entrance, &allowed, &filter, kept) {
        Ok(resolver) => resolver,
        Err(error) => {
            let message = match error {
                Error::Host { step, source } => Message::Failed { step: step.to_owned(), why: source.to_string() },
                other => Message::Failed { step: "confining itself".to_owned(), why: other.to_string() },
            };
            serve::tell(&events, &message);
            sys::exit_now(1)
        }
    };
    serve::tell(&events, &Message::Ready);
    let listener = take_over(&handover);
    drop(handover);
    let code = match listener {
        Ok(Some(listener)) => {
            let proxy = serve::Proxy { allowed, resolver, events, stay, copies: serve::Copies::default() };
            i32::from(serve::serve(proxy, &listener).is_err())
        }
        Ok(None) => 0,
        Err(_) => 1,
    };
    sys::exit_now(code)
}

/// Gives up everything but the network and these files. All that is read of the host is read here.
fn confine(
    user: Option<u32>,
    caller: (u32, u32),
    entrance: Entrance,
    allowed: &Allowed,
    filter: &Filter,
    [events, stay, handover]: [&OwnedFd; 3],
) -> Result<Resolver, Error> {
    entrance.walk()?;
    sys::unshare(libc::CLONE_NEWCGROUP).at("making a namespace of control groups")?;
    rustix::process::setsid().at("starting a session")?;
    let resolver = Resolver::new(&text("/etc/hosts"), &text("/etc/resolv.conf"));
    let null =
        rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()).at("opening /dev/null")?;
    rustix::stdio::dup2_stdin(&null).at("letting go of stdin")?;
    rustix::stdio::dup2_stdout(&null).at("letting go of stdout")?;
    let proc = HostProc::open()?;
    if user.is_none() {
        proc.map(0, caller.0, caller.1).at("mapping the user that started the jail")?;
    }
    root::enter_nothing()?;
    lockdown::drop_user(&proc, user)?;
    // After the last change of user, which would have reset it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).at("tying the proxy to its monitor")?;
    init::monitor_lives(stay.as_fd())?;
    lockdown::no_new_privileges()?;
    lockdown::landlock_network(allowed.ports().chain([dns::PORT]))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).at("hiding the proxy")?;
    for (resource, limit) in
        [(Resource::Core, init::NO_CORE), (Resource::Nofile, MOST_FILES), (Resource::Data, MOST_MEMORY)]
    {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) }).at("setting resource limits")?;
    }
    init::close_all_but(vec![events.as_raw_fd(), stay.as_raw_fd(), handover.as_raw_fd()])?;
    // The number of `null` may have been given away since.
    std::mem::forget((null, proc));
    filter.load().at("loading the egress proxy's seccomp filter")?;
    Ok(resolver)
}

/// A file that may be missing.
fn text(path: &str) -> String {
    let mut text = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(dns::LARGEST_FILE).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::HostPort;

    #[test]
    fn variables_that_the_caller_set_in_either_case_stay_as_they_are() {
        let mut spec = Spec::new("/bin/true");
        assert!(environment(&spec).is_empty());
        spec.network.allow.push(HostPort::parse("example.com:443").unwrap());
        assert_eq!(environment(&spec).len(), 8);
        spec.env.insert("https_proxy".to_owned(), "http://other:1".to_owned());
        let names: Vec<_> = environment(&spec).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"]);
    }

    #[test]
    fn the_listener_goes_over_and_its_lack_is_no_error() {
        let pair = || socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let (ours, theirs) = pair();
        drop(ours);
        assert!(take_over(&theirs).unwrap().is_none());
    }

    #[test]
    fn a_proxy_that_talks_nonsense_is_not_listened_to() {
        let (events, out) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::write(&out, b"\"Ready\"\n").unwrap();
        let mut told = Told::default();
        assert!(told.read(&events).unwrap() && told.ready);
        rustix::io::write(&out, &[b'x'; LONGEST_LINE]).unwrap();
        assert!(told.read(&events).unwrap());
        rustix::io::write(&out, b"x").unwrap();
        assert!(!told.read(&events).unwrap());
    }
}
