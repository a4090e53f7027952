//! The audited fixture, in a folder of its own, and the program run on it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A copy of the vault, outside any repository.
pub(crate) fn vault() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures().join("vault"), folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a run said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `(rule, file)` of each finding.
    pub(crate) fn rules(&self) -> Vec<String> {
        let json = self.json();
        json["findings"].as_array().unwrap().iter().map(|f| f["rule"].as_str().unwrap().to_owned()).collect()
    }
}

/// The program in `folder`, with the fixture's advisories.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_osvm-audit"));
    command.current_dir(folder).env("OSVM_ADVISORY_DB", fixtures().join("advisories"));
    command.env_remove("OSVM_OUTPUT").env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

pub(crate) fn audit(folder: &Path, args: &[&str]) -> Said {
    run(command(folder).args(args))
}

pub(crate) fn run(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn git(folder: &Path, args: &[&str]) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]).args(args);
    let said = run(command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null"));
    assert_eq!(said.code, 0, "git {args:?}: {}", said.err);
}

/// Replaces one text in a file.
pub(crate) fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} in {}", file.display());
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}
