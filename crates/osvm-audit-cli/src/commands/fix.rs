//! `osvm audit fix`: the mechanical changes, each checked before anything is written: its finding has to be gone, nothing new may
//! have come, and every file still has to be analysed.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use osvm_audit::Edit;
use similar::TextDiff;

use crate::{
    audit::{self, Audit, Setup},
    baseline::write_whole,
    cli::FixArgs,
    config::Config,
    failure::{CLEAN, Failure},
    output, rules,
    sources::{Sources, Text},
};

/// Lines around a change in a diff.
const CONTEXT: usize = 3;

/// A file before and after.
struct Change {
    before: String,
    after: String,
}

pub(crate) fn run(args: &FixArgs) -> Result<u8, Failure> {
    if let Some(unknown) = args.rules.iter().find(|id| rules::find(id).is_none()) {
        return Err(Failure::new(format!("there is no rule {unknown}")).help("a folder is named with --path"));
    }
    let config = Config::read(None, &args.path)?;
    // With all rules, whatever is to be mended: a change may wake another one.
    let setup = Setup { config, ..Setup::bare(&args.path) };
    let audit = audit::run(&setup)?;
    let mendable = mendable(&audit, &args.rules);
    let (changes, taken, left) = changes(&audit, &mendable)?;
    if changes.is_empty() {
        output::print("nothing that can be mended mechanically\n")?;
        return Ok(CLEAN);
    }
    check(&setup, &audit, &changes, args, mendable.len().saturating_sub(taken))?;
    if args.dry_run {
        let diffs: String = changes.iter().map(|(file, change)| diff(file, change)).collect();
        output::print(&diffs)?;
    } else {
        for (file, change) in &changes {
            let path = audit.folder.join(file);
            write_whole(&path, change.after.as_bytes())
                .map_err(|error| Failure::new(format!("cannot write {}", path.display())).because(&error))?;
            output::print(&format!("mended {file}\n"))?;
        }
    }
    let verb =
        if args.dry_run { "would be mended; nothing was written" } else { "mended, and gone when audited again" };
    let later = if left > 0 { format!("; {left} more overlap them: run it again") } else { String::new() };
    eprintln!("{taken} {verb}{later}");
    Ok(CLEAN)
}

/// The edits of findings of these rules; of all if none is named.
fn mendable<'a>(audit: &'a Audit, rules: &[String]) -> Vec<&'a Edit> {
    let wanted = |rule: &str| rules.is_empty() || rules.iter().any(|id| id.eq_ignore_ascii_case(rule));
    let findings = audit.findings.iter().map(|item| &item.finding);
    findings.filter(|finding| wanted(finding.rule)).filter_map(|finding| finding.edit.as_ref()).collect()
}

/// New texts of files, how many findings they mend, and how many overlap one of these.
fn changes(audit: &Audit, edits: &[&Edit]) -> Result<(BTreeMap<String, Change>, usize, usize), Failure> {
    let sources = Sources::new(audit.folder.clone());
    let mut by_file: BTreeMap<&str, Vec<&Edit>> = BTreeMap::new();
    for edit in edits {
        by_file.entry(&edit.location.file).or_default().push(edit);
    }
    let (mut changes, mut taken, mut left) = (BTreeMap::new(), 0, 0);
    for (file, edits) in by_file {
        let text = sources.get(file).ok_or_else(|| Failure::new(format!("cannot read {file}")))?;
        let (after, applied) = apply(&text, &edits);
        taken += applied;
        left += edits.len() - applied;
        changes.insert(file.to_owned(), Change { before: text.as_str().to_owned(), after });
    }
    Ok((changes, taken, left))
}

/// Applies what does not overlap, from the end, so that places stay where they are.
fn apply(text: &Text, edits: &[&Edit]) -> (String, usize) {
    let mut places: Vec<(std::ops::Range<usize>, &str)> =
        edits.iter().filter_map(|edit| Some((text.range(edit.location.span)?, edit.replacement.as_str()))).collect();
    places.sort_by_key(|(range, _)| (range.start, range.end));
    places.dedup();
    let mut after = text.as_str().to_owned();
    let mut begin = usize::MAX;
    let mut applied = 0;
    for (range, replacement) in places.into_iter().rev() {
        let insertion_twice = range.is_empty() && range.start == begin;
        if range.end > begin || insertion_twice {
            continue;
        }
        begin = range.start;
        after.replace_range(range, replacement);
        applied += 1;
    }
    (after, applied)
}

/// Audits the changed texts before they are written.
fn check(
    setup: &Setup,
    before: &Audit,
    changes: &BTreeMap<String, Change>,
    args: &FixArgs,
    left: usize,
) -> Result<(), Failure> {
    // The settings' paths go from their own folder, so the copy lies as deep below the scratch folder as the tree below theirs.
    let base = std::path::absolute(&before.folder).unwrap_or_else(|_| before.folder.clone());
    let below = base.strip_prefix(&setup.config.folder).ok().filter(|below| below.is_relative());
    let below = below.unwrap_or(Path::new("")).to_owned();
    let scratch = Scratch::new()?;
    let folder = scratch.0.join(below);
    copy(before, changes, &folder)?;
    let root = match setup.root.file_name().filter(|_| setup.root.is_file()) {
        Some(name) => folder.join(name),
        None => folder,
    };
    let config = Config { folder: scratch.0.clone(), ..setup.config.clone() };
    let after = audit::run(&Setup { config, ..Setup::bare(&root) })?;
    let rules =
        |audit: &Audit| -> HashSet<&'static str> { audit.findings.iter().map(|item| item.finding.rule).collect() };
    let gone = mendable(&after, &args.rules).len() <= left;
    let nothing_new = rules(&after).is_subset(&rules(before));
    if gone && nothing_new && after.not_analysed.len() <= before.not_analysed.len() {
        return Ok(());
    }
    Err(Failure::new("the changes would not mend what they should, so nothing was written").help(
        "please report it; see the changes without writing them: osvm audit fix RULE --dry-run for one rule at a time",
    ))
}

/// A folder that is removed with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("osvm-audit-fix-{}", std::process::id()));
        fs::create_dir(&folder).map_err(cannot_copy)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The audited tree with the changes in it: only what an audit reads.
fn copy(audit: &Audit, changes: &BTreeMap<String, Change>, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to).map_err(cannot_copy)?;
    for file in crate::host::files(&audit.folder) {
        let wanted = [".rs", ".toml", ".lock"].iter().any(|end| file.ends_with(end));
        if !wanted {
            continue;
        }
        let target = to.join(&file);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(cannot_copy)?;
        }
        match changes.get(&file) {
            Some(change) => fs::write(&target, &change.after).map_err(cannot_copy)?,
            None => {
                fs::copy(audit.folder.join(&file), &target).map_err(cannot_copy)?;
            }
        }
    }
    Ok(())
}

fn cannot_copy(error: std::io::Error) -> Failure {
    Failure::new("cannot make a copy to check the changes in").because(&error)
}

fn diff(file: &str, change: &Change) -> String {
    let diff = TextDiff::from_lines(&change.before, &change.after);
    diff.unified_diff().context_radius(CONTEXT).header(&format!("a/{file}"), &format!("b/{file}")).to_string()
}

#[cfg(test)]
mod tests {
    use osvm_audit::{Location, Span};

    use super::*;

    fn edit(column: u32, end_column: u32, replacement: &str) -> Edit {
        let span = Span { line: 1, column, end_line: 1, end_column };
        Edit { location: Location { file: "a".into(), span }, replacement: replacement.into() }
    }

    #[test]
    fn edits_that_overlap_wait_for_another_run() {
        let text = Text::new("abcdef".into());
        let (first, second, overlap) = (edit(1, 2, "X"), edit(4, 6, "YY"), edit(3, 5, "Z"));
        assert_eq!(apply(&text, &[&second, &first]), ("XbcYYf".to_owned(), 2));
        assert_eq!(apply(&text, &[&first, &overlap, &second]), ("XbcYYf".to_owned(), 2));
        let (insert, again) = (edit(2, 2, "-"), edit(2, 2, "+"));
        assert_eq!(apply(&text, &[&insert, &again]).1, 1);
    }
}
