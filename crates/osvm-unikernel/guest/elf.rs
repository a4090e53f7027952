//! Reads an ELF file: enough to load it and to name its functions. It runs in the guest, so a bad file harms its own VM alone; still
//! each offset is checked, and the tests of the monitor's crate feed it garbage.

/// Why a file is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// No ELF for x86-64 Linux.
    NotElf,
    /// Neither an executable nor position independent.
    Kind,
    /// A table or a segment lies outside the file or the address space.
    Range,
}

/// A segment to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Bits: 1 execute, 2 write, 4 read.
    pub flags: u32,
    pub offset: u64,
    pub address: u64,
    pub in_file: u64,
    pub in_memory: u64,
}

/// An ELF file.
#[derive(Debug, Clone, Copy)]
pub struct Elf<'a> {
    bytes: &'a [u8],
    /// May be loaded anywhere.
    pub movable: bool,
    pub entry: u64,
    headers_at: u64,
    /// Program headers.
    pub headers: u16,
}

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;
/// Addresses of programs lie below.
const END: u64 = 0x7fff_ffff_f000;
const PAGE: u64 = 4096;

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    word(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    word(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    word(bytes, at).map(u64::from_le_bytes)
}

impl<'a> Elf<'a> {
    /// Checks the header and that the program headers lie in the file.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Bad> {
        if bytes.len() < HEADER || bytes[..7] != *b"\x7fELF\x02\x01\x01" || u16_at(bytes, 18) != Some(62) {
            return Err(Bad::NotElf);
        }
        let movable = match u16_at(bytes, 16) {
            Some(2) => false,
            Some(3) => true,
            _ => return Err(Bad::Kind),
        };
        let field = |at| u64_at(bytes, at).ok_or(Bad::Range);
        let half = |at| u16_at(bytes, at).ok_or(Bad::Range);
        let elf = Self { bytes, movable, entry: field(24)?, headers_at: field(32)?, headers: half(56)? };
        let end = (elf.headers as u64 * PROGRAM_HEADER as u64).checked_add(elf.headers_at).ok_or(Bad::Range)?;
        if half(54)? as usize != PROGRAM_HEADER || end > bytes.len() as u64 || elf.headers == 0 {
            return Err(Bad::Range);
        }
        Ok(elf)
    }

    fn header(&self, n: u16) -> &'a [u8] {
        let at = self.headers_at as usize + n as usize * PROGRAM_HEADER;
        &self.bytes[at..at + PROGRAM_HEADER]
    }

    fn of_kind(&self, kind: u32) -> impl Iterator<Item = &'a [u8]> + '_ {
        (0..self.headers).map(|n| self.header(n)).filter(move |header| u32_at(header, 0) == Some(kind))
    }

    /// The segments to be loaded, each checked: in the file, below the end of addresses, and congruent by pages.
    pub fn segments(&self) -> impl Iterator<Item = Result<Segment, Bad>> + '_ {
        self.of_kind(1).map(|header| {
            let field = |at| u64_at(header, at).ok_or(Bad::Range);
            let segment = Segment {
                flags: u32_at(header, 4).ok_or(Bad::Range)?,
                offset: field(8)?,
                address: field(16)?,
                in_file: field(32)?,
                in_memory: field(40)?,
            };
            let in_file = segment.offset.checked_add(segment.in_file).is_some_and(|end| end <= self.bytes.len() as u64);
            let in_space = segment.address.checked_add(segment.in_memory).is_some_and(|end| end < END);
            let congruent = segment.offset % PAGE == segment.address % PAGE;
            if in_file && in_space && congruent && segment.in_file <= segment.in_memory {
                Ok(segment)
            } else {
                Err(Bad::Range)
            }
        })
    }

    /// Lowest and highest address of all segments, by pages.
    pub fn span(&self) -> Result<(u64, u64), Bad> {
        let (mut low, mut high) = (u64::MAX, 0);
        for segment in self.segments() {
            let segment = segment?;
            low = low.min(segment.address & !(PAGE - 1));
            high = high.max((segment.address + segment.in_memory + PAGE - 1) & !(PAGE - 1));
        }
        if low < high { Ok((low, high)) } else { Err(Bad::Range) }
    }

    /// Where the program headers are in memory, without the base.
    pub fn headers_address(&self) -> u64 {
        let at = self.headers_at;
        self.segments()
            .filter_map(Result::ok)
            .find(|segment| segment.offset <= at && at < segment.offset + segment.in_file)
            .map_or(0, |segment| segment.address + (at - segment.offset))
    }

    /// The dynamic loader that it asks for.
    pub fn interpreter(&self) -> Option<&'a [u8]> {
        let header = self.of_kind(3).next()?;
        let (at, len) = (u64_at(header, 8)? as usize, u64_at(header, 32)? as usize);
        let path = self.bytes.get(at..at.checked_add(len)?)?;
        path.strip_suffix(&[0])
    }

    /// The function that holds an address (without the base), and how far in.
    pub fn symbol(&self, address: u64) -> Option<(&'a [u8], u64)> {
        let sections_at = u64_at(self.bytes, 40)? as usize;
        let count = u16_at(self.bytes, 60)? as usize;
        let section = |n: usize| {
            let at = n.checked_mul(SECTION_HEADER)?.checked_add(sections_at)?;
            self.bytes.get(at..at.checked_add(SECTION_HEADER)?)
        };
        let content = |header: &[u8]| {
            let (at, len) = (u64_at(header, 24)? as usize, u64_at(header, 32)? as usize);
            self.bytes.get(at..at.checked_add(len)?)
        };
        let table = (0..count).filter_map(section).find(|header| u32_at(header, 4) == Some(2))?;
        let names = content(section(u32_at(table, 40)? as usize)?)?;
        let mut best: Option<(u64, u32)> = None;
        for symbol in content(table)?.chunks_exact(SYMBOL) {
            let (name, value, size) = (u32_at(symbol, 0)?, u64_at(symbol, 8)?, u64_at(symbol, 16)?);
            let is_function = matches!(symbol[4] & 15, 2 | 10);
            let holds = value <= address && (address - value < size || size == 0);
            if is_function && holds && best.is_none_or(|(other, _)| value > other) {
                best = Some((value, name));
            }
        }
        let (value, name) = best?;
        let name = names.get(name as usize..)?;
        let end = name.iter().position(|&byte| byte == 0)?;
        Some((&name[..end], address - value))
    }
}
