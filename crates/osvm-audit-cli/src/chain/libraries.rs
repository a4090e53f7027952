//! Which crates a program was built from, as far as it says so itself: its panics hold paths as
//! `…/registry/src/INDEX/NAME-VERSION/src/lib.rs`.

use std::collections::BTreeSet;

use semver::Version;

const MARK: &[u8] = b"registry/src/";
/// No path is longer.
const LONGEST: usize = 512;

/// Names and versions, sorted.
pub(super) fn find(elf: &[u8]) -> BTreeSet<(String, Version)> {
    let mut found = BTreeSet::new();
    let mut at = 0;
    while let Some(next) = elf[at..].windows(MARK.len()).position(|window| window == MARK) {
        at += next + MARK.len();
        let path: Vec<u8> =
            elf[at..].iter().take(LONGEST).copied().take_while(|byte| byte.is_ascii_graphic()).collect();
        let path = String::from_utf8_lossy(&path);
        let mut parts = path.split('/');
        let package = (parts.next(), parts.next(), parts.next());
        if let (Some(_), Some(package), Some(_)) = package {
            found.extend(split(package));
        }
    }
    found
}

/// `anchor-lang-0.30.1`: the version begins behind the first hyphen that a version can begin behind.
fn split(package: &str) -> Option<(String, Version)> {
    package.match_indices('-').find_map(|(at, _)| {
        let version = Version::parse(&package[at + 1..]).ok()?;
        Some((package[..at].to_owned(), version))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_read_from_the_paths_of_panics() {
        let elf = b"\0/root/.cargo/registry/src/index.crates.io-6f17d22bba15001f/anchor-lang-0.30.1/src/error.rs\0\
            registry/src/x/borsh-1.0.0-alpha.1/src/a.rs called registry/src/x/cut-1.0.0";
        let found: Vec<String> = find(elf).iter().map(|(name, version)| format!("{name} {version}")).collect();
        assert_eq!(found, ["anchor-lang 0.30.1", "borsh 1.0.0-alpha.1"]);
    }
}
