//! Secret keys in the tree. A key is only called one when its two halves belong together, or when it says so itself.
//!
//! The key is never shown: findings name file and line in words and point at no text.

use std::ops::Range;

use ed25519_dalek::SigningKey;
use osvm_audit::{Confidence, Rule, Severity};

use super::{
    Host, finding,
    tree::{Tree, file_name},
};

/// A secret key in the tree.
pub(crate) const SECRET: Rule = Rule {
    id: "OSVM-085",
    class: "secret-key",
    title: "secret key in the tree",
    severity: Severity::High,
    cwe: 798,
    explanation: "A file holds an ed25519 key pair (64 numbers or base58, whose public half belongs to the secret one) or a \
        private key in PEM. Whoever gets the tree can sign with it.",
    limits: "Does not know whether git tracks the file or whether the key holds anything. Seed phrases and tokens of services \
        are not looked for. Keys of tests are keys too: allow them with a reason.",
    fix: "Take the key out of the tree and its history, and move what it holds to a new one.",
};

/// Files that may hold one, by the end of their names.
const KINDS: [&str; 14] =
    [".rs", ".json", ".toml", ".ts", ".js", ".mjs", ".py", ".sh", ".env", ".yml", ".yaml", ".key", ".pem", ".txt"];
/// A pair: 32 bytes secret, 32 bytes public.
const PAIR: usize = 64;
/// How long a pair is in base58.
const BASE58: std::ops::RangeInclusive<usize> = 85..=88;

/// Looks into each file that may hold one.
pub(crate) fn check(tree: &Tree<'_>, host: &mut Host) {
    for file in tree.files.iter().filter(|file| may_hold(file)) {
        let Some(facts) = tree.facts(file) else { continue };
        for (line, what) in &facts.secrets {
            let message = format!("line {line} of {file} holds {what}");
            let help = "take it out of the tree and its history, and move what it holds to a new key".to_owned();
            host.findings.push(finding::build(&SECRET, Confidence::High, finding::whole_file(file), message, help));
        }
    }
}

/// Whether a file of this name is looked into.
pub(super) fn may_hold(file: &str) -> bool {
    let name = file_name(file);
    let lock = ["package-lock.json", "Cargo.lock"].contains(&name);
    !lock && (KINDS.iter().any(|end| name.ends_with(end)) || name.starts_with(".env"))
}

/// Where secrets are, and what they are.
pub(super) fn secrets(text: &str) -> Vec<(Range<usize>, &'static str)> {
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'[' => {
                let found_here = array(&bytes[at + 1..]).filter(|(pair, _)| is_pair(pair));
                if let Some((_, length)) = &found_here {
                    found.push((at..at + 1 + length, "an ed25519 key pair as 64 numbers"));
                }
                at += 1;
            }
            byte if is_base58(byte) => {
                let length = bytes[at..].iter().take_while(|byte| is_base58(**byte)).count();
                if BASE58.contains(&length) && base58(&text[at..at + length]).is_some_and(|pair| is_pair(&pair)) {
                    found.push((at..at + length, "an ed25519 key pair in base58"));
                }
                at += length;
            }
            b'-' if text[at..].starts_with("-----BEGIN ") => {
                let line = text[at..].lines().next().unwrap_or_default();
                if line.ends_with("PRIVATE KEY-----") {
                    let end = text[at..].find("-----END ").map_or(text.len(), |end| at + end);
                    found.push((at..end, "a private key in PEM"));
                }
                at += line.len();
            }
            _ => at += 1,
        }
    }
    found
}

fn is_base58(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() && !matches!(byte, b'0' | b'O' | b'I' | b'l')
}

fn base58(text: &str) -> Option<[u8; PAIR]> {
    bs58::decode(text).into_vec().ok()?.try_into().ok()
}

/// Exactly 64 numbers of a byte each, up to the bracket, and how long that is.
fn array(bytes: &[u8]) -> Option<([u8; PAIR], usize)> {
    let mut pair = [0; PAIR];
    let mut count = 0;
    let mut number: Option<u16> = None;
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                let next = number.unwrap_or(0) * 10 + u16::from(byte - b'0');
                number = (next <= 255).then_some(next);
                number?;
            }
            b',' | b']' => {
                if let Some(value) = number.take() {
                    *pair.get_mut(count)? = u8::try_from(value).ok()?;
                    count += 1;
                }
                if byte == b']' {
                    return (count == PAIR).then_some((pair, at + 1));
                }
            }
            b' ' | b'\n' | b'\r' | b'\t' => {}
            _ => return None,
        }
    }
    None
}

/// Whether the second half is the public key of the first.
fn is_pair(pair: &[u8; PAIR]) -> bool {
    let (secret, public) = pair.split_at(PAIR / 2);
    let Ok(secret) = <[u8; 32]>::try_from(secret) else { return false };
    SigningKey::from_bytes(&secret).verifying_key().as_bytes() == public
}

/// Looks for secrets in any text; for the property tests.
#[cfg(test)]
pub(super) fn robust(text: &str) {
    for (range, _) in secrets(text) {
        assert!(text.get(range).is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> [u8; PAIR] {
        SigningKey::from_bytes(&[7; 32]).to_keypair_bytes()
    }

    #[test]
    fn only_halves_that_belong_together_are_a_key() {
        let numbers = format!("{:?}", pair());
        assert_eq!(secrets(&numbers).len(), 1);
        assert_eq!(secrets(&numbers.replacen('7', "8", 1)).len(), 0);
        assert_eq!(secrets(&format!("const K: [u8; 64] = {numbers};")).len(), 1);
        let text = bs58::encode(pair()).into_string();
        assert_eq!(secrets(&format!("SECRET={text}\n")), [(7..7 + text.len(), "an ed25519 key pair in base58")]);
        assert_eq!(secrets(&format!("{text}x")).len(), 0);
        assert_eq!(secrets(&format!("{:?}", [1_u8; 63])).len(), 0);
        assert_eq!(secrets("[999,1]").len(), 0);
    }

    #[test]
    fn pem_is_told_by_its_own_words() {
        let text = ["-----BEGIN EC PRIVATE", " KEY-----\nabc\n-----END EC"].concat();
        assert_eq!(secrets(&text), [(0..text.len() - "-----END EC".len(), "a private key in PEM")]);
        assert_eq!(secrets("-----BEGIN PUBLIC KEY-----\nabc").len(), 0);
    }
}
