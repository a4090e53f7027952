//! The manifests, and whether a program's build checks for overflow.

use std::{fs, path::Path};

use osvm_audit::{Confidence, Edit, Finding, Location, Rule, Severity};
use toml::de::DeTable;

use super::{
    Host, finding, table,
    tree::{Tree, folder},
};

/// A release build without overflow checks.
pub(crate) const OVERFLOW_CHECKS: Rule = Rule {
    id: "OSVM-093",
    class: "overflow-checks",
    title: "release build without overflow checks",
    severity: Severity::Medium,
    cwe: 190,
    explanation: "Programs are deployed from release builds, and without `overflow-checks = true` in the workspace's \
        [profile.release] integers wrap around in silence there: a balance below zero becomes a very large one.",
    limits: "Looks at the manifest that Cargo takes profiles from, the workspace's. A setting in .cargo/config.toml or in the \
        environment is not seen. Code that uses checked operations throughout does not need the setting.",
    fix: "Set `overflow-checks = true` in [profile.release] of the workspace's Cargo.toml.",
};

/// Dependencies that make a crate a program.
const FRAMEWORKS: [&str; 6] = [
    "anchor-lang",
    "solana-program",
    "pinocchio",
    "solana-program-entrypoint",
    "solana-account-info",
    "pinocchio-entrypoint",
];

/// A parsed `Cargo.toml`.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// Relative to the root.
    pub(crate) file: String,
    pub(crate) text: String,
}

impl Manifest {
    /// Its table. It was parsed once already.
    pub(crate) fn table(&self) -> DeTable<'_> {
        table::parse(&self.text).unwrap_or_default()
    }

    /// The folder of the crate, with a slash at its end; empty for the root.
    pub(crate) fn folder(&self) -> &str {
        folder(&self.file)
    }

    fn is_workspace(&self) -> bool {
        self.table().contains_key("workspace")
    }

    fn is_program(&self) -> bool {
        let table = self.table();
        let depends = table::table(&table, &["dependencies"]);
        let framework = depends.is_some_and(|all| FRAMEWORKS.iter().any(|name| all.contains_key(*name)));
        let kinds = table::get(&table, &["lib", "crate-type"]).or_else(|| table::get(&table, &["lib", "crate_type"]));
        let kinds = kinds.and_then(|kinds| kinds.get_ref().as_array());
        let library = kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind.get_ref().as_str() == Some("cdylib")));
        framework && library
    }
}

/// All manifests that are TOML; the others are told as not analysed.
pub(crate) fn read(tree: &Tree<'_>, host: &mut Host) -> Vec<Manifest> {
    let mut manifests = Vec::new();
    for file in tree.named("Cargo.toml") {
        match tree.text(file).and_then(|text| table::parse(&text).map(|_| ()).map(|()| text)) {
            Ok(text) => manifests.push(Manifest { file: file.to_owned(), text }),
            Err(reason) => host.skip(file, reason),
        }
    }
    manifests
}

/// One finding for each manifest whose profile some program is built with.
pub(crate) fn overflow_checks(tree: &Tree<'_>, manifests: &[Manifest], host: &mut Host) {
    let mut told = Vec::new();
    for program in manifests.iter().filter(|manifest| manifest.is_program()) {
        let owner = owner(program, manifests);
        if told.contains(&owner.file.as_str()) {
            continue;
        }
        told.push(&owner.file);
        let above = if owner.is_workspace() { None } else { workspace_above(&tree.root) };
        host.findings.extend(match above {
            None => unchecked(owner),
            // The file lies outside of what is audited: it is named, not pointed at.
            Some(workspace) => unchecked(&workspace).map(|finding| {
                let message = format!("{} (in {})", finding.message, workspace.file);
                Finding { location: finding::whole_file(&owner.file), edit: None, message, ..finding }
            }),
        });
    }
}

/// The manifest that Cargo takes the profile from.
fn owner<'a>(program: &'a Manifest, manifests: &'a [Manifest]) -> &'a Manifest {
    let above = manifests.iter().filter(|manifest| program.folder().starts_with(manifest.folder()));
    let workspace = above.filter(|manifest| manifest.is_workspace());
    workspace.max_by_key(|manifest| manifest.folder().len()).unwrap_or(program)
}

/// The workspace's manifest above the audited folder, not beyond the folder that holds `.git`.
fn workspace_above(root: &Path) -> Option<Manifest> {
    let absolute = std::path::absolute(root).ok()?;
    let top = absolute.ancestors().position(|folder| folder.join(".git").exists()).unwrap_or(usize::MAX);
    let above = absolute.ancestors().take(top.saturating_add(1)).skip(1);
    above.map(|folder| folder.join("Cargo.toml")).find_map(|file| {
        let text = fs::read_to_string(&file).ok()?;
        let manifest = Manifest { file: file.display().to_string(), text };
        manifest.is_workspace().then_some(manifest)
    })
}

fn unchecked(owner: &Manifest) -> Option<Finding> {
    let parsed = owner.table();
    let setting = table::get(&parsed, &["profile", "release", "overflow-checks"]);
    if setting.is_some_and(|value| value.get_ref().as_bool() == Some(true)) {
        return None;
    }
    let (location, edit, how) = match (setting, table::get(&parsed, &["profile", "release"])) {
        (Some(value), _) => {
            let location = table::location(&owner.file, &owner.text, value.span());
            let edit = Edit { location: location.clone(), replacement: "true".to_owned() };
            (location, Some(edit), "`overflow-checks` is off in [profile.release]")
        }
        (None, Some(profile)) => {
            let mut location = table::location(&owner.file, &owner.text, profile.span());
            location.span.end_line = location.span.line;
            let line = owner.text.lines().nth(location.span.line.saturating_sub(1) as usize).unwrap_or_default();
            location.span.end_column = u32::try_from(line.chars().count() + 1).unwrap_or(u32::MAX);
            // `profile.release = { … }` and dotted keys are left to the reader.
            let header = line.trim_start().starts_with('[');
            let edit = header.then(|| after(&location, "\noverflow-checks = true"));
            (location, edit, "[profile.release] does not set `overflow-checks`")
        }
        (None, None) => {
            let break_first = if owner.text.ends_with('\n') { "" } else { "\n" };
            let replacement = format!("{break_first}\n[profile.release]\noverflow-checks = true\n");
            let edit = Edit { location: table::end(&owner.file, &owner.text), replacement };
            (finding::whole_file(&owner.file), Some(edit), "there is no [profile.release] that sets `overflow-checks`")
        }
    };
    let message = format!("{how}: integers of the deployed program wrap around in silence");
    let help = "set `overflow-checks = true` in [profile.release]".to_owned();
    let finding = finding::build(&OVERFLOW_CHECKS, Confidence::High, location, message, help);
    Some(Finding { edit, ..finding })
}

/// An insertion behind a place.
fn after(location: &Location, text: &str) -> Edit {
    let mut location = location.clone();
    location.span.line = location.span.end_line;
    location.span.column = location.span.end_column;
    Edit { location, replacement: text.to_owned() }
}
