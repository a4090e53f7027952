//! Threads, waiting, time, and signals.

use crate::{
    errno::{Answer, EINTR, EINVAL, ENOMEM, ENOSYS, ESRCH},
    futex, hyper,
    regs::{self, Regs},
    signal,
    task::{self, MOST_THREADS, PID, TASKS, Wait},
    time, user,
};

const CLONE_VM: u64 = 0x100;
const CLONE_THREAD: u64 = 0x1_0000;
const CLONE_SETTLS: u64 = 0x8_0000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;

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
        200 => signal::send(Some(a[0] as u32), a[1] as u32),
        234 if a[0] as u32 != PID => Err(ESRCH),
        234 => signal::send(Some(a[1] as u32), a[2] as u32),
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
        56 => start(a[0], a[1], a[2], a[3], a[4], regs),
        435 => {
            let args: [u64; 8] = user::read(a[0])?;
            let [flags, _, child, parent, _, stack, size, tls] = args;
            start(flags, stack.wrapping_add(size), parent, child, tls, regs)
        }
        60 => task::end(a[0] as i32 & 0xff),
        231 => hyper::exit(a[0] as i32 & 0xff, 0),
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

/// A new thread. A new process, by fork or vfork, is not to be had.
fn start(flags: u64, stack: u64, parent_tid: u64, child_tid: u64, tls: u64, regs: &Regs) -> Answer {
    if flags & (CLONE_VM | CLONE_THREAD) != CLONE_VM | CLONE_THREAD {
        return Err(ENOSYS);
    }
    if TASKS.get().all.len() >= MOST_THREADS {
        return Err(crate::errno::EAGAIN);
    }
    let mut child = *regs;
    child.rax = 0;
    child.rsp = if stack == 0 { regs.rsp } else { stack };
    let fs = if flags & CLONE_SETTLS != 0 { tls } else { regs::fs_base() };
    let tid = task::spawn(&child, fs, Some(task::current())).ok_or(ENOMEM)?;
    if flags & CLONE_PARENT_SETTID != 0 {
        user::write(parent_tid, tid)?;
    }
    if flags & CLONE_CHILD_SETTID != 0 {
        user::write(child_tid, tid)?;
    }
    if flags & CLONE_CHILD_CLEARTID != 0
        && let Some(task) = TASKS.get().all.get_mut(&tid)
    {
        task.clear_tid = child_tid;
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
