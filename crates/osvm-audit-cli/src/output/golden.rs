//! A finding with all that a finding can hold, in each format: what the reports of real programs are made of.

use std::{path::PathBuf, time::Duration};

use osvm_audit::{Confidence, Edit, Finding, Location, NotAnalysed, Program, Severity, Span, Step};

use super::render;
use crate::{
    audit::{Accepted, Advisories, Audit, By, Dependencies, Item, LeftOut, SCHEMA, Tool},
    cli::Format,
};

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vault")
}

fn span(line: u32, column: u32, end_column: u32) -> Span {
    Span { line, column, end_line: line, end_column }
}

fn step(line: u32, column: u32, end_column: u32, note: &str) -> Step {
    Step { file: "src/lib.rs".into(), span: span(line, column, end_column), note: note.into() }
}

fn item() -> Item {
    let location = Location { file: "src/lib.rs".into(), span: span(13, 9, 48) };
    let finding = Finding {
        rule: "OSVM-001",
        class: "missing-signer",
        title: "missing signer",
        severity: Severity::Critical,
        confidence: Confidence::High,
        message: "`authority` decides this debit and never has to sign".into(),
        help: "make it `Signer<'info>`".into(),
        edit: Some(Edit {
            location: Location { file: "src/lib.rs".into(), span: span(31, 20, 43) },
            replacement: "Signer<'info>".into(),
        }),
        location,
        evidence: vec![
            step(31, 9, 18, "`authority` is an UncheckedAccount"),
            step(12, 9, 84, "its key is compared with the one that `vault` stores"),
            step(13, 9, 48, "lamports leave `vault`"),
        ],
        handler: Some("vault::withdraw".into()),
    };
    Item { finding, fingerprint: "0123456789abcdef0123456789abcdef".into() }
}

fn audit() -> Audit {
    let mut long = item();
    long.finding.severity = Severity::Medium;
    long.finding.rule = "OSVM-011";
    long.finding.edit = None;
    long.finding.handler = None;
    long.finding.location.span = Span { line: 11, column: 5, end_line: 16, end_column: 6 };
    long.finding.evidence.clear();
    let comment = Some(Location { file: "src/lib.rs".into(), span: span(1, 1, 5) });
    let allowed = Accepted { item: item(), by: By::Source, reason: "a test".into(), comment };
    Audit {
        schema: SCHEMA,
        tool: Tool { name: "osvm audit", version: "0.0.0" },
        root: "programs/vault".into(),
        findings: vec![item(), long],
        suppressed: vec![allowed],
        known: vec![item()],
        gone: 2,
        left_out: LeftOut { rule_off: 1, excluded: 0, outside_change: 1234 },
        not_analysed: vec![NotAnalysed {
            file: "src/gen.rs".into(),
            reason: "no Rust: expected `;`".into(),
            line: Some(3),
        }],
        programs: vec![Program {
            name: "vault".into(),
            path: String::new(),
            framework: "anchor",
            handlers: vec!["withdraw".into()],
        }],
        files: 2,
        lines: 1234,
        dependencies: Dependencies {
            lock_files: 1,
            packages: 4,
            advisories: Some(Advisories { revision: Some("abc".into()), date: Some("2099-01-03".into()), count: 2 }),
        },
        deployed: None,
        ai: None,
        took: Duration::from_millis(9),
        folder: fixture(),
    }
}

#[track_caller]
fn golden(name: &str, format: Format, colour: bool) {
    let text = render(&audit(), format, colour).unwrap();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("OSVM_BLESS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(expected == text, "{name} differs from the golden one; it is now:\n{text}");
}

#[test]
fn text_shows_source_path_and_fix() {
    golden("finding.txt", Format::Text, false);
}

#[test]
fn text_on_a_terminal_has_colour() {
    golden("finding.ansi", Format::Text, true);
}

#[test]
fn markdown_shows_all_of_a_finding() {
    golden("finding.md", Format::Markdown, false);
}

#[test]
fn html_shows_all_of_a_finding() {
    golden("finding.html", Format::Html, false);
}

#[test]
fn json_holds_all_of_a_finding() {
    golden("finding.json", Format::Json, false);
}

#[test]
fn sarif_holds_all_of_a_finding() {
    let text = render(&Audit { folder: "/nowhere".into(), ..audit() }, Format::Sarif, false).unwrap();
    let log: serde_json::Value = serde_json::from_str(&text).unwrap();
    let result = &log["runs"][0]["results"][0];
    assert_eq!(result["level"], "error");
    assert_eq!(result["locations"][0]["logicalLocations"][0]["name"], "vault::withdraw");
    let steps = result["codeFlows"][0]["threadFlows"][0]["locations"].as_array().unwrap();
    assert_eq!(steps[2]["location"]["message"]["text"], "lamports leave `vault`");
    let replacement = &result["fixes"][0]["artifactChanges"][0]["replacements"][0];
    assert_eq!(replacement["insertedContent"]["text"], "Signer<'info>");
    assert_eq!(replacement["deletedRegion"]["startColumn"], 20);
    let all = log["runs"][0]["results"].as_array().unwrap();
    assert_eq!(all[2]["baselineState"], "unchanged");
    assert_eq!(all[3]["suppressions"][0]["kind"], "inSource");
    assert_eq!(log["runs"][0]["invocations"][0]["toolExecutionNotifications"].as_array().unwrap().len(), 1);
}
