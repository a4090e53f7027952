//! What the guest reads from files survives garbage: the ELF reader and the image reader, fed with broken input. No KVM is needed.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs, unreachable_pub, dead_code)]

#[path = "../guest/elf.rs"]
mod elf;
#[path = "../guest/fs/image.rs"]
mod image;

use std::{io::Read, sync::OnceLock};

use proptest::prelude::*;

/// Reads all that the loader reads.
fn read_elf(bytes: &[u8], address: u64) {
    let Ok(elf) = elf::Elf::parse(bytes) else { return };
    for segment in elf.segments() {
        let Ok(segment) = segment else { continue };
        assert!(segment.offset + segment.in_file <= bytes.len() as u64 && segment.in_file <= segment.in_memory);
        assert!(segment.address + segment.in_memory < 1 << 47);
    }
    let _ = elf.span();
    let _ = elf.headers_address();
    let _ = elf.interpreter();
    let _ = elf.symbol(address);
}

/// The beginning of this program: its section headers are lost, its program headers are not.
fn this_program() -> Vec<u8> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let read = || {
        let mut bytes = vec![0; 64 << 10];
        std::fs::File::open("/proc/self/exe").unwrap().read_exact(&mut bytes).unwrap();
        bytes
    };
    BYTES.get_or_init(read).clone()
}

fn packed() -> Vec<u8> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(pack).clone()
}

fn pack() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("files/below")).unwrap();
    std::fs::write(dir.path().join("files/one"), vec![1; 5000]).unwrap();
    std::fs::write(dir.path().join("files/below/two"), b"two").unwrap();
    std::os::unix::fs::symlink("one", dir.path().join("files/link")).unwrap();
    let out = dir.path().join("image");
    osvm_unikernel::image::pack(&dir.path().join("files"), &out).unwrap();
    std::fs::read(out).unwrap()
}

fn read_image(bytes: &[u8]) -> usize {
    image::entries(bytes)
        .into_iter()
        .flatten()
        .map(|entry| {
            assert!(entry.offset + entry.len <= bytes.len() as u64 && entry.offset % 4096 == 0);
            assert!(!entry.name.is_empty() && !entry.name.starts_with(b"/"));
        })
        .count()
}

#[test]
fn what_was_packed_is_read_back() {
    let bytes = packed();
    let mut found: Vec<_> = image::entries(&bytes).unwrap().collect();
    found.sort_by_key(|entry| entry.name);
    let names: Vec<_> = found.iter().map(|entry| std::str::from_utf8(entry.name).unwrap()).collect();
    assert_eq!(names, ["below", "below/two", "link", "one"]);
    let content = |n: usize| &bytes[found[n].offset as usize..(found[n].offset + found[n].len) as usize];
    assert_eq!((content(1), content(2), content(3)), (&b"two"[..], &b"one"[..], &[1; 5000][..]));
    assert_eq!(found[2].mode & 0o170_000, 0o120_000);
}

#[test]
fn this_very_program_is_read() {
    let bytes = std::fs::read("/proc/self/exe").unwrap();
    let elf = elf::Elf::parse(&bytes).unwrap();
    assert!(elf.span().unwrap().1 > 0 && elf.segments().all(|segment| segment.is_ok()));
    assert!(elf.interpreter().is_some_and(|path| path.starts_with(b"/")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_changed_elf_file_is_read_without_a_panic(
        changes in prop::collection::vec((0usize..2048, any::<u8>()), 1..40),
        wide in prop::collection::vec((0usize..100, any::<u64>()), 0..4),
        len in 0usize..(64 << 10),
        address in any::<u64>(),
    ) {
        let mut bytes = this_program();
        for (at, value) in changes {
            bytes[at] = value;
        }
        for (at, value) in wide {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        // Half of the cases keep a header that is looked behind.
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes.truncate(len.max(64));
        read_elf(&bytes, address);
    }

    #[test]
    fn a_changed_image_is_read_without_a_panic_and_nothing_points_outside(
        changes in prop::collection::vec((0usize..300, any::<u8>()), 1..20),
        wide in prop::collection::vec((1usize..30, any::<u64>()), 0..4),
    ) {
        let mut bytes = packed();
        for (at, value) in changes {
            bytes[8 + at] = value;
        }
        for (at, value) in wide {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        read_image(&bytes);
    }

    #[test]
    fn bytes_of_no_kind_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096), address in any::<u64>()) {
        read_elf(&bytes, address);
        read_image(&bytes);
    }
}
