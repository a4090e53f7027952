//! Threads, waiting, time, and signals.

use crate::{
    errno::{Answer, EAGAIN, EINTR, EINVAL, ENOMEM, ENOSYS},
    fault, futex,
    process::{self, Status},
    regs::{self, Regs},
    signal,
    task::{self, MOST_THREADS, TASKS, Wait},
    time, user,
};

const CLONE_VM: u64 = 0x100;
const CLONE_FS: u64 = 0x200;
const CLONE_FILES: u64 = 0x400;
const CLONE_SIGHAND: u64 = 0x800;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_THREAD: u64 = 0x1_0000;
const CLONE_SETTLS: u64 = 0x8_0000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

pub fn call(number: u64, a: [u64; 6], regs: &Regs) -> Answer {
    match number {
        13 => signal::action(a[0], a[1], a[2]),
        14 => signal::mask(a[0], a[1], a[2]),
        127 => signal::show_pending(a[0]),
        128 => signal::wait_for(a[0], a[2]),
        130 => {
            signal::mask_for_wait(a[0])?;
            while !signal::pending() {
                task::block(Wait::Sleep, u64::MAX);
            }
            Err(EINTR)
        }
        131 => signal::alternate_stack(a[0], a[1]),
        200 => signal::send(None, a[0] as u32, a[1] as u32),
        234 => signal::send(Some(a[0] as u32), a[1] as u32, a[2] as u32),
        24 => {
            task::yield_now();
            Ok(0)
        }
        35 => sleep(time::monotonic().saturating_add(time::get(a[0])?), a[1]),
        230 => {
            time::clock(a[0])?;
            let at = time::get(a[2])?;
            let absolute = a[1] & 1 != 0;
            let deadline = if absolute { time::absolute(a[0], at) } else { time::monotonic().saturating_add(at) };
            sleep(deadline, if absolute { 0 } else { a[3] })
        }
        228 => time::put(a[1], time::clock(a[0])?).map(|()| 0),
        229 => {
            time::clock(a[0])?;
            if a[1] != 0 {
                time::put(a[1], 1)?;
            }
            Ok(0)
        }
        56 => start(
            &Clone {
                flags: a[0],
                stack: a[1],
                parent_tid: a[2],
                child_tid: a[3],
                tls: a[4],
                signal: a[0] as u32 & 0xff,
            },
            regs,
        ),
        57 => start(&Clone { signal: signal::SIGCHLD, ..Clone::default() }, regs),
        58 => start(&Clone { flags: CLONE_VM | CLONE_VFORK, signal: signal::SIGCHLD, ..Clone::default() }, regs),
        435 => {
            let args: [u64; 8] = user::read(a[0])?;
            let [flags, _, child_tid, parent_tid, signal, stack, size, tls] = args;
            let stack = stack.wrapping_add(size);
            start(&Clone { flags, stack, parent_tid, child_tid, tls, signal: signal as u32 }, regs)
        }
        60 => task::end(a[0] as i32 & 0xff),
        231 => process::end(Status::Exit(a[0] as i32 & 0xff)),
        186 => Ok(task::current().into()),
        218 => {
            task::with(|task| task.clear_tid = a[0]);
            Ok(task::current().into())
        }
        202 => futex::futex(a[0], a[1], a[2] as u32, a[3], a[4], a[5] as u32),
        // A thread dies with its process only, so robust lists are never walked.
        273 | 274 => Ok(0),
        203 => Ok(0),
        204 => {
            if a[1] < 8 {
                return Err(EINVAL);
            }
            user::write(a[2], 1u64)?;
            Ok(8)
        }
        _ => Err(ENOSYS),
    }
}

/// What `clone` and its relatives are asked for.
#[derive(Default)]
struct Clone {
    flags: u64,
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
    /// What the parent is told when a new process ends.
    signal: u32,
}

/// A new thread, or a new process.
fn start(clone: &Clone, regs: &Regs) -> Answer {
    /// A namespace of its own, tracing, a PIDFD, a cgroup: not to be had.
    const REFUSED: u64 = 0x7e02_0000 | 0x1000 | 0x2000 | 0x2_0000_0000;
    let flags = clone.flags;
    let is_thread = flags & CLONE_THREAD != 0;
    if flags & REFUSED != 0 || clone.signal > 64 {
        return Err(EINVAL);
    }
    // A process with its parent's descriptors, folder or handlers in common is not to be had.
    if is_thread && flags & CLONE_VM == 0 || !is_thread && flags & (CLONE_FS | CLONE_FILES | CLONE_SIGHAND) != 0 {
        return Err(if is_thread { EINVAL } else { ENOSYS });
    }
    if TASKS.get().all.len() >= MOST_THREADS || process::count() >= MOST_THREADS {
        return Err(EAGAIN);
    }
    let mut first = *regs;
    first.rax = 0;
    first.rsp = if clone.stack == 0 { regs.rsp } else { clone.stack };
    let fs = if flags & CLONE_SETTLS != 0 { clone.tls } else { regs::fs_base() };
    let tid = task::new_number();
    // A thread begins in a function, a process in the midst of one.
    let xmm = fault::xmm((&raw const *regs).cast_mut()).cast_const();
    let begin = task::Start { tid, regs: first, fs, xmm: (!is_thread).then_some(xmm) };
    let own = process::own();
    let process = if is_thread {
        own
    } else {
        let (share, sibling) = (flags & CLONE_VM != 0, flags & CLONE_PARENT != 0);
        own.child(tid, share, clone.signal, sibling, [first.rsp, clone.child_tid]).ok_or(ENOMEM)?
    };
    if !task::spawn(&begin, &process, Some(task::current())) {
        if !is_thread {
            process.abandon();
        }
        return Err(ENOMEM);
    }
    if flags & CLONE_CLEAR_SIGHAND != 0 {
        signal::clear_handlers(&process);
    }
    if flags & CLONE_PARENT_SETTID != 0 {
        user::write(clone.parent_tid, tid)?;
    }
    if flags & CLONE_CHILD_SETTID != 0 {
        process.write_u32(clone.child_tid, tid)?;
    }
    if flags & CLONE_CHILD_CLEARTID != 0
        && let Some(task) = TASKS.get().all.get_mut(&tid)
    {
        task.clear_tid = clone.child_tid;
    }
    if !is_thread && flags & CLONE_VFORK != 0 {
        process::current().lend(&process);
    }
    Ok(tid.into())
}

fn sleep(deadline: u64, left: u64) -> Answer {
    loop {
        if time::monotonic() >= deadline || task::block(Wait::Sleep, deadline) {
            return Ok(0);
        }
        if signal::pending() {
            if left != 0 {
                time::put(left, deadline.saturating_sub(time::monotonic()))?;
            }
            return Err(EINTR);
        }
    }
}
