//! Signals, as far as runtimes need them: handlers, masks, alternate stacks, faults, `tgkill`, and signals that the VM was sent.
//! There are no real-time queues, no job control and no other process.

use crate::{
    cell::Global,
    errno::{Answer, EFAULT, EINVAL, EPERM, ESRCH, Errno},
    hyper::{self, shared},
    regs::Regs,
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
const SIGSTOP: u32 = 19;
/// Ignored unless handled: SIGCHLD, SIGCONT, SIGURG, SIGWINCH.
const IGNORED: u64 = 1 << 16 | 1 << 17 | 1 << 22 | 1 << 27;
/// Job control, of which there is none.
const STOPS: u64 = 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21;

const SA_ONSTACK: u64 = 0x0800_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;
const SA_RESTORER: u64 = 0x0400_0000;

/// Kernel's `sigaction`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Action {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// A thread's part.
#[derive(Debug, Clone, Copy, Default)]
pub struct Thread {
    mask: u64,
    pending: u64,
    /// Alternate stack: address, flags, size.
    stack: [u64; 3],
    /// `sigsuspend`: the mask to come back to.
    saved_mask: Option<u64>,
}

impl Thread {
    /// What a new thread starts with.
    pub fn inherit(&self) -> Self {
        Self { mask: self.mask, ..Self::default() }
    }
}

static ACTIONS: Global<[Action; 65]> = Global::new([Action { handler: 0, flags: 0, restorer: 0, mask: 0 }; 65]);
/// Sent to the process, not yet to a thread.
static PROCESS: Global<u64> = Global::new(0);

fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

fn never_blocked() -> u64 {
    bit(SIGKILL) | bit(SIGSTOP)
}

/// Whether the running thread has a signal to see to.
pub fn pending() -> bool {
    let process = *PROCESS.get();
    task::with(|task| (task.signals.pending | process) & !task.signals.mask != 0)
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
        *PROCESS.get() |= new;
        wake_for_signal();
    }
}

static SEEN: Global<u64> = Global::new(0);

fn wake_for_signal() {
    let process = *PROCESS.get();
    let tid = TASKS.get().all.values().find(|task| process & !task.signals.mask != 0).map(|task| task.tid);
    if let Some(tid) = tid {
        task::wake(tid);
    }
}

/// Sends a signal to a thread, or to the process.
pub fn send(tid: Option<u32>, signal: u32) -> Answer {
    if signal > 64 {
        return Err(EINVAL);
    }
    let Some(tid) = tid else {
        if signal != 0 {
            *PROCESS.get() |= bit(signal);
            wake_for_signal();
        }
        return Ok(0);
    };
    {
        let mut tasks = TASKS.get();
        let task = tasks.all.get_mut(&tid).ok_or(ESRCH)?;
        if signal == 0 {
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
        if task::block(Wait::Sleep, deadline) {
            return Err(crate::errno::EAGAIN);
        }
    }
}

/// Layout of what a handler finds above its return address.
#[repr(C)]
#[derive(Clone, Copy)]
struct Frame {
    restorer: u64,
    flags: u64,
    link: u64,
    stack: [u64; 3],
    registers: [u64; 23],
    fpstate: u64,
    reserved: [u64; 8],
    mask: u64,
    info: [u64; 16],
}

/// XSAVE area: legacy part, header, and what features the processor has; the program's handlers see the legacy part.
const FP_AREA: u64 = 4096;
/// The red zone under a stack pointer belongs to the code that was interrupted.
const RED_ZONE: u64 = 128;

fn save_fp(at: u64) {
    // SAFETY: `deliver` made FP_AREA bytes at this aligned place writable. X87, SSE and AVX state fits.
    unsafe { core::arch::asm!("xsave64 ({})", in(reg) at, in("eax") 7, in("edx") 0, options(att_syntax)) };
}

fn load_fp(at: u64) {
    // SAFETY: the area was written by `save_fp`; a program that broke it faults in its own VM.
    unsafe { core::arch::asm!("xrstor64 ({})", in(reg) at, in("eax") 7, in("edx") 0, options(att_syntax)) };
}

/// Builds a handler's frame and points the registers at the handler. `xmm` is where an entry saved the lower halves.
fn enter(regs: &mut Regs, xmm: *mut [u8; 256], signal: u32, fault: Option<Fault>) -> Result<(), Errno> {
    let action = ACTIONS.get()[signal as usize];
    let (mask, stack) =
        task::with(|task| (task.signals.saved_mask.take().unwrap_or(task.signals.mask), task.signals.stack));
    let on_stack = stack[2] != 0 && regs.rsp.wrapping_sub(stack[0]) < stack[2];
    let mut top = regs.rsp.wrapping_sub(RED_ZONE);
    if action.flags & SA_ONSTACK != 0 && stack[2] != 0 && !on_stack {
        top = stack[0].wrapping_add(stack[2]);
    }
    let fp = top.wrapping_sub(FP_AREA) & !63;
    let at = (fp.wrapping_sub(size_of::<Frame>() as u64) & !15).wrapping_sub(8);
    let area = user::bytes_mut(at, fp + FP_AREA - at)?;
    area.fill(0);
    save_fp(fp);
    // SAFETY: `xmm` is part of the frame that the entry pushed; the legacy area holds XMM registers from byte 160.
    unsafe { core::ptr::copy_nonoverlapping(xmm.cast::<u8>(), (fp + 160) as *mut u8, 256) };
    let r = &*regs;
    let fault = fault.unwrap_or_default();
    let mut info = [0; 16];
    info[0] = signal.into();
    info[1] = fault.code as u64;
    info[2] = fault.address;
    let frame = Frame {
        restorer: action.restorer,
        flags: 0,
        link: 0,
        stack,
        registers: [
            r.r8,
            r.r9,
            r.r10,
            r.r11,
            r.r12,
            r.r13,
            r.r14,
            r.r15,
            r.rdi,
            r.rsi,
            r.rbp,
            r.rbx,
            r.rdx,
            r.rax,
            r.rcx,
            r.rsp,
            r.rip,
            r.rflags,
            0x002b_0000_0000_0033,
            fault.error,
            fault.vector,
            mask,
            fault.address,
        ],
        fpstate: fp,
        reserved: [0; 8],
        mask,
        info,
    };
    user::write(at, frame)?;
    let context = at + 8;
    regs.rdi = signal.into();
    regs.rsi = at + core::mem::offset_of!(Frame, info) as u64;
    regs.rdx = context;
    regs.rax = 0;
    regs.rsp = at;
    regs.rip = action.handler;
    regs.rflags = 0x202;
    task::with(|task| {
        task.signals.mask = mask | action.mask | if action.flags & SA_NODEFER == 0 { bit(signal) } else { 0 };
        task.signals.mask &= !never_blocked();
    });
    if action.flags & SA_RESETHAND != 0 {
        ACTIONS.get()[signal as usize].handler = 0;
    }
    if action.flags & SA_RESTORER == 0 { Err(EFAULT) } else { Ok(()) }
}

/// `rt_sigreturn`: the registers are those of the frame again.
pub fn leave(regs: &mut Regs, xmm: *mut [u8; 256]) -> Result<(), Errno> {
    // The handler's `ret` took the restorer's address away.
    let frame: Frame = user::read(regs.rsp.wrapping_sub(8))?;
    let g = frame.registers;
    *regs = Regs {
        r8: g[0],
        r9: g[1],
        r10: g[2],
        r11: g[3],
        r12: g[4],
        r13: g[5],
        r14: g[6],
        r15: g[7],
        rdi: g[8],
        rsi: g[9],
        rbp: g[10],
        rbx: g[11],
        rdx: g[12],
        rax: g[13],
        rcx: g[14],
        rsp: g[15],
        rip: g[16],
        // Arithmetic and direction flags; no trap flag, no privilege.
        rflags: g[17] & 0x0cd5 | 0x202,
    };
    if frame.fpstate != 0 && frame.fpstate & 63 == 0 {
        let area = user::bytes(frame.fpstate, FP_AREA)?;
        load_fp(frame.fpstate);
        // SAFETY: as in `enter`.
        unsafe { core::ptr::copy_nonoverlapping(area.as_ptr().add(160), xmm.cast::<u8>(), 256) };
    }
    task::with(|task| task.signals.mask = frame.mask & !never_blocked());
    Ok(())
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
            0 => hyper::exit(128 + signal as i32, signal as i32),
            1 => {}
            _ => {
                if enter(regs, xmm, signal, None).is_err() {
                    hyper::exit(128 + SIGSEGV as i32, SIGSEGV as i32);
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

/// `kill`: there is one process.
pub fn kill(pid: i32, signal: u32) -> Answer {
    match pid {
        0 | 1 | -1 => send(None, signal),
        _ if pid < 0 => Err(EPERM),
        _ => Err(ESRCH),
    }
}
