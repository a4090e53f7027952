//! Waiting for several descriptors: poll, select, epoll; and timerfd.

use alloc::rc::Rc;

use crate::{
    errno::{Answer, EBADF, EINTR, EINVAL, ENOSYS},
    fs::{ERR, HUP, IN, O_CLOEXEC, OUT, Open, epoll::Epoll, table},
    signal,
    task::{self, Wait},
    time::{self, SECOND},
    user,
};

const NVAL: u32 = 32;
/// Bytes of an `fd_set`, in words.
const SET_WORDS: usize = 16;

pub fn call(number: u64, a: [u64; 6]) -> Answer {
    match number {
        7 => poll(a[0], a[1], milliseconds(a[2])),
        271 => {
            let deadline = time::deadline(a[2])?;
            masked(a[3], || poll(a[0], a[1], deadline))
        }
        23 => {
            let deadline = if a[4] == 0 {
                u64::MAX
            } else {
                let [seconds, micros] = user::read::<[u64; 2]>(a[4])?;
                time::monotonic()
                    .saturating_add(seconds.saturating_mul(SECOND))
                    .saturating_add(micros.saturating_mul(1000))
            };
            select(a[0], [a[1], a[2], a[3]], deadline)
        }
        270 => {
            let deadline = time::deadline(a[4])?;
            let mask = if a[5] == 0 { 0 } else { user::read::<u64>(a[5])? };
            masked(mask, || select(a[0], [a[1], a[2], a[3]], deadline))
        }
        213 => create(0),
        291 => create(a[0]),
        233 => {
            let target = table::get(a[2])?;
            epoll(a[0], |epoll| epoll.control(a[1], a[2], &target, a[3]))
        }
        232 => epoll(a[0], |epoll| wait(epoll, a[1], a[2], milliseconds(a[3]))),
        281 => masked(a[4], || epoll(a[0], |epoll| wait(epoll, a[1], a[2], milliseconds(a[3])))),
        441 => {
            let deadline = time::deadline(a[3])?;
            masked(a[4], || epoll(a[0], |epoll| wait(epoll, a[1], a[2], deadline)))
        }
        283 => super::io::timer(a[0], a[1]),
        286 => table::get(a[0])?.file.timer().ok_or(EINVAL)?.set(a[1], a[2], a[3]),
        287 => table::get(a[0])?.file.timer().ok_or(EINVAL)?.show(a[1]),
        // signalfd is not here: programs fall back to handlers.
        _ => Err(ENOSYS),
    }
}

/// A deadline from milliseconds; negative is for ever.
fn milliseconds(timeout: u64) -> u64 {
    match timeout as i32 {
        timeout if timeout < 0 => u64::MAX,
        0 => 0,
        timeout => time::monotonic().saturating_add(timeout as u64 * 1_000_000),
    }
}

/// Waits with another signal mask.
fn masked(mask: u64, act: impl FnOnce() -> Answer) -> Answer {
    if mask == 0 {
        return act();
    }
    signal::mask_for_wait(mask)?;
    let answer = act();
    signal::unmask_after_wait();
    answer
}

/// Looks, and waits, until something was found, a signal came, or the deadline is there.
fn until(deadline: u64, mut look: impl FnMut() -> Answer) -> Answer {
    let mut last = deadline == 0;
    loop {
        if last {
            // A look without a wait brings what came from outside too.
            task::poll_outside();
        }
        let found = look()?;
        if found > 0 || last {
            return Ok(found);
        }
        if signal::pending() {
            return Err(EINTR);
        }
        last = task::block(Wait::Event, deadline);
    }
}

fn ready(fd: u64, wanted: u32) -> u32 {
    table::get(fd).map_or(NVAL, |open| open.file.poll() & (wanted | ERR | HUP))
}

fn poll(at: u64, count: u64, deadline: u64) -> Answer {
    if count > table::MOST as u64 {
        return Err(EINVAL);
    }
    user::bytes_mut(at, count * 8)?;
    until(deadline, || {
        let mut found = 0;
        for n in 0..count {
            let place = at + n * 8;
            let fd: i32 = user::read(place)?;
            let wanted: u16 = user::read(place + 4)?;
            let got = if fd < 0 { 0 } else { ready(fd as u64, wanted.into()) };
            user::write(place + 6, got as u16)?;
            found += u64::from(got != 0);
        }
        Ok(found)
    })
}

fn select(count: u64, sets: [u64; 3], deadline: u64) -> Answer {
    if count > 1024 {
        return Err(EINVAL);
    }
    let words = count.div_ceil(64) as usize;
    let mut wanted = [[0u64; SET_WORDS]; 3];
    for (set, at) in wanted.iter_mut().zip(sets) {
        for (n, word) in set.iter_mut().enumerate().take(words) {
            *word = if at == 0 { 0 } else { user::read(at + n as u64 * 8)? };
        }
    }
    let holds = |set: &[u64; SET_WORDS], fd: u64| set[fd as usize / 64] >> (fd % 64) & 1 != 0;
    for fd in (0..count).filter(|&fd| wanted.iter().any(|set| holds(set, fd))) {
        table::get(fd).map_err(|_| EBADF)?;
    }
    let mut got = [[0u64; SET_WORDS]; 3];
    let found = until(deadline, || {
        let mut found = 0;
        for fd in 0..count {
            for (n, bits) in [IN | HUP | ERR, OUT | ERR, 2].into_iter().enumerate() {
                if holds(&wanted[n], fd) && ready(fd, bits) & bits & !NVAL != 0 {
                    got[n][fd as usize / 64] |= 1 << (fd % 64);
                    found += 1;
                }
            }
        }
        Ok(found)
    })?;
    for (set, at) in got.iter().zip(sets).filter(|(_, at)| *at != 0) {
        for (n, word) in set.iter().enumerate().take(words) {
            user::write(at + n as u64 * 8, *word)?;
        }
    }
    Ok(found)
}

fn create(flags: u64) -> Answer {
    let file: Rc<dyn crate::fs::File> = Rc::new(Epoll::default());
    table::add(Open::new(file, 2), flags as u32 & O_CLOEXEC != 0)
}

fn epoll(fd: u64, act: impl FnOnce(&Epoll) -> Answer) -> Answer {
    let open = table::get(fd)?;
    act(open.file.epoll().ok_or(EINVAL)?)
}

fn wait(epoll: &Epoll, at: u64, most: u64, deadline: u64) -> Answer {
    let most = most as i32;
    if most <= 0 {
        return Err(EINVAL);
    }
    until(deadline, || epoll.collect(at, most as usize))
}
