//! Licences, banned crates and sources, by cargo-deny and deny.toml.

use crate::sh::{self, Result};

/// The version that is installed where none is.
const VERSION: &str = "0.20.2";

/// Checks the whole graph. Advisories are checked where their database can be had, and it is said where it cannot.
pub(crate) fn run() -> Result<()> {
    install_missing()?;
    sh::run(sh::cargo().args(["deny", "--locked", "check", "bans", "licenses", "sources"]))?;
    let fetched = sh::cargo().args(["deny", "fetch", "db"]).output();
    if fetched.is_ok_and(|output| output.status.success()) {
        return sh::run(sh::cargo().args(["deny", "--locked", "check", "--disable-fetch", "advisories"]));
    }
    println!("deny: advisories were not checked: the RustSec database cannot be fetched from here");
    Ok(())
}

/// Installs cargo-deny where cargo does not know it.
pub(crate) fn install_missing() -> Result<()> {
    if sh::cargo().args(["deny", "--version"]).output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    // Built without optimisation: it checks in seconds either way, and is there in a third of the time.
    sh::run(sh::cargo().args(["install", "--locked", "--debug", &format!("cargo-deny@{VERSION}")]))
}
