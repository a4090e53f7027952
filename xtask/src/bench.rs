//! `cargo xtask bench NAME`: builds the release binaries and starts `osvm-bench`, which does the rest.

use std::{os::unix::process::CommandExt, process::Command};

use crate::{
    apt, audit, osvm,
    sh::{self, Result},
};

/// What a bench needs: the product, and the bench itself.
pub(crate) const PACKAGES: [&str; 9] = [
    "osvm",
    "osvm-jail",
    "osvm-localnet",
    "osvm-mcp",
    "osvm-mcp-fixture",
    "osvm-program",
    "osvm-run",
    "osvm-unikernel",
    "osvm-bench",
];
/// What the bench of level `unikernel` needs: it does without the node, whose first build takes longest.
const UNIKERNEL: [&str; 2] = ["osvm-unikernel", "osvm-bench"];

/// Replaces this process by the bench.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.first().is_some_and(|name| ["gateway", "jail", "unikernel"].contains(&name.as_str())) {
        apt::install_missing()?;
    }
    match args.first().map(String::as_str) {
        Some("audit") => return audit(args),
        Some("unikernel") => osvm::build(&UNIKERNEL)?,
        _ => osvm::build(&PACKAGES)?,
    }
    let error = command(args).exec();
    Err(format!("cannot run osvm-bench: {error}"))
}

/// The auditor needs nothing of the node, whose build takes longest.
fn audit(args: &[String]) -> Result<()> {
    osvm::build(&["osvm-audit-cli", "osvm-bench"])?;
    let mut command = command(args);
    command.env("OSVM_BENCH_TREE", audit::tree()?);
    if let Some(peer) = audit::peer() {
        command.env("OSVM_BENCH_FENDER", peer);
    }
    let error = command.exec();
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
