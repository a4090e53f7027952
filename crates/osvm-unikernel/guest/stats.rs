//! What the monitor shows under `--stats`.

use crate::{
    abi::UNKNOWN,
    hyper::{share, shared},
    phys, rewrite, task,
};

/// Counts a system call that has no answer here.
pub fn unknown(number: u64) {
    for n in 0..UNKNOWN {
        let [held, count] = shared!(unknown[n]);
        if count == 0 || u64::from(held) == number {
            share_unknown(n, [number as u32, count + 1]);
            return;
        }
    }
}

fn share_unknown(n: usize, value: [u32; 2]) {
    // SAFETY: the control page is mapped; `n` is below its number of places.
    unsafe { core::ptr::write_volatile(&raw mut (*crate::hyper::control()).unknown[n], value) };
}

/// Brings the numbers up to date.
pub fn publish() {
    // SAFETY: the stubs and entries write this field; there is one vCPU.
    let traps = unsafe { core::ptr::read_volatile(&raw const (*task::cpu()).traps) };
    share!(traps, traps);
    share!(calls, crate::sys::calls());
    share!(faults, crate::mm::faults());
    share!(rewritten, rewrite::count());
    share!(memory, phys::used());
}
