//! A process that is watched through a pidfd, whether it is a child of this one or was adopted.

use std::{fmt, io, os::fd::OwnedFd, process::Child, sync::Arc, time::Duration};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::{io::unix::AsyncFd, sync::watch};

use crate::procfs::Stat;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was adopted, so its status went to another process.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}{}", name(*signal)),
            Self::Unknown => write!(f, "exit status not known, as another daemon had started it"),
        }
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        4 => " (illegal instruction)",
        6 => " (abort)",
        7 => " (bus error)",
        9 => " (killed)",
        11 => " (segmentation fault)",
        15 => " (terminated)",
        _ => "",
    }
}

/// Why a process cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It is gone already.
    #[error("process {0} is gone")]
    Gone(u32),
    /// No pidfd.
    #[error("cannot open a pidfd of process {pid}")]
    Pidfd {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a process could not be taken over. That it is gone is no error.
#[derive(Debug, thiserror::Error)]
#[error("cannot take over process {pid}")]
pub struct AdoptError {
    pid: u32,
    #[source]
    source: WatchError,
}

/// A process and all that is in its process group. A handle: clones mean the same process, and dropping them ends nothing.
#[derive(Clone, Debug)]
pub struct Process {
    pid: u32,
    start_time: u64,
    pidfd: Arc<OwnedFd>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Process {
    /// Watches a child that leads a process group of its own. Kills it if that cannot be done.
    pub fn watch(mut child: Child) -> Result<Self, WatchError> {
        let pid = child.id();
        let opened = open(pid).and_then(|pidfd| {
            // Not waited for yet, so its entry is there even if it has ended.
            let stat = Stat::read(pid).ok_or(WatchError::Gone(pid))?;
            let watched = register(pid, &pidfd)?;
            Ok((pidfd, stat, watched))
        });
        match opened {
            Ok((pidfd, stat, watched)) => {
                let (sender, exit) = watch::channel(None);
                tokio::spawn(report_exit(pid, watched, Some(child), sender));
                Ok(Self { pid, start_time: stat.start_time, pidfd, exit })
            }
            Err(error) => {
                // Both fail only if it has ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Watches the process of that id if it is the one that started at `start_time`.
    pub fn adopt(pid: u32, start_time: u64) -> Result<Option<Self>, AdoptError> {
        match Self::adopt_inner(pid, start_time) {
            Ok(process) => Ok(process),
            Err(WatchError::Gone(_)) => Ok(None),
            Err(source) => Err(AdoptError { pid, source }),
        }
    }

    fn adopt_inner(pid: u32, start_time: u64) -> Result<Option<Self>, WatchError> {
        let pidfd = open(pid)?;
        // Read after the pidfd was opened: if it is the right process now, it was the right one then.
        if !Stat::read(pid).is_some_and(|stat| stat.alive && stat.start_time == start_time) {
            return Ok(None);
        }
        let watched = register(pid, &pidfd)?;
        let (sender, exit) = watch::channel(None);
        tokio::spawn(report_exit(pid, watched, None, sender));
        Ok(Some(Self { pid, start_time, pidfd, exit }))
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its start, in ticks since boot: with the id it names this process and no other.
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// How it ended, if it has.
    pub fn try_exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until it ended. Safe to cancel.
    pub async fn exited(&self) -> Exit {
        let mut changes = self.exit.clone();
        loop {
            let exit = *changes.borrow_and_update();
            if let Some(exit) = exit {
                return exit;
            }
            if changes.changed().await.is_err() {
                // The runtime is being shut down, and the watching task with it.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks it to end (SIGTERM), and kills its group if it has not within `grace`. Returns once it ended.
    pub async fn terminate(&self, grace: Duration) -> Exit {
        // An error means that it ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
        match tokio::time::timeout(grace, self.exited()).await {
            Ok(exit) => exit,
            Err(_) => self.kill().await,
        }
    }

    /// Kills it and its group (SIGKILL). Returns once it ended.
    pub async fn kill(&self) -> Exit {
        if self.try_exit().is_none() {
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
        self.exited().await
    }
}

fn open(pid: u32) -> Result<Arc<OwnedFd>, WatchError> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(WatchError::Gone(pid))?;
    match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Arc::new(pidfd)),
        Err(rustix::io::Errno::SRCH) => Err(WatchError::Gone(pid)),
        Err(error) => Err(WatchError::Pidfd { pid, source: error.into() }),
    }
}

#[expect(deprecated, reason = "its successor is unsafe; an owned descriptor upholds what that one asks for")]
fn register(pid: u32, pidfd: &Arc<OwnedFd>) -> Result<AsyncFd<Arc<OwnedFd>>, WatchError> {
    AsyncFd::new(Arc::clone(pidfd)).map_err(|source| WatchError::Pidfd { pid, source })
}

async fn report_exit(pid: u32, pidfd: AsyncFd<Arc<OwnedFd>>, child: Option<Child>, exit: watch::Sender<Option<Exit>>) {
    // An error means that the runtime is being shut down.
    if pidfd.readable().await.is_err() {
        return;
    }
    // What the process left behind in its group. Before the process is waited for, so that its id is still its own.
    if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    // And in its jail, if it was the monitor of one: once its end is told, nothing of it runs. (A monitor that ended by itself has
    // cleared up already.)
    let cleared =
        tokio::task::spawn_blocking(move || osvm_jail::Groups::find().and_then(|groups| groups.clear(pid))).await;
    if let Ok(Err(error)) = cleared {
        tracing::debug!(pid, %error, "no control group of it was removed");
    }
    exit.send_replace(Some(child.map_or(Exit::Unknown, reap)));
}

fn reap(mut child: Child) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match child.wait() {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        },
        Err(_) => Exit::Unknown,
    }
}
