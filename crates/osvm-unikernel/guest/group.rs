//! Process groups and sessions. There is no terminal, so they matter to `kill` and `wait` only.

use alloc::rc::Rc;

use crate::{
    errno::{Answer, EACCES, EPERM, ESRCH, Errno},
    process::{ALL, FIRST, Process, current, find, own},
};

/// The process that a call names by number; 0 is the running one.
fn named(pid: u64) -> Result<Rc<Process>, Errno> {
    match pid as u32 {
        0 => Ok(own()),
        pid => find(pid).ok_or(ESRCH),
    }
}

/// `setpgid`.
pub fn set_group(pid: u64, group: u64) -> Answer {
    let (process, own) = (named(pid)?, current());
    let group = if group as u32 == 0 { process.pid } else { group as u32 };
    let is_child = process.parent.get() == own.pid;
    if process.pid != own.pid && !is_child {
        return Err(ESRCH);
    }
    if is_child && process.executed.get() {
        return Err(EACCES);
    }
    let session = own.session.get();
    let leads = process.session.get() == process.pid && process.pid != FIRST;
    let exists = group == process.pid
        || ALL.get().values().any(|other| other.group.get() == group && other.session.get() == session);
    if leads || process.session.get() != session || !exists {
        return Err(EPERM);
    }
    process.group.set(group);
    Ok(0)
}

/// `getpgid`, and `getsid`.
pub fn group_of(pid: u64, session: bool) -> Answer {
    let process = named(pid)?;
    Ok(if session { process.session.get() } else { process.group.get() }.into())
}

/// `setsid`.
pub fn new_session() -> Answer {
    let process = current();
    if ALL.get().values().any(|other| other.group.get() == process.pid) {
        return Err(EPERM);
    }
    process.group.set(process.pid);
    process.session.set(process.pid);
    Ok(process.pid.into())
}
