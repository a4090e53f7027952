//! What a program asks about itself and its machine.

use crate::{
    alarm,
    errno::{Answer, EINVAL, ENOSYS, ENOTTY, EPERM},
    fs::table,
    group, phys, process, random, regs, signal,
    task::{self, Wait},
    time::{self, SECOND},
    user, wait,
};

const UNLIMITED: u64 = u64::MAX;

pub fn call(number: u64, a: [u64; 6]) -> Answer {
    match number {
        39 => Ok(process::current().pid.into()),
        109 => group::set_group(a[0], a[1]),
        110 => Ok(process::current().parent.get().into()),
        111 => group::group_of(0, false),
        112 => group::new_session(),
        121 => group::group_of(a[0], false),
        124 => group::group_of(a[0], true),
        // User and group are 0, and stay so.
        102 | 104 | 107 | 108 | 115 => Ok(0),
        105 | 106 | 113 | 114 | 116 | 117 | 119 | 122 | 123 => Ok(0),
        118 | 120 => {
            for at in &a[..3] {
                user::write(*at, 0u32)?;
            }
            Ok(0)
        }
        34 => {
            while !signal::pending() {
                task::block(Wait::Sleep, u64::MAX);
            }
            Err(crate::errno::EINTR)
        }
        36 => alarm::get_timer(a[0], a[1]),
        37 => alarm::alarm(a[0]),
        38 => alarm::set_timer(a[0], a[1], a[2]),
        61 => wait::wait4(a[0] as i32, a[1], a[2], a[3]),
        247 => wait::waitid(a[0], a[1], a[2], a[3], a[4]),
        62 => signal::kill(a[0] as i32, a[1] as u32),
        63 => uname(a[0]),
        96 => {
            let now = time::realtime();
            if a[0] != 0 {
                user::write(a[0], [now / SECOND, now % SECOND / 1000])?;
            }
            Ok(0)
        }
        201 => {
            let now = time::realtime() / SECOND;
            if a[0] != 0 {
                user::write(a[0], now)?;
            }
            Ok(now)
        }
        100 => {
            const TICKS: u64 = SECOND / 100;
            let used = time::since_start() / TICKS;
            if a[0] != 0 {
                user::write(a[0], [used, 0, 0, 0])?;
            }
            Ok(time::monotonic() / TICKS)
        }
        98 => {
            let used = time::since_start();
            let mut usage = [0u64; 18];
            (usage[0], usage[1], usage[4]) = (used / SECOND, used % SECOND / 1000, phys::usage().0 / 1024);
            user::write(a[1], usage)?;
            Ok(0)
        }
        97 => limit(a[0], a[1]),
        160 => Ok(0),
        302 => {
            if a[3] != 0 {
                limit(a[1], a[3])
            } else {
                Ok(0)
            }
        }
        99 => {
            let (used, most) = phys::usage();
            let mut info = [0u64; 14];
            info[0] = time::monotonic() / SECOND;
            (info[4], info[5]) = (most, most - used.min(most));
            // Processes, and the size of a unit of memory.
            (info[10], info[13]) = (process::count() as u64, 1);
            user::write(a[0], info)?;
            Ok(0)
        }
        // personality
        135 => Ok(0),
        // scheduling: all threads are alike.
        140 => Ok(20),
        141 | 142 | 144 => Ok(0),
        143 => user::write(a[1], 0u32).map(|()| 0),
        145 => Ok(0),
        146 | 147 => Ok(0),
        157 => control(a[0], a[1]),
        158 => arch(a[0], a[1]),
        309 => {
            for at in a[..2].iter().filter(|at| **at != 0) {
                user::write(*at, 0u32)?;
            }
            Ok(0)
        }
        318 => {
            let out = user::bytes_mut(a[0], a[1].min(0x1ff_ffff))?;
            random::fill(out);
            Ok(out.len() as u64)
        }
        // capget
        125 => {
            if a[1] != 0 {
                user::write(a[1], [0u32; 6])?;
            }
            Ok(0)
        }
        319 => memory_file(a[1]),
        // Terminals: there is none.
        _ if number == 153 => Err(EPERM),
        _ if number == 173 => Err(ENOTTY),
        _ => Err(ENOSYS),
    }
}

/// `memfd_create`.
fn memory_file(flags: u64) -> Answer {
    use alloc::rc::Rc;

    use crate::fs::{Content, Kind, Node, file};
    let node = Node::new(Kind::File(Rc::new(Content::new())), 0o600);
    table::add(file::open(&node, 2)?, flags & 1 != 0)
}

fn uname(at: u64) -> Answer {
    const FIELD: usize = 65;
    let out = user::bytes_mut(at, FIELD as u64 * 6)?;
    out.fill(0);
    for (n, text) in ["Linux", "osvm", "6.1.0-osvm", "#1 osvm", "x86_64", "(none)"].into_iter().enumerate() {
        out[n * FIELD..n * FIELD + text.len()].copy_from_slice(text.as_bytes());
    }
    Ok(0)
}

fn limit(resource: u64, at: u64) -> Answer {
    const STACK: u64 = 3;
    const CORE: u64 = 4;
    const FILES: u64 = 7;
    let (soft, hard) = match resource {
        STACK => (crate::load::STACK, crate::load::STACK),
        CORE => (0, 0),
        FILES => (table::MOST as u64, table::MOST as u64),
        0..=15 => (UNLIMITED, UNLIMITED),
        _ => return Err(EINVAL),
    };
    user::write(at, [soft, hard])?;
    Ok(0)
}

/// `prctl`.
fn control(what: u64, argument: u64) -> Answer {
    match what {
        // Name of the thread.
        15 => {
            let name = user::string(argument)?;
            task::with(|task| {
                task.name = [0; 16];
                let len = name.len().min(15);
                task.name[..len].copy_from_slice(&name[..len]);
            });
            Ok(0)
        }
        16 => {
            let name = task::with(|task| task.name);
            user::write(argument, name)?;
            Ok(0)
        }
        // PDEATHSIG, DUMPABLE, KEEPCAPS, NO_NEW_PRIVS, timer slack: nothing to be done.
        1 | 4 | 8 | 38 | 29 => Ok(0),
        3 | 7 | 39 => Ok(1),
        _ => Err(EINVAL),
    }
}

fn arch(what: u64, argument: u64) -> Answer {
    const SET_FS: u64 = 0x1002;
    const GET_FS: u64 = 0x1003;
    match what {
        SET_FS if argument < 1 << 47 => {
            regs::set_fs_base(argument);
            Ok(0)
        }
        SET_FS => Err(EPERM),
        GET_FS => {
            user::write(argument, regs::fs_base())?;
            Ok(0)
        }
        // GS is the library OS's.
        _ => Err(EINVAL),
    }
}
