//! A file of known findings: told apart, so that only what is new counts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{audit::Item, failure::Failure};

/// Its name where none is given.
pub(crate) const NAME: &str = "osvm.audit.baseline.json";
const SCHEMA: &str = "osvm.audit.baseline/v1";

/// The known findings, by fingerprint.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Baseline {
    schema: String,
    findings: BTreeMap<String, Known>,
}

/// For the reader: what hides behind a fingerprint.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    rule: String,
    file: String,
    message: String,
}

impl Baseline {
    pub(crate) fn new(items: &[Item]) -> Self {
        let known = |item: &Item| Known {
            rule: item.finding.rule.to_owned(),
            file: item.finding.location.file.clone(),
            message: item.finding.message.clone(),
        };
        let findings = items.iter().map(|item| (item.fingerprint.clone(), known(item))).collect();
        Self { schema: SCHEMA.to_owned(), findings }
    }

    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let shown = file.display();
        let text = fs::read_to_string(file).map_err(|error| {
            Failure::new(format!("cannot read the baseline {shown}"))
                .because(&error)
                .help(format!("make it: osvm audit baseline update --file {shown}"))
        })?;
        let unusable = |why: String| {
            Failure::new(format!("the baseline {shown} cannot be used: {why}"))
                .help(format!("make it anew: osvm audit baseline update --file {shown}"))
        };
        let baseline: Self = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        if baseline.schema == SCHEMA {
            Ok(baseline)
        } else {
            Err(unusable(format!("its schema is {:?}, not {SCHEMA:?}", baseline.schema)))
        }
    }

    /// Writes it whole or not at all.
    pub(crate) fn write(&self, file: &Path) -> Result<(), Failure> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| Failure::new("cannot write the baseline").because(&error))?;
        text.push('\n');
        write_whole(file, text.as_bytes())
            .map_err(|error| Failure::new(format!("cannot write the baseline {}", file.display())).because(&error))
    }

    /// New ones, known ones, and how many known ones are gone. With `part` only a part was looked at, and none is called gone.
    pub(crate) fn split(&self, items: Vec<Item>, part: bool) -> (Vec<Item>, Vec<Item>, usize) {
        let (known, new): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| self.findings.contains_key(&item.fingerprint));
        let gone = if part { 0 } else { self.findings.len() - known.len() };
        (new, known, gone)
    }

    /// How many it holds.
    pub(crate) fn len(&self) -> usize {
        self.findings.len()
    }
}

/// Writes beside `file` and renames, so that a reader never sees a half.
pub(crate) fn write_whole(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside: PathBuf = file.with_file_name(name);
    let written = fs::write(&beside, bytes).and_then(|()| {
        if let Ok(meta) = fs::metadata(file) {
            fs::set_permissions(&beside, meta.permissions())?;
        }
        fs::rename(&beside, file)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}
