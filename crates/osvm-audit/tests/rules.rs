//! Each rule tells a mistake from its fix: `fixtures/RULE/bad*.rs` and `good*.rs`, programs of our own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeSet, fs, path::Path};

use osvm_audit::{Finding, Options, Report};

fn audit(file: &Path) -> Report {
    osvm_audit::analyse(&Options::new(file)).unwrap()
}

fn of<'r>(report: &'r Report, rule: &str) -> Vec<&'r Finding> {
    report.findings.iter().filter(|finding| finding.rule == rule).collect()
}

#[test]
fn each_rule_tells_the_mistake_from_its_fix() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut wrong = Vec::new();
    let mut covered = BTreeSet::new();
    for dir in fs::read_dir(fixtures).unwrap() {
        let dir = dir.unwrap().path();
        let rule = dir.file_name().unwrap().to_string_lossy().into_owned();
        for file in fs::read_dir(&dir).unwrap() {
            let file = file.unwrap().path();
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            let report = audit(&file);
            assert_eq!(report.not_analysed, [], "{} is read whole", file.display());
            let told = !of(&report, &rule).is_empty();
            if told != name.starts_with("bad") {
                wrong.push(format!(
                    "{rule}/{name}: {:?}",
                    report.findings.iter().map(|f| (f.rule, &f.message)).collect::<Vec<_>>()
                ));
            }
        }
        covered.insert(rule);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all: BTreeSet<String> = osvm_audit::rules().iter().map(|rule| rule.id.to_owned()).collect();
    assert_eq!(covered, all, "each rule has its fixtures");
}

/// What an edit makes of a text.
fn edited(text: &str, edit: &osvm_audit::Edit) -> String {
    let at = |line: u32, column: u32| {
        let before: usize = text.split_inclusive('\n').take(line as usize - 1).map(str::len).sum();
        let within = text[before..].char_indices().nth(column as usize - 1).map_or(text.len() - before, |(at, _)| at);
        before + within
    };
    let span = edit.location.span;
    let (from, to) = (at(span.line, span.column), at(span.end_line, span.end_column));
    format!("{}{}{}", &text[..from], edit.replacement, &text[to..])
}

#[test]
fn each_mechanical_change_mends_its_finding_and_wakes_no_other() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut mended = BTreeSet::new();
    for dir in fs::read_dir(fixtures).unwrap() {
        for file in fs::read_dir(dir.unwrap().path()).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let before = osvm_audit::analyse_text(&text).unwrap();
            for finding in &before.findings {
                let Some(edit) = &finding.edit else { continue };
                let after = osvm_audit::analyse_text(&edited(&text, edit)).unwrap();
                assert_eq!(after.not_analysed, []);
                assert!(of(&after, finding.rule).len() < of(&before, finding.rule).len(), "{edit:?}");
                assert!(after.findings.len() < before.findings.len(), "{edit:?} wakes {:?}", after.findings);
                mended.insert(finding.rule);
            }
        }
    }
    assert_eq!(mended.into_iter().collect::<Vec<_>>(), ["OSVM-014", "OSVM-015", "OSVM-020", "OSVM-036"]);
}

#[test]
fn each_finding_shows_its_evidence_in_the_file() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/OSVM-001/bad_native.rs");
    let report = audit(&file);
    let found = of(&report, "OSVM-001");
    let finding = found.first().expect("found");
    let lines = fs::read_to_string(&file).unwrap().lines().count() as u32;
    assert!(!finding.evidence.is_empty());
    for step in &finding.evidence {
        assert_eq!(step.file, "bad_native.rs");
        assert!(step.span.line >= 1 && step.span.line <= lines && !step.note.is_empty());
    }
    assert_eq!(finding.handler.as_deref(), Some("pay_out"), "a dispatcher's arm is named after what it calls");
}

#[test]
fn rules_are_sorted_and_say_what_they_are() {
    let rules = osvm_audit::rules();
    assert!(rules.windows(2).all(|pair| pair[0].id < pair[1].id), "sorted by id, each once");
    for rule in rules {
        for text in [rule.class, rule.title, rule.explanation, rule.limits, rule.fix] {
            assert!(!text.is_empty(), "{}", rule.id);
        }
    }
}
