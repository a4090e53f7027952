//! Turns `syscall` instructions that were seen to trap into jumps, where the bytes before them are an instruction that can move.
//!
//! A site `mov $n, %eax; syscall` or `mov 8(%rsp), %r9; syscall` gets its five bytes before `syscall` replaced by a jump to a piece of
//! code that does the moved instruction and enters the library OS. The `syscall` itself stays, for whoever jumps straight to it. The
//! red zone is not touched, as nothing is pushed. What is not recognised goes on trapping.

use crate::{
    abi::{Boot, PAGE, boot_flags},
    asm,
    cell::Global,
    mm::{self, Backing, MM},
    process::OfSpace,
    pt::{self, PRESENT},
    regs::Regs,
};

/// Pages of jump code near the program's code, made when needed.
const PAGES: u64 = 4;
/// Bytes of one piece.
const PIECE: u64 = 32;
/// Reach of a jump.
const REACH: u64 = 0x7000_0000;
/// Bytes of the instruction that is moved.
const MOVED: u64 = 5;

/// Traps of a site after which it is worth its rewriting, which costs what some ten traps do.
const OFTEN: u32 = 8;
/// Sites whose traps are counted; two that share a place start each other again.
const COUNTED: usize = 256;

/// A piece of memory for jump code.
#[derive(Clone)]
pub struct Area {
    start: u64,
    used: u64,
}

pub static AREAS: OfSpace<alloc::vec::Vec<Area>> = OfSpace::new(|space| &space.calls);
static STATE: Global<(bool, u64)> = Global::new((true, 0));

static TRAPS: Global<[(u64, u32); COUNTED]> = Global::new([(0, 0); COUNTED]);

/// Counts a site's trap; whether it has trapped often.
fn often(site: u64) -> bool {
    let mut traps = TRAPS.get();
    let place = &mut traps[(site ^ site >> 8) as usize % COUNTED];
    *place = if place.0 == site { (site, place.1 + 1) } else { (site, 1) };
    place.1 == OFTEN
}

/// Takes the monitor's word on whether to do it.
pub fn init(boot: &Boot) {
    STATE.get().0 = boot.flags & boot_flags::NO_REWRITE == 0;
}

/// Sites that were rewritten.
pub fn count() -> u64 {
    // SAFETY: reads a number; a crash may come while it is borrowed.
    unsafe { (*STATE.as_ptr()).1 }
}

/// Whether the five bytes before a `syscall` are one instruction that may be done elsewhere.
fn movable(bytes: &[u8], number: u64) -> bool {
    // mov $number, %eax; the byte before must not be a prefix of it.
    let load_number = bytes[1] == 0xb8
        && u64::from(u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]])) == number
        && bytes[0] & 0xf0 != 0x40
        && bytes[0] != 0x66;
    // mov 8(%rsp), %r9, as in glibc's `syscall`.
    load_number || bytes[1..6] == [0x4c, 0x8b, 0x4c, 0x24, 0x08]
}

/// Room for a piece of code within reach.
fn room(near: u64) -> Option<u64> {
    let mut areas = AREAS.get();
    if let Some(area) = areas.iter_mut().find(|area| area.start.abs_diff(near) < REACH && area.used < PAGES * PAGE) {
        area.used += PIECE;
        return Some(area.start + area.used - PIECE);
    }
    let mut mm = MM.get();
    let len = PAGES * PAGE;
    // Below the lowest area of the program's code, then in the gaps above it.
    let mut starts = alloc::vec::Vec::new();
    for (start, area) in mm.areas.range(near.saturating_sub(REACH)..near + REACH) {
        starts.push(start.wrapping_sub(len + PAGE));
        starts.push(area.end + PAGE);
    }
    let free =
        |at: u64| mm::allowed(at, len) && mm.areas.range(..at + len).next_back().is_none_or(|(_, area)| area.end <= at);
    // The heap grows upwards from its start; nothing is put right behind it.
    let brk = mm.brk_start;
    let at = starts
        .into_iter()
        .find(|&at| free(at) && at.abs_diff(near) < REACH && !(brk..brk + (1 << 30)).contains(&at))?;
    mm.add(at, len, mm::READ | mm::EXEC, Backing::Anonymous, "[calls]");
    drop(mm);
    areas.push(Area { start: at, used: PIECE });
    Some(at)
}

/// Writes to code: through the direct map, so that the program's own mapping stays without the right to.
fn patch(va: u64, bytes: &[u8]) -> bool {
    let page = va & !(PAGE - 1);
    let mut mm = MM.get();
    if pt::get(page) & PRESENT == 0 && !mm.fault(va, false, true) {
        return false;
    }
    if !mm.own(page) {
        return false;
    }
    let at = pt::address(pt::get(page)) + (va - page);
    for (n, byte) in bytes.iter().enumerate() {
        // SAFETY: the page is the program's own copy; the piece lies within it, as the callers see to.
        unsafe { core::ptr::write_volatile(crate::phys::direct(at + n as u64), *byte) };
    }
    true
}

/// Looks at the site of a `syscall` that just trapped; `regs.rip` is behind it.
pub fn site(regs: &Regs, number: u64) {
    if !STATE.get().0 || !often(regs.rip) {
        return;
    }
    let start = regs.rip.wrapping_sub(2 + MOVED);
    // In one page, and not at its first byte, as the byte before is looked at.
    if start & (PAGE - 1) == 0 || start & (PAGE - 1) > PAGE - 8 {
        return;
    }
    let Ok(bytes) = crate::user::bytes(start - 1, 8) else { return };
    if bytes[6..8] != [0x0f, 0x05] || !movable(bytes, number) {
        return;
    }
    let moved: [u8; MOVED as usize] = [bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]];
    let Some(piece) = room(start) else { return };
    // moved instruction; lea behind(%rip), %rcx; jmp *(%rip); address
    let mut code = [0x90u8; PIECE as usize];
    code[..5].copy_from_slice(&moved);
    code[5..8].copy_from_slice(&[0x48, 0x8d, 0x0d]);
    code[8..12].copy_from_slice(&(regs.rip.wrapping_sub(piece + 12) as i32).to_le_bytes());
    code[12..18].copy_from_slice(&[0xff, 0x25, 0, 0, 0, 0]);
    code[18..26].copy_from_slice(&(asm::syscall_call_entry as *const () as u64).to_le_bytes());
    let jump = (piece.wrapping_sub(start + MOVED) as i32).to_le_bytes();
    if patch(piece, &code) && patch(start, &[0xe9, jump[0], jump[1], jump[2], jump[3]]) {
        STATE.get().1 += 1;
    }
}
