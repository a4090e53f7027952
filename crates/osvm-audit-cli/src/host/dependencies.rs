//! Dependencies: where they come from, and what RustSec knows of them.

use osvm_audit::{Confidence, Finding, Rule, Severity};
use toml::de::DeTable;

use super::{Database, Host, advisory::Advisory, cvss, finding, lock::Lock, manifest::Manifest, table, tree::Tree};
use crate::failure::Failure;

/// A dependency with a known vulnerability.
pub(crate) const ADVISORY: Rule = Rule {
    id: "OSVM-094",
    class: "vulnerable-dependency",
    title: "dependency with a known vulnerability",
    severity: Severity::Critical,
    cwe: 1395,
    explanation: "Cargo.lock holds a version of a crate for which RustSec has an advisory. Severity follows the advisory's CVSS \
        3 score; medium where it has none, low for code that is unsound under conditions.",
    limits: "Whether the program reaches the code in question is not looked at. Only packages of crates.io are compared, with \
        the local copy of the advisories; `osvm audit db show` says of which day it is.",
    fix: "Update to a version that the advisory calls patched: cargo update -p NAME.",
};

/// A dependency that may change or that nobody cares for.
pub(crate) const SOURCE: Rule = Rule {
    id: "OSVM-095",
    class: "dependency-source",
    title: "dependency that is not pinned or not kept",
    severity: Severity::Low,
    cwe: 1104,
    explanation: "A dependency on a git repository without `rev`, or on any version at all (`*`), becomes other code whenever \
        somebody else pushes or publishes. RustSec's notices of crates that nobody maintains any more are told here too.",
    limits: "A committed Cargo.lock pins both until the next `cargo update`. Whether a version was yanked is not known offline.",
    fix: "Name a `rev` or a version; replace what is not maintained.",
};

/// The tables of a manifest that hold dependencies.
const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Git dependencies without a revision, and wildcard versions.
pub(crate) fn sources(manifests: &[Manifest], host: &mut Host) {
    for manifest in manifests {
        let parsed = manifest.table();
        let mut tables: Vec<&DeTable<'_>> = TABLES.iter().filter_map(|name| table::table(&parsed, &[name])).collect();
        tables.extend(table::table(&parsed, &["workspace", "dependencies"]));
        if let Some(targets) = table::table(&parsed, &["target"]) {
            for target in targets.values().filter_map(|target| target.get_ref().as_table()) {
                tables.extend(TABLES.iter().filter_map(|name| table::table(target, &[name])));
            }
        }
        for (name, value) in tables.into_iter().flatten() {
            let Some((what, help)) = loose(value.get_ref()) else { continue };
            let mut range = name.span();
            range.end = range.end.max(value.span().end);
            let location = table::location(&manifest.file, &manifest.text, range);
            let message = format!("`{}` {what}", name.get_ref());
            host.findings.push(finding::build(&SOURCE, Confidence::High, location, message, help.to_owned()));
        }
    }
}

fn loose(value: &toml::de::DeValue<'_>) -> Option<(String, &'static str)> {
    let text = |key: &str| value.as_table().and_then(|table| table::text(table, &[key]));
    if let Some(url) = text("git").filter(|_| text("rev").is_none()) {
        let of = match (text("branch"), text("tag")) {
            (Some(branch), _) => format!("the branch {branch}"),
            (None, Some(tag)) => format!("the tag {tag}, which can be moved"),
            (None, None) => "whatever is newest".to_owned(),
        };
        return Some((format!("comes from {url}, {of}"), "name the commit: rev = \"…\""));
    }
    let version = value.as_str().or_else(|| text("version"))?;
    (version.trim() == "*").then(|| ("takes any version".to_owned(), "name the version that you have tested"))
}

/// Holds each lock file against the advisories.
pub(crate) fn advisories(tree: &Tree<'_>, database: Option<&Database>, host: &mut Host) -> Result<(), Failure> {
    for file in tree.named("Cargo.lock") {
        let lock = match tree.text(file).and_then(|text| Lock::parse(file, &text)) {
            Ok(lock) => lock,
            Err(reason) => {
                host.skip(file, reason);
                continue;
            }
        };
        host.dependencies.lock_files += 1;
        host.dependencies.packages += lock.packages.len();
        let Some(database) = database else { continue };
        for (index, package) in lock.packages.iter().enumerate().filter(|(_, package)| package.is_from_crates_io()) {
            match database.about(&package.name, &package.version) {
                Ok(all) => host.findings.extend(all.iter().map(|advisory| told(advisory, &lock, index))),
                Err(reason) => host.skip(file, reason),
            }
        }
    }
    Ok(())
}

fn told(advisory: &Advisory, lock: &Lock, index: usize) -> Finding {
    let package = &lock.packages[index];
    let Advisory { id, title, informational, .. } = advisory;
    let name = format!("{} {}", package.name, package.version);
    let help = match advisory.mended_by() {
        Some(versions) => format!("take {versions}: cargo update -p {}", package.name),
        None => "there is no version that mends it; replace the crate".to_owned(),
    };
    let rule = if matches!(informational.as_deref(), None | Some("unsound")) { &ADVISORY } else { &SOURCE };
    let kind = informational.as_deref().map(|kind| format!(" ({kind})")).unwrap_or_default();
    let message = format!("{name}: {id}{kind}, {title}");
    let finding = finding::build(rule, Confidence::High, package.location.clone(), message, help);
    Finding { severity: severity(advisory), evidence: lock.path(index), ..finding }
}

/// How bad: as its CVSS says; medium without one, and little where it is no vulnerability.
pub(crate) fn severity(advisory: &Advisory) -> Severity {
    match advisory.informational.as_deref() {
        None => advisory.cvss.as_deref().and_then(cvss::severity).unwrap_or(Severity::Medium),
        Some("unsound" | "unmaintained") => Severity::Low,
        Some(_) => Severity::Info,
    }
}
