//! What stands around a program: manifests, Cargo.lock, build scripts, keys in the tree, `unsafe`.
//!
//! Everything here reads files and nothing else. Dependencies are held against a local copy of the RustSec advisories.

mod advisory;
mod anchor;
mod code;
mod cvss;
mod dependencies;
mod finding;
mod idl;
mod lock;
mod manifest;
mod secrets;
mod seen;
mod table;
mod tree;
mod versions;

use std::path::{Path, PathBuf};

use osvm_audit::{Finding, NotAnalysed, Program, Rule};

pub(crate) use advisory::{Database, STAMP, Stamp};
pub(crate) use dependencies::severity;
pub(crate) use finding::{build, whole_file};
pub(crate) use seen::Seen;
pub(crate) use tree::is_skipped;

use crate::{audit::Dependencies, failure::Failure};

/// The rules of this module, sorted by id.
pub(crate) static RULES: &[Rule] = &[
    secrets::SECRET,
    manifest::OVERFLOW_CHECKS,
    dependencies::ADVISORY,
    dependencies::SOURCE,
    code::BUILD_SCRIPT,
    anchor::PROGRAM_ID,
    code::UNSAFE,
    idl::DRIFT,
];

/// What the checks found.
#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) findings: Vec<Finding>,
    pub(crate) not_analysed: Vec<NotAnalysed>,
    pub(crate) dependencies: Dependencies,
}

impl Host {
    /// Says that nothing is said of `file`.
    fn skip(&mut self, file: &str, reason: String) {
        self.not_analysed.push(NotAnalysed { file: file.to_owned(), reason, line: None });
    }
}

/// Checks what lies under `root`; `programs` are those that the engine found there. A root that is one file has nothing around it.
pub(crate) fn check(root: &Path, programs: &[Program], db: Option<&Path>, seen: &Seen) -> Result<Host, Failure> {
    let mut host = Host::default();
    let database = Database::open(db)?;
    host.dependencies.advisories = database.as_ref().map(Database::info);
    if !root.is_dir() {
        return Ok(host);
    }
    let tree = tree::Tree::read(root, &mut host, seen);
    let manifests = manifest::read(&tree, &mut host);
    manifest::overflow_checks(&tree, &manifests, &mut host);
    dependencies::sources(&manifests, &mut host);
    dependencies::advisories(&tree, database.as_ref(), &mut host)?;
    code::build_scripts(&tree, &manifests, &mut host);
    code::unsafe_code(&tree, &manifests, &mut host);
    anchor::program_ids(&tree, &manifests, &mut host);
    idl::check(&tree, programs, &mut host);
    secrets::check(&tree, &mut host);
    Ok(host)
}

/// The files that an audit may read, relative to `root`.
pub(crate) fn files(root: &Path) -> Vec<String> {
    tree::Tree::read(root, &mut Host::default(), &Seen::default()).files
}

/// Where secret keys stand in a text, from the first byte to behind the last.
pub(crate) fn secret_ranges(text: &str) -> Vec<(usize, usize)> {
    secrets::secrets(text).into_iter().map(|(range, _)| (range.start, range.end)).collect()
}

/// Where the advisories are kept if nobody says otherwise.
pub(crate) fn database_folder(given: Option<&Path>) -> Option<PathBuf> {
    if let Some(folder) = given {
        return Some(folder.to_owned());
    }
    Some(cache_folder()?.join("osvm/advisory-db"))
}

/// The user's folder of what can be fetched again.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
}

/// Reads any text as each kind of file; for the property tests.
#[cfg(test)]
pub(crate) fn robust(text: &str) {
    let _ = lock::Lock::parse("Cargo.lock", text).map(|lock| {
        (0..lock.packages.len()).for_each(|index| drop(lock.path(index)));
    });
    let _ = advisory::Advisory::parse(text);
    let _ = cvss::severity(text);
    secrets::robust(text);
}
