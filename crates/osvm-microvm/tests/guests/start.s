# From the 64-bit Linux boot protocol (long mode, identity pages, zero page in rsi) to `main` at CPL3, with calls for what only CPL0 may do.
# Little is done at CPL0: some KVMs interpret it.

.section .text
.global start
start:
    lea rsp, [rip + kernel_stack_end]
    lgdt [rip + gdt_pointer]
    lea rax, [rip + page_tables]
    mov cr3, rax
    lidt [rip + idt_pointer]
    # The task state's address into its descriptor: bytes 2, 3, 4 and 7; it lies below 4 GiB.
    lea rax, [rip + tss]
    lea rdi, [rip + gdt_tss]
    mov [rdi + 2], ax
    shr rax, 16
    mov [rdi + 4], al
    mov [rdi + 7], ah
    lea rax, [rip + kernel_stack_end]
    mov [rip + tss + 4], rax
    mov ax, 0x40
    ltr ax
    # Both interrupt controllers: vectors 0x20 and 0x28, lines 5 to 15 open
    mov al, 0x11
    out 0x20, al
    out 0xa0, al
    mov al, 0x20
    out 0x21, al
    mov al, 0x28
    out 0xa1, al
    mov al, 4
    out 0x21, al
    mov al, 2
    out 0xa1, al
    mov al, 1
    out 0x21, al
    out 0xa1, al
    mov al, 0x1b
    out 0x21, al
    xor al, al
    out 0xa1, al
    mov rdi, rsi
    push 0x2b
    lea rax, [rip + user_stack_end - 8]
    push rax
    push 2
    push 0x33
    lea rax, [rip + main]
    push rax
    iretq

# A call is `ud2`: behind `syscall`, some KVMs do not run privileged instructions.
# eax: 0 writes dl on the serial port, 1 resets the machine, 2 waits for an interrupt
.global on_call
on_call:
    add qword ptr [rsp], 2
    cmp eax, 1
    je 1f
    cmp eax, 2
    je 2f
    mov eax, edx
    mov dx, 0x3f8
    out dx, al
    iretq
1:  mov al, 0xfe
    out 0x64, al
    jmp 1b
2:  sti
    hlt
    cli
    iretq

.global on_interrupt
on_interrupt:
    push rax
    mov al, 0x20
    out 0xa0, al
    out 0x20, al
    pop rax
    iretq

.section .data
.balign 16
gdt:
    .quad 0, 0, 0x00af9a000000ffff, 0x00cf92000000ffff, 0, 0x00cff2000000ffff, 0x00affa000000ffff, 0
gdt_tss:
    .quad 0x0000890000000067, 0
gdt_end:
gdt_pointer:
    .short gdt_end - gdt - 1
    .quad gdt
idt_pointer:
    .short 256 * 16 - 1
    .quad idt

# All of the first 4 GiB at its own address, for both levels, in pages of 2 MiB
.balign 4096
page_tables:
    .quad directory_pointers + 7
    .fill 511, 8, 0
directory_pointers:
    .quad directories + 7, directories + 0x1007, directories + 0x2007, directories + 0x3007
    .fill 508, 8, 0
directories:
    .set page, 0
    .rept 2048
    .quad page * 0x200000 + 0x87
    .set page, page + 1
    .endr

.section .bss
.balign 4096
.global idt
idt: .skip 4096
tss: .skip 104
.balign 4096
    .skip 4096
kernel_stack_end:
    .skip 65536
user_stack_end:
