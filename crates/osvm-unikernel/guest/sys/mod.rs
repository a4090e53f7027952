//! System calls: from the program's registers to the functions that answer, and back. A number that is not here answers ENOSYS and is
//! counted.

pub mod exec;
pub mod io;
pub mod mem;
pub mod net;
pub mod path;
pub mod poll;
pub mod process;
pub mod rights;
pub mod thread;

use alloc::rc::Rc;

use crate::{
    cell::Global,
    errno::{Answer, EAGAIN, EINTR, ENOMEM, ENOSYS, ERESTART},
    fault::xmm,
    fs::Open,
    phys,
    regs::Regs,
    rewrite, sigframe, signal, stats,
    task::{self, Wait},
};

const RT_SIGRETURN: u64 = 15;
const EXECVE: u64 = 59;
const EXECVEAT: u64 = 322;
/// Bytes of the `syscall` instruction.
const SYSCALL: u64 = 2;

/// Known, and not to be had: `rseq`, as nothing moves a thread to another CPU.
const REFUSED: [u64; 1] = [334];

/// Calls that make something which stays in the library OS's own memory. They are refused when only its reserve is left.
const MAKES: [u64; 28] = [
    2, 9, 22, 41, 43, 53, 56, 57, 58, 83, 85, 86, 88, 133, 213, 257, 258, 259, 265, 266, 283, 284, 288, 290, 291, 293,
    319, 435,
];

static CALLS: Global<u64> = Global::new(0);

/// System calls so far.
pub fn calls() -> u64 {
    // SAFETY: reads a number; a crash may come while it is borrowed.
    unsafe { *CALLS.as_ptr() }
}

/// A system call of the program, on its thread's own stack.
#[unsafe(no_mangle)]
extern "C" fn on_syscall(regs: *mut Regs, trapped: u64) {
    let at = xmm(regs);
    // SAFETY: the entry has just pushed the registers; this stack is this thread's alone.
    let regs = unsafe { &mut *regs };
    let number = regs.rax;
    *CALLS.get() += 1;
    if trapped != 0 {
        rewrite::site(regs, number);
    }
    if number == RT_SIGRETURN {
        if sigframe::leave(regs, at).is_err() {
            crate::crash::report(regs, 14, 4, regs.rsp, signal::SIGSEGV as i32);
        }
    } else {
        let answer = dispatch(number, regs, at);
        regs.rax = match answer {
            // The registers are the new program's.
            Ok(_) if number == EXECVE || number == EXECVEAT => 0,
            Ok(value) => value,
            // As if the program had not got to its `syscall` yet.
            Err(ERESTART) if signal::restarts() => {
                regs.rip -= SYSCALL;
                number
            }
            Err(ERESTART) => (-i64::from(EINTR.0)) as u64,
            Err(errno) => (-i64::from(errno.0)) as u64,
        };
    }
    if task::tick_is_due() {
        task::tick();
    }
    crate::net::flush_if_full();
    signal::deliver(regs, at);
}

/// Repeats what would have to wait, until it need not, a signal comes, or the deadline is there.
pub fn blocking(open: &Rc<Open>, deadline: u64, mut act: impl FnMut() -> Answer) -> Answer {
    loop {
        match act() {
            Err(EAGAIN) if !open.nonblocking() => {
                if signal::pending() {
                    return Err(ERESTART);
                }
                if task::block(Wait::Event, deadline) {
                    return Err(EAGAIN);
                }
            }
            done => return done,
        }
    }
}

fn dispatch(number: u64, regs: &mut Regs, at: *mut [u8; 256]) -> Answer {
    let a = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    let answer = match number {
        _ if phys::is_low() && MAKES.contains(&number) => Err(ENOMEM),
        0
        | 1
        | 3
        | 8
        | 16..=20
        | 22
        | 32
        | 33
        | 40
        | 72..=77
        | 221
        | 275
        | 277
        | 284..=285
        | 290
        | 292..=293
        | 295..=296
        | 306
        | 326..=328
        | 436 => io::call(number, a),
        2
        | 4..=6
        | 21
        | 79..=95
        | 132..=133
        | 137..=138
        | 161
        | 162
        | 188..=199
        | 217
        | 235
        | 257..=269
        | 280
        | 316
        | 332
        | 439 => path::call(number, a),
        7 | 23 | 213 | 232..=233 | 270..=271 | 281..=283 | 286..=287 | 289 | 291 | 441 => poll::call(number, a),
        9..=12 | 25..=28 | 149..=152 | 324 | 325 => mem::call(number, a),
        41..=55 | 288 | 299 | 307 => net::call(number, a),
        13..=14
        | 24
        | 35
        | 56..=58
        | 60
        | 127..=131
        | 186
        | 200
        | 202..=204
        | 218
        | 228..=231
        | 234
        | 273..=274
        | 435 => thread::call(number, a, regs),
        EXECVE => exec::execute(path::HERE, a[0], a[1], a[2], 0, regs, at),
        EXECVEAT => exec::execute(a[0], a[1], a[2], a[3], a[4], regs, at),
        _ => process::call(number, a),
    };
    if answer == Err(ENOSYS) && !REFUSED.contains(&number) {
        stats::unknown(number);
    }
    answer
}
