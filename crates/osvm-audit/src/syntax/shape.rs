//! Bounds on a file's shape before it is parsed: the parser recurses, and a file must not choose how deep.
//!
//! Looks at bytes, as a lexer would, and makes no tokens: this runs over everything that is parsed.

/// Brackets in brackets.
const DEEPEST: usize = 120;
/// Words and signs without a comma, a semicolon or a block between them; each may nest an expression by one.
const LONGEST_RUN: u32 = 6_000;

/// What is too deep or too long, with its line.
pub(super) fn check(text: &str) -> Result<(), (String, u32)> {
    let bytes = text.as_bytes();
    let at = |place: usize| bytes.get(place).copied().unwrap_or(0);
    let (mut i, mut line, mut run) = (0, 1_u32, 0_u32);
    let mut open: Vec<u32> = Vec::new();
    // A block ended: what follows goes on with the same expression only after `else`.
    let mut block_ended = false;
    while i < bytes.len() {
        let byte = bytes[i];
        let start = i;
        match byte {
            b'\n' => {
                line += 1;
                i += 1;
                continue;
            }
            b' ' | b'\t' | b'\r' => {
                i += 1;
                continue;
            }
            b'/' if at(i + 1) == b'/' => {
                i = find(bytes, i, b'\n');
                continue;
            }
            b'/' if at(i + 1) == b'*' => {
                i = comment(bytes, i, &mut line);
                continue;
            }
            _ => {}
        }
        let ended = std::mem::take(&mut block_ended);
        if is_word(byte) {
            while is_word(at(i)) && i < bytes.len() {
                i += 1;
            }
            let word = &bytes[start..i];
            if ended && word != b"else" {
                run = 0;
            }
            let raw = matches!(word, b"r" | b"br" | b"cr");
            match at(i) {
                b'"' if raw => i = raw_text(bytes, i, &mut line),
                b'#' if raw => i = raw_text(bytes, i, &mut line),
                b'"' if matches!(word, b"b" | b"c") => i = quoted(bytes, i, &mut line),
                b'\'' if word == b"b" => i = character(bytes, i),
                _ => {}
            }
            run += 1;
        } else {
            if ended {
                run = 0;
            }
            match byte {
                b'"' => i = quoted(bytes, i, &mut line),
                b'\'' => i = character(bytes, i),
                b',' | b';' => {
                    run = 0;
                    i += 1;
                }
                b'(' | b'[' | b'{' => {
                    open.push(run);
                    run = 0;
                    i += 1;
                    if open.len() > DEEPEST {
                        return Err((format!("more than {DEEPEST} brackets inside one another"), line));
                    }
                }
                b')' | b']' | b'}' => {
                    run = open.pop().unwrap_or(0) + 1;
                    block_ended = byte == b'}';
                    i += 1;
                }
                _ => i += 1,
            }
            run += u32::from(!matches!(byte, b',' | b';' | b'(' | b'[' | b'{'));
        }
        if run > LONGEST_RUN {
            return Err((format!("an expression of more than {LONGEST_RUN} words and signs"), line));
        }
    }
    Ok(())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn find(bytes: &[u8], from: usize, wanted: u8) -> usize {
    bytes[from..].iter().position(|byte| *byte == wanted).map_or(bytes.len(), |place| from + place)
}

fn comment(bytes: &[u8], from: usize, line: &mut u32) -> usize {
    let mut i = from + 2;
    let mut depth = 1_u32;
    while i < bytes.len() && depth > 0 {
        match (bytes[i], bytes.get(i + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                i += 1;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                i += 1;
            }
            (b'\n', _) => *line += 1,
            _ => {}
        }
        i += 1;
    }
    i
}

/// Past a text in quotes.
fn quoted(bytes: &[u8], from: usize, line: &mut u32) -> usize {
    let mut i = from + 1;
    while let Some(byte) = bytes.get(i) {
        match byte {
            b'\\' => i += 1,
            b'"' => return i + 1,
            b'\n' => *line += 1,
            _ => {}
        }
        i += 1;
    }
    i
}

/// Past a raw text that begins with its marks, or past the mark of a raw name.
fn raw_text(bytes: &[u8], from: usize, line: &mut u32) -> usize {
    let marks = bytes[from..].iter().take_while(|byte| **byte == b'#').count();
    let mut i = from + marks;
    if bytes.get(i) != Some(&b'"') {
        return i;
    }
    i += 1;
    while let Some(byte) = bytes.get(i) {
        *line += u32::from(*byte == b'\n');
        i += 1;
        if *byte == b'"' && bytes[i..].iter().take(marks).filter(|byte| **byte == b'#').count() == marks {
            return i + marks;
        }
    }
    i
}

/// Past a character or a lifetime's mark.
fn character(bytes: &[u8], from: usize) -> usize {
    let next = bytes.get(from + 1).copied().unwrap_or(0);
    if next == b'\\' {
        // The escaped character may be a quote itself.
        return find(bytes, (from + 3).min(bytes.len()), b'\'') + 1;
    }
    let width = match next {
        0..=0x7f => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    if bytes.get(from + 1 + width) == Some(&b'\'') { from + 2 + width } else { from + 1 }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn brackets_in_texts_characters_and_comments_do_not_count() {
        let many = "(".repeat(500);
        for text in [
            format!("const A: &str = \"{many}\";"),
            format!("const A: &str = r#\"{many}\"\"#;"),
            format!("const A: &[u8] = b\"\\\"{many}\";"),
            format!("// {many}\n/* /* {many} */ {many} */ fn f() {{}}"),
            "fn f<'a>(x: &'a str) { let _ = ('(', '\\'', b'(', 'ä', '\\u{28}'); } ".repeat(300),
            "fn f() { if a {} else if b {} else {} }\n".repeat(5_000),
            format!("const T: [u8; 9000] = [{}];", "1, ".repeat(9_000)),
        ] {
            assert_eq!(check(&text), Ok(()), "{}", &text[..40]);
        }
    }

    #[test]
    fn what_nests_too_deep_is_told_with_its_line() {
        let deep = format!("fn f() {{\n{}", "[".repeat(500));
        assert_eq!(check(&deep).map_err(|(_, line)| line), Err(2));
        for long in ["!".repeat(9_000), "a + ".repeat(9_000), "if a {} else ".repeat(9_000), "&'a ".repeat(9_000)] {
            assert!(check(&long).is_err());
        }
    }
}
