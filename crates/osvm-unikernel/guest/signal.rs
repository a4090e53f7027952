//! Signals, as far as runtimes need them: handlers, masks, alternate stacks, faults, `kill` and `tgkill`, and signals that the VM was sent.
//! There are no real-time queues and no job control.

use alloc::rc::Rc;

use crate::{
    cell::Global,
    errno::{Answer, EINTR, EINVAL, ESRCH, Errno},
    hyper::shared,
    process::{self, OfProcess, Process, Status},
    regs::Regs,
    sigframe::enter,
    task::{self, TASKS, Wait},
    user,
};

pub const SIGILL: u32 = 4;
pub const SIGTRAP: u32 = 5;
pub const SIGBUS: u32 = 7;
pub const SIGFPE: u32 = 8;
pub const SIGKILL: u32 = 9;
pub const SIGSEGV: u32 = 11;
pub const SIGPIPE: u32 = 13;
pub const SIGALRM: u32 = 14;
pub const SIGCHLD: u32 = 17;
const SIGSTOP: u32 = 19;
/// Ignored unless handled: SIGCHLD, SIGCONT, SIGURG, SIGWINCH.
const IGNORED: u64 = 1 << 16 | 1 << 17 | 1 << 22 | 1 << 27;
/// Job control, of which there is none.
const STOPS: u64 = 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21;

/// Kernel's `sigaction`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Action {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

/// A thread's part.
#[derive(Debug, Clone, Copy, Default)]
pub struct Thread {
    pub mask: u64,
    pending: u64,
    /// Alternate stack: address, flags, size.
    pub stack: [u64; 3],
    /// `sigsuspend`: the mask to come back to.
    pub saved_mask: Option<u64>,
}

impl Thread {
    /// What a new thread starts with.
    pub fn inherit(&self) -> Self {
        Self { mask: self.mask, ..Self::default() }
    }
}

/// What a process does about each signal.
pub type Actions = [Action; 65];

/// What a fresh process does: what the signals say.
pub const NO_ACTIONS: Actions = [Action { handler: 0, flags: 0, restorer: 0, mask: 0 }; 65];

pub static ACTIONS: OfProcess<Actions> = OfProcess::new(|process| &process.actions);
/// Sent to the process, not yet to a thread.
static PROCESS: OfProcess<u64> = OfProcess::new(|process| &process.pending);

/// A signal's place in a set.
pub fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Signals that no mask holds back.
pub fn never_blocked() -> u64 {
    bit(SIGKILL) | bit(SIGSTOP)
}

/// Whether the running thread has a signal to see to, or is to end.
pub fn pending() -> bool {
    let process = *PROCESS.get();
    task::with(|task| (task.signals.pending | process) & !task.signals.mask != 0 || task.process.ends(task.tid))
}

/// Whether a process drops a signal at once, unless one of its threads blocks it.
fn ignores(process: &Process, signal: u32) -> bool {
    match process.actions.get()[signal as usize].handler {
        0 => (IGNORED | STOPS) & bit(signal) != 0,
        handler => handler == 1,
    }
}

/// Whether a process said that it will not ask how its children ended.
pub fn children_are_ignored(process: &Process) -> bool {
    const SA_NOCLDWAIT: u64 = 2;
    let action = process.actions.get()[SIGCHLD as usize];
    action.handler == 1 || action.flags & SA_NOCLDWAIT != 0
}

/// What a new program begins with: no handlers, no alternate stack.
pub fn execute() {
    clear_handlers(process::current());
    task::with(|task| (task.signals.stack, task.signals.saved_mask) = ([0; 3], None));
}

/// Takes the handlers away. What is ignored stays so.
pub fn clear_handlers(process: &Process) {
    for action in process.actions.get().iter_mut() {
        *action = Action { handler: u64::from(action.handler == 1), ..Action::default() };
    }
}

/// Whether a call that the pending signal interrupts begins anew afterwards: its handler says so, or there is none.
pub fn restarts() -> bool {
    const SA_RESTART: u64 = 0x1000_0000;
    let process = *PROCESS.get();
    let pending = task::with(|task| (task.signals.pending | process) & !task.signals.mask);
    if pending == 0 {
        return true;
    }
    let action = ACTIONS.get()[pending.trailing_zeros() as usize + 1];
    action.handler <= 1 || action.flags & SA_RESTART != 0
}

/// Takes the signals that the monitor was told to pass on.
pub fn from_outside() {
    let all = shared!(signals);
    let mut seen = SEEN.get();
    let new = all & !*seen;
    // The monitor never takes a bit back, so each number is passed on once.
    if new != 0 {
        *seen |= new;
        if let Some(first) = process::find(process::FIRST) {
            (1..=64).filter(|&signal| new & bit(signal) != 0).for_each(|signal| to_process(&first, signal));
        }
    }
}

static SEEN: Global<u64> = Global::new(0);

/// Sends a signal to a process: one of its threads that do not block it is woken.
pub fn to_process(process: &Rc<Process>, signal: u32) {
    if process.has_ended() {
        return;
    }
    let ignored = ignores(process, signal);
    let (mut blocked, mut taker) = (false, None);
    for task in TASKS.get().all.values().filter(|task| task.process.pid == process.pid) {
        let blocks = task.signals.mask & bit(signal) != 0;
        blocked |= blocks;
        // One that waits takes it at once.
        if !blocks && (taker.is_none() || task.wait != Wait::No) {
            taker = Some(task.tid);
        }
    }
    if ignored && !blocked {
        return;
    }
    *process.pending.get() |= bit(signal);
    if let Some(tid) = taker {
        task::wake(tid);
    }
}

/// Sends a signal to a thread, of the process `pid` if that is said.
pub fn send(pid: Option<u32>, tid: u32, signal: u32) -> Answer {
    if signal > 64 {
        return Err(EINVAL);
    }
    {
        let mut tasks = TASKS.get();
        let task = tasks.all.get_mut(&tid).ok_or(ESRCH)?;
        if pid.is_some_and(|pid| pid != task.process.pid) {
            return Err(ESRCH);
        }
        if signal == 0 || (task.signals.mask & bit(signal) == 0 && ignores(&task.process, signal)) {
            return Ok(0);
        }
        task.signals.pending |= bit(signal);
        if task.wait == Wait::No || bit(signal) & !task.signals.mask == 0 {
            return Ok(0);
        }
    }
    task::wake(tid);
    Ok(0)
}

/// `rt_sigaction`.
pub fn action(signal: u64, new: u64, old: u64) -> Answer {
    if !(1..=64).contains(&signal) {
        return Err(EINVAL);
    }
    let before = ACTIONS.get()[signal as usize];
    if new != 0 {
        if never_blocked() & bit(signal as u32) != 0 {
            return Err(EINVAL);
        }
        let action: Action = user::read(new)?;
        ACTIONS.get()[signal as usize] = action;
    }
    if old != 0 {
        user::write(old, before)?;
    }
    Ok(0)
}

/// `rt_sigprocmask`.
pub fn mask(how: u64, new: u64, old: u64) -> Answer {
    let before = task::with(|task| task.signals.mask);
    if new != 0 {
        let set: u64 = user::read(new)?;
        let after = match how {
            0 => before | set,
            1 => before & !set,
            2 => set,
            _ => return Err(EINVAL),
        };
        task::with(|task| task.signals.mask = after & !never_blocked());
    }
    if old != 0 {
        user::write(old, before)?;
    }
    Ok(0)
}

/// Sets the mask for the length of a wait; the handler's return brings the old one back.
pub fn mask_for_wait(at: u64) -> Result<(), Errno> {
    if at != 0 {
        let set: u64 = user::read(at)?;
        task::with(|task| {
            task.signals.saved_mask.get_or_insert(task.signals.mask);
            task.signals.mask = set & !never_blocked();
        });
    }
    Ok(())
}

/// Ends what [`mask_for_wait`] began, if no signal came.
pub fn unmask_after_wait() {
    if !pending() {
        task::with(|task| {
            if let Some(mask) = task.signals.saved_mask.take() {
                task.signals.mask = mask;
            }
        });
    }
}

/// `sigaltstack`.
pub fn alternate_stack(new: u64, old: u64) -> Answer {
    const DISABLE: u64 = 2;
    let before = task::with(|task| task.signals.stack);
    if new != 0 {
        let stack: [u64; 3] = user::read(new)?;
        task::with(|task| task.signals.stack = stack);
    }
    if old != 0 {
        let shown = if before[2] == 0 { [0, DISABLE, 0] } else { before };
        user::write(old, shown)?;
    }
    Ok(0)
}

/// `rt_sigpending`.
pub fn show_pending(at: u64) -> Answer {
    let process = *PROCESS.get();
    user::write(at, task::with(|task| (task.signals.pending | process) & task.signals.mask))?;
    Ok(0)
}

/// `rt_sigtimedwait`: takes a blocked signal.
pub fn wait_for(set: u64, timeout: u64) -> Answer {
    let set: u64 = user::read(set)?;
    let deadline = crate::time::deadline(timeout)?;
    loop {
        let mut process = PROCESS.get();
        let found = task::with(|task| {
            let ready = (task.signals.pending | *process) & set;
            if ready == 0 {
                return None;
            }
            let signal = ready.trailing_zeros() + 1;
            task.signals.pending &= !bit(signal);
            *process &= !bit(signal);
            Some(signal)
        });
        drop(process);
        if let Some(signal) = found {
            return Ok(signal.into());
        }
        if pending() {
            return Err(EINTR);
        }
        if task::block(Wait::Sleep, deadline) {
            return Err(crate::errno::EAGAIN);
        }
    }
}

/// What a processor exception was.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fault {
    pub signal: u32,
    pub code: i32,
    pub address: u64,
    pub vector: u64,
    pub error: u64,
}

/// Hands an exception to the program's handler. False: it has none, or cannot take it.
pub fn deliver_fault(regs: &mut Regs, xmm: *mut [u8; 256], fault: Fault) -> bool {
    let action = ACTIONS.get()[fault.signal as usize];
    let blocked = task::with(|task| task.signals.mask & bit(fault.signal) != 0);
    action.handler > 1 && !blocked && enter(regs, xmm, fault.signal, Some(fault)).is_ok()
}

/// Delivers what is pending before the program goes on.
pub fn deliver(regs: &mut Regs, xmm: *mut [u8; 256]) {
    while pending() {
        if task::ends() {
            task::end(0);
        }
        let mut process = PROCESS.get();
        let signal = task::with(|task| {
            let signal = ((task.signals.pending | *process) & !task.signals.mask).trailing_zeros() + 1;
            task.signals.pending &= !bit(signal);
            signal
        });
        *process &= !bit(signal);
        drop(process);
        let action = ACTIONS.get()[signal as usize];
        match action.handler {
            0 if (IGNORED | STOPS) & bit(signal) != 0 => {}
            0 => process::end(Status::Signal(signal)),
            1 => {}
            _ => {
                if enter(regs, xmm, signal, None).is_err() {
                    process::end(Status::Signal(SIGSEGV));
                }
                return;
            }
        }
    }
    // A wait with its own mask ended, and no handler's return will bring the old one back.
    task::with(|task| {
        if let Some(mask) = task.signals.saved_mask.take() {
            task.signals.mask = mask;
        }
    });
}

/// `kill`.
pub fn kill(pid: i32, signal: u32) -> Answer {
    if signal > 64 {
        return Err(EINVAL);
    }
    let own = process::current();
    let takes = |process: &Process| match pid {
        0 => process.group.get() == own.group.get(),
        -1 => process.pid != process::FIRST && process.pid != own.pid,
        pid if pid < 0 => process.group.get() == pid.unsigned_abs(),
        pid => process.pid == pid as u32,
    };
    // A process that has ended and was not asked about is there still, and takes nothing.
    let ended = pid > 0 && process::find(pid as u32).is_some();
    let mut any = ended;
    for process in process::living().into_iter().filter(|process| takes(process)) {
        any = true;
        if signal != 0 {
            to_process(&process, signal);
        }
    }
    if any { Ok(0) } else { Err(ESRCH) }
}
