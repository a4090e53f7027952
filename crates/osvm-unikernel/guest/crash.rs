//! What is said before the VM ends on a fault: registers, and the functions on the way.

use alloc::{format, string::String};
use core::fmt::Write;

use crate::{
    abi::{LIBOS_BASE, LIBOS_SPAN},
    elf::Elf,
    hyper,
    load::LOADED,
    mm::MM,
    process::{self, Status},
    regs::Regs,
    task,
};

/// Frames of a backtrace.
const DEEPEST: usize = 32;

const NAMES: [&str; 20] = [
    "divide error",
    "debug trap",
    "NMI",
    "breakpoint",
    "overflow",
    "bound",
    "invalid instruction",
    "no FPU",
    "double fault",
    "",
    "bad TSS",
    "segment not present",
    "stack segment fault",
    "general protection fault",
    "page fault",
    "",
    "x87 error",
    "misaligned access",
    "machine check",
    "SIMD error",
];

fn say(text: &str) {
    hyper::console(2, text.as_bytes());
}

/// Text as it comes, without a heap.
struct Out;

impl Write for Out {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        say(text);
        Ok(())
    }
}

/// A bug of the library OS itself.
pub fn bug(text: &str) -> ! {
    say("osvm-unikernel: bug in the library OS: ");
    say(text);
    say("\n");
    hyper::exit(134, 6);
}

/// The function that holds an address, and how far in; or the file's name and how far from its base.
fn function(address: u64) -> Option<(String, u64)> {
    for (bytes, base) in LOADED.get().iter() {
        let Ok(elf) = Elf::parse(bytes) else { continue };
        let Ok((low, high)) = elf.span() else { continue };
        let local = address.wrapping_sub(*base);
        if (low..high).contains(&local) {
            return Some(match elf.symbol(local) {
                Some((name, into)) => (String::from_utf8_lossy(name).into_owned(), into),
                None => (String::from("program"), local - low),
            });
        }
    }
    None
}

fn place(address: u64) -> String {
    if (LIBOS_BASE..LIBOS_BASE + LIBOS_SPAN).contains(&address) {
        return format!("{address:#018x} library OS");
    }
    match function(address) {
        Some((name, into)) => format!("{address:#018x} {name}+{into:#x}"),
        None => format!("{address:#018x}"),
    }
}

/// The program touched memory that it was promised and that is not there: it ends as the kernel would end it.
pub fn out_of_memory(regs: &Regs) -> ! {
    let limit = crate::phys::usage().1 >> 20;
    let _ = writeln!(
        Out,
        "osvm-unikernel: the program is out of memory: {limit} MiB are its limit; it was at {:#x}",
        regs.rip
    );
    process::end(Status::Signal(crate::signal::SIGKILL));
}

/// Says what happened and ends the process with a signal.
pub fn report(regs: &Regs, vector: u64, error: u64, address: u64, signal: i32) -> ! {
    let what = NAMES.get(vector as usize).copied().unwrap_or("exception");
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(text, "osvm-unikernel: the program died of a {what}");
    if vector == 14 {
        let act = if error & 16 != 0 {
            "executing"
        } else if error & 2 != 0 {
            "writing"
        } else {
            "reading"
        };
        let _ = write!(text, " {act} {address:#x}");
    }
    let _ = writeln!(text, " in thread {} of process {}", task::current(), process::current().pid);
    let r = regs;
    let _ = writeln!(text, "  rip {:016x}  rsp {:016x}  rbp {:016x}  rfl {:016x}", r.rip, r.rsp, r.rbp, r.rflags);
    let _ = writeln!(text, "  rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}", r.rax, r.rbx, r.rcx, r.rdx);
    let _ = writeln!(text, "  rsi {:016x}  rdi {:016x}  r8  {:016x}  r9  {:016x}", r.rsi, r.rdi, r.r8, r.r9);
    let _ = writeln!(text, "  r10 {:016x}  r11 {:016x}  r12 {:016x}  r13 {:016x}", r.r10, r.r11, r.r12, r.r13);
    let _ = writeln!(text, "  r14 {:016x}  r15 {:016x}  fs  {:016x}", r.r14, r.r15, crate::regs::fs_base());
    let _ = writeln!(text, "  at {}", place(r.rip));
    // Before a function has made its frame, the way back is on top of the stack.
    if function(r.rip).is_some_and(|(_, into)| into == 0) && MM.get().ready(r.rsp, 8, false) {
        // SAFETY: just checked to be readable.
        let back = unsafe { core::ptr::read_unaligned(r.rsp as *const u64) };
        let _ = writeln!(text, "  by {}", place(back));
    }
    let mut frame = r.rbp;
    for _ in 0..DEEPEST {
        if frame == 0 || frame & 7 != 0 {
            break;
        }
        if !MM.get().ready(frame, 16, false) {
            break;
        }
        // SAFETY: just checked to be readable.
        let [next, back] = unsafe { core::ptr::read(frame as *const [u64; 2]) };
        if back == 0 || next <= frame {
            break;
        }
        let _ = writeln!(text, "  by {}", place(back));
        frame = next;
    }
    say(&text);
    process::end(Status::Signal(signal as u32));
}

/// A fault inside the library OS: nothing is to be relied on, so nothing is looked up.
pub fn own_fault(regs: &Regs, vector: u64, error: u64, address: u64) -> ! {
    let _ = writeln!(
        Out,
        "osvm-unikernel: bug in the library OS: vector {vector}, error {error:#x}, address {address:#x}, rip {:#x}, rsp {:#x}, rdi {:#x}, rax {:#x}",
        regs.rip, regs.rsp, regs.rdi, regs.rax
    );
    hyper::exit(134, 6);
}

/// A panic of the library OS. It may hold any borrow, so nothing is allocated.
pub fn panicked(info: &core::panic::PanicInfo) -> ! {
    // Writing cannot fail.
    let _ = writeln!(Out, "osvm-unikernel: bug in the library OS: {info}");
    hyper::exit(134, 6);
}
