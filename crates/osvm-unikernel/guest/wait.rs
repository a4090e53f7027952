//! Waiting for the end of children: `wait4` and `waitid`.

use crate::{
    errno::{Answer, ECHILD, EINVAL, ERESTART, Errno},
    process::{ALL, Process, Status, current},
    signal,
    task::{self, Wait},
};

/// Which children a wait is for.
enum Which {
    Any,
    One(u32),
    Group(u32),
}

impl Which {
    fn holds(&self, process: &Process) -> bool {
        match *self {
            Self::Any => true,
            Self::One(pid) => process.pid == pid,
            Self::Group(group) => process.group.get() == group,
        }
    }
}

/// Waits for a child's end. None: none has ended, and `now` said not to wait.
fn wait(which: &Which, now: bool, keep: bool) -> Result<Option<(u32, Status)>, Errno> {
    let own = current().pid;
    loop {
        let mut any = false;
        let found = ALL.get().values().find_map(|child| {
            let holds = child.parent.get() == own && which.holds(child);
            any |= holds;
            (holds && child.zombie.get()).then(|| (child.pid, child.ending.get().unwrap_or(Status::Exit(0))))
        });
        if let Some((pid, status)) = found {
            if !keep {
                // The last owner: its thread's stack has been freed, or is about to be.
                let gone = ALL.get().remove(&pid);
                drop(gone);
            }
            return Ok(Some((pid, status)));
        }
        if !any {
            return Err(ECHILD);
        }
        if now {
            return Ok(None);
        }
        if signal::pending() {
            return Err(ERESTART);
        }
        task::block(Wait::Child, u64::MAX);
    }
}

const NO_HANG: u64 = 1;

/// `wait4`.
pub fn wait4(pid: i32, status: u64, options: u64, usage: u64) -> Answer {
    let which = match pid {
        -1 => Which::Any,
        0 => Which::Group(current().group.get()),
        pid if pid < 0 => Which::Group(pid.unsigned_abs()),
        pid => Which::One(pid as u32),
    };
    let Some((pid, how)) = wait(&which, options & NO_HANG != 0, false)? else { return Ok(0) };
    if status != 0 {
        crate::user::write(status, how.word())?;
    }
    if usage != 0 {
        crate::user::write(usage, [0u64; 18])?;
    }
    Ok(pid.into())
}

/// `waitid`.
pub fn waitid(kind: u64, id: u64, info: u64, options: u64, usage: u64) -> Answer {
    const EXITED: u64 = 4;
    const NO_WAIT: u64 = 0x0100_0000;
    const CLD_EXITED: u32 = 1;
    const CLD_KILLED: u32 = 2;
    let which = match (kind, id as u32) {
        (0, _) => Which::Any,
        (1, pid) if pid > 0 => Which::One(pid),
        (2, 0) => Which::Group(current().group.get()),
        (2, group) => Which::Group(group),
        _ => return Err(EINVAL),
    };
    if options & EXITED == 0 {
        return Err(EINVAL);
    }
    let found = wait(&which, options & NO_HANG != 0, options & NO_WAIT != 0)?;
    if info != 0 {
        let mut words = [0u32; 32];
        if let Some((pid, how)) = found {
            let (code, value) = match how {
                Status::Exit(code) => (CLD_EXITED, code as u32 & 0xff),
                Status::Signal(signal) => (CLD_KILLED, signal),
            };
            (words[0], words[2], words[4], words[6]) = (signal::SIGCHLD, code, pid, value);
        }
        crate::user::write(info, words)?;
    }
    if usage != 0 {
        crate::user::write(usage, [0u64; 18])?;
    }
    Ok(0)
}
