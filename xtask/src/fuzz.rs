//! `cargo xtask fuzz [SECONDS]`: the auditor on whatever bytes a fuzzer finds, by cargo-fuzz on the stable compiler. `cargo xtask test` does
//! it for a minute.
//!
//! Without a sanitizer: there is no unsafe code in the auditor, so what is looked for is panics, hangs and wrong places.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    sh::{self, Result},
    test::Counts,
};

/// The version that is installed where none is.
const VERSION: &str = "0.13.2";
/// What `cargo xtask fuzz` takes without a number.
const LONG: u32 = 3_600;
/// What it takes among the tests.
const SHORT: u32 = 60;
/// One input may take this long, in seconds: the auditor's own bound for a file, and something for a busy machine.
const TIMEOUT: u32 = 20;
/// What the process may take, in MiB: the stacks of the auditor's threads are reserved, not used.
const MEMORY: u32 = 4_096;

/// Runs for as long as asked for; an input that fails is kept and named.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let seconds = match args.first() {
        Some(text) => text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?,
        None => LONG,
    };
    fuzz(seconds)
}

/// A minute of it, as one test.
pub(crate) fn short() -> Result<Counts> {
    fuzz(SHORT).map(|()| Counts { passed: 1, ..Counts::default() })
}

fn fuzz(seconds: u32) -> Result<()> {
    let tool = install().ok_or("cargo-fuzz cannot be installed here")?;
    let dir = sh::root().join("crates/osvm-audit/fuzz");
    let corpus = sh::target().join("fuzz/corpus");
    fs::create_dir_all(&corpus).map_err(|error| format!("cannot make {}: {error}", corpus.display()))?;
    let mut command = Command::new(tool);
    // As cargo starts its subcommands: the first argument is the subcommand's name.
    command.args(["fuzz", "run", "-s", "none", "--fuzz-dir"]).arg(&dir);
    command.arg("--target-dir").arg(sh::target().join("fuzz/build")).arg("text").arg(&corpus);
    // Programs of our own with a mistake each, and their fixes: what it begins with.
    command.arg(sh::root().join("crates/osvm-audit/tests/fixtures"));
    command.args([
        "--".to_owned(),
        format!("-max_total_time={seconds}"),
        format!("-timeout={TIMEOUT}"),
        format!("-rss_limit_mb={MEMORY}"),
        "-print_final_stats=1".to_owned(),
    ]);
    sh::run(command.current_dir(sh::root()))
}

/// cargo-fuzz under target/, built where it is missing.
fn install() -> Option<PathBuf> {
    let root = sh::target().join("tools");
    let tool = root.join("bin/cargo-fuzz");
    let right = |tool: &PathBuf| {
        let output = Command::new(tool).args(["fuzz", "--version"]).output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(VERSION))
    };
    if !right(&tool) {
        // Built without optimisation: it starts other programs and does nothing else.
        let mut cargo = sh::cargo();
        cargo.args(["install", "--locked", "--debug", "--force", "--root"]).arg(&root);
        sh::run(cargo.arg(format!("cargo-fuzz@{VERSION}"))).ok()?;
    }
    right(&tool).then_some(tool)
}
