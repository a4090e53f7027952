//! The program's registers while it is not running, as `asm` pushes them.

/// In the order of the stack.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rax: u64,
    pub rip: u64,
    pub rflags: u64,
    pub rsp: u64,
}

/// The FS base, which is the thread pointer.
pub fn fs_base() -> u64 {
    let base: u64;
    // SAFETY: CR4.FSGSBASE is set by the monitor; reading changes nothing.
    unsafe { core::arch::asm!("rdfsbase {}", out(reg) base, options(nomem, nostack)) };
    base
}

/// Sets the FS base. The library OS itself does not use FS.
pub fn set_fs_base(base: u64) {
    // SAFETY: as above.
    unsafe { core::arch::asm!("wrfsbase {}", in(reg) base, options(nomem, nostack)) };
}

/// The time stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}
