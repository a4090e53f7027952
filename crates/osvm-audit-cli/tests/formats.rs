//! Each format of one report: golden texts, the schema of SARIF, the JSON schema, a browser.
//!
//! `OSVM_BLESS=1 cargo test` writes the golden files anew; look at the difference before it is committed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{env, fs, path::Path, process::Command};

use common::{audit, vault};
use serde_json::Value;

/// The golden reports hold the host rules only: the engine's own tests are about the others.
const HOST: &str = "OSVM-093,OSVM-094,OSVM-095,OSVM-096,OSVM-097";

fn golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    // How long it took and what is read beside the fixture are no part of the report.
    let words = text.split_inclusive(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        let took = words.get(index + 1).is_some_and(|next| next.starts_with("ms;"));
        text.push_str(if took { "N " } else { word });
    }
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    if env::var_os("OSVM_BLESS").is_some() {
        fs::write(&file, &text).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert!(expected == text, "{name} differs from the golden one; it is now:\n{text}");
}

#[test]
fn the_text_report_is_the_golden_one() {
    golden("report.txt", &audit(vault().path(), &["--only", HOST]).out);
}

#[test]
fn the_markdown_report_is_the_golden_one() {
    golden("report.md", &audit(vault().path(), &["--only", HOST, "--format", "markdown"]).out);
}

#[test]
fn the_html_report_is_the_golden_one() {
    golden("report.html", &audit(vault().path(), &["--only", HOST, "--format", "html"]).out);
}

#[test]
fn the_json_report_is_the_golden_one() {
    golden("report.json", &audit(vault().path(), &["--only", HOST, "--format", "json"]).out);
}

#[test]
fn the_sarif_report_is_the_golden_one() {
    let mut log = sarif_of(vault().path(), &["--only", HOST]);
    // The engine's rules come and go without a change of the format.
    let run = &mut log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array_mut().unwrap();
    rules.retain(|rule| HOST.contains(rule["id"].as_str().unwrap()));
    for result in run["results"].as_array_mut().unwrap() {
        result.as_object_mut().unwrap().remove("ruleIndex");
    }
    golden("report.sarif", &serde_json::to_string_pretty(&log).unwrap());
}

fn sarif_of(folder: &Path, args: &[&str]) -> Value {
    let said = audit(folder, &[&["--format", "sarif"], args].concat());
    serde_json::from_str(&said.out).unwrap()
}

fn errors(schema: &Value, instance: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    validator.iter_errors(instance).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// `cargo xtask setup` fetches it to `sarif/` under the target folder, in which this test was built.
fn sarif_schema() -> Value {
    let this = env::current_exe().unwrap();
    let file = this.ancestors().map(|dir| dir.join("sarif/sarif-schema-2.1.0.json")).find(|file| file.is_file());
    let file = file.expect("the schema of SARIF is not in the target folder; run `cargo xtask setup`");
    let text = fs::read_to_string(file).unwrap();
    // Its pattern of a language is no expression of ECMA-262, and means this one.
    let (published, meant) = (r"^[a-zA-Z]{2}|^[a-zA-Z]{2}-[a-zA-Z]{2}]?$", r"^[a-zA-Z]{2}(-[a-zA-Z]{2})?$");
    serde_json::from_str(&text.replace(published, meant)).unwrap()
}

/// What Errata 01 of the specification adds, and the fetched schema is older than: a region has a start. Ours is a line, always.
fn regions_have_a_start(log: &Value) {
    for (name, region) in log.as_object().into_iter().flatten() {
        let is_region = ["region", "contextRegion", "deletedRegion"].contains(&name.as_str());
        assert!(!is_region || region["startLine"].is_u64(), "{log}");
    }
    log.as_object().into_iter().flat_map(|map| map.values()).for_each(regions_have_a_start);
    log.as_array().into_iter().flatten().for_each(regions_have_a_start);
}

#[test]
fn sarif_is_valid_by_its_schema() {
    let schema = sarif_schema();
    let folder = vault();
    // With all that a report can hold: known, allowed, not analysed, fixes, paths.
    let baseline = audit(folder.path(), &["baseline", "update", "--file", "b.json"]);
    assert_eq!(baseline.code, 0, "{}", baseline.err);
    let settings = "[[allow]]\nrule = 'OSVM-095'\nreason = 'fine'\n";
    fs::write(folder.path().join("osvm.audit.toml"), settings).unwrap();
    fs::write(folder.path().join("src/broken.rs"), "fn (").unwrap();
    fs::create_dir(folder.path().join("a b#")).unwrap();
    fs::write(folder.path().join("a b#/Cargo.toml"), "no toml").unwrap();
    for args in [&[][..], &["--baseline", "b.json"]] {
        let log = sarif_of(folder.path(), args);
        assert_eq!(errors(&schema, &log), Vec::<String>::new());
        regions_have_a_start(&log);
    }
    let mut broken = sarif_of(folder.path(), &[]);
    broken["runs"][0]["results"][0]["level"] = "bad".into();
    assert_eq!(errors(&schema, &broken).len(), 1, "the schema is really looked at");
}

#[test]
fn sarif_tells_class_confidence_fixes_suppressions_and_what_was_not_analysed() {
    let folder = vault();
    fs::write(folder.path().join("Anchor.toml"), "no toml").unwrap();
    fs::write(folder.path().join("osvm.audit.toml"), "[[allow]]\nrule = 'OSVM-096'\nreason = 'a date'\n").unwrap();
    let log = sarif_of(folder.path(), &[]);
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for rule in rules {
        assert!(rule["properties"]["class"].is_string() && rule["properties"]["confidence"].is_string(), "{rule}");
    }
    let results = run["results"].as_array().unwrap();
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert_eq!(result["partialFingerprints"]["osvmAudit/v1"].as_str().unwrap().len(), 32);
    }
    let of = |rule: &str| results.iter().find(|result| result["ruleId"] == rule).unwrap();
    assert_eq!(of("OSVM-094")["level"], "error");
    assert_eq!(of("OSVM-094")["codeFlows"][0]["threadFlows"][0]["locations"].as_array().unwrap().len(), 3);
    assert!(
        of("OSVM-093")["fixes"][0]["artifactChanges"][0]["replacements"][0]["insertedContent"]["text"]
            .as_str()
            .unwrap()
            .contains("overflow-checks = true")
    );
    assert_eq!(of("OSVM-096")["suppressions"][0]["justification"], "a date");
    let notice = &run["invocations"][0]["toolExecutionNotifications"][0];
    assert_eq!(notice["descriptor"]["id"], "not-analysed");
    assert_eq!(notice["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "Anchor.toml");
}

#[test]
fn sarif_paths_begin_at_the_repository() {
    let folder = vault();
    let inner = tempfile::tempdir().unwrap();
    fs::create_dir_all(inner.path().join(".git")).unwrap();
    fs::create_dir_all(inner.path().join("programs")).unwrap();
    fs::rename(folder.path(), inner.path().join("programs/my vault")).unwrap();
    let log = sarif_of(inner.path(), &["programs/my vault", "--only", "OSVM-094"]);
    let uri = &log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(uri, "programs/my%20vault/Cargo.lock");
}

#[test]
fn json_is_valid_by_the_schema_that_the_program_prints() {
    let folder = vault();
    let schema: Value = serde_json::from_str(&audit(folder.path(), &["schema"]).out).unwrap();
    let report = audit(folder.path(), &["--format", "json"]).json();
    assert_eq!(errors(&schema, &report), Vec::<String>::new());
    let mut broken = report;
    broken["findings"][0]["severity"] = "very".into();
    assert_eq!(errors(&schema, &broken).len(), 1);
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let folder = vault();
    for format in ["json", "sarif", "markdown", "html"] {
        let first = audit(folder.path(), &["--format", format]).out;
        assert!(first == audit(folder.path(), &["--format", format]).out, "{format}");
    }
}

#[test]
fn names_from_the_tree_are_text_in_every_format() {
    let folder = vault();
    let lock = folder.path().join("Cargo.lock");
    let text = fs::read_to_string(&lock).unwrap();
    fs::write(&lock, text.replace("\"vault\"", "\"<script>alert(1)</script>|`x\\u001b[2J\"")).unwrap();
    let html = audit(folder.path(), &["--only", "OSVM-094", "--format", "html"]).out;
    assert!(!html.contains("<script"), "{html}");
    let text = audit(folder.path(), &["--only", "OSVM-094"]).out;
    assert!(!text.contains('\u{1b}'), "{text}");
    let markdown = audit(folder.path(), &["--only", "OSVM-094", "--format", "markdown"]).out;
    assert!(!markdown.contains("<script"), "{markdown}");
}

#[test]
fn the_html_report_needs_nothing_else() {
    let html = audit(vault().path(), &["--format", "html"]).out;
    for outside in ["src=", "<link", "<script", "url(", "@import", "<iframe"] {
        assert!(!html.contains(outside), "{outside}");
    }
    let links = html.match_indices("href=").all(|(at, _)| html[at..].starts_with("href=\"#f"));
    assert!(links, "links lead within the report only");
}

/// `cargo xtask test` leaves this module out where no Chromium can be installed.
mod in_a_browser {
    use super::*;

    #[test]
    fn the_html_report_opens_in_a_browser() {
        let chromium = env::var_os("OSVM_CHROMIUM").unwrap_or_else(|| "chromium".into());
        let folder = vault();
        audit(folder.path(), &["--only", HOST, "--format", "html", "--out", "report.html"]);
        let file = format!("file://{}", folder.path().join("report.html").display());
        let shot = folder.path().join("report.png");
        let profile = folder.path().join("profile");
        let run = |args: &[String]| {
            let mut command = Command::new(&chromium);
            command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
            command.arg(format!("--user-data-dir={}", profile.display())).args(args).arg(&file);
            command.output().unwrap_or_else(|error| {
                panic!("cannot run {}: {error}; `cargo xtask setup` installs Chromium", chromium.display())
            })
        };
        let dom = run(&["--dump-dom".to_owned()]);
        let dom = String::from_utf8_lossy(&dom.stdout).into_owned();
        for part in ["RUSTSEC-2099-0001", "The path that shows it", "leaky 1.1.0", "<mark>"] {
            assert!(dom.contains(part), "{part} is not in the page as the browser holds it");
        }
        run(&[format!("--screenshot={}", shot.display()), "--window-size=1000,1800".to_owned()]);
        let size = fs::metadata(&shot).map_or(0, |meta| meta.len());
        assert!(size > 10_000, "the page is drawn: {size} bytes");
        if let Some(kept) = env::var_os("OSVM_KEEP_SHOT") {
            fs::copy(&shot, kept).unwrap();
        }
    }
}
