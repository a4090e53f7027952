//! SPECIFICATION.md: each promise names the test that enforces it, and the test is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::sh::{self, Result};

/// Checks that the last cell of each row names at least one test, and that each test named there exists.
pub(crate) fn check(broken: &mut Vec<String>) -> Result<()> {
    let mut sources = String::new();
    for dir in ["crates", "xtask/src", "tests"] {
        collect(&sh::root().join(dir), &mut sources)?;
    }
    let text = read(&sh::root().join("SPECIFICATION.md"))?;
    let mut promises = 0;
    for (number, row) in text.lines().enumerate().filter(|(_, line)| line.starts_with("| ")) {
        let cell = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default();
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        if cell.trim() == "enforced by" {
            continue;
        }
        promises += 1;
        if names.is_empty() {
            broken.push(format!("SPECIFICATION.md:{}: the promise names no test", number + 1));
        }
        for name in names.iter().filter(|name| !is_there(name, &sources)) {
            broken.push(format!("SPECIFICATION.md:{}: there is no test {name}", number + 1));
        }
    }
    println!("SPECIFICATION.md: {promises} promises");
    Ok(())
}

/// A Rust or Python test by its function's name, a JavaScript test by its title, a bench by its command.
fn is_there(name: &str, sources: &str) -> bool {
    let function = name.rsplit("::").next().unwrap_or(name);
    ["swap", "fault", "gateway", "localnet", "jail", "mcp"]
        .iter()
        .any(|bench| name == format!("cargo xtask bench {bench}"))
        || name == "cargo xtask conformance"
        || sources.contains(&format!("fn {function}("))
        || sources.contains(&format!("def {function}("))
        || sources.contains(&format!("test('{name}'"))
}

fn collect(dir: &Path, sources: &mut String) -> Result<()> {
    let unreadable = |error| format!("cannot read {}: {error}", dir.display());
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?.path());
    }
    for path in entries {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if path.is_dir() && !path.ends_with("node_modules") {
            collect(&path, sources)?;
        } else if ["rs", "py", "mjs"].contains(&extension) {
            sources.push_str(&read(&path)?);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_found_by_its_name_in_each_language() {
        let sources = "fn one_holds() {}\nasync def two_holds(node):\ntest('web3.js: three', async () => {";
        for name in ["one_holds", "tests::one_holds", "two_holds", "web3.js: three", "cargo xtask bench swap"] {
            assert!(is_there(name, sources), "{name}");
        }
        assert!(!is_there("four_holds", sources));
        assert!(!is_there("cargo xtask bench nothing", sources));
    }
}
