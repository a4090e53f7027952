//! Numbers that tell one piece of a program from another: quick, and against no adversary.

use std::hash::{BuildHasher, Hash, Hasher};

const PRIME: u64 = 0x517c_c1b7_2722_0a95;

/// A multiply and a turn for each word.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Print(u64);

impl Print {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(PRIME);
    }
}

impl Hasher for Print {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
        self.word(bytes.len() as u64);
    }

    fn write_u8(&mut self, value: u8) {
        self.word(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.word(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.word(value as u64);
    }

    fn finish(&self) -> u64 {
        // The high bits are the mixed ones; tables look at the low ones too.
        self.0 ^ (self.0 >> 29)
    }
}

/// The number of anything.
pub(crate) fn print(of: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = Print::default();
    of.hash(&mut hasher);
    hasher.finish()
}

/// For tables that are asked often.
pub(crate) type Quick = std::hash::BuildHasherDefault<Print>;

/// For tables whose keys are such numbers already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready;

/// Takes a number as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsIs(u64);

impl BuildHasher for Ready {
    type Hasher = AsIs;

    fn build_hasher(&self) -> AsIs {
        AsIs(0)
    }
}

impl Hasher for AsIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = print(bytes);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_has_another_number() {
        let numbers: std::collections::HashSet<u64> =
            ["", "a", "b", "ab", "a\0", "aaaaaaaa", "aaaaaaaaa"].iter().map(print).collect();
        assert_eq!(numbers.len(), 7);
        assert_ne!(print(&(1_u32, 2_u32)), print(&(2_u32, 1_u32)));
        assert_eq!(print("same"), print("same"));
    }
}
