//! What a signal handler finds on its stack, and the way back from it.

use crate::{
    errno::{EFAULT, Errno},
    regs::Regs,
    signal::{ACTIONS, Fault, bit, never_blocked},
    task, user,
};

const SA_ONSTACK: u64 = 0x0800_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;
const SA_RESTORER: u64 = 0x0400_0000;

/// Layout of what a handler finds above its return address.
#[repr(C)]
#[derive(Clone, Copy)]
struct Frame {
    restorer: u64,
    flags: u64,
    link: u64,
    stack: [u64; 3],
    registers: [u64; 23],
    fpstate: u64,
    reserved: [u64; 8],
    mask: u64,
    info: [u64; 16],
}

/// XSAVE area: legacy part, header, and what features the processor has; the program's handlers see the legacy part.
const FP_AREA: u64 = 4096;
/// The red zone under a stack pointer belongs to the code that was interrupted.
const RED_ZONE: u64 = 128;

fn save_fp(at: u64) {
    // SAFETY: `deliver` made FP_AREA bytes at this aligned place writable. X87, SSE and AVX state fits.
    unsafe { core::arch::asm!("xsave64 ({})", in(reg) at, in("eax") 7, in("edx") 0, options(att_syntax)) };
}

fn load_fp(at: u64) {
    // SAFETY: the area was written by `save_fp`; a program that broke it faults in its own VM.
    unsafe { core::arch::asm!("xrstor64 ({})", in(reg) at, in("eax") 7, in("edx") 0, options(att_syntax)) };
}

/// Builds a handler's frame and points the registers at the handler. `xmm` is where an entry saved the lower halves.
pub fn enter(regs: &mut Regs, xmm: *mut [u8; 256], signal: u32, fault: Option<Fault>) -> Result<(), Errno> {
    let action = ACTIONS.get()[signal as usize];
    let (mask, stack) =
        task::with(|task| (task.signals.saved_mask.take().unwrap_or(task.signals.mask), task.signals.stack));
    let on_stack = stack[2] != 0 && regs.rsp.wrapping_sub(stack[0]) < stack[2];
    let mut top = regs.rsp.wrapping_sub(RED_ZONE);
    if action.flags & SA_ONSTACK != 0 && stack[2] != 0 && !on_stack {
        top = stack[0].wrapping_add(stack[2]);
    }
    let fp = top.wrapping_sub(FP_AREA) & !63;
    let at = (fp.wrapping_sub(size_of::<Frame>() as u64) & !15).wrapping_sub(8);
    let area = user::bytes_mut(at, fp + FP_AREA - at)?;
    area.fill(0);
    save_fp(fp);
    // SAFETY: `xmm` is part of the frame that the entry pushed; the legacy area holds XMM registers from byte 160.
    unsafe { core::ptr::copy_nonoverlapping(xmm.cast::<u8>(), (fp + 160) as *mut u8, 256) };
    let r = &*regs;
    let fault = fault.unwrap_or_default();
    let mut info = [0; 16];
    info[0] = signal.into();
    info[1] = fault.code as u64;
    info[2] = fault.address;
    let frame = Frame {
        restorer: action.restorer,
        flags: 0,
        link: 0,
        stack,
        registers: [
            r.r8,
            r.r9,
            r.r10,
            r.r11,
            r.r12,
            r.r13,
            r.r14,
            r.r15,
            r.rdi,
            r.rsi,
            r.rbp,
            r.rbx,
            r.rdx,
            r.rax,
            r.rcx,
            r.rsp,
            r.rip,
            r.rflags,
            0x002b_0000_0000_0033,
            fault.error,
            fault.vector,
            mask,
            fault.address,
        ],
        fpstate: fp,
        reserved: [0; 8],
        mask,
        info,
    };
    user::write(at, frame)?;
    let context = at + 8;
    regs.rdi = signal.into();
    regs.rsi = at + core::mem::offset_of!(Frame, info) as u64;
    regs.rdx = context;
    regs.rax = 0;
    regs.rsp = at;
    regs.rip = action.handler;
    regs.rflags = 0x202;
    task::with(|task| {
        task.signals.mask = mask | action.mask | if action.flags & SA_NODEFER == 0 { bit(signal) } else { 0 };
        task.signals.mask &= !never_blocked();
    });
    if action.flags & SA_RESETHAND != 0 {
        ACTIONS.get()[signal as usize].handler = 0;
    }
    if action.flags & SA_RESTORER == 0 { Err(EFAULT) } else { Ok(()) }
}

/// `rt_sigreturn`: the registers are those of the frame again.
pub fn leave(regs: &mut Regs, xmm: *mut [u8; 256]) -> Result<(), Errno> {
    // The handler's `ret` took the restorer's address away.
    let frame: Frame = user::read(regs.rsp.wrapping_sub(8))?;
    let g = frame.registers;
    *regs = Regs {
        r8: g[0],
        r9: g[1],
        r10: g[2],
        r11: g[3],
        r12: g[4],
        r13: g[5],
        r14: g[6],
        r15: g[7],
        rdi: g[8],
        rsi: g[9],
        rbp: g[10],
        rbx: g[11],
        rdx: g[12],
        rax: g[13],
        rcx: g[14],
        rsp: g[15],
        rip: g[16],
        // Arithmetic and direction flags; no trap flag, no privilege.
        rflags: g[17] & 0x0cd5 | 0x202,
    };
    if frame.fpstate != 0 && frame.fpstate & 63 == 0 {
        let area = user::bytes(frame.fpstate, FP_AREA)?;
        load_fp(frame.fpstate);
        // SAFETY: as in `enter`.
        unsafe { core::ptr::copy_nonoverlapping(area.as_ptr().add(160), xmm.cast::<u8>(), 256) };
    }
    task::with(|task| task.signals.mask = frame.mask & !never_blocked());
    Ok(())
}
