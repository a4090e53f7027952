//! Makes every system call there is, each in a process of its own, with arguments that the kernel turns down, and prints a line each:
//! its number and how it was answered.

use std::io;

use osvm_jail::calls;

use crate::raw;

/// Descriptor, address or size that nothing has.
const BAD: u64 = u64::MAX;
/// A call that waits is ended after this many seconds: it was allowed.
const WAITS_SECONDS: u64 = 1;
/// The child says with its exit code what the call said.
const ANSWERED: i32 = 100;
const EPERM: i32 = 101;
const ENOSYS: i32 = 102;

pub(crate) fn run() -> io::Result<()> {
    let mut waiting: Vec<(i64, i32)> = Vec::new();
    for number in 0..calls::BEYOND {
        // SAFETY: this process has one thread; the child makes system calls only, and ends.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => child(number),
            pid => waiting.push((number, pid)),
        }
        // Those that wait do so side by side, but not more than the jail lets live.
        if waiting.len() == 64 {
            waiting.drain(..).try_for_each(|(number, pid)| tell(number, pid))?;
        }
    }
    waiting.drain(..).try_for_each(|(number, pid)| tell(number, pid))
}

fn tell(number: i64, pid: i32) -> io::Result<()> {
    let mut status = 0;
    raw(libc::SYS_wait4, &[pid as u64, &raw mut status as u64, 0, 0])?;
    let answer = if libc::WIFEXITED(status) {
        match libc::WEXITSTATUS(status) {
            EPERM => "EPERM",
            ENOSYS => "ENOSYS",
            // Or any other code: the call was exit.
            _ => "allowed",
        }
    } else {
        match libc::WTERMSIG(status) {
            libc::SIGSYS => "SIGSYS",
            libc::SIGILL => "SIGILL",
            // It waited until the alarm, or broke on its arguments.
            _ => "allowed",
        }
    };
    println!("{number} {answer}");
    Ok(())
}

fn child(number: i64) -> ! {
    let timer = [0, 0, WAITS_SECONDS, 0];
    let _ = raw(libc::SYS_setitimer, &[0, timer.as_ptr() as u64, 0]);
    let answer = make(number, arguments(number));
    let code = match answer {
        answer if answer == -i64::from(libc::EPERM) => EPERM,
        answer if answer == -i64::from(libc::ENOSYS) => ENOSYS,
        _ => ANSWERED,
    };
    // SAFETY: it takes any number and never returns.
    unsafe { libc::_exit(code) }
}

/// Such that the filter lets an allowed call through, and the kernel turns it down or does nothing.
fn arguments(number: i64) -> [u64; 4] {
    match number {
        libc::SYS_ioctl => [BAD, libc::TCGETS, 0, 0],
        libc::SYS_prctl => [libc::PR_GET_DUMPABLE as u64, 0, 0, 0],
        libc::SYS_socket | libc::SYS_socketpair => [libc::AF_UNIX as u64, BAD, 0, 0],
        // No namespace; threads share memory and this one does not, so it is turned down.
        libc::SYS_clone => [libc::CLONE_THREAD as u64, 0, 0, 0],
        // Whether there is any process to signal is not the question.
        libc::SYS_kill => [BAD, BAD, 0, 0],
        _ => [BAD, 0, 0, 0],
    }
}

/// One call whose child, if it makes one, ends at once, without a return into a frame that it shares with its parent.
#[cfg(target_arch = "x86_64")]
fn make(number: i64, args: [u64; 4]) -> i64 {
    let forks = i64::from([libc::SYS_fork, libc::SYS_vfork].contains(&number));
    let answer: i64;
    // SAFETY: the arguments are numbers that are no addresses of this process (BAD, null, flags), so the kernel writes nowhere. A child
    // of fork or vfork runs the four instructions up to its exit and touches no memory.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test r12, r12",
            "jz 2f",
            "test rax, rax",
            "jnz 2f",
            "mov eax, 60",
            "xor edi, edi",
            "syscall",
            "2:",
            inlateout("rax") number => answer,
            inlateout("rdi") args[0] => _,
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") 0u64,
            in("r9") 0u64,
            in("r12") forks,
            out("rcx") _,
            out("r11") _,
        );
    }
    answer
}

/// Machines without fork and vfork have no call that returns twice on these arguments.
#[cfg(not(target_arch = "x86_64"))]
fn make(number: i64, args: [u64; 4]) -> i64 {
    match raw(number, &args) {
        Ok(answer) => answer,
        Err(error) => -i64::from(error.raw_os_error().unwrap_or(0)),
    }
}
