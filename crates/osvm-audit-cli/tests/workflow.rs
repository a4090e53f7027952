//! Working with an audit over time: baseline, changes since a revision, mending, watching.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use common::{audit, command, edit, git, run, vault};

/// An audit that comes at all has come by then.
const SILENCE: Duration = Duration::from_millis(700);
/// How long an audit in watch mode may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn what_the_baseline_holds_is_told_apart_and_does_not_count() {
    let folder = vault();
    let said = audit(folder.path(), &["baseline", "update"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(folder.path().join("osvm.audit.baseline.json").is_file());
    let known = |args: &[&str]| {
        let said =
            audit(folder.path(), &[&["--baseline", "osvm.audit.baseline.json", "--format", "json"], args].concat());
        let json = said.json();
        let count = |key: &str| json[key].as_array().unwrap().len();
        (said.code, count("findings"), count("known"), json["gone"].as_u64().unwrap())
    };
    let (code, new, all, gone) = known(&["--fail-on", "info"]);
    assert_eq!((code, new, gone), (0, 0, 0));
    // Lines above and other blanks change nothing.
    edit(&folder.path().join("Cargo.toml"), "[package]", "# a line\n\n[package]");
    edit(&folder.path().join("Cargo.toml"), "middle = \"*\"", "middle   =   \"*\"");
    assert_eq!(known(&["--fail-on", "info"]), (0, 0, all, 0));
    // A new finding counts; one that is mended is told as gone.
    edit(&folder.path().join("Cargo.toml"), "anchor-lang = \"0.31\"", "anchor-lang = \"0.31\"\nother = \"*\"");
    edit(&folder.path().join("build.rs"), "Command::new(\"date\").output()", "1");
    assert_eq!(known(&["--fail-on", "info"]), (1, 1, all - 1, 1));
    let said = audit(folder.path(), &["baseline", "update"]);
    assert!(said.out.contains("(1 added,") && said.out.contains("1 gone)"), "{}", said.out);
    fs::write(folder.path().join("osvm.audit.baseline.json"), "{}").unwrap();
    assert_eq!(audit(folder.path(), &["--baseline", "osvm.audit.baseline.json"]).code, 2);
}

#[test]
fn since_shows_what_touches_changed_lines_and_counts_the_rest() {
    let folder = vault();
    let path = folder.path();
    git(path, &["init", "-q"]);
    git(path, &["add", "."]);
    git(path, &["commit", "-qm", "all"]);
    let since = |args: &[&str]| audit(path, &[&["--since", "HEAD", "--format", "json"], args].concat());
    let all = audit(path, &["--format", "json"]).rules().len();
    let json = since(&[]).json();
    assert_eq!(json["findings"].as_array().unwrap().len(), 0);
    assert_eq!(json["left_out"]["outside_change"], all);
    // A changed line, a step of a path, a file that git does not know yet.
    edit(&path.join("Cargo.toml"), "middle = \"*\"", "middle = \" * \"");
    assert_eq!(since(&["--only", "OSVM-095"]).rules(), ["OSVM-095"]);
    edit(&path.join("Cargo.lock"), "dependencies = [\"middle\"]", "dependencies = [ \"middle\" ]");
    assert!(since(&["--only", "OSVM-094"]).rules().is_empty());
    edit(&path.join("Cargo.lock"), "name = \"middle\"", "name =  \"middle\"");
    assert_eq!(since(&["--only", "OSVM-094"]).rules(), ["OSVM-094"], "the way to it changed");
    fs::create_dir(path.join("new")).unwrap();
    fs::write(path.join("new/Cargo.toml"), "[package]\nname = 'new'\n[dependencies]\nx = '*'\n").unwrap();
    let json = since(&["--only", "OSVM-095"]).json();
    let files: Vec<&str> =
        json["findings"].as_array().unwrap().iter().map(|f| f["location"]["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["Cargo.lock", "Cargo.toml", "new/Cargo.toml"]);
    assert_eq!(audit(path, &["--since", "no-such-revision"]).code, 2);
    assert_eq!(audit(path, &["--since", "--output=/tmp/x"]).code, 2, "a revision is no option of git's");
}

#[test]
fn fix_shows_a_diff_and_then_mends_what_it_showed() {
    let folder = vault();
    let manifest = folder.path().join("Cargo.toml");
    let before = fs::read_to_string(&manifest).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut dry = command(folder.path());
    let said = run(dry.args(["fix", "OSVM-093", "--dry-run"]).env("TMPDIR", scratch.path()));
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.starts_with("--- a/Cargo.toml\n+++ b/Cargo.toml\n@@ "), "{}", said.out);
    assert!(said.out.contains("+[profile.release]\n+overflow-checks = true\n"), "{}", said.out);
    assert_eq!(fs::read_to_string(&manifest).unwrap(), before, "a dry run writes nothing");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "the copy is gone");
    // The diff is one that git takes.
    git(folder.path(), &["init", "-q"]);
    fs::write(folder.path().join("fix.diff"), &said.out).unwrap();
    git(folder.path(), &["apply", "--check", "fix.diff"]);
    let said = audit(folder.path(), &["fix", "OSVM-093"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("1 mended"), "{}", said.err);
    assert!(audit(folder.path(), &["--only", "OSVM-093", "--format", "json"]).rules().is_empty());
    assert!(audit(folder.path(), &["fix", "OSVM-093"]).out.contains("nothing that can be mended"));
    assert_eq!(audit(folder.path(), &["fix", "OSVM-9999"]).code, 2);
}

#[test]
fn each_form_of_a_release_profile_is_mended() {
    for profile in [
        "[profile.release]\noverflow-checks = false\nlto = true\n",
        "[profile.release]\nlto = true\n",
        "[profile.release] # small\nlto = true\n",
        "[profile.dev]\nopt-level = 1\n",
    ] {
        let folder = vault();
        let manifest = folder.path().join("Cargo.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, format!("{text}\n{profile}")).unwrap();
        let said = audit(folder.path(), &["fix", "OSVM-093"]);
        assert_eq!(said.code, 0, "{profile}: {}", said.err);
        let text = fs::read_to_string(&manifest).unwrap();
        assert_eq!(text.matches("overflow-checks = true").count(), 1, "{profile}: {text}");
        assert!(audit(folder.path(), &["--only", "OSVM-093", "--format", "json"]).rules().is_empty(), "{text}");
    }
}

struct Watched {
    child: Child,
    lines: Receiver<String>,
}

impl Watched {
    fn start(folder: &std::path::Path) -> Self {
        let mut command = command(folder);
        let child = command.args(["--watch", "--only", "OSVM-095"]).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// The next line that sums up.
    fn sum(&self) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("an audit");
            if line.contains(" high, ") {
                // One more line belongs to the report.
                self.lines.recv_timeout(PATIENCE).expect("the line on dependencies");
                return line;
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn watch_audits_again_after_a_change_also_in_a_new_folder_and_not_for_builds() {
    let folder = vault();
    let path = folder.path();
    fs::create_dir(path.join("target")).unwrap();
    let watched = Watched::start(path);
    assert!(watched.sum().contains("3 low"));
    fs::write(path.join("target/built.rs"), "fn a() {}").unwrap();
    fs::write(path.join("notes.txt"), "no source").unwrap();
    assert!(watched.lines.recv_timeout(SILENCE).is_err(), "what is built is not audited");
    edit(&path.join("Cargo.toml"), "middle = \"*\"", "middle = \"1\"");
    assert!(watched.sum().contains("2 low"));
    fs::create_dir(path.join("new")).unwrap();
    watched.sum();
    fs::write(path.join("new/Cargo.toml"), "[package]\nname = 'new'\n[dependencies]\nx = '*'\n").unwrap();
    assert!(watched.sum().contains("3 low"));
}
