//! What exceptions and kicks lead to. Both arrive from the program, as the library OS makes pages ready before it touches them; but for
//! pages that were ready when a call began to wait.

use crate::{
    abi::{DIRECT_BASE, LIBOS_BASE, LIBOS_SPAN, gpa},
    crash,
    mm::MM,
    regs::Regs,
    signal::{self, Fault, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP},
    task,
};

const PAGE_FAULT: u64 = 14;

/// Where an entry saved the lower halves of the XMM registers.
pub fn xmm(regs: *mut Regs) -> *mut [u8; 256] {
    regs.cast::<u8>().wrapping_sub(256).cast()
}

/// `si_code` and signal of an exception.
fn meaning(vector: u64, error: u64) -> (u32, i32) {
    match vector {
        0 => (SIGFPE, 1),
        1 | 3 => (SIGTRAP, 1),
        6 => (SIGILL, 2),
        16 | 19 => (SIGFPE, 3),
        17 => (SIGBUS, 1),
        // SEGV_MAPERR, SEGV_ACCERR; others have no address.
        PAGE_FAULT => (SIGSEGV, if error & 1 == 0 { 1 } else { 2 }),
        _ => (SIGSEGV, 0x80),
    }
}

/// An exception of the program, on the fault stack.
#[unsafe(no_mangle)]
extern "C" fn on_fault(regs: *mut Regs) {
    // SAFETY: the entry has just pushed the registers, and nobody else has the pointer.
    let regs = unsafe { &mut *regs };
    // SAFETY: the stub has just written these; the exception's error code lies at the end of the CPU's page.
    let (vector, cr2, code) = unsafe {
        let cpu = task::cpu();
        (
            u64::from(core::ptr::read_volatile((&raw const (*cpu).vector).cast::<u32>())),
            core::ptr::read_volatile(&raw const (*cpu).cr2),
            core::ptr::read_volatile((DIRECT_BASE + gpa::CPU + 0xfd0) as *const u64),
        )
    };
    let error = if matches!(vector, 8 | 10..=14 | 17) { code } else { 0 };
    if (LIBOS_BASE..LIBOS_BASE + LIBOS_SPAN).contains(&regs.rip) {
        // A call had made these pages ready and then waited; meanwhile another thread forked, and they are to be copied at a write.
        let program = vector == PAGE_FAULT && crate::mm::allowed(cr2 & !(crate::abi::PAGE - 1), crate::abi::PAGE);
        if program && MM.try_get().is_some_and(|mut mm| mm.fault(cr2, error & 2 != 0, false)) {
            return;
        }
        crash::own_fault(regs, vector, error, cr2);
    }
    // What a refused fork or an earlier call could not have is not this fault's matter.
    let _ = crate::phys::was_exhausted();
    if vector == PAGE_FAULT && MM.get().fault(cr2, error & 2 != 0, error & 16 != 0) {
        return;
    }
    if vector == PAGE_FAULT && crate::phys::was_exhausted() {
        crash::out_of_memory(regs);
    }
    let (signal, code) = meaning(vector, error);
    let address = if vector == PAGE_FAULT { cr2 } else { regs.rip };
    let fault = Fault { signal, code, address, vector, error };
    let at = xmm(regs);
    if !signal::deliver_fault(regs, at, fault) {
        crash::report(regs, vector, error, cr2, signal as i32);
    }
}

/// The monitor interrupted the program: others get their turn, and signals are seen to.
#[unsafe(no_mangle)]
extern "C" fn on_kick(regs: *mut Regs) {
    task::tick();
    let at = xmm(regs);
    // SAFETY: as above; the thread's own stack holds them while others run.
    signal::deliver(unsafe { &mut *regs }, at);
}
