//! The local copy of the advisories: fetched only by `db update`, and never replaced by something worse.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;

use common::{audit, edit, fixtures, git, vault};

#[test]
fn db_update_fetches_shows_and_is_used() {
    let upstream = tempfile::tempdir().unwrap();
    let source = fixtures().join("advisories/crates/leaky/RUSTSEC-2099-0001.md");
    fs::create_dir_all(upstream.path().join("crates/leaky")).unwrap();
    let advisory = upstream.path().join("crates/leaky/RUSTSEC-2099-0001.md");
    fs::copy(source, &advisory).unwrap();
    git(upstream.path(), &["init", "-q"]);
    git(upstream.path(), &["add", "."]);
    git(upstream.path(), &["commit", "-qm", "one"]);
    let from = format!("file://{}", upstream.path().display());
    let folder = vault();
    let update = || audit(folder.path(), &["db", "update", "--from", &from, "--db", "db"]);
    let said = update();
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("advisories  1 in db"), "{}", said.out);
    let found = || audit(folder.path(), &["--db", "db", "--only", "OSVM-094", "--format", "json"]).json();
    let json = found();
    assert_eq!(json["findings"][0]["severity"], "high");
    assert_eq!(json["dependencies"]["advisories"]["count"], 1);
    assert_eq!(json["dependencies"]["advisories"]["revision"].as_str().unwrap().len(), 40);
    // A later state replaces it.
    edit(&advisory, ">= 1.2.0", ">= 1.1.0");
    git(upstream.path(), &["commit", "-qam", "two"]);
    assert_eq!(update().code, 0);
    assert_eq!(found()["findings"].as_array().unwrap().len(), 0);
    // What holds no advisories does not.
    fs::remove_file(&advisory).unwrap();
    fs::write(upstream.path().join("README"), "empty").unwrap();
    git(upstream.path(), &["add", "-A"]);
    git(upstream.path(), &["commit", "-qm", "three"]);
    let said = update();
    assert_eq!(said.code, 2);
    assert!(said.err.contains("nothing was changed"), "{}", said.err);
    assert_eq!(found()["dependencies"]["advisories"]["count"], 1);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("db.")), "{left:?}");
}

#[test]
fn a_folder_that_db_update_did_not_make_is_not_replaced() {
    let folder = vault();
    let said = audit(folder.path(), &["db", "update", "--from", "file:///no/such", "--db", "src"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("is not replaced"), "{}", said.err);
    assert!(folder.path().join("src/lib.rs").is_file());
}

#[test]
fn an_advisory_that_cannot_be_read_is_no_silence() {
    let folder = vault();
    let broken = folder.path().join("db/crates/leaky");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("RUSTSEC-2099-0001.md"), "no head").unwrap();
    let said = audit(folder.path(), &["--db", "db", "--fail-on", "never", "--strict"]);
    assert_eq!(said.code, 4);
    assert!(said.out.contains("it has no head"), "{}", said.out);
}
