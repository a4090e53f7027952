//! The CPL0 stubs and the ways between program and library OS. Everything that is privileged is in `.stubs`.
//!
//! On a paravirtual KVM each CPL0 instruction is emulated, so the stubs do nothing but hand over: IRETQ frames lie ready in `Cpu`.
//! Library OS code is compiled for SSE2, so it may touch the lower halves of XMM0 to 15 only; entries save just these.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .header, "ax"
    .quad 0x534f42494c4d564f
    .quad {version}
    .quad __text_end, __rodata_end, __data_end, __bss_end
    .quad start, start_stack_top
    .quad syscall_stub, exception_stubs
    .quad syscall_entry, fault_entry, page_fault_entry, fault_stack_top, kick_entry

    .section .stubs, "ax"
    .balign 64
syscall_stub:
    mov %rsp, %gs:0
    mov %gs:8, %rsp
    iretq

    .balign 64
exception_stubs:
    .set vector, 0
    .rept 32
    .balign 64
    .if vector == 6
    # The library OS's own way to CPL0: RAX is the top page table.
    cmpl $0, %gs:48
    je 1f
    mov %rax, %cr3
    addq $2, (%rsp)
    iretq
1:
    .endif
    .if vector == 14
    mov %rax, %gs:40
    mov %cr2, %rax
    mov %gs:24, %rsp
    .else
    movl $vector, %gs:32
    mov %gs:16, %rsp
    .endif
    iretq
    .set vector, vector + 1
    .endr

    .macro save_registers
    push %rax
    push %rdi
    push %rsi
    push %rdx
    push %rcx
    push %r8
    push %r9
    push %r10
    push %r11
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, %rdi
    sub $256, %rsp
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movaps %xmm\n, (16*\n)(%rsp)
    .endr
    cld
    .endm

    .text
    .globl start
start:
    call main
    ud2

syscall_entry:
    incq %gs:88
    push %gs:0
    pushq $0x202
    push %rcx
    save_registers
    mov $1, %esi
    call on_syscall
    jmp resume

    .globl syscall_call_entry
syscall_call_entry:
    mov %rsp, %gs:0
    mov %gs:120, %rsp
    push %gs:0
    pushq $0x202
    push %rcx
    save_registers
    xor %esi, %esi
    call on_syscall

    .globl resume
resume:
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movaps (16*\n)(%rsp), %xmm\n
    .endr
    add $256, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rcx
    pop %rdx
    pop %rsi
    pop %rdi
    pop %rax
    pop %gs:56
    popfq
    pop %rsp
    jmp *%gs:56

page_fault_entry:
    xchg %rax, %gs:40
    movl $14, %gs:32
fault_entry:
    push %gs:0xff0
    push %gs:0xfe8
    push %gs:0xfd8
    save_registers
    call on_fault
    jmp resume

kick_entry:
    push %gs:80
    push %gs:72
    push %gs:64
    save_registers
    call on_kick
    jmp resume

    .globl switch_stack
switch_stack:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .globl memcpy, memmove, memset, memcmp, bcmp
memcpy:
    mov %rdi, %rax
    mov %rdx, %rcx
    cmp $256, %rdx
    ja 2f
    shr $3, %rcx
    jz 1f
0:  mov (%rsi), %r8
    mov %r8, (%rdi)
    add $8, %rsi
    add $8, %rdi
    dec %rcx
    jnz 0b
1:  and $7, %edx
    mov %edx, %ecx
    jz 3f
4:  movb (%rsi), %r8b
    movb %r8b, (%rdi)
    inc %rsi
    inc %rdi
    dec %ecx
    jnz 4b
3:  ret
2:  rep movsb
    ret
memmove:
    mov %rdi, %r9
    sub %rsi, %r9
    cmp %rdx, %r9
    jae memcpy
    mov %rdi, %rax
    mov %rdx, %rcx
    lea -1(%rsi,%rdx), %rsi
    lea -1(%rdi,%rdx), %rdi
    std
    rep movsb
    cld
    ret
memset:
    mov %rdi, %r9
    mov %esi, %eax
    mov %rdx, %rcx
    rep stosb
    mov %r9, %rax
    ret
bcmp:
memcmp:
    xor %eax, %eax
    xor %ecx, %ecx
1:  cmp %rdx, %rcx
    je 2f
    movzbl (%rdi,%rcx), %eax
    movzbl (%rsi,%rcx), %r8d
    inc %rcx
    sub %r8d, %eax
    jz 1b
2:  ret

    # Precompiled parts of `alloc` name these; panics abort, so nothing comes here.
    .globl _Unwind_Resume, rust_eh_personality
_Unwind_Resume:
rust_eh_personality:
    ud2

    .bss
    .balign 4096
    .skip 65536
start_stack_top:
    .skip 32768
fault_stack_top:
    "#,
    version = const crate::abi::VERSION,
    options(att_syntax)
);

unsafe extern "C" {
    /// Saves the callee's registers and the stack pointer in `from`, and goes on where `to` stopped.
    pub fn switch_stack(from: *mut u64, to: u64);
    /// Pops XMM and [`crate::regs::Regs`] from the stack and goes to the program.
    pub fn resume();
    /// Where a rewritten call site goes: RAX is the number, RCX where to return, all else as before `syscall`.
    pub fn syscall_call_entry();
}
