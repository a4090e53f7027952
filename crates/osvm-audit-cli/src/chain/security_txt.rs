//! The security.txt that a program may hold, in the format of the crate solana-security-txt: NUL-terminated keys and values
//! between two marks.

use std::collections::BTreeMap;

const BEGIN: &[u8] = b"=======BEGIN SECURITY.TXT V1=======\0";
/// Its zero may be the file's last byte, and is then gone with those that the loader keeps behind a file.
const END: &[u8] = b"=======END SECURITY.TXT V1=======";
/// Longer is none.
const LARGEST: usize = 64 << 10;

/// Keys and values, if there is one.
pub(super) fn find(elf: &[u8]) -> Option<BTreeMap<String, String>> {
    let begin = position(elf, BEGIN)? + BEGIN.len();
    let rest = elf.get(begin..)?;
    let body = &rest[..position(&rest[..rest.len().min(LARGEST)], END)?];
    let mut words = body.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut pairs = BTreeMap::new();
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        pairs.insert(key, value);
    }
    Some(pairs)
}

fn position(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_read_between_the_marks() {
        let text = [b"xx", BEGIN, b"name\0Vault\0contacts\0email:a@b\0", END, b"yy"].concat();
        let found = find(&text).unwrap();
        assert_eq!(found["name"], "Vault");
        assert_eq!(found["contacts"], "email:a@b");
        assert!(find(b"nothing").is_none());
        assert!(find(&[BEGIN, b"name\0Vault\0"].concat()).is_none());
    }
}
