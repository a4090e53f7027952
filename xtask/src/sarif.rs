//! The JSON schema of SARIF that the auditor's reports are held against, out of a crate of the registry.
//!
//! It is taken from there and lies under target/: nothing of it is part of this repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    metadata::Workspace,
    sh::{self, Result},
};

/// The crate that carries OASIS's schema of 2.1.0, read and never built.
const CRATE: &str = "serde-sarif";
const VERSION: &str = "0.8.0";
/// Where it stands in the crate.
const IN_CRATE: &str = "src/schema.json";

/// Fetches the schema to `sarif/sarif-schema-2.1.0.json` under target/, where the tests look for it.
pub(crate) fn install_missing() -> Result<()> {
    let dir = sh::target().join("sarif");
    let (manifest, schema) = (dir.join("Cargo.toml"), dir.join("sarif-schema-2.1.0.json"));
    let wanted = format!(
        "[package]\nname = \"schema\"\nedition = \"2024\"\n\n[lib]\npath = \"lib.rs\"\n\n[workspace]\n\n\
         [dependencies]\n{CRATE} = \"={VERSION}\"\n"
    );
    if schema.is_file() && fs::read_to_string(&manifest).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    let failed = |error| format!("cannot write to {}: {error}", dir.display());
    // Gone first: an end half way is not to leave an older schema under a manifest that says otherwise.
    if schema.exists() {
        fs::remove_file(&schema).map_err(failed)?;
    }
    fs::create_dir_all(&dir).map_err(failed)?;
    fs::write(dir.join("lib.rs"), "").map_err(failed)?;
    fs::write(&manifest, wanted).map_err(failed)?;
    eprintln!("fetching the schema of SARIF out of {CRATE} {VERSION}");
    let from = source(&manifest)?.join(IN_CRATE);
    fs::copy(&from, &schema).map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
    Ok(())
}

/// Cargo fetches what it describes, and holds each crate against the registry's checksum.
fn source(manifest: &Path) -> Result<PathBuf> {
    let mut cargo = sh::cargo();
    let graph =
        Workspace::described_by(cargo.args(["metadata", "--format-version", "1", "--manifest-path"]).arg(manifest))?;
    graph.source_dir(CRATE).ok_or_else(|| format!("{CRATE} was not fetched"))
}
