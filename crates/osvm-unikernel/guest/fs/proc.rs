//! /proc, /dev, /etc and what else programs look for at their start.

use alloc::{format, rc::Rc, string::String, vec::Vec};
use core::fmt::Write;

use super::{
    Content, Kind, Node,
    file::{FULL, NULL, RANDOM, URANDOM, ZERO},
    tree::{cwd, make_dirs, place},
};
use crate::{
    mm::{self, MM},
    phys,
    process::{self, OfProcess, Process},
    task, time,
};

/// The running program's path, arguments and environment.
pub static PROGRAM: OfProcess<(Vec<u8>, Vec<u8>, Vec<u8>)> = OfProcess::new(|process| &process.program);

/// Fills in what the image did not bring.
pub fn populate() {
    for dir in ["tmp", "run", "var/tmp", "dev/shm", "proc/self/task", "sys/fs/cgroup", "root", "etc"] {
        make_dirs(dir.as_bytes());
    }
    for (name, number) in [("null", NULL), ("zero", ZERO), ("full", FULL), ("random", RANDOM), ("urandom", URANDOM)] {
        place(format!("dev/{name}").as_bytes(), Node::new(Kind::Device(number), 0o666));
    }
    for (name, target) in [("dev/fd", "/proc/self/fd"), ("proc/thread-self", "self")] {
        place(name.as_bytes(), Node::new(Kind::Link(target.as_bytes().to_vec()), 0o777));
    }
    place(b"proc/self/exe", Node::new(Kind::MadeLink(|| PROGRAM.get().0.clone()), 0o777));
    place(b"proc/self/cwd", Node::new(Kind::MadeLink(|| cwd().path()), 0o777));
    place(b"proc/self/root", Node::new(Kind::Link(b"/".to_vec()), 0o777));
    place(b"proc/self/fd", Node::new(Kind::Descriptors, 0o500));
    let made: [(&str, fn() -> Vec<u8>); 15] = [
        ("proc/self/maps", maps),
        ("proc/self/stat", || stat(process::current())),
        ("proc/self/status", || status(process::current())),
        ("proc/self/statm", statm),
        ("proc/self/cmdline", || PROGRAM.get().1.clone()),
        ("proc/self/environ", || PROGRAM.get().2.clone()),
        ("proc/self/comm", || comm(process::current())),
        ("proc/self/cgroup", || b"0::/\n".to_vec()),
        ("proc/self/mounts", || b"osvm / osvm rw 0 0\n".to_vec()),
        ("proc/self/mountinfo", || b"1 1 0:1 / / rw - osvm osvm rw\n".to_vec()),
        ("proc/self/limits", || {
            b"Limit                     Soft Limit           Hard Limit           Units\n".to_vec()
        }),
        ("proc/meminfo", meminfo),
        ("proc/cpuinfo", || b"processor\t: 0\nmodel name\t: osvm\nflags\t\t: fpu sse sse2\n\n".to_vec()),
        ("proc/stat", || b"cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n".to_vec()),
        ("proc/uptime", || format!("{}.00 0.00\n", time::monotonic() / time::SECOND).into_bytes()),
    ];
    for (path, make) in made {
        place(path.as_bytes(), Node::new(Kind::Made(make), 0o444));
    }
    let fixed: [(&str, &str); 12] = [
        ("proc/sys/kernel/osrelease", "6.1.0-osvm\n"),
        ("proc/sys/vm/overcommit_memory", "1\n"),
        ("proc/sys/vm/max_map_count", "1048576\n"),
        ("proc/sys/net/core/somaxconn", "256\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"),
        ("sys/devices/system/cpu/online", "0\n"),
        ("sys/devices/system/cpu/possible", "0\n"),
        ("etc/hostname", "osvm\n"),
        ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
    ];
    for (path, text) in fixed {
        let content = Content::new();
        if content.write(0, text.as_bytes()).is_ok() {
            place(path.as_bytes(), Node::new(Kind::File(Rc::new(content)), 0o644));
        }
    }
}

fn maps() -> Vec<u8> {
    let mut out = String::new();
    for (start, area) in &MM.get().areas {
        let right = |bit, letter| if area.rights & bit != 0 { letter } else { '-' };
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{start:08x}-{:08x} {}{}{}p 00000000 00:00 0{}{}",
            area.end,
            right(mm::READ, 'r'),
            right(mm::WRITABLE, 'w'),
            right(mm::EXEC, 'x'),
            if area.name.is_empty() { "" } else { "                          " },
            area.name
        );
    }
    out.into_bytes()
}

/// A directory under /proc, of a process other than the running one.
pub fn directory(pid: u32) -> Option<Rc<Node>> {
    process::find(pid)?;
    let dir = Node::dir(0o555);
    let files: [(&str, fn(&Process) -> Vec<u8>); 5] = [
        ("stat", stat),
        ("status", status),
        ("comm", comm),
        ("cmdline", |process| process.program.get().1.clone()),
        ("statm", |_| statm()),
    ];
    for (name, make) in files {
        dir.insert(name.as_bytes(), Node::new(Kind::MadeOf(pid, make), 0o444)).ok()?;
    }
    Some(dir)
}

/// The name of a process's first thread.
fn name(process: &Process) -> String {
    let name = task::TASKS.get().all.get(&process.pid).map_or([0; 16], |task| task.name);
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..len]).into_owned()
}

fn comm(process: &Process) -> Vec<u8> {
    let mut name = name(process).into_bytes();
    name.push(b'\n');
    name
}

/// What it does: it runs, waits, or has ended.
fn state(process: &Process) -> (char, &'static str) {
    if process.has_ended() {
        return ('Z', "zombie");
    }
    let tasks = task::TASKS.get();
    let runs = tasks.all.values().any(|task| task.process.pid == process.pid && task.wait == task::Wait::No);
    if runs { ('R', "running") } else { ('S', "sleeping") }
}

fn stat(process: &Process) -> Vec<u8> {
    let (pid, parent) = (process.pid, process.parent.get());
    let (group, session, threads) = (process.group.get(), process.session.get(), process.threads.get());
    let (name, (state, _)) = (name(process), state(process));
    let ticks = time::since_start() / 10_000_000;
    let (used, _) = phys::usage();
    format!(
        "{pid} ({name}) {state} {parent} {group} {session} 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 {threads} 0 0 {used} {} 18446744073709551615 0 0 \
         0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
        used / 4096
    )
    .into_bytes()
}

fn status(process: &Process) -> Vec<u8> {
    let (pid, parent, threads, name) = (process.pid, process.parent.get(), process.threads.get(), name(process));
    let (letter, state) = state(process);
    let kib = phys::usage().0 / 1024;
    format!(
        "Name:\t{name}\nState:\t{letter} ({state})\nTgid:\t{pid}\nPid:\t{pid}\nPPid:\t{parent}\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n\
         VmSize:\t{kib} kB\nVmRSS:\t{kib} kB\nThreads:\t{threads}\nCpus_allowed:\t1\nCpus_allowed_list:\t0\n"
    )
    .into_bytes()
}

fn statm() -> Vec<u8> {
    let pages = phys::usage().0 / 4096;
    format!("{pages} {pages} 0 0 0 {pages} 0\n").into_bytes()
}

fn meminfo() -> Vec<u8> {
    let (used, limit) = phys::usage();
    let (total, free) = (limit / 1024, limit.saturating_sub(used) / 1024);
    format!("MemTotal: {total} kB\nMemFree: {free} kB\nMemAvailable: {free} kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n")
        .into_bytes()
}
