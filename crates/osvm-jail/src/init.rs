//! The jail's first process: builds the jail around itself, gives up its powers, starts the program, waits for every process, and ends
//! when the program ends, which ends all that is left in its pid namespace.
//!
//! It tells the monitor what happened by one line a message on the status pipe, and gets one byte a signal for the program on the
//! control pipe.

use std::{
    ffi::CString,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{DumpableBehavior, Resource, Rlimit, Signal, WaitOptions, setrlimit, wait},
};
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::Entrance,
    egress,
    error::{At, Error},
    inbound,
    lockdown::{self, HostProc},
    root::{self, MappedOwner},
    seccomp::Filter,
    spec::Spec,
    sys::{self, Fork},
};

/// The name of the machine in a jail.
pub const HOSTNAME: &str = "osvm";
/// A limit that disables core dumps to files (too small) and to a handler (the kernel takes 1 as "no").
pub(crate) const NO_CORE: u64 = 1;

/// What the first process tells the monitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The jail could not be made.
    Failed { step: String, why: String },
    /// A mount could not be made.
    Mount { path: std::path::PathBuf, why: String },
    /// The program could not be executed.
    Execute { why: String },
    /// The program ended by itself.
    Exited { code: i32 },
    /// A signal ended the program.
    Signalled { signal: i32 },
}

/// All that the first process was given by the monitor.
pub(crate) struct Plan<'a> {
    pub(crate) spec: &'a Spec,
    /// The user of the host to become; none when rootless.
    pub(crate) user: Option<u32>,
    /// The user and group that started it, for the map of a rootless jail.
    pub(crate) caller: (u32, u32),
    pub(crate) owners: Vec<MappedOwner>,
    pub(crate) entrance: Option<Entrance>,
    pub(crate) service: &'a Filter,
    pub(crate) init: &'a Filter,
    pub(crate) status: OwnedFd,
    pub(crate) control: OwnedFd,
    pub(crate) inbound: Option<(UnixListener, u16)>,
    /// Where the egress proxy waits for its listener.
    pub(crate) handover: Option<OwnedFd>,
}

/// Becomes the first process of a jail.
pub(crate) fn run(mut plan: Plan<'_>) -> ! {
    let code = match live(&mut plan) {
        Ok(()) => 0,
        Err(error) => {
            let message = match error {
                Error::Mount { path, why } => Message::Mount { path, why },
                Error::Host { step, source } => Message::Failed { step: step.to_owned(), why: source.to_string() },
                other => Message::Failed { step: "making the jail".to_owned(), why: other.to_string() },
            };
            tell(plan.status.as_fd(), &message);
            1
        }
    };
    sys::exit_now(code)
}

fn tell(status: BorrowedFd<'_>, message: &Message) {
    let Ok(mut line) = serde_json::to_vec(message) else { return };
    line.push(b'\n');
    // A line is shorter than PIPE_BUF, so it is written whole or not at all. If the monitor is gone, so are we in a moment.
    let _ = rustix::io::write(status, &line);
}

fn live(plan: &mut Plan<'_>) -> Result<(), Error> {
    if let Some(entrance) = plan.entrance.take() {
        entrance.walk()?;
    }
    // Now that the limits hold, so that the root of the jail's view is its own group.
    sys::unshare(libc::CLONE_NEWCGROUP).at("making a namespace of control groups")?;
    let signals = sys::signals_as_file(&[libc::SIGCHLD]).at("watching for ended processes")?;
    let proc = HostProc::open()?;
    if plan.user.is_none() {
        proc.map(0, plan.caller.0, plan.caller.1).at("mapping the user that started the jail")?;
    }
    sys::set_hostname(HOSTNAME).at("naming the jail")?;
    sys::loopback_up().at("bringing up the jail's loopback")?;
    if let Some(handover) = plan.handover.take() {
        egress::hand_over(&handover)?;
    }
    root::enter(plan.spec, &std::mem::take(&mut plan.owners))?;
    lockdown::drop_user(&proc, plan.user)?;
    drop(proc);
    // After the last change of user, which would have reset it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).at("tying the jail to its monitor")?;
    monitor_lives(plan.control.as_fd())?;
    lockdown::no_new_privileges()?;
    lockdown::landlock(plan.spec)?;

    // From here on neither a debugger nor another process of the same user may look into this one.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).at("hiding the first process")?;
    // The program comes first: this process stands still until it is executed.
    let program = match sys::fork_into(libc::CLONE_VFORK, None) {
        Ok(Fork::Child) => become_program(plan),
        Ok(Fork::Parent { pid, .. }) => pid,
        Err(error) => return Err(error).at("starting the program's process"),
    };
    let null =
        rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()).at("opening /dev/null")?;
    rustix::stdio::dup2_stdin(&null).at("letting go of stdin")?;
    rustix::stdio::dup2_stdout(&null).at("letting go of stdout")?;
    rustix::stdio::dup2_stderr(&null).at("letting go of stderr")?;
    drop(null);
    let listener = plan.inbound.take();
    let mut kept = vec![plan.status.as_raw_fd(), plan.control.as_raw_fd(), signals.as_raw_fd()];
    kept.extend(listener.as_ref().map(|(listener, _)| listener.as_raw_fd()));
    close_all_but(kept)?;
    plan.init.load().at("loading the first process's seccomp filter")?;
    if let Some((listener, port)) = listener {
        inbound::serve(listener, port).at("starting the joint to the service's port")?;
    }
    watch(plan, program, &signals)
}

/// A monitor that died before this process was tied to it has closed its end of the control pipe.
pub(crate) fn monitor_lives(control: BorrowedFd<'_>) -> Result<(), Error> {
    let mut files = [PollFd::from_borrowed_fd(control, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::io::retry_on_intr(|| poll(&mut files, Some(&now))).at("looking for the monitor")?;
    if files[0].revents().contains(PollFlags::HUP) {
        return Err(std::io::Error::other("it is gone")).at("looking for the monitor");
    }
    Ok(())
}

pub(crate) fn close_all_but(mut kept: Vec<i32>) -> Result<(), Error> {
    kept.sort_unstable();
    let mut first = 3u32;
    for fd in kept {
        let fd = fd.cast_unsigned();
        if fd > first {
            sys::close_range(first, fd - 1, false).at("closing files")?;
        }
        first = fd + 1;
    }
    sys::close_range(first, u32::MAX, false).at("closing files")
}

/// The program's process, up to its first instruction.
fn become_program(plan: &Plan<'_>) -> ! {
    let failed = |error: Error| -> ! {
        let message = match error {
            Error::Execute { why, .. } => Message::Execute { why },
            Error::Host { step, source } => Message::Failed { step: step.to_owned(), why: source.to_string() },
            other => Message::Failed { step: "starting the program".to_owned(), why: other.to_string() },
        };
        tell(plan.status.as_fd(), &message);
        sys::exit_now(127)
    };
    match prepare(plan) {
        Ok((program, argv, env)) => {
            if let Err(source) = plan.service.load() {
                failed(Error::Host { step: "loading the seccomp filter", source })
            }
            let error = sys::execute(&program, &argv, &env);
            failed(Error::Execute { program: plan.spec.program.clone(), why: error.to_string() })
        }
        Err(error) => failed(error),
    }
}

type Execute = (CString, Vec<CString>, Vec<CString>);

fn prepare(plan: &Plan<'_>) -> Result<Execute, Error> {
    let spec = plan.spec;
    // A session without a terminal: nothing can be typed into the one that stdin may be.
    rustix::process::setsid().at("starting a session")?;
    for (resource, limit) in
        [(Resource::Core, NO_CORE), (Resource::Nofile, spec.limits.open_files), (Resource::Msgqueue, 0)]
    {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        setrlimit(resource, limit).at("setting resource limits")?;
    }
    rustix::process::chdir(&spec.cwd).at("entering the working directory")?;
    let text = |text: &str| CString::new(text).map_err(std::io::Error::from).at("passing arguments");
    let argv = spec.argv.iter().map(|arg| text(arg)).collect::<Result<_, _>>()?;
    let proxy = egress::environment(spec);
    let env = spec.env.iter().chain(proxy.iter().map(|(name, value)| (name, value)));
    let env = env.map(|(name, value)| text(&format!("{name}={value}"))).collect::<Result<_, _>>()?;
    let program = text(&path_text(&spec.program)?)?;
    sys::default_signals().at("resetting signals")?;
    sys::close_range(3, u32::MAX, true).at("closing files")?;
    Ok((program, argv, env))
}

fn path_text(path: &Path) -> Result<String, Error> {
    let text = path.to_str().ok_or_else(|| std::io::Error::other("a path that is not UTF-8"));
    text.map(str::to_owned).at("passing the program's path")
}

/// Waits for processes and commands until the program has ended.
fn watch(plan: &Plan<'_>, program: i32, signals: &OwnedFd) -> Result<(), Error> {
    loop {
        let mut files = [PollFd::new(signals, PollFlags::IN), PollFd::new(&plan.control, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut files, None)).at("waiting")?;
        let (ended, command) = (!files[0].revents().is_empty(), !files[1].revents().is_empty());
        if ended {
            while sys::next_signal(signals.as_fd()).at("waiting")?.is_some() {}
            if let Some(message) = reap(program)? {
                tell(plan.status.as_fd(), &message);
                return Ok(());
            }
        }
        if command {
            let mut byte = [0];
            match rustix::io::read(&plan.control, &mut byte) {
                // The program may have ended in this moment.
                Ok(1) => drop(sys::kill(program, i32::from(byte[0]))),
                // The monitor is gone.
                _ => return Ok(()),
            }
        }
    }
}

/// Takes all ended children; what became of the program, if it is among them.
fn reap(program: i32) -> Result<Option<Message>, Error> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_pid() == program => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Some(Message::Exited { code }),
                    (None, Some(signal)) => Some(Message::Signalled { signal }),
                    (None, None) => continue,
                });
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(None),
            Err(error) => return Err(error).at("waiting for processes"),
        }
    }
}
