//! What a new VM's memory holds: page tables, descriptors, the library OS, the page of facts.

use crate::{
    abi::{Cpu, DIRECT_BASE, HYPERCALL_VA, Header, LARGE, LIBOS_BASE, LIBOS_SPAN, MAGIC, PAGE, STUB, VERSION, gpa},
    error::Error,
    memory::Memory,
};

/// At a page border, so that KVM can show the guest the binary's own pages.
#[repr(C, align(4096))]
struct Aligned<T: ?Sized>(T);

static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/guest.bin")));

/// The library OS, as `build.rs` laid it out.
static LIBOS: &[u8] = &ALIGNED.0;

const ID: u64 = include!(concat!(env!("OUT_DIR"), "/guest.id"));

const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
/// Accessed and dirty: KVM then maps neighbours ahead, and need not write here.
const SEEN: u64 = 0x60;
const HUGE: u64 = 0x80;
const NO_EXEC: u64 = 1 << 63;
const TABLE: u64 = PRESENT | WRITE | USER | SEEN;

/// Selectors in the GDT below.
pub(crate) const KERNEL_CODE: u16 = 0x10;
pub(crate) const USER_DATA: u16 = 0x2b;
pub(crate) const USER_CODE: u16 = 0x33;
pub(crate) const TASK: u16 = 0x40;

/// Places in the page of descriptors.
pub(crate) const GDT: u64 = DIRECT_BASE + gpa::DESCRIPTORS;
pub(crate) const GDT_LEN: u16 = 0x50;
pub(crate) const TSS: u64 = GDT + 0x100;
pub(crate) const TSS_LEN: u16 = 0x68;
pub(crate) const IDT: u64 = GDT + 0x200;
pub(crate) const VECTORS: u64 = 32;
pub(crate) const IDT_LEN: u16 = VECTORS as u16 * 16;

/// Flags of code that an IRETQ frame starts: interrupts on, as nothing interrupts.
const FLAGS: u64 = 0x202;

/// The header of the library OS.
pub(crate) fn header() -> Header {
    let word = |n: usize| {
        let bytes = LIBOS.get(n * 8..n * 8 + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    Header {
        magic: word(0),
        version: word(1),
        text_end: word(2),
        rodata_end: word(3),
        data_end: word(4),
        bss_end: word(5),
        start: word(6),
        start_stack: word(7),
        syscall_stub: word(8),
        exception_stubs: word(9),
        syscall_entry: word(10),
        fault_entry: word(11),
        page_fault_entry: word(12),
        fault_stack: word(13),
        kick_entry: word(14),
    }
}

/// What tells this library OS from any other.
pub(crate) fn id() -> u64 {
    ID
}

/// What all VMs share of the library OS, and what each has for itself.
fn parts() -> (&'static [u8], &'static [u8]) {
    let constant = header().rodata_end.saturating_sub(LIBOS_BASE);
    LIBOS.split_at_checked(constant as usize).unwrap_or_default()
}

/// Shows the guest the library OS's code and constants.
pub(crate) fn share(memory: &mut Memory) -> Result<(), Error> {
    memory.share(parts().0)
}

/// Fills in everything but the page of facts; where free memory begins.
pub(crate) fn write(memory: &mut Memory) -> Result<u64, Error> {
    let header = header();
    if header.magic != MAGIC || header.version != u64::from(VERSION) || header.bss_end > HYPERCALL_VA {
        return Err(Error::Stopped("the library OS in this binary is broken".to_owned()));
    }
    share(memory)?;
    memory.fill(gpa::IMAGE, parts().1);
    tables(memory, &header);
    descriptors(memory, &header);
    let cpu = DIRECT_BASE + gpa::CPU;
    let frame = |entry: u64, stack: u64| [entry, USER_CODE.into(), FLAGS, stack, USER_DATA.into()];
    let at = |offset: usize| cpu + offset as u64;
    memory.write(
        gpa::CPU,
        Cpu {
            user_rsp: 0,
            syscall_frame_at: at(core::mem::offset_of!(Cpu, syscall_frame)),
            fault_frame_at: at(core::mem::offset_of!(Cpu, fault_frame)),
            page_fault_frame_at: at(core::mem::offset_of!(Cpu, page_fault_frame)),
            vector: 0,
            cr2: 0,
            flush: 0,
            resume_rip: 0,
            kicked: [0; 3],
            traps: 0,
            syscall_frame: frame(header.syscall_entry, 0),
            fault_frame: frame(header.fault_entry, header.fault_stack),
            page_fault_frame: frame(header.page_fault_entry, header.fault_stack),
        },
    );
    Ok((gpa::IMAGE + (header.bss_end - header.rodata_end)).next_multiple_of(PAGE))
}

fn entry(memory: &Memory, table: u64, index: u64, value: u64) {
    memory.write(table + (index & 511) * 8, value);
}

fn tables(memory: &Memory, header: &Header) {
    entry(memory, gpa::PML4, LIBOS_BASE >> 39, gpa::LIBOS_PDPT | TABLE);
    entry(memory, gpa::LIBOS_PDPT, LIBOS_BASE >> 30, gpa::LIBOS_PD | TABLE);
    entry(memory, gpa::LIBOS_PD, LIBOS_BASE >> 21, gpa::LIBOS_PT | TABLE);
    for va in (LIBOS_BASE..LIBOS_BASE + LIBOS_SPAN).step_by(PAGE as usize) {
        let rights = match va {
            HYPERCALL_VA => {
                entry(memory, gpa::LIBOS_PT, va >> 12, gpa::HYPERCALL | TABLE | NO_EXEC);
                continue;
            }
            va if va < header.text_end => PRESENT | USER | SEEN,
            va if va < header.rodata_end => PRESENT | USER | SEEN | NO_EXEC,
            va if va < header.bss_end => TABLE | NO_EXEC,
            _ => continue,
        };
        let shared = va < header.rodata_end;
        let place = if shared { gpa::LIBOS + (va - LIBOS_BASE) } else { gpa::IMAGE + (va - header.rodata_end) };
        entry(memory, gpa::LIBOS_PT, va >> 12, place | rights);
    }
    entry(memory, gpa::PML4, DIRECT_BASE >> 39, gpa::DIRECT_PDPT | TABLE);
    entry(memory, gpa::DIRECT_PDPT, 0, gpa::DIRECT_PD | TABLE);
    for at in (0..memory.size().0).step_by(LARGE as usize) {
        entry(memory, gpa::DIRECT_PD, at >> 21, at | TABLE | HUGE | NO_EXEC);
    }
}

fn descriptors(memory: &Memory, header: &Header) {
    let gdt = [
        (2, 0x00af_9b00_0000_ffff),
        (3, 0x00cf_9300_0000_ffff),
        (5, 0x00cf_f300_0000_ffff),
        (6, 0x00af_fb00_0000_ffff),
        // The task state segment: its address is spread over both words.
        (8, u64::from(TSS_LEN - 1) | (TSS & 0xff_ffff) << 16 | 0x89 << 40 | (TSS >> 24 & 0xff) << 56),
        (9, TSS >> 32),
    ];
    for (n, value) in gdt {
        memory.write(gpa::DESCRIPTORS + n * 8, value);
    }
    // RSP0 is at offset 4, so it is written in halves.
    let stack = DIRECT_BASE + gpa::CPU + PAGE;
    memory.write(gpa::DESCRIPTORS + 0x104, stack as u32);
    memory.write(gpa::DESCRIPTORS + 0x108, (stack >> 32) as u32);
    for vector in 0..VECTORS {
        let handler = header.exception_stubs + vector * STUB;
        // `int3` and `into` come from the program itself.
        let gate: u64 = if vector == 3 || vector == 4 { 0xee00 } else { 0x8e00 };
        let low = handler & 0xffff | u64::from(KERNEL_CODE) << 16 | gate << 32 | (handler >> 16 & 0xffff) << 48;
        memory.write(gpa::DESCRIPTORS + 0x200 + vector * 16, [low, handler >> 32]);
    }
}
