//! Loads the program: its segments, the dynamic loader if it asks for one, and its first stack.

use alloc::{vec, vec::Vec};
use core::slice;

use crate::{
    abi::{Boot, Mapped, PAGE, boot_flags},
    cell::Global,
    elf::{Bad, Elf},
    errno::{ENOENT, ENOMEM, Errno},
    fs::{Content, Kind, tree},
    mm::{self, Backing, MM, round_up},
    phys, random,
    regs::Regs,
    user,
};

/// Bytes of the main thread's stack; its pages come at the first touch.
pub const STACK: u64 = 8 << 20;
/// The page under it stays empty, and so do those of the gap that mappings keep from it.
const GUARD: u64 = 1 << 20;
/// Where position-independent programs go, without randomness.
const PIE_BASE: u64 = 0x5555_5555_4000;
const STACK_TOP: u64 = 0x7ffd_0000_0000;

/// The loaded program and its base, for the names in a crash report; and its dynamic loader.
pub static LOADED: Global<Vec<(&'static [u8], u64)>> = Global::new(Vec::new());

/// What `execve` would answer.
#[derive(Debug)]
pub enum Failed {
    /// The file is none.
    Elf(Bad),
    /// The dynamic loader is not in the image.
    Interpreter(Vec<u8>),
    /// No room.
    Memory,
}

/// A host file as bytes.
pub fn mapped(file: Mapped) -> &'static [u8] {
    // SAFETY: the monitor maps files for as long as the VM lives, and the direct map covers them.
    unsafe { slice::from_raw_parts(phys::direct(file.gpa), file.len as usize) }
}

fn segments(elf: &Elf, gpa: u64, base: u64, name: &'static str) -> Result<(), Failed> {
    let mut mm = MM.get();
    for segment in elf.segments() {
        let segment = segment.map_err(Failed::Elf)?;
        if segment.in_memory == 0 {
            continue;
        }
        let start = base + segment.address & !(PAGE - 1);
        let file_end = base + segment.address + segment.in_file;
        let end = round_up(base + segment.address + segment.in_memory);
        if !mm::allowed(start, end - start) {
            return Err(Failed::Memory);
        }
        let mut rights = 0;
        for (bit, right) in [(4, mm::READ), (2, mm::WRITABLE), (1, mm::EXEC)] {
            rights |= if segment.flags & bit != 0 { right } else { 0 };
        }
        mm.remove(start, end - start);
        let in_file = if segment.in_file == 0 { start } else { round_up(file_end) };
        if in_file > start {
            mm.add(start, in_file - start, rights, Backing::Host(gpa + (segment.offset & !(PAGE - 1))), name);
        }
        if end > in_file {
            mm.add(in_file, end - in_file, rights, Backing::Anonymous, "");
        }
        // The rest of the last page of a segment with more memory than file reads as zero.
        if segment.in_memory > segment.in_file && file_end < in_file {
            if !mm.ready(file_end, in_file - file_end, true) {
                return Err(Failed::Memory);
            }
            // SAFETY: just made writable; nobody else runs yet.
            unsafe { core::ptr::write_bytes(file_end as *mut u8, 0, (in_file - file_end) as usize) };
        }
    }
    Ok(())
}

/// Random pages below a span.
fn slide(boot: &Boot, pages: u64) -> u64 {
    if boot.flags & boot_flags::NO_ASLR != 0 { 0 } else { random::number() % pages * PAGE }
}

/// Loads the program; the registers of its first thread.
pub fn load(boot: &Boot) -> Result<Regs, Failed> {
    let bytes = mapped(boot.program);
    let elf = Elf::parse(bytes).map_err(Failed::Elf)?;
    let (low, high) = elf.span().map_err(Failed::Elf)?;
    let base = if elf.movable { (PIE_BASE + slide(boot, 1 << 27)) - low } else { 0 };
    segments(&elf, boot.program.gpa, base, "program")?;
    LOADED.get().push((bytes, base));
    let mut entry = base + elf.entry;
    let mut interpreter_base = 0;
    if let Some(path) = elf.interpreter() {
        let (at, start) = interpreter(path, boot).map_err(|_| Failed::Interpreter(path.to_vec()))??;
        (interpreter_base, entry) = (at, start);
    }
    let mut mm = MM.get();
    mm.brk_start = round_up(base + high) + slide(boot, 1 << 13);
    mm.brk = mm.brk_start;
    let top = STACK_TOP - slide(boot, 1 << 22);
    mm.add(top - STACK, STACK, mm::READ | mm::WRITABLE, Backing::Anonymous, "[stack]");
    mm.top = top - STACK - GUARD - slide(boot, 1 << 22);
    drop(mm);
    let vectors = [
        (3, base + elf.headers_address()),
        (4, 56),
        (5, elf.headers.into()),
        (6, PAGE),
        (7, interpreter_base),
        (9, base + elf.entry),
        (11, 0),
        (12, 0),
        (13, 0),
        (14, 0),
        (16, u64::from(core::arch::x86_64::__cpuid(1).edx)),
        (17, 100),
        (23, 0),
        (26, 2),
    ];
    let rsp = stack(boot, top, &vectors).map_err(|_| Failed::Memory)?;
    Ok(Regs { rip: entry, rsp, rflags: 0x202, ..Regs::default() })
}

/// Maps the dynamic loader; its base and first instruction.
fn interpreter(path: &[u8], boot: &Boot) -> Result<Result<(u64, u64), Failed>, Errno> {
    let node = tree::find(&tree::root(), path, true)?;
    let Kind::File(content) = &node.kind else { return Err(ENOENT) };
    let len = content.len();
    let (gpa, _) = content.page(0, false).ok_or(ENOENT)?;
    if !matches!(host_piece(content), Some(at) if at == gpa) {
        return Err(ENOENT);
    }
    let bytes = mapped(Mapped { gpa, len });
    Ok((|| {
        let elf = Elf::parse(bytes).map_err(Failed::Elf)?;
        let (low, high) = elf.span().map_err(Failed::Elf)?;
        let room = 0x7f00_0000_0000 - slide(boot, 1 << 22);
        let base = room - (high - low) - low;
        segments(&elf, gpa, base, "ld.so")?;
        LOADED.get().push((bytes, base));
        Ok((base, base + elf.entry))
    })())
}

fn host_piece(content: &Content) -> Option<u64> {
    content.page(0, false).filter(|(_, own)| !own).map(|(gpa, _)| gpa)
}

/// Strings, vectors and pointers of the first stack, as the ABI wants them.
fn stack(boot: &Boot, top: u64, vectors: &[(u64, u64)]) -> Result<u64, Errno> {
    let strings = mapped(boot.strings);
    let mut at = top - 16;
    let mut put = |bytes: &[u8], align: u64| -> Result<u64, Errno> {
        at = (at - bytes.len() as u64) & !(align - 1);
        user::bytes_mut(at, bytes.len() as u64)?.copy_from_slice(bytes);
        Ok(at)
    };
    let strings_at = put(strings, 1)?;
    let mut seed = [0; 16];
    random::fill(&mut seed);
    let seed_at = put(&seed, 16)?;
    let platform = put(b"x86_64\0", 1)?;
    let mut words = vec![u64::from(boot.args)];
    let mut next = strings_at;
    for (n, string) in strings.split_inclusive(|&byte| byte == 0).take((boot.args + boot.envs) as usize).enumerate() {
        if n == boot.args as usize {
            words.push(0);
        }
        words.push(next);
        next += string.len() as u64;
    }
    if boot.envs == 0 {
        words.push(0);
    }
    words.push(0);
    for (key, value) in vectors.iter().copied().chain([(25, seed_at), (15, platform), (31, strings_at), (0, 0)]) {
        words.extend([key, value]);
    }
    let mut bytes = Vec::with_capacity(words.len() * 8);
    words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    put(&bytes, 16).map_err(|_| ENOMEM)
}
