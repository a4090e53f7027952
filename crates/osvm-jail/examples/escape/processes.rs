//! Processes outside: another instance's, and the jail's own first one.

use std::io;

use crate::{Attempt, Scene, call, number, own_pid, pidfd};

const FIRST: u64 = 1;
const PTRACE_SEIZE: u64 = 0x4206;
const KCMP_VM: u64 = 1;
const KCMP_FILES: u64 = 2;

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("ptrace-me", || call(libc::SYS_ptrace, &[0])),
    Attempt::new("ptrace-first-process", || call(libc::SYS_ptrace, &[PTRACE_SEIZE, FIRST, 0, 0])),
    Attempt::new("ptrace-neighbour", || call(libc::SYS_ptrace, &[PTRACE_SEIZE, number("pid")?, 0, 0]))
        .on(Scene::Neighbour),
    Attempt::new("read-own-memory-as-anothers", || call(libc::SYS_process_vm_readv, &[own_pid(), 0, 0, 0, 0])),
    Attempt::new("read-first-processs-memory", || call(libc::SYS_process_vm_readv, &[FIRST, 0, 0, 0, 0])),
    Attempt::new("read-neighbours-memory", || {
        let mut bytes = vec![0u8; crate::neighbour::SECRET.len()];
        let into = [bytes.as_mut_ptr() as u64, bytes.len() as u64];
        let from = [number::<u64>("address")?, bytes.len() as u64];
        call(libc::SYS_process_vm_readv, &[number("pid")?, into.as_ptr() as u64, 1, from.as_ptr() as u64, 1, 0])?;
        if bytes == crate::neighbour::SECRET { Ok(()) } else { Err(io::Error::other("something else is there")) }
    })
    .on(Scene::Neighbour),
    Attempt::new("write-neighbours-memory", || {
        let byte = *b"?";
        let (from, into) = ([byte.as_ptr() as u64, 1], [number::<u64>("address")?, 1]);
        call(libc::SYS_process_vm_writev, &[number("pid")?, from.as_ptr() as u64, 1, into.as_ptr() as u64, 1, 0])
    })
    .on(Scene::Neighbour),
    Attempt::new("pidfd-getfd-own", || call(libc::SYS_pidfd_getfd, &[pidfd(own_pid())?, 1, 0])),
    Attempt::new("pidfd-getfd-first-process", || call(libc::SYS_pidfd_getfd, &[pidfd(FIRST)?, 0, 0])),
    Attempt::new("pidfd-getfd-neighbour", || call(libc::SYS_pidfd_getfd, &[pidfd(number("pid")?)?, 1, 0]))
        .on(Scene::Neighbour),
    Attempt::new("kill-neighbour", || call(libc::SYS_kill, &[number("pid")?, libc::SIGKILL as u64]))
        .on(Scene::Neighbour),
    Attempt::new("kill-neighbour-by-pidfd", || {
        call(libc::SYS_pidfd_send_signal, &[pidfd(number("pid")?)?, libc::SIGKILL as u64, 0, 0])
    })
    .on(Scene::Neighbour),
    Attempt::new("kill-neighbours-thread", || {
        let pid = number("pid")?;
        call(libc::SYS_tgkill, &[pid, pid, libc::SIGKILL as u64])
    })
    .on(Scene::Neighbour),
    // Outside this ends all that its pid namespace has, but for the stage itself.
    Attempt::new("kill-everything", || call(libc::SYS_kill, &[-1i64 as u64, libc::SIGKILL as u64]))
        .on(Scene::Neighbour),
    Attempt::new("stop-neighbour", || call(libc::SYS_kill, &[number("pid")?, libc::SIGSTOP as u64]))
        .on(Scene::Neighbour),
    Attempt::new("neighbours-priority", || call(libc::SYS_setpriority, &[0, number("pid")?, 19])).on(Scene::Neighbour),
    Attempt::new("neighbours-processors", || {
        let one = 1u64;
        call(libc::SYS_sched_setaffinity, &[number("pid")?, 8, &raw const one as u64])
    })
    .on(Scene::Neighbour),
    Attempt::new("compare-with-first-process", || call(libc::SYS_kcmp, &[own_pid(), FIRST, KCMP_VM, 0, 0])),
    Attempt::new("compare-with-neighbour", || call(libc::SYS_kcmp, &[own_pid(), number("pid")?, KCMP_FILES, 0, 0]))
        .on(Scene::Neighbour),
    Attempt::new("neighbours-pages", || {
        let pages = [number::<u64>("address")? & !4095];
        let mut status = [0i32; 1];
        let args = [number("pid")?, 1, pages.as_ptr() as u64, 0, status.as_mut_ptr() as u64, 0];
        call(libc::SYS_move_pages, &args)
    })
    .on(Scene::Neighbour),
    Attempt::new("see-neighbour", || call(libc::SYS_kill, &[number("pid")?, 0])).on(Scene::Neighbour),
];
