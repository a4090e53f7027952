//! `cargo xtask bench NAME`: builds the release binaries and starts `osvm-bench`, which does the rest.

use std::{os::unix::process::CommandExt, process::Command};

use crate::{
    apt, osvm,
    sh::{self, Result},
};

/// What a bench needs: the product, and the bench itself.
pub(crate) const PACKAGES: [&str; 6] = ["osvm", "osvm-jail", "osvm-localnet", "osvm-program", "osvm-run", "osvm-bench"];

/// Replaces this process by the bench.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.first().is_some_and(|name| name == "gateway" || name == "jail") {
        apt::install_missing()?;
    }
    osvm::build(&PACKAGES)?;
    let error = command(args).exec();
    Err(format!("cannot run osvm-bench: {error}"))
}

/// The bench's command with the folders it reports into.
pub(crate) fn command(args: &[String]) -> Command {
    let mut command = Command::new(sh::release("osvm-bench"));
    command
        .args(args)
        .current_dir(sh::root())
        .env("OSVM_BENCH_BIN", sh::target().join("release"))
        .env("OSVM_BENCH_OUT", sh::target().join("bench"));
    command
}
