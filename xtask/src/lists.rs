//! The jail's lists in SECURITY.md, taken from the source, so that the document and the filter say the same.

use std::{fmt::Write, fs};

use crate::sh::{self, Result};

const DOCUMENT: &str = "SECURITY.md";
const CALLS: &str = "crates/osvm-jail/src/calls.rs";
const FILTERS: &str = "crates/osvm-jail/src/seccomp.rs";
const BEGIN: &str = "<!-- lists: written by `cargo xtask lists` -->";
const END: &str = "<!-- end of lists -->";

/// A list: the file and the constants that hold it, the prefix of its entries, and its heading.
const LISTS: [(&str, &[&str], &str, &str); 8] = [
    (CALLS, &["SERVICE", "SERVICE_OLD"], "SYS_", "Allowed to a program"),
    (CALLS, &["INIT"], "SYS_", "Allowed to the jail's first process"),
    (CALLS, &["EGRESS"], "SYS_", "Allowed to the egress proxy"),
    (CALLS, &["FORBIDDEN"], "SYS_", "Answered with EPERM"),
    (CALLS, &["FATAL"], "SYS_", "Ends the program by SIGSYS"),
    (FILTERS, &["IOCTLS"], "", "Requests of ioctl; any other gets EPERM"),
    (FILTERS, &["PRCTLS"], "", "Options of prctl; any other gets EPERM"),
    (FILTERS, &["FAMILIES"], "", "Families of socket and socketpair; any other gets EPERM"),
];

/// Whether the document holds the lists as they are.
pub(crate) fn check(broken: &mut Vec<String>) -> Result<()> {
    let text = read(DOCUMENT)?;
    match with_lists(&text)? {
        current if current == text => {}
        _ => broken.push(format!("{DOCUMENT} has old lists; `cargo xtask lists` writes them")),
    }
    Ok(())
}

/// Writes the lists into the document.
pub(crate) fn write() -> Result<()> {
    let text = with_lists(&read(DOCUMENT)?)?;
    fs::write(sh::root().join(DOCUMENT), text).map_err(|error| format!("cannot write {DOCUMENT}: {error}"))?;
    Ok(())
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(sh::root().join(file)).map_err(|error| format!("cannot read {file}: {error}"))
}

fn with_lists(document: &str) -> Result<String> {
    let cut = document.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = cut.ok_or_else(|| format!("{DOCUMENT} lacks the lines {BEGIN} and {END}"))?;
    let mut text = format!("{before}{BEGIN}\n");
    for (file, constants, prefix, heading) in LISTS {
        let source = read(file)?;
        let mut names: Vec<&str> = Vec::new();
        for constant in constants {
            // Of a constant that each architecture has for itself, the first: x86_64's.
            names.extend(entries(&source, constant).ok_or_else(|| format!("{file} has no list {constant}"))?);
        }
        let names: Vec<_> = names.into_iter().map(|name| name.strip_prefix(prefix).unwrap_or(name)).collect();
        let _ = writeln!(text, "\n**{heading}** ({}):", names.len());
        text.push_str(&wrapped(&names));
    }
    let _ = write!(text, "\n{END}{after}");
    Ok(text)
}

/// The `libc::NAME`s of `pub const CONSTANT: &[…] = &[…];`
fn entries<'a>(source: &'a str, constant: &str) -> Option<Vec<&'a str>> {
    let (_, rest) = source.split_once(&format!("pub const {constant}: &["))?;
    let (list, _) = rest.split_once("= &[")?.1.split_once("];")?;
    let code = list.lines().map(|line| line.split("//").next().unwrap_or_default());
    Some(code.flat_map(|line| line.split(',')).filter_map(|entry| entry.trim().strip_prefix("libc::")).collect())
}

/// Lines of at most 130 characters.
fn wrapped(names: &[&str]) -> String {
    const WIDTH: usize = 130;
    let mut text = String::new();
    let mut width = 0;
    for (index, name) in names.iter().enumerate() {
        let comma = if index + 1 < names.len() { "," } else { "" };
        if width > 0 && width + name.len() + 2 > WIDTH {
            text.push('\n');
            width = 0;
        }
        if width > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(name);
        text.push_str(comma);
        width += name.len() + comma.len();
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_taken_from_the_constant_of_that_name() {
        let source = "pub const A: &[i64] = &[\n    // Files.\n    libc::SYS_read,\n    libc::SYS_write,\n];\n\
                      pub const B: &[i64] = &[libc::SYS_poll, libc::SYS_pipe];\n";
        assert_eq!(entries(source, "A").unwrap(), ["SYS_read", "SYS_write"]);
        assert_eq!(entries(source, "B").unwrap(), ["SYS_poll", "SYS_pipe"]);
        assert!(entries(source, "C").is_none());
    }

    #[test]
    fn lines_are_not_too_long_and_nothing_is_lost() {
        let names = vec!["abcdefghij"; 30];
        let text = wrapped(&names);
        assert!(text.lines().all(|line| line.len() <= 130));
        assert_eq!(text.matches("abcdefghij").count(), 30);
    }
}
