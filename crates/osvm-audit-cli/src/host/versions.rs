//! Which versions an advisory speaks of: pre-releases are ordered like all others, other than in Cargo's requirements.

use semver::{BuildMetadata, Comparator, Op, Prerelease, Version, VersionReq};

/// Whether `version` is one of those that `requirement` describes.
pub(crate) fn matches(requirement: &VersionReq, version: &Version) -> bool {
    requirement.comparators.iter().all(|comparator| holds(comparator, version))
}

fn holds(comparator: &Comparator, version: &Version) -> bool {
    let low = Version {
        major: comparator.major,
        minor: comparator.minor.unwrap_or(0),
        patch: comparator.patch.unwrap_or(0),
        pre: comparator.pre.clone(),
        build: BuildMetadata::EMPTY,
    };
    let version = Version { build: BuildMetadata::EMPTY, ..version.clone() };
    match comparator.op {
        Op::Greater => version >= after(comparator) && version != low,
        Op::GreaterEq => version >= low,
        Op::Less => version < low,
        Op::LessEq => version < after(comparator) || version == low,
        Op::Exact | Op::Wildcard => version >= low && version < after(comparator),
        Op::Tilde => {
            let next = match comparator.minor {
                Some(minor) => first(comparator.major, minor.saturating_add(1), 0),
                None => first(comparator.major.saturating_add(1), 0, 0),
            };
            version >= low && version < next
        }
        Op::Caret => version >= low && version < next_incompatible(comparator),
        _ => false,
    }
}

/// The first version behind all that the comparator's numbers name.
fn after(comparator: &Comparator) -> Version {
    match (comparator.minor, comparator.patch) {
        (None, _) => first(comparator.major.saturating_add(1), 0, 0),
        (Some(minor), None) => first(comparator.major, minor.saturating_add(1), 0),
        (Some(minor), Some(patch)) if comparator.pre.is_empty() => {
            first(comparator.major, minor, patch.saturating_add(1))
        }
        // A pre-release names itself alone; the next one is whatever comes behind it.
        (Some(minor), Some(patch)) => {
            let pre = Prerelease::new(&format!("{}.0", comparator.pre)).unwrap_or_else(|_| comparator.pre.clone());
            Version { major: comparator.major, minor, patch, pre, build: BuildMetadata::EMPTY }
        }
    }
}

fn next_incompatible(comparator: &Comparator) -> Version {
    match (comparator.major, comparator.minor, comparator.patch) {
        (0, Some(0), Some(patch)) => first(0, 0, patch.saturating_add(1)),
        (0, Some(minor), _) => first(0, minor.saturating_add(1), 0),
        (major, ..) => first(major.saturating_add(1), 0, 0),
    }
}

/// The least pre-release of a version, so that none of its pre-releases counts as older.
fn first(major: u64, minor: u64, patch: u64) -> Version {
    let pre = Prerelease::new("0").unwrap_or(Prerelease::EMPTY);
    Version { major, minor, patch, pre, build: BuildMetadata::EMPTY }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(requirement: &str, version: &str) -> bool {
        matches(&VersionReq::parse(requirement).unwrap(), &Version::parse(version).unwrap())
    }

    #[test]
    fn requirements_hold_for_the_versions_that_they_name() {
        for (requirement, yes, no) in [
            (">= 1.2.0", "1.2.0", "1.1.9"),
            (">= 1.2.0", "2.0.0-rc.1", "1.2.0-rc.1"),
            (">= 1.0.0-alpha.1", "1.0.0-alpha.2", "1.0.0-alpha.0"),
            ("> 1.2.0", "1.2.1", "1.2.0"),
            ("> 1", "2.0.0", "1.9.9"),
            ("<= 1.2.0", "1.2.0", "1.2.1"),
            ("< 0.3.0, >= 0.2.1", "0.2.1", "0.3.0"),
            ("^0.10.4", "0.10.9", "0.11.0"),
            ("^0.10.4", "0.10.4", "0.10.3"),
            ("^0.0.3", "0.0.3", "0.0.4"),
            ("^1.2", "1.9.0", "2.0.0-rc.1"),
            ("~1.2.3", "1.2.9", "1.3.0"),
            ("=1.2.3", "1.2.3", "1.2.4"),
            ("1.*", "1.7.0", "2.0.0"),
        ] {
            assert!(says(requirement, yes), "{requirement} takes {yes}");
            assert!(!says(requirement, no), "{requirement} leaves {no}");
        }
        assert!(says(">= 1.2.0", "1.2.0+build"));
    }
}
