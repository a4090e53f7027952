//! A terminal that the program was handed as stderr: nothing can be typed into it, and nothing of it be taken.

use crate::{Attempt, Scene, call};

const STDERR: u64 = 2;
const TTY_DISCIPLINE: i32 = 0;

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("type-into-the-terminal", || {
        let byte = *b"x";
        call(libc::SYS_ioctl, &[STDERR, libc::TIOCSTI, byte.as_ptr() as u64])
    })
    .on(Scene::Terminal),
    Attempt::new("type-with-upper-bits", || {
        // The kernel reads 32 bits of the request; a filter that looks at 64 would let this through.
        let byte = *b"x";
        call(libc::SYS_ioctl, &[STDERR, libc::TIOCSTI | 1 << 32, byte.as_ptr() as u64])
    })
    .on(Scene::Terminal),
    Attempt::new("steal-the-terminal", || {
        // In a jail the program leads a session already, and this is refused.
        let _ = call(libc::SYS_setsid, &[]);
        call(libc::SYS_ioctl, &[STDERR, libc::TIOCSCTTY, 1])
    })
    .on(Scene::Terminal),
    Attempt::new("set-the-discipline", || {
        let kind = TTY_DISCIPLINE;
        call(libc::SYS_ioctl, &[STDERR, libc::TIOCSETD, &raw const kind as u64])
    })
    .on(Scene::Terminal),
    Attempt::new("lock-the-terminal", || call(libc::SYS_ioctl, &[STDERR, libc::TIOCEXCL, 0])).on(Scene::Terminal),
    Attempt::new("hang-the-terminal-up", || call(libc::SYS_ioctl, &[STDERR, libc::TIOCVHANGUP, 0])).on(Scene::Terminal),
];
