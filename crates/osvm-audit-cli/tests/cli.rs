//! The command line as a whole: exit codes, what is said where, settings, comments that allow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;

use common::{audit, command, edit, run, vault};

#[test]
fn the_exit_code_says_clean_findings_or_no_audit() {
    let folder = vault();
    let at = |args: &[&str]| audit(folder.path(), args).code;
    assert_eq!(at(&["--only", "OSVM-094"]), 1, "a high finding is at the default bar");
    assert_eq!(at(&["--only", "OSVM-094", "--fail-on", "critical"]), 0);
    assert_eq!(at(&["--fail-on", "never"]), 0);
    assert_eq!(at(&["--only", "OSVM-095", "--fail-on", "medium"]), 0);
    assert_eq!(at(&["--only", "OSVM-095", "--fail-on", "low"]), 1);
    assert_eq!(at(&["--no-such-option"]), 2);
    assert_eq!(at(&["no/such/folder"]), 2);
    assert_eq!(at(&["--only", "OSVM-9999"]), 2);
    assert_eq!(at(&["--baseline", "no-such-file"]), 2);
    assert_eq!(at(&["--out", "no/such/folder/report"]), 2);
}

#[test]
fn what_was_not_analysed_is_told_and_is_4_under_strict() {
    let folder = vault();
    fs::write(folder.path().join("Cargo.lock"), "[[package]]\nname = 1\n").unwrap();
    let said = audit(folder.path(), &["--fail-on", "never"]);
    assert_eq!(said.code, 0);
    assert!(said.out.contains("not analysed: Cargo.lock: a package whose name is no text"), "{}", said.out);
    assert!(said.out.contains("1 file not analysed"), "{}", said.out);
    assert_eq!(audit(folder.path(), &["--fail-on", "never", "--strict"]).code, 4);
    assert_eq!(audit(folder.path(), &["--fail-on", "low", "--strict"]).code, 1, "findings go first");
}

#[test]
fn without_a_copy_of_the_advisories_the_report_says_that_nothing_was_checked() {
    let folder = vault();
    let empty = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    let said = run(command.env_remove("OSVM_ADVISORY_DB").env("XDG_CACHE_HOME", empty.path()));
    assert!(said.out.contains("4 dependencies not checked against RustSec: no local copy"), "{}", said.out);
    let said = audit(folder.path(), &["--db", "no-such-folder"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("holds no advisories"), "{}", said.err);
}

#[test]
fn json_is_written_where_osvm_asks_for_it() {
    let folder = vault();
    let said = run(command(folder.path()).env("OSVM_OUTPUT", "json"));
    assert_eq!(said.json()["schema"], "osvm.audit/v1");
    let said = run(command(folder.path()).env("OSVM_OUTPUT", "json").args(["--format", "markdown"]));
    assert!(said.out.starts_with("# Audit"), "{}", said.out);
}

#[test]
fn a_report_goes_to_a_file_and_its_sum_to_stderr() {
    let folder = vault();
    let said = audit(folder.path(), &["--format", "sarif", "--out", "report.sarif"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("report report.sarif"), "{}", said.err);
    let text = fs::read_to_string(folder.path().join("report.sarif")).unwrap();
    assert!(text.contains("\"2.1.0\""));
}

#[test]
fn each_host_rule_finds_its_fault_and_not_its_mended_twin() {
    let folder = vault();
    let path = folder.path();
    let found = |rule: &str| audit(path, &["--format", "json", "--only", rule]).rules().len();
    for (rule, expected) in [("OSVM-093", 1), ("OSVM-094", 1), ("OSVM-095", 3), ("OSVM-096", 1), ("OSVM-097", 1)] {
        assert_eq!(found(rule), expected, "{rule}");
    }
    edit(&path.join("Cargo.toml"), "[dependencies]", "[profile.release]\noverflow-checks = true\n\n[dependencies]");
    edit(&path.join("Cargo.toml"), "\"*\"", "\"0.3\"");
    edit(&path.join("Cargo.toml"), "branch = \"main\"", "rev = \"0123abc\"");
    edit(&path.join("Cargo.lock"), "version = \"1.1.0\"", "version = \"1.2.0\"");
    edit(&path.join("Cargo.lock"), "version = \"2.0.0\"\nsource = \"registry", "version = \"2.0.0\"\nsource = \"other");
    edit(&path.join("build.rs"), "Command::new(\"date\").output()", "std::env::var(\"OUT_DIR\")");
    edit(
        &path.join("Anchor.toml"),
        "Vau1t11111111111111111111111111111111111111",
        "0ther1d1111111111111111111111111111111111111",
    );
    for rule in ["OSVM-093", "OSVM-094", "OSVM-095", "OSVM-096", "OSVM-097"] {
        assert_eq!(found(rule), 0, "{rule}");
    }
}

#[test]
fn a_key_in_the_tree_is_told_and_never_shown() {
    let folder = vault();
    let pair = ed25519_dalek::SigningKey::from_bytes(&[42; 32]).to_keypair_bytes();
    let numbers = format!("{pair:?}");
    fs::write(folder.path().join("id.json"), &numbers).unwrap();
    for format in ["text", "json", "sarif", "markdown", "html"] {
        let said = audit(folder.path(), &["--only", "OSVM-085", "--format", format]);
        assert_eq!(said.code, 1, "{format}");
        assert!(said.out.contains("id.json"), "{format}");
        let part = format!("{}, {}, {}", pair[0], pair[1], pair[2]);
        assert!(!said.out.contains(&part), "{format} shows the key");
    }
}

#[test]
fn settings_turn_off_rank_exclude_and_allow_and_all_of_it_is_counted() {
    let folder = vault();
    let settings = "fail-on = 'medium'\nexclude = ['build.rs']\n\
        [rules]\nOSVM-093 = 'off'\nOSVM-097 = 'critical'\n\
        [[allow]]\nrule = 'OSVM-094'\nreason = 'the leak is not reachable'\n";
    fs::write(folder.path().join("osvm.audit.toml"), settings).unwrap();
    let said = audit(folder.path(), &["--format", "json"]);
    assert_eq!(said.code, 1);
    let json = said.json();
    assert_eq!(json["left_out"]["rule_off"], 1);
    assert_eq!(json["left_out"]["excluded"], 1);
    assert_eq!(json["suppressed"][0]["rule"], "OSVM-094");
    assert_eq!(json["suppressed"][0]["by"], "settings");
    let ranked = json["findings"].as_array().unwrap().iter().find(|f| f["rule"] == "OSVM-097").unwrap();
    assert_eq!(ranked["severity"], "critical");
    let said = audit(folder.path(), &[]);
    assert!(said.out.contains("1 allowed"), "{}", said.out);
    assert!(said.out.contains("the leak is not reachable"), "{}", said.out);
    fs::write(folder.path().join("osvm.audit.toml"), "fail_on = 'high'").unwrap();
    assert_eq!(audit(folder.path(), &[]).code, 2, "a slip of the pen turns nothing off");
}

#[test]
fn a_comment_allows_a_finding_is_counted_and_shown() {
    let folder = vault();
    edit(
        &folder.path().join("Cargo.toml"),
        "middle = \"*\"",
        "# osvm: allow(OSVM-095, reason = \"any will do\")\nmiddle = \"*\"",
    );
    let said = audit(folder.path(), &["--only", "OSVM-095"]);
    assert!(said.out.contains("allowed in the source: OSVM-095"), "{}", said.out);
    assert!(said.out.contains("any will do"), "{}", said.out);
    let json = audit(folder.path(), &["--only", "OSVM-095", "--format", "json"]).json();
    assert_eq!(json["suppressed"].as_array().unwrap().len(), 1);
    assert_eq!(json["suppressed"][0]["comment"]["span"]["line"], 11);
    assert_eq!(json["findings"].as_array().unwrap().len(), 2);
}

#[test]
fn rules_are_listed_and_explained() {
    let folder = tempfile::tempdir().unwrap();
    let said = audit(folder.path(), &["rules"]);
    assert!(said.out.contains("OSVM-094  critical  vulnerable-dependency"), "{}", said.out);
    let said = audit(folder.path(), &["explain", "osvm-094"]);
    for part in ["OSVM-094", "CWE-1395", "limits", "fix", "allow"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    assert_eq!(audit(folder.path(), &["explain", "OSVM-9999"]).code, 2);
    let all: serde_json::Value = serde_json::from_str(&audit(folder.path(), &["rules", "--json"]).out).unwrap();
    assert!(all.as_array().unwrap().iter().all(|rule| rule["class"].is_string()));
}

#[test]
fn a_profile_of_the_workspace_above_is_seen_from_a_member() {
    let outer = tempfile::tempdir().unwrap();
    let member = outer.path().join("programs/vault");
    fs::create_dir_all(outer.path().join("programs")).unwrap();
    fs::rename(vault().path(), &member).unwrap();
    let workspace = "[workspace]\nmembers = ['programs/*']\n[profile.release]\noverflow-checks = ";
    fs::write(outer.path().join("Cargo.toml"), format!("{workspace}true\n")).unwrap();
    let found = || audit(&member, &["--format", "json", "--only", "OSVM-093"]).json()["findings"].clone();
    assert_eq!(found().as_array().unwrap().len(), 0);
    fs::write(outer.path().join("Cargo.toml"), format!("{workspace}false\n")).unwrap();
    assert_eq!(found()[0]["location"]["file"], "Cargo.toml");
    assert!(found()[0]["edit"].is_null());
}

#[test]
fn a_finding_of_the_engine_is_shown_with_its_source_and_a_comment_allows_it() {
    let folder = vault();
    let said = audit(folder.path(), &["--only", "OSVM-001"]);
    assert_eq!(said.code, 1);
    for part in ["critical[OSVM-001]", "--> src/lib.rs:28:9", "pub authority: UncheckedAccount", "path  ", "in    "] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let json = audit(folder.path(), &["--only", "OSVM-001", "--format", "json"]).json();
    assert_eq!(json["programs"][0]["framework"], "anchor");
    let allow = "// osvm: allow(OSVM-001, reason = \"the front end signs\")\n    pub authority: ";
    edit(&folder.path().join("src/lib.rs"), "pub authority: Un", &format!("{allow}Un"));
    let said = audit(folder.path(), &["--only", "OSVM-001"]);
    assert_eq!(said.code, 0);
    assert!(said.out.contains("allowed in the source: OSVM-001"), "{}", said.out);
    assert!(said.out.contains("the front end signs"), "{}", said.out);
    edit(&folder.path().join("src/lib.rs"), "pub authority: UncheckedAccount", "pub authority: Signer");
    assert!(!audit(folder.path(), &["--only", "OSVM-001"]).out.contains("OSVM-001"));
}

#[test]
fn a_rust_file_that_cannot_be_parsed_is_not_analysed_and_never_clean() {
    let folder = vault();
    fs::write(folder.path().join("src/broken.rs"), "fn (").unwrap();
    let said = audit(folder.path(), &["--only", "OSVM-050", "--strict", "--format", "json"]);
    assert_eq!(said.code, 4);
    assert_eq!(said.json()["not_analysed"][0]["file"], "src/broken.rs");
}

#[test]
fn the_idl_is_held_against_the_handlers() {
    let folder = vault();
    fs::create_dir(folder.path().join("idl")).unwrap();
    let idl = r#"{"metadata":{"name":"vault"},"instructions":[{"name":"withdraw"},{"name":"deposit"}]}"#;
    fs::write(folder.path().join("idl/vault.json"), idl).unwrap();
    let said = audit(folder.path(), &["--only", "OSVM-105"]);
    assert!(said.out.contains("it names `deposit`, which the code does not have"), "{}", said.out);
    fs::write(folder.path().join("idl/vault.json"), idl.replace(r#",{"name":"deposit"}"#, "")).unwrap();
    assert!(audit(folder.path(), &["--only", "OSVM-105", "--format", "json"]).rules().is_empty());
}
