//! `cargo xtask test`: installs what is missing, builds, and runs every test: Rust, the clients' suites, the short benches.

use std::{net::ToSocketAddrs, ops::AddAssign};

use crate::{
    apt, bench, clients, conformance, fuzz, microvm, osvm, sarif,
    sh::{self, Result},
};

/// The benches as tests: short, but with every check of the long form.
const SHORT_BENCHES: [(&str, &[&str]); 6] = [
    ("swap", &["--swaps", "5", "--requests", "10000"]),
    ("fault", &["--seconds", "15"]),
    ("gateway", &["--seconds", "1", "--rounds", "1"]),
    ("jail", &["--runs", "60", "--rounds", "5"]),
    ("mcp", &["--starts", "10", "--calls", "2000"]),
    ("localnet", &["--accounts", "10000", "--transfers", "20000"]),
];

/// How many tests ended how.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Counts {
    /// Prints the closing line, and fails if a test did.
    pub(crate) fn report(self) -> Result<()> {
        let skipped = if self.skipped > 0 { format!(", {} skipped", self.skipped) } else { String::new() };
        println!("{} passed, {} failed{skipped}", self.passed, self.failed);
        match self.failed {
            0 if self.passed > 0 => Ok(()),
            0 => Err("no test ran".to_owned()),
            failed => Err(format!("{failed} tests failed")),
        }
    }
}

/// Runs everything, whatever fails on the way.
pub(crate) fn run() -> Result<Counts> {
    apt::install_missing()?;
    clients::install_missing()?;
    sarif::install_missing()?;
    microvm::install_missing()?;
    osvm::build(&bench::PACKAGES)?;
    let mut counts = Counts::default();
    for (name, suite) in [
        ("rust tests", rust as fn() -> Result<Counts>),
        ("rust doc tests", doc),
        ("client suites", clients::run),
        ("MCP conformance", conformance::run),
        ("fuzzing", fuzz::short),
        ("short benches", benches),
    ] {
        let (result, took) = sh::timed(suite);
        let result = result.unwrap_or_else(|error| {
            println!("{name}: {error}");
            Counts { failed: 1, ..Counts::default() }
        });
        println!(
            "{name}: {} passed, {} failed, {} skipped in {:.0} s",
            result.passed,
            result.failed,
            result.skipped,
            took.as_secs_f64()
        );
        counts += result;
    }
    Ok(counts)
}

/// The module of the tests that start VMs.
const IN_A_VM: &str = "in_a_vm::";

/// Whether VMs can be started here.
fn has_kvm() -> bool {
    std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

/// The module of the tests that open pages.
const IN_A_BROWSER: &str = "in_a_browser::";

/// The module of the tests that install packages.
const WITH_REGISTRIES: &str = "with_registries::";

/// Whether the registries' names lead somewhere.
fn has_registries() -> bool {
    ["registry.npmjs.org:443", "pypi.org:443"].iter().all(|host| host.to_socket_addrs().is_ok())
}

/// By cargo-nextest where it is there, else by cargo's own runner. Release, so that one build serves tests and binaries.
fn rust() -> Result<Counts> {
    let mut counts = Counts::default();
    let mut command = sh::cargo();
    let nextest = sh::which("cargo-nextest").is_some();
    if nextest {
        command.args(["nextest", "run", "--no-fail-fast", "--status-level", "fail", "--final-status-level", "slow"]);
    } else {
        command.args(["test", "--no-fail-fast", "--lib", "--bins", "--tests", "--examples"]);
    }
    command.args(["--release", "--locked", "--workspace"]);
    let mut left_out = Vec::new();
    if !has_kvm() {
        println!("not run: the tests that start VMs ({IN_A_VM}), as /dev/kvm is missing or closed to this user");
        left_out.push(IN_A_VM);
    }
    if let Some(browser) = apt::browser() {
        command.env("OSVM_CHROMIUM", browser);
    } else {
        println!("not run: the tests that open pages ({IN_A_BROWSER}), as Chromium cannot be installed here");
        left_out.push(IN_A_BROWSER);
    }
    if !has_registries() {
        println!(
            "not run: the tests that install packages ({WITH_REGISTRIES}), as npm's or PyPI's registry is not to be found"
        );
        left_out.push(WITH_REGISTRIES);
    }
    command.args(filter(&left_out, nextest));
    let read = if nextest { read_nextest } else { read_libtest };
    let ended_well = sh::watch(&mut command, |line| read(line, &mut counts))?;
    Ok(blame(counts, ended_well))
}

/// The arguments that leave out some modules; they come last. Nextest runs what any of several filters holds, so it gets one.
fn filter(left_out: &[&str], nextest: bool) -> Vec<String> {
    if left_out.is_empty() {
        return Vec::new();
    }
    if nextest {
        let each: Vec<String> = left_out.iter().map(|module| format!("not test(/^{module}/)")).collect();
        return vec!["-E".to_owned(), each.join(" and ")];
    }
    let each = left_out.iter().flat_map(|module| ["--skip".to_owned(), (*module).to_owned()]);
    ["--".to_owned()].into_iter().chain(each).collect()
}

fn doc() -> Result<Counts> {
    let mut counts = Counts::default();
    let mut command = sh::cargo();
    command.args(["test", "--doc", "--release", "--locked", "--workspace", "--quiet"]);
    let ended_well = sh::watch(&mut command, |line| read_libtest(line, &mut counts))?;
    Ok(blame(counts, ended_well))
}

fn benches() -> Result<Counts> {
    let mut counts = Counts::default();
    for (name, args) in SHORT_BENCHES {
        let args: Vec<String> = [name].iter().chain(args).map(|&arg| arg.to_owned()).collect();
        if sh::watch(&mut bench::command(&args), |_| {})? {
            counts.passed += 1;
        } else {
            println!("bench {name} failed");
            counts.failed += 1;
        }
    }
    Ok(counts)
}

/// A runner that failed without a failed test did not build, or crashed.
fn blame(mut counts: Counts, ended_well: bool) -> Counts {
    if !ended_well && counts.failed == 0 {
        counts.failed = 1;
    }
    counts
}

/// `Summary [   1.2s] 45 tests run: 44 passed (1 slow), 1 failed, 2 skipped`
fn read_nextest(line: &str, counts: &mut Counts) {
    let Some((_, summary)) = line.trim_start().strip_prefix("Summary [").and_then(|rest| rest.split_once("run: "))
    else {
        return;
    };
    for part in summary.split(", ") {
        let mut words = part.split_whitespace();
        let (Some(Ok(number)), Some(word)) = (words.next().map(str::parse::<u64>), words.next()) else { continue };
        match word {
            "passed" => counts.passed += number,
            "skipped" => counts.skipped += number,
            // `failed`, `timed out`, `exec failed`
            _ => counts.failed += number,
        }
    }
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s`
fn read_libtest(line: &str, counts: &mut Counts) {
    let Some((_, summary)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else { return };
    for part in summary.split("; ") {
        let Some((number, word)) = part.split_once(' ') else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match word {
            "passed" => counts.passed += number,
            "failed" => counts.failed += number,
            "ignored" => counts.skipped += number,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_both_runners_are_counted() {
        let mut counts = Counts::default();
        read_nextest(
            "     Summary [   1.234s] 48 tests run: 45 passed (2 slow), 2 failed, 1 timed out, 3 skipped",
            &mut counts,
        );
        assert_eq!((counts.passed, counts.failed, counts.skipped), (45, 3, 3));
        let mut counts = Counts::default();
        read_libtest(
            "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0s",
            &mut counts,
        );
        assert_eq!((counts.passed, counts.failed, counts.skipped), (5, 2, 1));
    }

    #[test]
    fn what_is_left_out_is_left_out_together() {
        assert!(filter(&[], true).is_empty() && filter(&[], false).is_empty());
        assert_eq!(filter(&["a::", "b::"], true), ["-E", "not test(/^a::/) and not test(/^b::/)"]);
        assert_eq!(filter(&["a::", "b::"], false), ["--", "--skip", "a::", "--skip", "b::"]);
    }

    #[test]
    fn a_run_without_tests_is_no_success() {
        assert!(Counts::default().report().is_err());
        assert!(Counts { passed: 1, ..Counts::default() }.report().is_ok());
        assert!(Counts { passed: 1, failed: 1, skipped: 0 }.report().is_err());
    }
}
