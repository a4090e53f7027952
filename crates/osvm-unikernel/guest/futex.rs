//! Futexes: threads that wait until another one says that a word has changed. A word in shared memory is one for all processes.

use crate::{
    errno::{Answer, EAGAIN, EINTR, EINVAL, ENOSYS, ETIMEDOUT},
    mm::MM,
    process, signal,
    task::{self, TASKS, Wait, Word},
    time, user,
};

/// Which word an address is. `private` says that it is not shared.
pub fn word(at: u64, private: bool) -> Word {
    let shared = if private { None } else { MM.get().shared(at) };
    shared.map_or_else(|| Word(process::space_id(), at), |place| Word(0, place))
}

/// Wakes up to `most` threads that wait at `at` for one of `bits`; how many it was.
pub fn wake(at: Word, most: u32, bits: u32) -> u64 {
    let mut tids = [0; 64];
    let mut woken = 0;
    while woken < u64::from(most) {
        let mut found = 0;
        {
            let tasks = TASKS.get();
            for task in tasks.all.values() {
                if found == tids.len() || woken + found as u64 == u64::from(most) {
                    break;
                }
                if matches!(task.wait, Wait::Futex(word, wanted) if word == at && wanted & bits != 0) {
                    tids[found] = task.tid;
                    found += 1;
                }
            }
        }
        if found == 0 {
            break;
        }
        tids[..found].iter().for_each(|&tid| task::wake(tid));
        woken += found as u64;
    }
    woken
}

fn wait(at: u64, private: bool, value: u32, bits: u32, deadline: u64) -> Answer {
    if at & 3 != 0 || bits == 0 {
        return Err(EINVAL);
    }
    if user::read::<u32>(at)? != value {
        return Err(EAGAIN);
    }
    if task::block(Wait::Futex(word(at, private), bits), deadline) {
        return Err(ETIMEDOUT);
    }
    if signal::pending() { Err(EINTR) } else { Ok(0) }
}

/// Wakes some and lets others wait elsewhere.
fn requeue(from: Word, wake_most: u32, move_most: u32, to: Word) -> u64 {
    let woken = wake(from, wake_most, u32::MAX);
    let mut moved = 0;
    for task in TASKS.get().all.values_mut() {
        if moved == u64::from(move_most) {
            break;
        }
        if let Wait::Futex(word, bits) = task.wait
            && word == from
        {
            task.wait = Wait::Futex(to, bits);
            moved += 1;
        }
    }
    woken + moved
}

/// FUTEX_WAKE_OP: changes the second word, wakes at the first, and at the second if its old value passes the test.
fn wake_op(at: u64, private: bool, most: u32, most2: u32, at2: u64, code: u32) -> Answer {
    let (mut argument, against) = ((code >> 12 & 0xfff) as i32, ((code << 20) as i32) >> 20);
    argument = (argument << 20) >> 20;
    if code >> 31 != 0 {
        argument = 1 << (argument & 31);
    }
    let old: u32 = user::read(at2)?;
    let argument = argument as u32;
    let new = match code >> 28 & 7 {
        0 => argument,
        1 => old.wrapping_add(argument),
        2 => old | argument,
        3 => old & !argument,
        4 => old ^ argument,
        _ => return Err(ENOSYS),
    };
    user::write(at2, new)?;
    let old = old as i32;
    let passes = match code >> 24 & 15 {
        0 => old == against,
        1 => old != against,
        2 => old < against,
        3 => old <= against,
        4 => old > against,
        5 => old >= against,
        _ => return Err(ENOSYS),
    };
    let mut woken = wake(word(at, private), most, u32::MAX);
    if passes {
        woken += wake(word(at2, private), most2, u32::MAX);
    }
    Ok(woken)
}

/// The system call.
pub fn futex(at: u64, op: u64, value: u32, timeout: u64, at2: u64, value3: u32) -> Answer {
    const REALTIME: u64 = 256;
    const PRIVATE: u64 = 128;
    let most2 = timeout as u32;
    let private = op & PRIVATE != 0;
    let key = |at| word(at, private);
    match op & 127 {
        0 => wait(at, private, value, u32::MAX, time::deadline(timeout)?),
        9 => {
            let deadline = match timeout {
                0 => u64::MAX,
                timeout => time::absolute(if op & REALTIME != 0 { 0 } else { 1 }, time::get(timeout)?),
            };
            wait(at, private, value, value3, deadline)
        }
        1 => Ok(wake(key(at), value, u32::MAX)),
        10 => Ok(wake(key(at), value, value3)),
        3 => Ok(requeue(key(at), value, most2, key(at2))),
        4 if user::read::<u32>(at)? != value3 => Err(EAGAIN),
        4 => Ok(requeue(key(at), value, most2, key(at2))),
        5 => wake_op(at, private, value, most2, at2, value3),
        _ => Err(ENOSYS),
    }
}
