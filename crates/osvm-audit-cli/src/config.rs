//! `osvm.audit.toml`: a project's own settings. An unknown key is an error, so that a slip of the pen turns nothing off.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use osvm_audit::Severity;
use serde::Deserialize;

use crate::{cli::Bar, failure::Failure, rules};

/// The file's name.
pub(crate) const NAME: &str = "osvm.audit.toml";

/// What the file says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// The bar, as `--fail-on`.
    #[serde(default)]
    pub(crate) fail_on: Option<Bar>,
    /// As `--strict`.
    #[serde(default)]
    pub(crate) strict: bool,
    /// As `--baseline`, relative to the file.
    #[serde(default)]
    pub(crate) baseline: Option<PathBuf>,
    /// Folders and files whose findings are left out, relative to the file.
    #[serde(default)]
    pub(crate) exclude: Vec<PathBuf>,
    /// Another severity for a rule, or `off`.
    #[serde(default)]
    pub(crate) rules: BTreeMap<String, Level>,
    /// Findings that are accepted, each with a reason.
    #[serde(default)]
    pub(crate) allow: Vec<Allow>,
    /// The folder of the file.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
}

/// What a rule is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    Off,
    Info,
    Low,
    Medium,
    High,
    Critical,
}

impl Level {
    /// The severity, or `None` for off.
    pub(crate) fn severity(self) -> Option<Severity> {
        match self {
            Self::Off => None,
            Self::Info => Some(Severity::Info),
            Self::Low => Some(Severity::Low),
            Self::Medium => Some(Severity::Medium),
            Self::High => Some(Severity::High),
            Self::Critical => Some(Severity::Critical),
        }
    }
}

/// One accepted finding, or many of one rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Allow {
    /// The rule.
    pub(crate) rule: String,
    /// Only in this folder or file, relative to the file.
    #[serde(default)]
    pub(crate) path: Option<PathBuf>,
    /// Why. Never empty.
    pub(crate) reason: String,
}

impl Config {
    /// Reads `given`, or the nearest file from `root` upwards; without one, the defaults.
    pub(crate) fn read(given: Option<&Path>, root: &Path) -> Result<Self, Failure> {
        let file = match given {
            Some(file) => file.to_owned(),
            None => match find(root) {
                Some(file) => file,
                None => return Ok(Self::default()),
            },
        };
        let shown = file.display().to_string();
        let text = fs::read_to_string(&file)
            .map_err(|error| Failure::new(format!("cannot read the settings {shown}")).because(&error))?;
        let absolute = std::path::absolute(&file).unwrap_or(file);
        let folder = absolute.parent().map(Path::to_owned).unwrap_or_default();
        Self::parse(&text, folder).map_err(|why| Failure::new(format!("the settings {shown} cannot be used: {why}")))
    }

    fn parse(text: &str, folder: PathBuf) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let named = config.rules.keys().chain(config.allow.iter().map(|allow| &allow.rule));
        if let Some(unknown) = named.into_iter().find(|id| rules::find(id).is_none()) {
            return Err(format!("there is no rule {unknown}; `osvm audit rules` lists them"));
        }
        if let Some(allow) = config.allow.iter().find(|allow| allow.reason.trim().is_empty()) {
            return Err(format!("allow of {}: say a reason", allow.rule));
        }
        Ok(Self { folder, ..config })
    }

    /// What `rule` is set to, if it is.
    pub(crate) fn level(&self, rule: &str) -> Option<Level> {
        self.rules.iter().find(|(id, _)| id.eq_ignore_ascii_case(rule)).map(|(_, level)| *level)
    }

    /// Whether `file` (absolute) is left out.
    pub(crate) fn excludes(&self, file: &Path) -> bool {
        self.exclude.iter().any(|path| file.starts_with(self.folder.join(path)))
    }

    /// Why `rule` is accepted in `file` (absolute), if it is.
    pub(crate) fn allows(&self, rule: &str, file: &Path) -> Option<&str> {
        let holds = |allow: &&Allow| {
            allow.rule.eq_ignore_ascii_case(rule)
                && allow.path.as_ref().is_none_or(|path| file.starts_with(self.folder.join(path)))
        };
        self.allow.iter().find(holds).map(|allow| allow.reason.as_str())
    }
}

/// From `root` upwards, not beyond the folder that holds `.git`.
fn find(root: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(root).ok()?;
    for folder in absolute.ancestors() {
        let file = folder.join(NAME);
        if file.is_file() {
            return Some(file);
        }
        if folder.join(".git").exists() {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_an_error() {
        for (text, why) in [
            ("fail_on = 'high'", "unknown field"),
            ("fail-on = 'hihg'", "unknown variant"),
            ("[rules]\nOSVM-9999 = 'off'", "no rule OSVM-9999"),
            ("[[allow]]\nrule = 'OSVM-094'", "missing field"),
            ("[[allow]]\nrule = 'OSVM-094'\nreason = ' '", "say a reason"),
        ] {
            let error = Config::parse(text, PathBuf::new()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn paths_are_relative_to_the_file_and_whole_folders() {
        let text = "exclude = ['old']\n[[allow]]\nrule = 'OSVM-094'\npath = 'a'\nreason = 'not reachable'";
        let config = Config::parse(text, PathBuf::from("/p")).unwrap();
        assert!(config.excludes(Path::new("/p/old/src/lib.rs")));
        assert!(!config.excludes(Path::new("/p/older/src/lib.rs")));
        assert_eq!(config.allows("osvm-094", Path::new("/p/a/Cargo.lock")), Some("not reachable"));
        assert_eq!(config.allows("OSVM-094", Path::new("/p/b/Cargo.lock")), None);
        assert_eq!(config.allows("OSVM-095", Path::new("/p/a/Cargo.lock")), None);
    }
}
