//! What the auditor takes from a `Cargo.toml`: names, dependencies, and whether overflows are checked.
//!
//! Reads line by line, as manifests are written; it is no TOML parser, and what it can't read it takes as not said.

use std::path::{Path, PathBuf};

use super::Package;

/// How many folders above the root may hold the workspace.
const ABOVE: usize = 6;

#[derive(Clone, Debug, Default)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    /// Relative to the root; empty for the root itself.
    pub(crate) dir: String,
    /// `[profile.release] overflow-checks`, from the workspace's root.
    pub(crate) overflow_checks: bool,
    pub(crate) dependencies: Vec<String>,
}

#[derive(Default)]
struct Read {
    name: Option<String>,
    workspace: bool,
    overflow_checks: bool,
    dependencies: Vec<String>,
}

fn read(path: &Path) -> Option<Read> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut read = Read::default();
    let mut section = String::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        if let Some(head) = line.strip_prefix('[') {
            section = head.trim_end_matches(']').trim().to_owned();
            read.workspace |= section == "workspace" || section.starts_with("workspace.");
            if let Some((kind, name)) = section.rsplit_once('.')
                && kind.ends_with("dependencies")
            {
                read.dependencies.push(name.to_owned());
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        match (section.as_str(), key) {
            ("package", "name") => read.name = Some(value.trim_matches('"').to_owned()),
            ("profile.release", "overflow-checks") => read.overflow_checks = value == "true",
            (section, key) if section.ends_with("dependencies") => {
                read.dependencies.push(key.split('.').next().unwrap_or(key).to_owned());
            }
            _ => {}
        }
    }
    Some(read)
}

/// The packages that own these files, each file with the nearest manifest above it.
pub(super) fn packages(base: &Path, paths: &[PathBuf]) -> Vec<Package> {
    let mut found: Vec<(Option<PathBuf>, Package)> = Vec::new();
    let mut known: std::collections::HashMap<PathBuf, usize> = std::collections::HashMap::new();
    for (index, path) in paths.iter().enumerate() {
        let parent = path.parent().unwrap_or(base).to_path_buf();
        let at = match known.get(&parent) {
            Some(at) => *at,
            None => {
                let dir = owner(base, &parent);
                let at = found.iter().position(|(have, _)| *have == dir).unwrap_or_else(|| {
                    let manifest = manifest(base, dir.as_deref());
                    found.push((dir, Package { manifest, files: Vec::new() }));
                    found.len() - 1
                });
                known.insert(parent, at);
                at
            }
        };
        let Some((dir, package)) = found.get_mut(at) else { continue };
        let home = dir.as_deref().unwrap_or(base);
        // Whoever asks for a folder of tests means it.
        let asked = base != home && base.starts_with(home);
        if asked || !beside_program(home, path) {
            package.files.push(index);
        }
    }
    found.into_iter().map(|(_, package)| package).collect()
}

/// Tests, benches, examples and build scripts are no part of a program.
fn beside_program(dir: &Path, path: &Path) -> bool {
    let Ok(short) = path.strip_prefix(dir) else { return false };
    let mut parts = short.components();
    let first = parts.next().map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    if parts.next().is_none() {
        return first == "build.rs";
    }
    matches!(first.as_str(), "tests" | "benches" | "examples" | "fuzz")
}

/// The folder of the nearest manifest, up to a few above the base.
fn owner(base: &Path, dir: &Path) -> Option<PathBuf> {
    let above = base.ancestors().nth(ABOVE);
    let mut at = Some(dir);
    while let Some(dir) = at {
        if dir.join("Cargo.toml").is_file() {
            return Some(dir.to_path_buf());
        }
        if Some(dir) == above {
            return None;
        }
        at = dir.parent();
    }
    None
}

fn manifest(base: &Path, dir: Option<&Path>) -> Manifest {
    let Some(dir) = dir else { return Manifest::default() };
    let own = read(&dir.join("Cargo.toml")).unwrap_or_default();
    let mut overflow_checks = own.overflow_checks;
    if !own.workspace {
        let full = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
        let above = full.ancestors().skip(1).take(ABOVE).filter_map(|dir| read(&dir.join("Cargo.toml")));
        if let Some(workspace) = above.into_iter().find(|read| read.workspace) {
            overflow_checks = workspace.overflow_checks;
        }
    }
    let short = dir.strip_prefix(base).map(|dir| dir.to_string_lossy().replace('\\', "/")).unwrap_or_default();
    Manifest { name: own.name.unwrap_or_default(), dir: short, overflow_checks, dependencies: own.dependencies }
}
