//! What `cargo xtask bench audit` needs: a tree to audit, and a peer from the registry.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    metadata::Workspace,
    sh::{self, Result},
};

/// The peer: a static analyser of Solana programs. It is run as a program and is no part of any build.
const PEER: &str = "solana_fender";
const PEER_VERSION: &str = "0.5.4";
/// Packages of this workspace's dependencies that the tree is made of.
const FAMILIES: [&str; 3] = ["solana-", "agave-", "spl-"];

/// The peer's program under target/, built where it is missing; None, and a line that says so, where it cannot be had.
pub(crate) fn peer() -> Option<PathBuf> {
    let root = sh::target().join("tools");
    let program = root.join("bin").join(PEER);
    if !program.is_file() {
        let mut cargo = sh::cargo();
        cargo.args(["install", "--locked", "--root"]).arg(&root).arg(format!("{PEER}@{PEER_VERSION}"));
        if let Err(error) = sh::run(&mut cargo) {
            println!("not compared: {PEER} cannot be installed here: {error}");
            return None;
        }
    }
    Some(program)
}

/// A tree of the Solana packages that this workspace depends on, as the registry has them, and of the auditor's own fixtures, each a
/// package of its own.
pub(crate) fn tree() -> Result<PathBuf> {
    let tree = sh::target().join("bench/audit-tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).map_err(|error| format!("cannot remove {}: {error}", tree.display()))?;
    }
    let workspace = Workspace::read()?;
    for (name, dir) in workspace.sources() {
        if FAMILIES.iter().any(|family| name.starts_with(family)) {
            copy(dir, &tree.join(dir.file_name().unwrap_or_default()))?;
        }
    }
    let fixtures = sh::root().join("crates/osvm-audit/tests/fixtures");
    let failed = |error| format!("cannot read {}: {error}", fixtures.display());
    for rule in fs::read_dir(&fixtures).map_err(failed)? {
        let rule = rule.map_err(failed)?;
        let package = tree.join("fixtures").join(rule.file_name());
        copy(&rule.path(), &package.join("src"))?;
        let manifest = "[package]\nname = \"fixture\"\n\n[dependencies]\nanchor-lang = \"1\"\n";
        fs::write(package.join("Cargo.toml"), manifest).map_err(failed)?;
    }
    Ok(tree)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = |error| format!("cannot copy {} to {}: {error}", from.display(), to.display());
    fs::create_dir_all(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target)?;
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "toml") {
            fs::copy(&path, &target).map_err(failed)?;
        }
    }
    Ok(())
}
