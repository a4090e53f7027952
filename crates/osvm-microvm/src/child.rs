//! A process of a microVM: started so that it ends with its owner, waited for without a sleep, killed when dropped.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

/// How long a killed process may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long there is between two looks at a socket that nobody listens on yet.
const LOOK: Duration = Duration::from_millis(1);

/// A child that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Own {
    child: Child,
    pidfd: OwnedFd,
    ended: Option<ExitStatus>,
}

/// What came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// The descriptor can be read.
    Event,
    /// The process ended.
    End,
    /// Neither, in time.
    Timeout,
}

impl Own {
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { child, pidfd, ended: None }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `event` can be read or the process ended. Does not reap.
    pub(crate) fn wait_with(&self, event: impl AsFd, most: Duration) -> io::Result<Came> {
        let deadline = Instant::now() + most;
        loop {
            let mut both = [PollFd::new(&event, PollFlags::IN), PollFd::new(&self.pidfd, PollFlags::IN)];
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()));
            match poll(&mut both, left.ok().as_ref()) {
                Ok(0) => return Ok(Came::Timeout),
                Ok(_) if !both[0].revents().is_empty() => return Ok(Came::Event),
                Ok(_) => return Ok(Came::End),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How it ended; none if it did not in time.
    pub(crate) fn wait(&mut self, most: Duration) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            // Its own descriptor is the event too.
            if self.wait_with(&self.pidfd, most)? == Came::Timeout {
                return Ok(None);
            }
            self.ended = Some(self.child.wait()?);
        }
        Ok(self.ended)
    }

    /// Whether its end was taken note of: its number may be another's by now.
    pub(crate) fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// Kills it, if it lives, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        if self.ended.is_none() {
            self.child.kill()?;
            self.wait(KILL_TIMEOUT)?;
        }
        Ok(())
    }

    /// Waits until the unix socket at `path`, which this process makes, is there and `listens`. Between the two the kernel tells nobody
    /// anything, so that short time is spent in looks.
    pub(crate) fn wait_for_socket<T>(
        &self,
        path: &Path,
        most: Duration,
        listens: impl Fn() -> io::Result<Option<T>>,
    ) -> io::Result<Result<T, Came>> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        inotify::add_watch(&watch, folder, inotify::WatchFlags::CREATE)?;
        let deadline = Instant::now() + most;
        let mut names = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = if path.exists() {
                if let Some(done) = listens()? {
                    return Ok(Ok(done));
                }
                left.min(LOOK)
            } else {
                left
            };
            match self.wait_with(&watch, left)? {
                Came::Event => {
                    // Only that there was one matters.
                    let _ = rustix::io::read(&watch, &mut names[..]);
                }
                Came::Timeout if Instant::now() < deadline => {}
                other => return Ok(Err(other)),
            }
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.kill();
    }
}

/// A command whose process the kernel kills when the thread that starts it ends, and that never gains powers. By `setpriv` of util-linux,
/// as the call has to be made in the child before the program.
pub(crate) fn dying_with_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    // What a terminal sends to its foreground group is not for the VMM.
    command.process_group(0);
    command.args(["--pdeathsig", "KILL", "--no-new-privs", "--"]).arg(program);
    command
}
