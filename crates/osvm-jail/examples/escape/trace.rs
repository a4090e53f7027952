//! Runs `osvm-jail` and records which system calls the program in the jail, and the jail's first process, get through their filters.
//!
//! A process is told from the monitor by its own call that loads a filter, and the program from the first process by what it
//! executes after it. Only calls that were not answered with `EPERM` or `ENOSYS` count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io, mem,
    os::unix::process::CommandExt,
    process::Command,
};

use crate::raw;

const OPTIONS: libc::c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_EXITKILL;
/// What waitpid says of a stop at a system call.
const AT_CALL: i32 = libc::SIGTRAP | 0x80;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The monitor, or a jail that is being made.
    Outside,
    /// It has loaded a filter. If it executes nothing, it is the first process.
    Filtered,
    /// The program and all that it started.
    Service,
}

struct Task {
    kind: Kind,
    call: i64,
}

/// `FILE PROGRAM ARGS…`: writes a line a call, `service NUMBER` or `init NUMBER`, into the file.
pub(crate) fn run(mut args: impl Iterator<Item = String>) -> io::Result<()> {
    let (Some(file), Some(program)) = (args.next(), args.next()) else {
        return Err(io::Error::other("it takes a file and a program"));
    };
    let mut command = Command::new(program);
    command.args(args);
    // SAFETY: between fork and exec only one system call is made.
    unsafe { command.pre_exec(|| ptrace(libc::PTRACE_TRACEME, 0, 0, 0).map(drop)) };
    let child = command.spawn()?;
    let root = i32::try_from(child.id()).map_err(io::Error::other)?;
    let mut tracer = Tracer { tasks: BTreeMap::new(), early: BTreeSet::new(), seen: BTreeSet::new() };
    let status = tracer.follow(root)?;
    let lines: String = tracer.seen.iter().map(|(who, call)| format!("{who} {call}\n")).collect();
    fs::write(file, lines)?;
    // Its end is this program's end.
    let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
    std::process::exit(code)
}

struct Tracer {
    tasks: BTreeMap<i32, Task>,
    /// Stopped before we were told whose child it is.
    early: BTreeSet<i32>,
    seen: BTreeSet<(&'static str, i64)>,
}

impl Tracer {
    /// Follows all tasks to their end, and gives back how the first one ended.
    fn follow(&mut self, root: i32) -> io::Result<i32> {
        let mut end = 0;
        loop {
            let mut status = 0;
            let all = -1i64 as u64;
            let pid = match raw(libc::SYS_wait4, &[all, &raw mut status as u64, libc::__WALL as u64, 0]) {
                Ok(pid) => i32::try_from(pid).map_err(io::Error::other)?,
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(end),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if !libc::WIFSTOPPED(status) {
                if pid == root {
                    end = status;
                }
                self.tasks.remove(&pid);
                self.early.remove(&pid);
                continue;
            }
            if !self.tasks.contains_key(&pid) {
                if pid != root {
                    self.early.insert(pid);
                    continue;
                }
                ptrace(libc::PTRACE_SETOPTIONS, pid, 0, OPTIONS as u64)?;
                self.tasks.insert(pid, Task { kind: Kind::Outside, call: 0 });
                resume(pid, 0);
                continue;
            }
            self.stopped(pid, status)?;
        }
    }

    fn stopped(&mut self, pid: i32, status: i32) -> io::Result<()> {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        match event {
            libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => {
                let mut child = 0u64;
                ptrace(libc::PTRACE_GETEVENTMSG, pid, 0, &raw mut child as u64)?;
                let child = i32::try_from(child).map_err(io::Error::other)?;
                let kind = self.tasks.get(&pid).map_or(Kind::Outside, |task| task.kind);
                self.tasks.insert(child, Task { kind, call: 0 });
                if self.early.remove(&child) {
                    resume(child, 0);
                }
                resume(pid, 0);
            }
            libc::PTRACE_EVENT_EXEC => {
                if let Some(task) = self.tasks.get_mut(&pid).filter(|task| task.kind == Kind::Filtered) {
                    task.kind = Kind::Service;
                }
                resume(pid, 0);
            }
            _ if signal == AT_CALL => {
                self.call(pid)?;
                resume(pid, 0);
            }
            // A new task's first stop.
            _ if signal == libc::SIGSTOP => resume(pid, 0),
            _ => resume(pid, signal),
        }
        Ok(())
    }

    fn call(&mut self, pid: i32) -> io::Result<()> {
        // SAFETY: it is plain numbers, for which zero is a valid value.
        let mut info: libc::ptrace_syscall_info = unsafe { mem::zeroed() };
        let size = mem::size_of_val(&info) as u64;
        if ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, &raw mut info as u64).is_err() {
            // Killed meanwhile.
            return Ok(());
        }
        let Some(task) = self.tasks.get_mut(&pid) else { return Ok(()) };
        if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            // SAFETY: this is the field that the kernel fills for an entry.
            task.call = unsafe { info.u.entry.nr }.cast_signed();
            // These do not return.
            if [libc::SYS_exit, libc::SYS_exit_group, libc::SYS_rt_sigreturn].contains(&task.call) {
                self.record(pid);
            }
        } else if info.op == libc::PTRACE_SYSCALL_INFO_EXIT {
            // SAFETY: this is the field that the kernel fills for an exit.
            let answer = unsafe { info.u.exit.sval };
            if answer == 0 && task.call == libc::SYS_seccomp && task.kind == Kind::Outside {
                task.kind = Kind::Filtered;
            } else if ![-i64::from(libc::EPERM), -i64::from(libc::ENOSYS)].contains(&answer) {
                self.record(pid);
            }
        }
        Ok(())
    }

    fn record(&mut self, pid: i32) {
        if let Some(task) = self.tasks.get(&pid) {
            match task.kind {
                Kind::Outside => {}
                Kind::Filtered => drop(self.seen.insert(("init", task.call))),
                Kind::Service => drop(self.seen.insert(("service", task.call))),
            }
        }
    }
}

fn ptrace(request: libc::c_uint, pid: i32, address: u64, data: u64) -> io::Result<i64> {
    raw(libc::SYS_ptrace, &[u64::from(request), u64::from(pid.cast_unsigned()), address, data])
}

/// To its next call. If it was killed meanwhile, waiting says so.
fn resume(pid: i32, signal: i32) {
    let _ = ptrace(libc::PTRACE_SYSCALL, pid, 0, u64::from(signal.cast_unsigned()));
}
