//! The monitor: the process outside that makes the limits, starts the jail, passes on signals, enforces the timeout, collects output and
//! clears up. It stays until the jail is gone; if it is killed, the kernel kills the jail.

use std::{
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, fstat},
    pipe::{PipeFlags, pipe_with},
    process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
};

use crate::{
    cgroup::{Group, Groups, Used},
    egress::{self, Egress, Told},
    error::{At, Error},
    init::{self, Message, Plan},
    kvm, owner,
    seccomp::{Filter, Kind},
    spec::Spec,
    sys::{self, Fork},
};

/// The most bytes of each of stdout and stderr that are kept when they are captured.
pub const CAPTURE_LIMIT: usize = 8 << 20;
/// Signals that the monitor passes on to the program.
const PASSED_ON: [i32; 6] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// Where the program's stdout and stderr go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// To the caller's own.
    Inherit,
    /// Into the [`Outcome`], up to [`CAPTURE_LIMIT`]; the rest is read and thrown away, and counted.
    Capture,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an exit code.
    Exited(i32),
    /// By a signal. [`Outcome::timed_out`] and [`Outcome::oom`] say why, if it was the jail or its limits.
    Signalled(i32),
}

/// Output that was captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// The first [`CAPTURE_LIMIT`] bytes.
    pub bytes: Vec<u8>,
    /// How many more there were.
    pub lost: u64,
}

/// What became of a program that ran in a jail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Whether it was killed for running too long.
    pub timed_out: bool,
    /// Whether the kernel killed a process of it for memory.
    pub oom: bool,
    /// From the start of the jail to its end.
    pub wall: Duration,
    /// What it used.
    pub used: Used,
    /// Its user id on the host: one of its own when started by root, else the caller's.
    pub uid: u32,
    /// What the egress proxy did, where destinations are allowed.
    pub egress: Option<Egress>,
    /// Its stdout, if captured.
    pub stdout: Captured,
    /// Its stderr, if captured.
    pub stderr: Captured,
}

/// Runs one program in a jail and waits for its end. Must be called with a single thread.
///
/// # Errors
/// Each error means that the program did not run. There is no half jail.
pub fn run(spec: &Spec, output: Output) -> Result<Outcome, Error> {
    spec.check()?;
    sys::single_thread().at("starting a jail")?;
    handed(output)?;
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let root = uid.is_root();
    let kvm = spec.kvm.then(kvm::take).transpose()?;
    let program = if spec.kvm { Kind::Vmm } else { Kind::Service };
    let (service, first) = (Filter::new(program), Filter::new(Kind::Init));
    let groups = Groups::find()?;
    let (id, group) = groups.claim(&spec.limits)?;
    let user = root.then_some(id.number);
    let owners = match user {
        Some(user) => owner::map(spec, user)?,
        None => {
            spec.mounts.iter().try_for_each(|mount| crate::root::check_source(mount).map(drop))?;
            Vec::new()
        }
    };
    let signals = sys::signals_as_file(&PASSED_ON).at("watching for signals")?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).at("making a pipe");
    let (status_in, status_out) = pipe()?;
    let (control_in, control_out) = pipe()?;
    let captured = match output {
        Output::Capture => Some((pipe()?, pipe()?)),
        Output::Inherit => None,
    };
    let inbound = spec.network.inbound.as_ref().map(crate::door::Door::open).transpose()?;

    let began = Instant::now();
    let mut namespaces = libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWTIME;
    if !root {
        namespaces |= libc::CLONE_NEWUSER;
    }
    // Before the jail, so that there is no program without the proxy that it was promised.
    let mut proxy = match spec.network.allow.is_empty() {
        true => None,
        false => {
            let own = user.map(|_| id.of_proxy());
            Some(egress::start(spec, own, (uid.as_raw(), gid.as_raw()), group.entrance()?)?)
        }
    };
    let handover = proxy.as_mut().and_then(|(running, _)| running.handover.take());
    let entrance = group.entrance()?;
    let jail = match sys::fork_into(namespaces, entrance.born()).map_err(|error| no_namespaces(&error))? {
        Fork::Child => {
            // Made by the monitor, and left to it.
            std::mem::forget((group, proxy));
            if let Some(((_, stdout), (_, stderr))) = &captured {
                let dup = rustix::stdio::dup2_stdout(stdout).and_then(|()| rustix::stdio::dup2_stderr(stderr));
                if dup.is_err() {
                    sys::exit_now(1);
                }
            }
            drop((captured, status_in, control_out));
            init::run(Plan {
                spec,
                user,
                caller: (uid.as_raw(), gid.as_raw()),
                owners,
                entrance: Some(entrance),
                service: &service,
                init: &first,
                status: status_out,
                control: control_in,
                inbound: inbound.map(crate::door::Door::into_listener),
                handover,
                kvm,
            })
        }
        Fork::Parent { pidfd, .. } => pidfd,
    };
    drop((status_out, control_in, owners, entrance, handover, kvm));
    let jail = Jail { pidfd: jail, reaped: false };
    let pipes = captured.map(|((stdout, _), (stderr, _))| (stdout, stderr));
    let watch = Watch { jail, status: status_in, control: control_out, signals, pipes, began };
    let outcome = watch.until_end(spec, &group, proxy)?;
    let used = group.used();
    group.remove()?;
    drop((inbound, id));
    // With version 2 the kernel ends the whole group, the first process too, which then tells nothing.
    let oom = used.oom_kills > 0;
    let Some(end) = outcome.end.or(oom.then_some(End::Signalled(libc::SIGKILL))) else { return Err(Error::Lost) };
    Ok(Outcome {
        end,
        timed_out: outcome.timed_out,
        oom,
        wall: outcome.wall,
        used,
        uid: user.unwrap_or(uid.as_raw()),
        egress: outcome.egress,
        stdout: outcome.stdout,
        stderr: outcome.stderr,
    })
}

fn no_namespaces(error: &io::Error) -> Error {
    Error::Unavailable {
        what: format!(
            "the kernel does not give new namespaces ({error}); without them nothing separates a program from the host"
        ),
        help: "run as root, or allow user namespaces to users (sysctl user.max_user_namespaces)".to_owned(),
    }
}

/// A folder or a network socket as stdin would be a way out: `openat(0, "..")`.
fn handed(output: Output) -> Result<(), Error> {
    let last = if output == Output::Capture { 0 } else { 2 };
    for fd in 0..=last {
        let file = match fd {
            0 => rustix::stdio::stdin(),
            1 => rustix::stdio::stdout(),
            _ => rustix::stdio::stderr(),
        };
        let stat = fstat(file).at("looking at stdin, stdout and stderr")?;
        let what = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => "a folder",
            FileType::BlockDevice => "a disk",
            FileType::Symlink => "a symbolic link",
            FileType::Socket => match rustix::net::sockopt::socket_domain(file) {
                Ok(rustix::net::AddressFamily::UNIX) => continue,
                _ => "a network socket",
            },
            _ => continue,
        };
        return Err(Error::Handed { fd, what });
    }
    Ok(())
}

/// The jail's first process. Whatever happens to the monitor's own steps, it does not outlive this.
struct Jail {
    pidfd: OwnedFd,
    reaped: bool,
}

impl Jail {
    fn kill(&self) {
        // It may be gone already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    fn reap(&mut self) {
        if !self.reaped {
            let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED));
            self.reaped = true;
        }
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.reap();
        }
    }
}

struct Watch {
    jail: Jail,
    status: OwnedFd,
    control: OwnedFd,
    signals: OwnedFd,
    pipes: Option<(OwnedFd, OwnedFd)>,
    began: Instant,
}

struct Watched {
    end: Option<End>,
    timed_out: bool,
    wall: Duration,
    egress: Option<Egress>,
    stdout: Captured,
    stderr: Captured,
}

impl Watch {
    fn until_end(
        mut self,
        spec: &Spec,
        group: &Group,
        proxy: Option<(egress::Running, Told)>,
    ) -> Result<Watched, Error> {
        let (mut proxy, mut told) = proxy.unzip();
        // One that lies beyond what the clock can say is never reached.
        let deadline = spec.limits.timeout.and_then(|timeout| self.began.checked_add(timeout));
        let (mut stdout, mut stderr) = (Captured::default(), Captured::default());
        let mut lines = Vec::new();
        let mut timed_out = false;
        let (out, err) = self.pipes.take().unzip();
        // A file that has ended is taken out: it would be ready at each look.
        let mut sources = [Some(&self.status), out.as_ref(), err.as_ref(), proxy.as_ref().map(|proxy| &proxy.events)];
        loop {
            let left = deadline.filter(|_| !timed_out).map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = left.map(Timespec::try_from).transpose().map_err(io::Error::other).at("waiting")?;
            let mut files =
                vec![PollFd::new(&self.jail.pidfd, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            files.extend(sources.iter().flatten().map(|source| PollFd::new(*source, PollFlags::IN)));
            rustix::io::retry_on_intr(|| poll(&mut files, timeout.as_ref())).at("waiting for the jail")?;
            let mut ready = files.iter().map(|file| !file.revents().is_empty());
            let (gone, signalled) = (ready.next() == Some(true), ready.next() == Some(true));
            for (index, source) in sources.iter_mut().enumerate() {
                let Some(file) = source.filter(|_| ready.next() == Some(true)) else { continue };
                let more = match index {
                    0 => read_some(file.as_fd(), &mut lines)?,
                    1 => stdout.read(file.as_fd())?,
                    2 => stderr.read(file.as_fd())?,
                    _ => told.as_mut().map_or(Ok(false), |told| told.read(file))?,
                };
                if !more {
                    *source = None;
                    if let (3, Some(proxy), Some(told)) = (index, &proxy, &mut told) {
                        proxy.kill();
                        if !gone && !timed_out {
                            told.lost();
                        }
                    }
                }
            }
            while signalled && let Some(signal) = sys::next_signal(self.signals.as_fd()).at("reading a signal")? {
                // The jail may have ended in this moment.
                let _ = rustix::io::write(&self.control, &[u8::try_from(signal).unwrap_or(0)]);
            }
            if left == Some(Duration::ZERO) {
                timed_out = true;
                group.kill();
                self.jail.kill();
            }
            if gone {
                break;
            }
        }
        let wall = self.began.elapsed();
        // All that wrote into the pipes are dead, so this ends.
        let [status, out, err, events] = sources;
        while status.map_or(Ok(false), |file| read_some(file.as_fd(), &mut lines))? {}
        while out.map_or(Ok(false), |file| stdout.read(file.as_fd()))? {}
        while err.map_or(Ok(false), |file| stderr.read(file.as_fd()))? {}
        self.jail.reap();
        let is_heard = events.is_some();
        if let (Some(proxy), Some(told)) = (&mut proxy, &mut told) {
            if timed_out {
                proxy.kill()
            } else {
                proxy.end()
            }
            while is_heard && told.read(&proxy.events)? {}
        }
        drop(proxy);
        let end = self.end(spec, &lines, timed_out)?;
        Ok(Watched { end, timed_out, wall, egress: told.map(|told| told.egress), stdout, stderr })
    }

    fn end(&self, spec: &Spec, lines: &[u8], timed_out: bool) -> Result<Option<End>, Error> {
        let mut end = timed_out.then_some(End::Signalled(libc::SIGKILL));
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Message::Failed { step, why }) => return Err(Error::Inside { step, why }),
                Ok(Message::Mount { path, why }) => return Err(Error::Mount { path, why }),
                Ok(Message::Execute { why }) => return Err(Error::Execute { program: spec.program.clone(), why }),
                Ok(Message::Exited { code }) => end = Some(End::Exited(code)),
                Ok(Message::Signalled { signal }) => end = Some(End::Signalled(signal)),
                Err(error) => return Err(Error::Inside { step: "reporting".to_owned(), why: error.to_string() }),
            }
        }
        Ok(end)
    }
}

fn read_some(file: BorrowedFd<'_>, into: &mut Vec<u8>) -> Result<bool, Error> {
    let mut buffer = [0; 4096];
    let n = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut buffer)).at("reading from the jail")?;
    into.extend_from_slice(&buffer[..n]);
    Ok(n > 0)
}

impl Captured {
    fn read(&mut self, file: BorrowedFd<'_>) -> Result<bool, Error> {
        let mut buffer = [0; 64 << 10];
        let n = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut buffer)).at("reading the program's output")?;
        let room = CAPTURE_LIMIT - self.bytes.len();
        let kept = n.min(room);
        self.bytes.write_all(&buffer[..kept]).at("keeping the program's output")?;
        self.lost += (n - kept) as u64;
        Ok(n > 0)
    }
}
