//! `Cargo.lock`: packages, and the way from a package of the workspace to each.

use std::collections::{HashMap, VecDeque};

use osvm_audit::{Location, Step};
use semver::Version;

use super::table;
use crate::sources::Text;

/// What one lock file holds.
#[derive(Debug)]
pub(crate) struct Lock {
    file: String,
    pub(crate) packages: Vec<Package>,
    /// By package, the one that needs it, on the shortest way from the workspace; none for the workspace's own.
    parents: Vec<Option<usize>>,
}

/// One package.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: Version,
    /// Where it comes from; none for the workspace's own.
    pub(crate) source: Option<String>,
    pub(crate) location: Location,
    needs: Vec<String>,
}

impl Package {
    /// Whether it comes from crates.io, which the advisories are about.
    pub(crate) fn is_from_crates_io(&self) -> bool {
        self.source.as_deref().is_some_and(|source| {
            source == "registry+https://github.com/rust-lang/crates.io-index"
                || source == "sparse+https://index.crates.io/"
        })
    }
}

impl Lock {
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, String> {
        let parsed = table::parse(text)?;
        let whole = Text::new(text.to_owned());
        let mut packages = Vec::new();
        let entries = parsed.get("package").and_then(|entries| entries.get_ref().as_array());
        for entry in entries.into_iter().flat_map(|entries| entries.iter()) {
            let entry = entry.get_ref().as_table().ok_or("a package that is no table")?;
            let name = entry.get("name").ok_or("a package without a name")?;
            let location = table::location_in(file, &whole, name.span());
            let name = name.get_ref().as_str().ok_or("a package whose name is no text")?.to_owned();
            let version = table::text(entry, &["version"]).and_then(|version| Version::parse(version).ok());
            let version = version.ok_or_else(|| format!("package {name} has no version"))?;
            let source = table::text(entry, &["source"]).map(str::to_owned);
            let needs = entry.get("dependencies").and_then(|needs| needs.get_ref().as_array());
            let needs = needs.into_iter().flat_map(|needs| needs.iter()).filter_map(|need| need.get_ref().as_str());
            packages.push(Package { name, version, source, location, needs: needs.map(str::to_owned).collect() });
        }
        let parents = parents(&packages);
        Ok(Self { file: file.to_owned(), packages, parents })
    }

    /// From a package of the workspace to this one, each with its place in the file.
    pub(crate) fn path(&self, package: usize) -> Vec<Step> {
        let mut path = Vec::new();
        let mut at = Some(package);
        while let Some(index) = at.filter(|_| path.len() <= self.packages.len()) {
            let Package { name, version, location, .. } = &self.packages[index];
            let verb = if path.is_empty() { "" } else { " needs" };
            path.push(Step { file: self.file.clone(), span: location.span, note: format!("{name} {version}{verb}") });
            at = self.parents[index];
        }
        path.reverse();
        path
    }
}

/// Breadth first from what has no source, so that each way is a shortest one.
fn parents(packages: &[Package]) -> Vec<Option<usize>> {
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, package) in packages.iter().enumerate() {
        by_name.entry(&package.name).or_default().push(index);
    }
    let mut parents = vec![None; packages.len()];
    let mut seen: Vec<bool> = packages.iter().map(|package| package.source.is_none()).collect();
    let mut queue: VecDeque<usize> = (0..packages.len()).filter(|index| seen[*index]).collect();
    while let Some(at) = queue.pop_front() {
        for need in &packages[at].needs {
            let mut words = need.split(' ');
            let name = words.next().unwrap_or_default();
            let version = words.next().and_then(|version| Version::parse(version).ok());
            for &next in by_name.get(name).map(Vec::as_slice).unwrap_or_default() {
                let meant = version.as_ref().is_none_or(|version| *version == packages[next].version);
                if meant && !seen[next] {
                    seen[next] = true;
                    parents[next] = Some(at);
                    queue.push_back(next);
                }
            }
        }
    }
    parents
}
