//! The read-only image: an index and the content of each file, at page borders so that it can be mapped. The monitor's packer writes it
//! (`src/image.rs`); this reads it in the guest. The tests of the monitor's crate feed it garbage.
//!
//! Layout, little-endian: magic, u64 count, u64 length of names, then an entry of 48 bytes for each file, then the names.
//! Entry: u64 offset and u64 length of the content (a link's target; a directory has none), u64 offset and u32 length of the name,
//! u32 mode, u64 mtime in seconds, u64 spare.

/// First bytes.
pub const MAGIC: [u8; 8] = *b"OSVMIMG1";
/// Bytes of an entry.
pub const ENTRY: usize = 48;
/// Bytes before the first entry.
pub const HEAD: usize = 24;
const PAGE: u64 = 4096;

/// A file in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    pub name: &'a [u8],
    pub mode: u32,
    pub mtime: u64,
    pub offset: u64,
    pub len: u64,
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

/// The entries; those that point outside are left out. None: no image.
pub fn entries(image: &[u8]) -> Option<impl Iterator<Item = Entry<'_>>> {
    if image.get(..8)? != MAGIC {
        return None;
    }
    let (count, names_len) = (u64_at(image, 8)? as usize, u64_at(image, 16)? as usize);
    let index = image.get(HEAD..HEAD.checked_add(count.checked_mul(ENTRY)?)?)?;
    let names_at = HEAD + index.len();
    let names = image.get(names_at..names_at.checked_add(names_len)?)?;
    Some(index.chunks_exact(ENTRY).filter_map(move |entry| {
        let (offset, len) = (u64_at(entry, 0)?, u64_at(entry, 8)?);
        let (name_at, name_len) = (u64_at(entry, 16)? as usize, u32_at(entry, 24)? as usize);
        let name = names.get(name_at..name_at.checked_add(name_len)?)?;
        let inside = offset.checked_add(len)? <= image.len() as u64 && offset % PAGE == 0;
        let plain = !name.is_empty()
            && !name.split(|&byte| byte == b'/').any(|part| part.is_empty() || part == b"." || part == b"..");
        (inside && plain).then_some(Entry { name, mode: u32_at(entry, 28)?, mtime: u64_at(entry, 32)?, offset, len })
    }))
}
