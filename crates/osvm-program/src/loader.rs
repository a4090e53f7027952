//! The accounts of the upgradeable loader (v3), read from their bytes.

use solana_address::Address;

/// Bytes before the program in a buffer account: tag, authority.
pub(crate) const BUFFER_HEADER: usize = 37;
/// Bytes before the program in a program-data account: tag, slot, authority.
pub(crate) const PROGRAM_DATA_HEADER: usize = 45;
/// The length of a program account.
pub(crate) const PROGRAM_LEN: usize = 36;
/// The fewest bytes that a program may be extended by (SIMD-0431).
pub(crate) const LEAST_EXTENSION: u32 = 10_240;

/// What an account of the loader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State<'a> {
    Uninitialized,
    Buffer { authority: Option<Address>, bytes: &'a [u8] },
    Program { program_data: Address },
    ProgramData { slot: u64, authority: Option<Address>, bytes: &'a [u8] },
}

/// Reads an account's data; none if it is not an account of this loader.
pub(crate) fn read(data: &[u8]) -> Option<State<'_>> {
    let tag = u32::from_le_bytes(data.get(..4)?.try_into().ok()?);
    match tag {
        0 => Some(State::Uninitialized),
        1 => Some(State::Buffer { authority: option(data.get(4..BUFFER_HEADER)?)?, bytes: &data[BUFFER_HEADER..] }),
        2 => Some(State::Program { program_data: key(data.get(4..PROGRAM_LEN)?)? }),
        3 => Some(State::ProgramData {
            slot: u64::from_le_bytes(data.get(4..12)?.try_into().ok()?),
            authority: option(data.get(12..PROGRAM_DATA_HEADER)?)?,
            bytes: &data[PROGRAM_DATA_HEADER..],
        }),
        _ => None,
    }
}

fn option(bytes: &[u8]) -> Option<Option<Address>> {
    match bytes.split_first()? {
        (0, _) => Some(None),
        (1, rest) => Some(Some(key(rest)?)),
        _ => None,
    }
}

fn key(bytes: &[u8]) -> Option<Address> {
    Some(Address::from(<[u8; 32]>::try_from(bytes).ok()?))
}

/// The parts of `elf`, each at most `longest`, that `present` does not hold yet, by offset.
pub(crate) fn missing(elf: &[u8], present: &[u8], longest: usize) -> Vec<usize> {
    let differs = |offset: &usize| {
        let end = (offset + longest).min(elf.len());
        present.get(*offset..end) != elf.get(*offset..end)
    };
    (0..elf.len()).step_by(longest).filter(differs).collect()
}

/// Whether a program-data account holds `elf`: its bytes, and then only zeros.
pub(crate) fn holds(bytes: &[u8], elf: &[u8]) -> bool {
    bytes.get(..elf.len()) == Some(elf) && bytes[elf.len()..].iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accounts_are_read() {
        let key = Address::from([9; 32]);
        let mut buffer = vec![1, 0, 0, 0, 1];
        buffer.extend([9; 32]);
        buffer.extend(b"elf");
        assert_eq!(read(&buffer), Some(State::Buffer { authority: Some(key), bytes: b"elf" }));
        let mut program = vec![2, 0, 0, 0];
        program.extend([9; 32]);
        assert_eq!(read(&program), Some(State::Program { program_data: key }));
        let mut data = vec![3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
        data.extend([0; 32]);
        data.extend(b"elf");
        assert_eq!(read(&data), Some(State::ProgramData { slot: 7, authority: None, bytes: b"elf" }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&data);
        }

        #[test]
        fn writing_what_is_missing_completes_a_buffer(
            elf in proptest::collection::vec(0u8..4, 1..200),
            mut present in proptest::collection::vec(0u8..4, 0..200),
            longest in 1usize..50,
        ) {
            present.resize(elf.len(), 0);
            for offset in missing(&elf, &present, longest) {
                let end = (offset + longest).min(elf.len());
                present[offset..end].copy_from_slice(&elf[offset..end]);
            }
            prop_assert_eq!(&present, &elf);
            prop_assert!(missing(&elf, &present, longest).is_empty());
        }
    }
}
