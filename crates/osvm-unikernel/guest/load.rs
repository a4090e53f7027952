//! Loads the program: its segments, the dynamic loader if it asks for one, and its first stack.

use alloc::{rc::Rc, vec, vec::Vec};
use core::{
    slice,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::{
    abi::{Boot, Mapped, PAGE, boot_flags},
    elf::{Bad, Elf},
    errno::{ENOENT, ENOMEM, Errno},
    fs::{Content, Kind, tree},
    mm::{self, Backing, MM, round_up},
    phys,
    process::OfSpace,
    random,
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
pub static LOADED: OfSpace<Vec<(&'static [u8], u64)>> = OfSpace::new(|space| &space.loaded);

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

/// The bytes of a file: of the image, or copied from pages of its own.
enum Bytes {
    Image(&'static [u8]),
    Copied(Vec<u8>),
}

impl Bytes {
    fn of(content: &Content) -> Self {
        let len = content.len();
        match content.in_image() {
            Some(gpa) => Self::Image(mapped(Mapped { gpa, len })),
            None => {
                let mut bytes = vec![0; len as usize];
                content.read(0, &mut bytes);
                Self::Copied(bytes)
            }
        }
    }

    fn get(&self) -> &[u8] {
        match self {
            Self::Image(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }

    /// Remembers the file for crash reports, if it stays.
    fn loaded(&self, base: u64) {
        if let Self::Image(bytes) = self {
            LOADED.get().push((bytes, base));
        }
    }
}

fn segments(elf: &Elf, file: &Rc<Content>, base: u64, name: &'static str) -> Result<(), Failed> {
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
            let offset = segment.offset & !(PAGE - 1);
            let backing = match file.in_image() {
                Some(gpa) => Backing::Host(gpa + offset),
                None => Backing::File { file: Rc::clone(file), offset, shared: false },
            };
            mm.add(start, in_file - start, rights, backing, name);
        }
        if end > in_file {
            mm.add(in_file, end - in_file, rights, Backing::Anonymous, "");
        }
        mm.ahead(start, in_file - start);
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

static NO_ASLR: AtomicBool = AtomicBool::new(false);
/// The upper part of all slides: one for all programs of a VM, as each new value would need page tables of its own.
static UPPER: AtomicU64 = AtomicU64::new(0);
/// Pages whose tables lie together: the part of a slide that is new for each program.
const LOWER: u64 = 1 << 18;

/// Takes the monitor's word on randomness.
pub fn init(boot: &Boot) {
    NO_ASLR.store(boot.flags & boot_flags::NO_ASLR != 0, Ordering::Relaxed);
    UPPER.store(random::number(), Ordering::Relaxed);
}

/// Random pages below a span.
fn slide(pages: u64) -> u64 {
    if NO_ASLR.load(Ordering::Relaxed) {
        return 0;
    }
    let upper = UPPER.load(Ordering::Relaxed) & !(LOWER - 1);
    (upper | random::number() & (LOWER - 1)) % pages * PAGE
}

/// What is to be run: the file, and its arguments and environment, as strings that a zero closes.
pub struct Program<'a> {
    pub content: Rc<Content>,
    pub strings: &'a [u8],
    pub args: usize,
    pub envs: usize,
}

impl Program<'_> {
    /// Whether it could be loaded, as far as its file and its dynamic loader tell.
    pub fn check(&self) -> Result<(), Failed> {
        let bytes = Bytes::of(&self.content);
        let elf = Elf::parse(bytes.get()).map_err(Failed::Elf)?;
        elf.span().map_err(Failed::Elf)?;
        if let Some(path) = elf.interpreter() {
            let bytes = Bytes::of(&*loader(path).map_err(|_| Failed::Interpreter(path.to_vec()))?);
            Elf::parse(bytes.get()).map_err(Failed::Elf)?.span().map_err(Failed::Elf)?;
        }
        Ok(())
    }

    /// Loads it into the address space in force, which is empty; the registers of its first thread.
    pub fn load(&self) -> Result<Regs, Failed> {
        let bytes = Bytes::of(&self.content);
        let elf = Elf::parse(bytes.get()).map_err(Failed::Elf)?;
        let (low, high) = elf.span().map_err(Failed::Elf)?;
        let base = if elf.movable { (PIE_BASE + slide(1 << 27)) - low } else { 0 };
        segments(&elf, &self.content, base, "program")?;
        bytes.loaded(base);
        let mut entry = base + elf.entry;
        let mut interpreter_base = 0;
        if let Some(path) = elf.interpreter() {
            let loader = loader(path).map_err(|_| Failed::Interpreter(path.to_vec()))?;
            (interpreter_base, entry) = interpreter(&loader)?;
        }
        let mut mm = MM.get();
        mm.brk_start = round_up(base + high) + slide(1 << 13);
        mm.brk = mm.brk_start;
        let top = STACK_TOP - slide(1 << 22);
        mm.add(top - STACK, STACK, mm::READ | mm::WRITABLE, Backing::Anonymous, "[stack]");
        mm.top = top - STACK - GUARD - slide(1 << 22);
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
        let rsp = self.stack(top, &vectors).map_err(|_| Failed::Memory)?;
        Ok(Regs { rip: entry, rsp, rflags: 0x202, ..Regs::default() })
    }

    /// Strings, vectors and pointers of the first stack, as the ABI wants them.
    fn stack(&self, top: u64, vectors: &[(u64, u64)]) -> Result<u64, Errno> {
        let mut at = top - 16;
        let mut put = |bytes: &[u8], align: u64| -> Result<u64, Errno> {
            at = (at - bytes.len() as u64) & !(align - 1);
            user::bytes_mut(at, bytes.len() as u64)?.copy_from_slice(bytes);
            Ok(at)
        };
        let strings_at = put(self.strings, 1)?;
        let mut seed = [0; 16];
        random::fill(&mut seed);
        let seed_at = put(&seed, 16)?;
        let platform = put(b"x86_64\0", 1)?;
        let mut words = vec![self.args as u64];
        let mut next = strings_at;
        let strings = self.strings.split_inclusive(|&byte| byte == 0).take(self.args + self.envs);
        for (n, string) in strings.enumerate() {
            if n == self.args {
                words.push(0);
            }
            words.push(next);
            next += string.len() as u64;
        }
        if self.envs == 0 {
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
}

/// The dynamic loader at a path.
fn loader(path: &[u8]) -> Result<Rc<Content>, Errno> {
    match &tree::find(&tree::root(), path, true)?.kind {
        Kind::File(content) => Ok(Rc::clone(content)),
        _ => Err(ENOENT),
    }
}

/// Maps the dynamic loader; its base and first instruction.
fn interpreter(content: &Rc<Content>) -> Result<(u64, u64), Failed> {
    let bytes = Bytes::of(content);
    let elf = Elf::parse(bytes.get()).map_err(Failed::Elf)?;
    let (low, high) = elf.span().map_err(Failed::Elf)?;
    let room = 0x7f00_0000_0000 - slide(1 << 22);
    let base = room - (high - low) - low;
    segments(&elf, content, base, "ld.so")?;
    bytes.loaded(base);
    Ok((base, base + elf.entry))
}
