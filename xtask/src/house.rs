//! The list "What must never be" of ARCHITECTURE.md, as far as a program can check it.
//!
//! Not here: `unwrap`, `expect`, `panic` and undocumented `unsafe`, which clippy checks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    lists,
    metadata::{Member, Workspace},
    sh::{self, Result},
    spec,
};

/// Which crates of the house a crate may import. A crate that is not here may not exist.
const MAY_IMPORT: [(&str, &[&str]); 22] = [
    ("osvm-model", &[]),
    ("osvm-vsock", &["osvm-model"]),
    ("osvm-jail", &[]),
    ("osvm-unikernel", &["osvm-model"]),
    ("osvm-agent", &[]),
    ("osvm-microvm", &["osvm-model", "osvm-vsock", "osvm-jail", "osvm-agent"]),
    ("osvm-run", &["osvm-model", "osvm-jail"]),
    ("osvm-mcp", &["osvm-model", "osvm-jail"]),
    ("osvm-mcp-fixture", &[]),
    ("osvm-runtime", &["osvm-model", "osvm-vsock", "osvm-jail"]),
    ("osvm-gateway", &["osvm-model", "osvm-vsock"]),
    ("osvm-control", &["osvm-model", "osvm-vsock", "osvm-runtime"]),
    ("osvm-bank", &["osvm-model"]),
    ("osvm-localnet", &["osvm-model", "osvm-vsock", "osvm-bank"]),
    ("osvm-solana", &["osvm-model", "osvm-vsock"]),
    ("osvm-program", &["osvm-model", "osvm-vsock", "osvm-solana"]),
    ("osvm", &["osvm-model", "osvm-vsock", "osvm-runtime", "osvm-gateway", "osvm-control", "osvm-solana"]),
    ("osvm-audit", &[]),
    ("osvm-audit-cli", &["osvm-model", "osvm-audit", "osvm-solana"]),
    ("osvm-testkit", &["osvm-model", "osvm-vsock", "osvm-gateway", "osvm-control"]),
    ("osvm-bench", &["osvm-model", "osvm-vsock"]),
    ("xtask", &[]),
];

/// Crates that no build of theirs may drag a Solana crate into: they stay small and quick to build.
const WITHOUT_SOLANA: [&str; 8] = [
    "osvm-model",
    "osvm-vsock",
    "osvm-unikernel",
    "osvm-runtime",
    "osvm-gateway",
    "osvm-control",
    "osvm-solana",
    "osvm",
];

/// What only tests may import.
const TEST_ONLY: [&str; 2] = ["osvm-testkit", "osvm-bench"];

/// Roots that may hold `unsafe`: the libraries of jail and monitor, in one file each, and the jail's attempts to get out. Instead they have
/// `#![deny(unsafe_op_in_unsafe_fn)]`, and clippy wants a SAFETY comment on each block.
const UNSAFE: [(&str, &[&str]); 2] =
    [("osvm-jail", &["src/lib.rs", "examples/escape.rs"]), ("osvm-unikernel", &["src/lib.rs"])];

/// The one file of such a library in which the lint is lifted.
const UNSAFE_FILE: &str = "src/sys.rs";

/// A file longer than this is two files.
const LONGEST_FILE: usize = 1000;

/// How many of the longest files are printed.
const SHOWN: usize = 8;

/// Checks all rules, prints the sizes, and fails with every rule that is broken.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::read()?;
    let sizes = sizes(&workspace)?;
    print_sizes(&sizes);
    let mut broken = Vec::new();
    for member in &workspace.members {
        imports(member, &mut broken);
        no_solana(&workspace, member, &mut broken);
        forbids_unsafe(member, &mut broken)?;
    }
    for (lines, file) in sizes.iter().filter(|(lines, _)| *lines > LONGEST_FILE) {
        broken.push(format!("{} has {lines} lines; a file may have {LONGEST_FILE}", relative(file)));
    }
    spec::check(&mut broken)?;
    lists::check(&mut broken)?;
    if broken.is_empty() {
        println!("house: {} crates, every rule holds", workspace.members.len());
        Ok(())
    } else {
        Err(format!("the house's rules are broken:\n  {}", broken.join("\n  ")))
    }
}

fn imports(member: &Member, broken: &mut Vec<String>) {
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == member.name) else {
        broken.push(format!("{} has no place in the house (see MAY_IMPORT in xtask/src/house.rs)", member.name));
        return;
    };
    let is_house = |name: &&String| MAY_IMPORT.iter().any(|(house, _)| house == name);
    for import in member.dependencies.iter().filter(is_house) {
        if !allowed.contains(&import.as_str()) {
            broken.push(format!("{} imports {import}, which is not on a floor below it", member.name));
        }
    }
    for import in member.dev_dependencies.iter().filter(is_house) {
        // A test may use the fixtures; it may not turn the house upside down.
        let fine = allowed.contains(&import.as_str()) || TEST_ONLY.contains(&import.as_str());
        if !fine && import != &member.name {
            broken.push(format!("{}'s tests import {import}, which is not on a floor below it", member.name));
        }
    }
}

fn no_solana(workspace: &Workspace, member: &Member, broken: &mut Vec<String>) {
    if !WITHOUT_SOLANA.contains(&member.name.as_str()) {
        return;
    }
    for package in workspace.closure(member) {
        let solana = ["solana-", "agave-", "litesvm", "spl-"].iter().any(|prefix| package.starts_with(prefix));
        if solana {
            broken.push(format!("{} drags in {package}; it is to be free of Solana's crates", member.name));
        }
    }
}

fn forbids_unsafe(member: &Member, broken: &mut Vec<String>) -> Result<()> {
    let allowed = UNSAFE.iter().find(|(name, _)| *name == member.name).map_or(&[][..], |(_, roots)| roots);
    for root in &member.roots {
        let text = fs::read_to_string(root).map_err(|error| format!("cannot read {}: {error}", root.display()))?;
        let is_allowed = root.strip_prefix(&member.dir).is_ok_and(|root| allowed.iter().any(|&name| root == name));
        let wanted = if is_allowed { "#![deny(unsafe_op_in_unsafe_fn)]" } else { "#![forbid(unsafe_code)]" };
        if !text.lines().any(|line| line.trim() == wanted) {
            broken.push(format!("{} lacks {wanted}", relative(root)));
        }
    }
    let mut files = Vec::new();
    collect(&member.dir, &mut files)?;
    for file in files {
        let text = fs::read_to_string(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let lifts = |line: &str| {
            line.starts_with("#![") && line.contains("(unsafe_code") && !line.contains("forbid(unsafe_code)")
        };
        let local = file.strip_prefix(&member.dir).unwrap_or(&file);
        let may = !allowed.is_empty() && (local == Path::new(UNSAFE_FILE) || allowed.iter().any(|&name| local == name));
        if !may && text.lines().any(|line| lifts(line.trim())) {
            broken.push(format!("{} lifts the rule against unsafe", relative(&file)));
        }
    }
    Ok(())
}

/// All Rust files with their lines, the longest first.
fn sizes(workspace: &Workspace) -> Result<Vec<(usize, PathBuf)>> {
    let mut files = Vec::new();
    for member in &workspace.members {
        collect(&member.dir, &mut files)?;
    }
    let mut sizes = Vec::with_capacity(files.len());
    for file in files {
        let text = fs::read_to_string(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        sizes.push((text.lines().count(), file));
    }
    sizes.sort_by(|a, b| b.cmp(a));
    Ok(sizes)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = |error| format!("cannot read {}: {error}", dir.display());
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn print_sizes(sizes: &[(usize, PathBuf)]) {
    let at = |percent: usize| {
        sizes.get(sizes.len().saturating_sub(1) * (100 - percent) / 100).map_or(0, |(lines, _)| *lines)
    };
    println!("{} Rust files; lines: median {}, 90th percentile {}, longest:", sizes.len(), at(50), at(90));
    for (lines, file) in sizes.iter().take(SHOWN) {
        println!("  {lines:>5}  {}", relative(file));
    }
}

fn relative(file: &Path) -> String {
    file.strip_prefix(sh::root()).unwrap_or(file).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, dependencies: &[&str], dev: &[&str]) -> Member {
        Member {
            name: name.into(),
            id: name.into(),
            dir: PathBuf::new(),
            roots: Vec::new(),
            dependencies: dependencies.iter().map(|&name| name.into()).collect(),
            dev_dependencies: dev.iter().map(|&name| name.into()).collect(),
        }
    }

    fn broken(member: &Member) -> usize {
        let mut broken = Vec::new();
        imports(member, &mut broken);
        broken.len()
    }

    #[test]
    fn the_house_stands() {
        run().unwrap();
    }

    #[test]
    fn an_import_from_a_floor_above_is_refused() {
        assert_eq!(broken(&member("osvm-gateway", &["osvm-model", "hyper"], &["osvm-testkit"])), 0);
        assert_eq!(broken(&member("osvm-gateway", &["osvm-control"], &[])), 1);
        assert_eq!(broken(&member("osvm-gateway", &[], &["osvm-runtime"])), 1);
        assert_eq!(broken(&member("osvm-model", &["osvm-vsock"], &[])), 1);
    }

    #[test]
    fn the_product_never_ships_its_test_tools() {
        assert_eq!(broken(&member("osvm-control", &["osvm-testkit"], &[])), 1);
    }

    #[test]
    fn a_crate_without_a_place_is_refused() {
        assert_eq!(broken(&member("osvm-attic", &[], &[])), 1);
    }
}
