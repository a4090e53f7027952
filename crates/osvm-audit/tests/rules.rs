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
