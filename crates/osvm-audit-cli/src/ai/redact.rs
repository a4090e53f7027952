//! What does not leave the machine: secrets always, comments and names where the user says so. Lines keep their numbers.

use std::collections::HashMap;

use crate::host;

const REDACTED: &str = "[redacted]";
/// Beginnings of tokens of well-known services.
const TOKENS: [&str; 9] = ["sk-", "ghp_", "gho_", "github_pat_", "AKIA", "xoxb-", "xoxp-", "glpat-", "hf_"];
/// A run of letters and digits as long as this, with both, is a key or a hash.
const LONG: usize = 40;
/// Words of the language and of the frameworks: they say nothing of a program, and code cannot be read without them.
const KEPT: &[&str] = &[
    "as",
    "async",
    "await",
    "break",
    "const",
    "continue",
    "crate",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "fn",
    "for",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "match",
    "mod",
    "move",
    "mut",
    "pub",
    "ref",
    "return",
    "self",
    "Self",
    "static",
    "struct",
    "super",
    "trait",
    "true",
    "type",
    "unsafe",
    "use",
    "where",
    "while",
    "u8",
    "u16",
    "u32",
    "u64",
    "u128",
    "usize",
    "i8",
    "i16",
    "i32",
    "i64",
    "i128",
    "isize",
    "bool",
    "str",
    "String",
    "Vec",
    "Option",
    "Some",
    "None",
    "Result",
    "Ok",
    "Err",
    "Box",
    "derive",
    "cfg",
    "test",
    "anchor_lang",
    "anchor_spl",
    "prelude",
    "solana_program",
    "pinocchio",
    "spl_token",
    "declare_id",
    "program",
    "account",
    "Accounts",
    "Account",
    "AccountInfo",
    "AccountLoader",
    "AccountView",
    "Context",
    "CpiContext",
    "InterfaceAccount",
    "Interface",
    "Mint",
    "Program",
    "Pubkey",
    "Signer",
    "System",
    "SystemAccount",
    "Sysvar",
    "Token",
    "TokenAccount",
    "UncheckedAccount",
    "ProgramError",
    "ProgramResult",
    "is_signer",
    "is_writable",
    "owner",
    "key",
    "lamports",
    "data",
    "seeds",
    "bump",
    "payer",
    "space",
    "init",
    "init_if_needed",
    "close",
    "has_one",
    "constraint",
    "address",
    "signer",
    "invoke",
    "invoke_signed",
    "find_program_address",
    "create_program_address",
    "try_borrow_mut_data",
    "try_borrow_data",
    "try_borrow_mut_lamports",
    "checked_add",
    "checked_sub",
    "checked_mul",
    "checked_div",
    "require",
    "require_keys_eq",
    "next_account_info",
    "to_account_info",
    "borsh",
    "try_from_slice",
    "CHECK",
    "unwrap",
    "ok_or",
    "map_err",
    "into",
    "remaining_accounts",
];

/// Without key pairs, private keys, tokens of services, and long runs that look like keys.
pub(super) fn secrets(text: &str) -> String {
    let mut lines: Vec<String> = text.split('\n').map(line_without_tokens).collect();
    // Found in the whole text, since a key pair may go over lines; what it covers is blanked line by line.
    for (at, end) in host::secret_ranges(text) {
        let first = text[..at].matches('\n').count();
        let last = text[..end].matches('\n').count();
        for line in &mut lines[first..=last] {
            REDACTED.clone_into(line);
        }
    }
    lines.join("\n")
}

fn line_without_tokens(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '/' | '=');
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let tail = after.chars().next().map_or(0, char::len_utf8);
        out.push_str(if is_secret(word) { REDACTED } else { word });
        out.push_str(&after[..tail]);
        rest = &after[tail..];
    }
    out
}

fn is_secret(word: &str) -> bool {
    let token = TOKENS.iter().any(|token| word.starts_with(token) && word.len() >= token.len() + 12);
    // A path or a name has its parts; a key is one run. A program's address (up to 44 letters) is no secret.
    let run = word.split(['-', '_', '/']).map(str::len).max().unwrap_or(0);
    let digits = word.bytes().any(|byte| byte.is_ascii_digit());
    let letters = word.bytes().any(|byte| byte.is_ascii_alphabetic());
    token || (run > LONG + 4 && digits && letters)
}

/// Without `//` and `/* */`, of Rust; strings are left alone.
pub(super) fn comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut depth = 0_usize;
    while let Some(c) = rest.chars().next() {
        if depth > 0 {
            let (step, change) = if rest.starts_with("*/") {
                (2, -1)
            } else if rest.starts_with("/*") {
                (2, 1)
            } else {
                (c.len_utf8(), 0)
            };
            depth = depth.saturating_add_signed(change);
            if c == '\n' {
                out.push('\n');
            }
            rest = &rest[step..];
        } else if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            depth = 1;
            rest = &rest[2..];
        } else {
            let end = if c == '"' { string_end(rest) } else { c.len_utf8() };
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out
}

/// Behind the closing quote.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Names of the program's own, each replaced by the same other one wherever it stands.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<String, String>,
}

impl Names {
    pub(super) fn replace(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if c.is_alphabetic() || c == '_' {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                if KEPT.contains(&word) || word.chars().all(|c| c == '_') {
                    out.push_str(word);
                } else {
                    let number = self.known.len() + 1;
                    let other = self.known.entry(word.to_owned()).or_insert_with(|| format!("n{number}"));
                    out.push_str(other);
                }
                rest = after;
            } else {
                let end = if c.is_ascii_digit() {
                    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
                } else {
                    c.len_utf8()
                };
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_blanked_and_lines_stay() {
        let pair = ed25519_dalek::SigningKey::from_bytes(&[9; 32]).to_keypair_bytes();
        let numbers = format!("{pair:?}").replace(", ", ",\n");
        let token = ["sk-", "abcdefghijklmnop1234"].concat();
        let text = format!(
            "a\nlet k = {numbers};\nlet t = \"{token}\";\ndeclare_id!(\"Vau1t11111111111111111111111111111111111111\");"
        );
        let out = secrets(&text);
        assert_eq!(out.matches('\n').count(), text.matches('\n').count());
        assert!(!out.contains(&token) && !out.contains(&format!("{},", pair[40])), "{out}");
        assert!(out.starts_with("a\n") && out.contains("Vau1t111"), "{out}");
        assert!(secrets("some_very_long_name_of_a_function_that_has_a_4_in_it_and_goes_on").contains("very_long"));
    }

    #[test]
    fn comments_go_and_strings_and_lines_stay() {
        let text = "a // b\n/* c /* d\n */ e */ f \"// g\" // \"h\"\ni";
        assert_eq!(comments(text), "a \n\n f \"// g\" \ni");
    }

    #[test]
    fn names_are_replaced_everywhere_alike() {
        let mut names = Names::default();
        assert_eq!(names.replace("let vault = vault.owner + 0x1f_u8;"), "let n1 = n1.owner + 0x1f_u8;");
        assert_eq!(names.replace("fee(vault)"), "n2(n1)");
    }
}
