//! The tasks of this repository: `cargo xtask TASK`, and `cargo osvm …`, which builds what it needs and becomes `osvm`.
//!
//! Nothing of the product lives here.
#![forbid(unsafe_code)]

mod apt;
mod audit;
mod bench;
mod ci;
mod clients;
mod conformance;
mod deny;
mod fuzz;
mod house;
mod lists;
mod metadata;
mod microvm;
mod osvm;
mod sarif;
mod sh;
mod spec;
mod test;

use std::process::ExitCode;

use sh::Result;

const USAGE: &str = "\
Usage: cargo xtask TASK

  ci              what .ci/run runs: fmt, clippy, docs, deny, house, test
  test            installs what the tests need, then runs every test, the clients' suites and the short benches
  clients         runs the clients' suites alone, against the release binaries that are there
  conformance     runs the official suite of MCP against the gateway and against its fixture alone
  house           checks the rules of the house: who imports whom, unsafe code, file sizes, SPECIFICATION.md
  lists           writes the jail's lists into SECURITY.md
  deny            licences, banned crates and sources (installs cargo-deny where it is missing)
  fuzz [SECONDS]  runs the auditor on what a fuzzer finds, an hour without a number (installs cargo-fuzz under target/)
  setup           installs what the tests and the benches need, and nothing else
  bench NAME …    swap, gateway, localnet, jail, unikernel, mcp, fault or audit at full length; the rest goes to osvm-bench
  osvm …          builds the release binaries and runs osvm (same as `cargo osvm …`)";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let done = match task.as_str() {
        "ci" => ci::run(),
        "test" => test::run().and_then(test::Counts::report),
        "house" => house::run(),
        "lists" => lists::write(),
        "deny" => deny::run(),
        "clients" => clients::install_missing().and_then(|()| clients::run()).and_then(test::Counts::report),
        "conformance" => conformance::run().and_then(test::Counts::report),
        "fuzz" => fuzz::run(&rest),
        "setup" => setup(),
        "bench" => bench::run(&rest),
        "osvm" => osvm::run(&rest),
        "help" | "-h" | "--help" => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn setup() -> Result<()> {
    apt::install_missing()?;
    clients::install_missing()?;
    sarif::install_missing()?;
    microvm::install_missing()?;
    if apt::browser().is_none() {
        println!("not installed: Chromium; the tests that need one will be left out");
    }
    deny::install_missing()
}
