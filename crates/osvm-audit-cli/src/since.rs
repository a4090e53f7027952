//! `--since REV`: which lines git calls changed, untracked files included.

use std::{collections::HashMap, ops::RangeInclusive, path::Path, process::Command};

use osvm_audit::Finding;

use crate::failure::Failure;

/// Changed lines, by file relative to the audited folder.
#[derive(Debug, Default)]
pub(crate) struct Since {
    files: HashMap<String, Vec<RangeInclusive<u32>>>,
}

impl Since {
    /// What changed under `folder` between `revision` and the working tree.
    pub(crate) fn read(folder: &Path, revision: &str) -> Result<Self, Failure> {
        let diff = git(
            folder,
            &[
                "-c",
                "core.quotePath=true",
                "-c",
                "core.fsmonitor=false",
                "diff",
                "--unified=0",
                "--no-ext-diff",
                "--no-textconv",
                "--no-color",
                "--relative",
                "--src-prefix=a/",
                "--dst-prefix=b/",
                "--end-of-options",
                revision,
                "--",
                ".",
            ],
        )?;
        let mut since = Self::parse(&String::from_utf8_lossy(&diff));
        let untracked = git(
            folder,
            &["-c", "core.fsmonitor=false", "ls-files", "--others", "--exclude-standard", "-z", "--", "."],
        )?;
        for file in untracked.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            since.files.insert(String::from_utf8_lossy(file).into_owned(), vec![1..=u32::MAX]);
        }
        Ok(since)
    }

    fn parse(diff: &str) -> Self {
        let mut since = Self::default();
        let mut current: Option<String> = None;
        // Lines of a hunk's body that are still to come: they may look like headers.
        let mut body = 0_u64;
        for line in diff.lines() {
            if body > 0 && line.starts_with(['+', '-']) {
                body -= 1;
            } else if let Some(name) = line.strip_prefix("+++ ") {
                current = (name != "/dev/null").then(|| unquote(name)).flatten();
            } else if let Some((old, new)) = hunk(line) {
                body = u64::from(old.1) + u64::from(new.1);
                if let Some(file) = &current {
                    let (start, lines) = new;
                    // Where lines were only taken away, the two beside the gap changed their neighbour.
                    let end = if lines == 0 { start.saturating_add(1) } else { start.saturating_add(lines - 1) };
                    since.files.entry(file.clone()).or_default().push(start..=end);
                }
            }
        }
        since
    }

    /// Whether the finding's place or a step of its path lies on a changed line.
    pub(crate) fn touches(&self, finding: &Finding) -> bool {
        let changed = |file: &str, first: u32, last: u32| {
            let ranges = self.files.get(file).map(Vec::as_slice).unwrap_or_default();
            // A finding about a whole file is touched by any change of it.
            (first == 0 && !ranges.is_empty())
                || ranges.iter().any(|range| *range.start() <= last && first <= *range.end())
        };
        let place = &finding.location;
        changed(&place.file, place.span.line, place.span.end_line)
            || finding.evidence.iter().any(|step| changed(&step.file, step.span.line, step.span.end_line))
    }
}

fn git(folder: &Path, args: &[&str]) -> Result<Vec<u8>, Failure> {
    let output = Command::new("git").arg("-C").arg(folder).args(args).output();
    let output = output.map_err(|error| Failure::new("cannot run git, which --since needs").because(&error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let why = words.lines().next().unwrap_or("it gave no reason").to_owned();
    Err(Failure::new(format!("git cannot tell what changed in {}: {why}", folder.display()))
        .help("--since wants a git repository and a revision of it, as origin/main"))
}

/// `@@ -1,2 +3,4 @@`: start and number of lines, before and after.
fn hunk(line: &str) -> Option<((u32, u32), (u32, u32))> {
    let mut words = line.strip_prefix("@@ -")?.split(' ');
    let old = numbers(words.next()?)?;
    let new = numbers(words.next()?.strip_prefix('+')?)?;
    Some((old, new))
}

fn numbers(text: &str) -> Option<(u32, u32)> {
    match text.split_once(',') {
        Some((start, lines)) => Some((start.parse().ok()?, lines.parse().ok()?)),
        None => Some((text.parse().ok()?, 1)),
    }
}

/// `b/path`, or `"b/p\303\244th"` as git writes bytes that are not plain.
fn unquote(name: &str) -> Option<String> {
    let name = name.trim_end_matches('\t');
    let Some(inner) = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return name.strip_prefix("b/").map(str::to_owned);
    };
    let mut bytes = Vec::new();
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next()? {
            digit @ b'0'..=b'3' => {
                let (middle, last) = (rest.next()?, rest.next()?);
                if ![middle, last].iter().all(|digit| (b'0'..=b'7').contains(digit)) {
                    return None;
                }
                bytes.push((digit - b'0') * 64 + (middle - b'0') * 8 + (last - b'0'));
            }
            b't' => bytes.push(b'\t'),
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).strip_prefix("b/").map(str::to_owned)
}

/// Reads any text as a diff; for the property tests.
#[cfg(test)]
pub(crate) fn robust(text: &str) {
    let _ = Since::parse(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_lines_are_read_from_a_diff() {
        let diff = "diff --git a/src/lib.rs b/src/lib.rs\n--- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -3 +3,2 @@ fn a()\n-x\n+y\n+z\n\
                    @@ -9,2 +9,0 @@\n-++ b/evil.rs\n-@@ -1 +1 @@\n--- a/gone.rs\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\
                    --- a/\"q\n+++ \"b/p\\303\\244.rs\"\n@@ -0,0 +1 @@\n+x\n";
        let since = Since::parse(diff);
        assert_eq!(since.files["src/lib.rs"], vec![3..=4, 9..=10]);
        assert_eq!(since.files["pä.rs"], vec![1..=1]);
        assert_eq!(since.files.len(), 2);
    }

    #[test]
    fn an_added_line_that_looks_like_a_header_is_no_header() {
        let diff = "--- a/a\n+++ b/a\n@@ -0,0 +1,2 @@\n+++ b/evil.rs\n+@@ -1 +1 @@\n";
        let since = Since::parse(diff);
        assert_eq!(since.files.len(), 1);
        assert_eq!(since.files["a"], vec![1..=2]);
    }
}
