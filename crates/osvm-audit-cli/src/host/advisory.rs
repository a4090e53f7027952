//! A local copy of RustSec's advisory-db: a folder `crates/NAME/ID.md`, each file with a head of TOML.
//!
//! Only the files of packages that a lock file names are read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use super::{database_folder, versions};
use crate::{audit::Advisories, failure::Failure};

/// Written beside the advisories when they are fetched.
pub(crate) const STAMP: &str = "osvm-advisory-db.json";
/// An advisory is a page of text.
const LARGEST: u64 = 1 << 20;

/// Which commit a copy is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) from: String,
    pub(crate) revision: String,
    /// The day of the commit.
    pub(crate) date: String,
}

/// A copy that is there.
#[derive(Debug)]
pub(crate) struct Database {
    folder: PathBuf,
    stamp: Option<Stamp>,
    count: usize,
}

/// What one advisory says.
#[derive(Debug)]
pub(crate) struct Advisory {
    pub(crate) id: String,
    pub(crate) title: String,
    /// `unsound`, `unmaintained`, `notice`; none for a vulnerability.
    pub(crate) informational: Option<String>,
    pub(crate) cvss: Option<String>,
    withdrawn: bool,
    patched: Vec<VersionReq>,
    unaffected: Vec<VersionReq>,
}

#[derive(Deserialize)]
struct File {
    advisory: Head,
    #[serde(default)]
    versions: Versions,
}

#[derive(Deserialize)]
struct Head {
    id: String,
    #[serde(default)]
    informational: Option<String>,
    #[serde(default)]
    cvss: Option<String>,
    #[serde(default)]
    withdrawn: Option<toml::Value>,
    #[serde(default)]
    title: Option<String>,
}

#[derive(Default, Deserialize)]
struct Versions {
    #[serde(default)]
    patched: Vec<VersionReq>,
    #[serde(default)]
    unaffected: Vec<VersionReq>,
}

impl Database {
    /// The copy in `given`, or in its usual place; `None` if none was ever fetched there.
    pub(crate) fn open(given: Option<&Path>) -> Result<Option<Self>, Failure> {
        let Some(folder) = database_folder(given) else { return Ok(None) };
        let crates = folder.join("crates");
        if !crates.is_dir() {
            return match given {
                None => Ok(None),
                Some(_) => Err(Failure::new(format!("{} holds no advisories", folder.display()))
                    .help(format!("fetch them: osvm audit db update --db {}", folder.display()))),
            };
        }
        let stamp = fs::read(folder.join(STAMP)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let count = count(&crates);
        Ok(Some(Self { folder, stamp, count }))
    }

    /// What reports say of it.
    pub(crate) fn info(&self) -> Advisories {
        Advisories {
            revision: self.stamp.as_ref().map(|stamp| stamp.revision.clone()),
            date: self.stamp.as_ref().map(|stamp| stamp.date.clone()),
            count: self.count,
        }
    }

    /// Where it is and where it came from.
    pub(crate) fn origin(&self) -> (&Path, Option<&Stamp>) {
        (&self.folder, self.stamp.as_ref())
    }

    /// How many advisories there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// All that concern this version of this package of crates.io. What cannot be read is an error: silence would say "safe".
    pub(crate) fn about(&self, name: &str, version: &Version) -> Result<Vec<Advisory>, String> {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let folder = self.folder.join("crates").join(name);
        if !plain || !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for file in markdown(&folder) {
            let shown = file.display();
            let small = fs::metadata(&file).is_ok_and(|meta| meta.len() <= LARGEST);
            let text = if small { fs::read_to_string(&file).ok() } else { None };
            let text = text.ok_or_else(|| format!("the advisory {shown} cannot be read"))?;
            let advisory =
                Advisory::parse(&text).map_err(|why| format!("the advisory {shown} cannot be used: {why}"))?;
            if advisory.concerns(version) {
                found.push(advisory);
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }
}

impl Advisory {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (_, rest) = text.split_once("```toml\n").ok_or("it has no head")?;
        let (head, body) = rest.split_once("\n```").ok_or("its head has no end")?;
        let file: File = toml::from_str(head).map_err(|error| error.message().to_owned())?;
        let heading = body.lines().find_map(|line| line.strip_prefix("# ")).map(|title| title.trim().to_owned());
        Ok(Self {
            title: heading.or(file.advisory.title).unwrap_or_else(|| "no title".to_owned()),
            id: file.advisory.id,
            informational: file.advisory.informational,
            cvss: file.advisory.cvss,
            withdrawn: file.advisory.withdrawn.is_some(),
            patched: file.versions.patched,
            unaffected: file.versions.unaffected,
        })
    }

    fn concerns(&self, version: &Version) -> bool {
        let safe =
            self.patched.iter().chain(&self.unaffected).any(|requirement| versions::matches(requirement, version));
        !self.withdrawn && !safe
    }

    /// The versions that mend it, in words; none if there are none.
    pub(crate) fn mended_by(&self) -> Option<String> {
        let all: Vec<String> = self.patched.iter().map(ToString::to_string).collect();
        (!all.is_empty()).then(|| all.join(" or "))
    }
}

fn count(crates: &Path) -> usize {
    let Ok(folders) = fs::read_dir(crates) else { return 0 };
    folders.flatten().map(|folder| markdown(&folder.path()).count()).sum()
}

fn markdown(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2099-0001\"\npackage = \"leaky\"\ndate = \"2099-01-02\"\n\
        cvss = \"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H\"\n\n[versions]\npatched = [\">= 1.2.0\", \"^0.9.4\"]\n\
        unaffected = [\"< 0.5.0\"]\n```\n\n# Leaks all\n\nText.\n";

    #[test]
    fn an_advisory_concerns_what_is_neither_mended_nor_older() {
        let advisory = Advisory::parse(TEXT).unwrap();
        assert_eq!((advisory.id.as_str(), advisory.title.as_str()), ("RUSTSEC-2099-0001", "Leaks all"));
        for (version, expected) in
            [("1.1.0", true), ("1.2.0", false), ("0.9.4", false), ("0.9.3", true), ("0.4.9", false)]
        {
            assert_eq!(advisory.concerns(&Version::parse(version).unwrap()), expected, "{version}");
        }
        let withdrawn = TEXT.replace("package =", "withdrawn = \"2099-02-01\"\npackage =");
        assert!(!Advisory::parse(&withdrawn).unwrap().concerns(&Version::parse("1.1.0").unwrap()));
        assert!(Advisory::parse("no head").is_err());
        assert!(Advisory::parse("```toml\n[advisory]\n").is_err());
    }
}
