//! `cargo xtask ci`: everything that a change must pass, with the time of each step.

use std::time::Duration;

use crate::{
    deny, house,
    sh::{self, Result},
    test,
};

/// Runs the cheap steps first. The first one that fails ends the run.
pub(crate) fn run() -> Result<()> {
    type Step = fn() -> Result<()>;
    let steps: [(&str, Step); 5] =
        [("fmt", fmt), ("house", house::run), ("deny", deny::run), ("clippy", clippy), ("docs", docs)];
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for (name, step) in steps {
        println!("== {name}");
        let (result, took) = sh::timed(step);
        times.push((name, took));
        if let Err(error) = result {
            report(&times);
            return Err(format!("{name}: {error}"));
        }
    }
    println!("== test");
    let (counts, took) = sh::timed(test::run);
    times.push(("test", took));
    report(&times);
    // Last, so that the closing line of the whole run is the tests'.
    counts?.report()
}

fn report(times: &[(&str, Duration)]) {
    for (name, took) in times {
        println!("{name:>8} {:>7.1} s", took.as_secs_f64());
    }
    println!("{:>8} {:>7.1} s", "all", times.iter().map(|(_, took)| took.as_secs_f64()).sum::<f64>());
}

fn fmt() -> Result<()> {
    sh::run(sh::cargo().args(["fmt", "--all", "--check"]))
}

/// In release, like the docs and the tests: build scripts (SQLite, zstd) and macros are then built once for all of them.
fn clippy() -> Result<()> {
    sh::run(sh::cargo().args([
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))
}

fn docs() -> Result<()> {
    let mut doc = sh::cargo();
    doc.args(["doc", "--release", "--workspace", "--no-deps", "--document-private-items", "--locked"]);
    sh::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}
