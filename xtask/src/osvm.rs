//! `cargo osvm …`: builds the binaries that the node needs, then becomes `osvm`.

use std::{os::unix::process::CommandExt, process::Command};

use crate::{
    microvm,
    sh::{self, Result},
};

/// The packages whose binaries `osvm rpc local`, `osvm program`, `osvm mcp` and `osvm run` need. Not the workspace: that would double the build.
pub(crate) const PACKAGES: [&str; 7] =
    ["osvm", "osvm-jail", "osvm-localnet", "osvm-mcp", "osvm-program", "osvm-run", "osvm-unikernel"];
/// Linked statically: a start of a VM is a start of this binary, and the dynamic linker would take a tenth of it.
const STATIC: &str = "osvm-unikernel";
/// What `osvm audit` needs. It does without the node, whose first build takes longest.
const AUDIT: [&str; 2] = ["osvm", "osvm-audit-cli"];
/// What `osvm microvm` needs, besides the guests' agent.
const MICROVM: [&str; 2] = ["osvm", "osvm-microvm"];

/// Replaces this process by `osvm`, so that signals and the exit code are its own.
pub(crate) fn run(args: &[String]) -> Result<()> {
    match args.first().map(String::as_str) {
        Some("audit") => build(&AUDIT)?,
        Some("microvm") => build(&MICROVM).and_then(|()| microvm::agent(&sh::target().join("release")))?,
        _ => build(&PACKAGES)?,
    }
    let error = Command::new(sh::release("osvm")).args(args).exec();
    Err(format!("cannot run {}: {error}", sh::release("osvm").display()))
}

/// Builds release binaries. What cargo says goes to stderr; nothing is said when all is built already.
pub(crate) fn build(packages: &[&str]) -> Result<()> {
    let mut build = sh::cargo();
    build.args(["build", "--release", "--locked"]);
    for package in packages.iter().filter(|package| **package != STATIC) {
        build.args(["--package", package]);
    }
    let quiet = packages.iter().all(|package| sh::release(binary(package)).exists());
    if quiet {
        build.arg("--quiet");
    } else {
        eprintln!("building {} in release; the first build takes some minutes", packages.join(", "));
    }
    cargo(build, packages)?;
    if !packages.contains(&STATIC) {
        return Ok(());
    }
    let alone = |how: &[&str], rest: &[&str]| {
        let mut build = sh::cargo();
        build.args(how).args(["--release", "--locked", "--package", STATIC, "--bin", STATIC]);
        build.args(if quiet { &["--quiet"][..] } else { &[] }).args(rest);
        cargo(build, &[STATIC])
    };
    alone(&["rustc"], &["--", "-C", "target-feature=+crt-static"]).or_else(|_| {
        eprintln!("{STATIC} is linked dynamically instead; the C library's static form may be missing here");
        alone(&["build"], &[])
    })
}

fn cargo(mut build: Command, packages: &[&str]) -> Result<()> {
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
