//! The way out of the guest. Each call stops the VM until the monitor has answered.

use core::ptr;

use crate::abi::{self, Control, DIRECT_BASE, HYPERCALL_VA, gpa, hypercall};

/// The page that is shared with the monitor.
pub fn control() -> *mut Control {
    (DIRECT_BASE + gpa::CONTROL) as *mut Control
}

/// Reads one field of the control page, which the monitor may change between any two instructions.
macro_rules! shared {
    ($($field:tt)+) => {
        // SAFETY: the page is mapped for as long as the VM lives, and its fields are plain numbers.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::hyper::control()).$($field)+) }
    };
}

/// Writes one field of the control page.
macro_rules! share {
    ($($field:tt).+, $value:expr) => {
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(&raw mut (*$crate::hyper::control()).$($field).+, $value) }
    };
}
pub(crate) use {share, shared};

fn call(number: u32, args: [u64; 4]) -> i64 {
    share!(args, args);
    // SAFETY: no memory lies behind the page; the store ends in the monitor, which reads and writes guest memory only as `abi` says.
    unsafe {
        core::arch::asm!("mov {0:e}, ({1})", in(reg) number, in(reg) HYPERCALL_VA, options(att_syntax, nostack));
    }
    shared!(answer)
}

/// Ends the VM.
pub fn exit(code: i32, signal: i32) -> ! {
    crate::stats::publish();
    loop {
        call(hypercall::EXIT, [code as u32 as u64, signal as u32 as u64, 0, 0]);
    }
}

/// Writes to the monitor's standard output (1) or standard error (2).
pub fn console(stream: u64, bytes: &[u8]) {
    let page = Bounce::new();
    for part in bytes.chunks(page.0.len()) {
        page.0[..part.len()].copy_from_slice(part);
        let mut done = 0;
        while done < part.len() {
            let taken = call(hypercall::CONSOLE_OUT, [stream, page.gpa() + done as u64, (part.len() - done) as u64, 0]);
            if taken <= 0 {
                return;
            }
            done += taken as usize;
        }
    }
}

/// Reads what the monitor's standard input holds now: bytes, 0 at its end, or [`abi::AGAIN`].
pub fn console_in(bytes: &mut [u8]) -> i64 {
    let page = Bounce::new();
    let got = call(hypercall::CONSOLE_IN, [page.gpa(), bytes.len().min(page.0.len()) as u64, 0, 0]);
    if got > 0 {
        bytes[..got as usize].copy_from_slice(&page.0[..got as usize]);
    }
    got
}

/// Sleeps until something happened outside or the deadline is there.
pub fn wait(deadline: u64, seen: u32) {
    crate::stats::publish();
    call(hypercall::WAIT, [deadline, seen.into(), 0, 0]);
    if shared!(cloned) != 0 {
        share!(cloned, 0);
        crate::random::renew(shared!(seed));
    }
}

/// Asks for more memory; the size of memory now.
pub fn grow(bytes: u64) -> u64 {
    call(hypercall::GROW, [bytes, 0, 0, 0]).max(0) as u64
}

/// Gives memory back to the host; it reads as zero afterwards. False: it was not taken.
pub fn give_back(at: u64, bytes: u64) -> bool {
    call(hypercall::GIVE_BACK, [at, bytes, 0, 0]) == 0
}

/// Takes connections to a port, or no longer.
pub fn listen(port: u32, on: bool) -> bool {
    call(hypercall::LISTEN, [port as u64, on as u64, 0, 0]) == 0
}

/// Lets the monitor look at the rings.
pub fn doorbell() {
    call(hypercall::DOORBELL, [0; 4]);
}

/// Something about a folder of the host; a number, or an error.
pub fn folder(operation: u32, handle: u32, number: u64, (at, len): (u64, u64)) -> crate::errno::Answer {
    let answer = call(hypercall::FOLDER, [u64::from(operation) | u64::from(handle) << 32, number, at, len]);
    u64::try_from(answer).map_err(|_| crate::errno::Errno(answer.unsigned_abs() as i32))
}

/// A page in the library OS's data, whose guest-physical address is known.
struct Bounce(&'static mut [u8; abi::PAGE as usize]);

#[repr(C, align(4096))]
struct Page([u8; abi::PAGE as usize]);
static PAGE: crate::cell::Global<Page> = crate::cell::Global::new(Page([0; abi::PAGE as usize]));

impl Bounce {
    fn new() -> Self {
        // SAFETY: one vCPU, and no hypercall starts another: there is one user at a time.
        Self(unsafe { &mut (*PAGE.as_ptr()).0 })
    }

    fn gpa(&self) -> u64 {
        crate::pt::address(crate::pt::get(ptr::from_ref(&self.0[0]) as u64))
    }
}
