//! `cargo osvm …`: builds the binaries that the node needs, then becomes `osvm`.

use std::{os::unix::process::CommandExt, process::Command};

use crate::sh::{self, Result};

/// The packages whose binaries `osvm rpc local`, `osvm program`, `osvm mcp` and `osvm run` need. Not the workspace: that would double the build.
pub(crate) const PACKAGES: [&str; 7] =
    ["osvm", "osvm-jail", "osvm-localnet", "osvm-mcp", "osvm-program", "osvm-run", "osvm-unikernel"];
/// What `osvm audit` needs. It does without the node, whose first build takes longest.
const AUDIT: [&str; 2] = ["osvm", "osvm-audit-cli"];

/// Replaces this process by `osvm`, so that signals and the exit code are its own.
pub(crate) fn run(args: &[String]) -> Result<()> {
    build(if args.first().is_some_and(|name| name == "audit") { &AUDIT } else { &PACKAGES })?;
    let error = Command::new(sh::release("osvm")).args(args).exec();
    Err(format!("cannot run {}: {error}", sh::release("osvm").display()))
}

/// Builds release binaries. What cargo says goes to stderr; nothing is said when all is built already.
pub(crate) fn build(packages: &[&str]) -> Result<()> {
    let mut build = sh::cargo();
    build.args(["build", "--release", "--locked"]);
    for package in packages {
        build.args(["--package", package]);
    }
    if packages.iter().all(|package| sh::release(binary(package)).exists()) {
        build.arg("--quiet");
    } else {
        eprintln!("building {} in release; the first build takes some minutes", packages.join(", "));
    }
    let status = build.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the build of {} failed", packages.join(", "))) }
}

/// A package has the name of its binary, or, where a library has that name, `-cli` behind it.
fn binary(package: &str) -> &str {
    package.strip_suffix("-cli").unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_auditor_s_binary_is_osvm_audit() {
        assert_eq!(AUDIT.map(binary), ["osvm", "osvm-audit"]);
        assert_eq!(PACKAGES.map(binary), PACKAGES);
    }
}
