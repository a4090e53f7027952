//! The ELF file in a compressed Linux kernel for x86: where the boot protocol says that it lies, in LZ4's legacy format, as Debian's cloud
//! kernel has it. Other compressions are refused.

/// How a stream in the legacy format begins.
const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
const ELF: &[u8] = b"\x7fELF";
/// A kernel has some fifty MiB.
const LARGEST: usize = 256 << 20;
/// A block holds this much unpacked, at most.
const LARGEST_BLOCK: usize = 8 << 20;
/// Where the boot protocol's header has its own name, the number of sectors before the kernel, and the payload's place and length.
const HEADER: (usize, &[u8]) = (0x202, b"HdrS");
const SECTORS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// The ELF file in `image`; or, in words, what it is instead.
pub(crate) fn kernel(image: &[u8]) -> Result<Vec<u8>, &'static str> {
    const NONE: &str = "no Linux kernel for x86";
    if image.starts_with(ELF) {
        return Ok(image.to_vec());
    }
    let (at, name) = HEADER;
    if image.get(at..at + name.len()) != Some(name) {
        return Err(NONE);
    }
    let sectors = usize::from(*image.get(SECTORS).ok_or(NONE)?);
    let start = (sectors + 1) * 512 + number(image, PAYLOAD_OFFSET).ok_or(NONE)?;
    let payload = image.get(start..).and_then(|rest| rest.get(..number(image, PAYLOAD_LENGTH)?)).ok_or(NONE)?;
    let elf = unpack(payload)?;
    if elf.starts_with(ELF) { Ok(elf) } else { Err("no kernel: what it holds is no ELF file") }
}

/// A stream with the length of what it holds behind it, as the kernel's build appends it.
fn unpack(stream: &[u8]) -> Result<Vec<u8>, &'static str> {
    const BROKEN: &str = "broken: it cannot be unpacked";
    let stream =
        stream.strip_prefix(&MAGIC).ok_or("compressed in another way than LZ4, which is all that is read here")?;
    let (mut rest, length) = stream.split_last_chunk::<4>().ok_or(BROKEN)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > LARGEST {
        return Err("too large for a kernel");
    }
    let mut out = Vec::with_capacity(length);
    while !rest.is_empty() {
        let size = number(rest, 0).ok_or(BROKEN)?;
        let packed = rest.get(4..).and_then(|rest| rest.get(..size)).ok_or(BROKEN)?;
        let most = length.min(out.len() + LARGEST_BLOCK);
        block(packed, &mut out, most).ok_or(BROKEN)?;
        rest = rest.get(4 + size..).unwrap_or_default();
    }
    if out.len() == length { Ok(out) } else { Err(BROKEN) }
}

/// One block, appended to `out`, which grows to `most` bytes. None if it is broken.
fn block(mut packed: &[u8], out: &mut Vec<u8>, most: usize) -> Option<()> {
    let begin = out.len();
    loop {
        let token = take(&mut packed)?;
        let literals = extended(token >> 4, &mut packed)?;
        let bytes = packed.get(..literals)?;
        if out.len() + literals > most {
            return None;
        }
        out.extend_from_slice(bytes);
        packed = packed.get(literals..)?;
        if packed.is_empty() {
            return Some(());
        }
        let distance = usize::from(u16::from_le_bytes([take(&mut packed)?, take(&mut packed)?]));
        let count = extended(token & 15, &mut packed)?.checked_add(4)?;
        let from = out.len().checked_sub(distance).filter(|from| distance > 0 && *from >= begin)?;
        if out.len() + count > most {
            return None;
        }
        // What is copied may be what this very copy writes.
        for at in from..from + count {
            out.push(*out.get(at)?);
        }
    }
}

/// A length of four bits, which goes on in further bytes if they are all set.
fn extended(bits: u8, packed: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(bits);
    if bits == 15 {
        loop {
            let byte = take(packed)?;
            length += usize::from(byte);
            if byte != u8::MAX {
                break;
            }
        }
    }
    Some(length)
}

fn take(packed: &mut &[u8]) -> Option<u8> {
    let (first, rest) = packed.split_first()?;
    *packed = rest;
    Some(*first)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(field)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(blocks: &[&[u8]], length: u32) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for block in blocks {
            bytes.extend((block.len() as u32).to_le_bytes());
            bytes.extend(*block);
        }
        bytes.extend(length.to_le_bytes());
        bytes
    }

    #[test]
    fn a_block_repeats_what_it_has_just_written() {
        // "ab", then 4 + 5 bytes from 2 bytes before, then "c".
        let packed = [0x25, b'a', b'b', 2, 0, 0x10, b'c'];
        assert_eq!(unpack(&stream(&[&packed], 12)).unwrap(), b"abababababac");
        assert_eq!(unpack(&stream(&[&packed, &[0x10, b'd']], 13)).unwrap(), b"abababababacd");
        let long = [[0xf0, 5].as_slice(), &[b'x'; 20]].concat();
        assert_eq!(unpack(&stream(&[&long], 20)).unwrap(), [b'x'; 20]);
    }

    #[test]
    fn what_points_outside_or_has_another_length_is_broken() {
        let broken: [(&[u8], u32); 7] = [
            (&[0x25, b'a', b'b', 3, 0, 0x10, b'c'], 12),
            (&[0x25, b'a', b'b', 0, 0, 0x10, b'c'], 12),
            (&[0x25, b'a', b'b', 2, 0, 0x10, b'c'], 11),
            (&[0x25, b'a', b'b', 2, 0, 0x10, b'c'], 13),
            (&[0x30, b'a'], 3),
            (&[0xf0, 255], 3),
            (&[], 0),
        ];
        for (packed, length) in broken {
            assert!(unpack(&stream(&[packed], length)).is_err(), "{packed:?}");
        }
        assert!(unpack(b"\xfd7zXZ\0 and more").unwrap_err().contains("another way"));
        assert!(kernel(&[0; 4096]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_kernel_holds_is_unpacked_or_refused(
            mut image in proptest::collection::vec(any::<u8>(), 0x300..2000), offset in 0_u32..700, length in any::<u16>(),
        ) {
            image[SECTORS] = 0;
            image[HEADER.0..HEADER.0 + 4].copy_from_slice(HEADER.1);
            image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&offset.to_le_bytes());
            image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&(u32::from(length) % 1300).to_le_bytes());
            let _ = kernel(&image);
            let _ = unpack(&stream(&[&image], 5000));
        }
    }
}
