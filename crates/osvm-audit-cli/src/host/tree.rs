//! The files under the audited folder, without what is built, fetched or hidden by convention.

use std::{
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use osvm_audit::Stamp;

use super::{
    Host,
    seen::{Facts, Seen},
};

/// Folders that hold what others made.
const SKIPPED: [&str; 5] = ["target", ".git", "node_modules", ".anchor", "test-ledger"];
/// A file larger than this is not read.
const LARGEST: u64 = 2 << 20;
/// Folders deeper than this are not followed.
const DEPTH: usize = 32;

/// Files by their paths relative to the root, sorted.
#[derive(Debug)]
pub(crate) struct Tree<'s> {
    pub(crate) root: PathBuf,
    pub(crate) files: Vec<String>,
    seen: &'s Seen,
}

impl<'s> Tree<'s> {
    /// Lists what lies under `root`. Links are not followed, so nothing outside is read and no circle is walked.
    pub(crate) fn read(root: &Path, host: &mut Host, seen: &'s Seen) -> Self {
        let mut files = Vec::new();
        let mut folders = vec![(root.to_owned(), String::new(), 0)];
        while let Some((folder, prefix, depth)) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) => {
                    host.skip(&prefix, format!("cannot be read: {error}"));
                    continue;
                }
            };
            for entry in entries.flatten() {
                let Ok(kind) = entry.file_type() else { continue };
                let name = entry.file_name().to_string_lossy().into_owned();
                if kind.is_dir() && !is_skipped(&name) {
                    if depth < DEPTH {
                        folders.push((entry.path(), format!("{prefix}{name}/"), depth + 1));
                    } else {
                        host.skip(&format!("{prefix}{name}"), format!("more than {DEPTH} folders deep"));
                    }
                } else if kind.is_file() {
                    files.push(format!("{prefix}{name}"));
                }
            }
        }
        files.sort();
        Self { root: root.to_owned(), files, seen }
    }

    /// The files of this name, in whatever folder.
    pub(crate) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.files.iter().map(String::as_str).filter(move |file| file_name(file) == name)
    }

    /// What is known of a file's text, if it has one.
    pub(crate) fn facts(&self, file: &str) -> Option<Rc<Facts>> {
        let stamp = fs::metadata(self.root.join(file)).ok().and_then(|meta| Stamp::of(&meta));
        if let Some(facts) = self.seen.unchanged(file, stamp) {
            return Some(facts);
        }
        Some(self.seen.facts(file, stamp, &self.text(file).ok()?))
    }

    /// The text of a file, if it is a small file of UTF-8.
    pub(crate) fn text(&self, file: &str) -> Result<String, String> {
        let path = self.root.join(file);
        let meta = fs::metadata(&path).map_err(|error| format!("cannot be read: {error}"))?;
        if meta.len() > LARGEST {
            return Err(format!("larger than {} MiB", LARGEST >> 20));
        }
        let bytes = fs::read(&path).map_err(|error| format!("cannot be read: {error}"))?;
        String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
    }
}

/// Whether a folder of this name is left out.
pub(crate) fn is_skipped(name: &str) -> bool {
    SKIPPED.contains(&name)
}

/// The last part of a path.
pub(crate) fn file_name(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// The folder of a file, with a slash at its end; empty for the root.
pub(crate) fn folder(file: &str) -> &str {
    &file[..file.len() - file_name(file).len()]
}
