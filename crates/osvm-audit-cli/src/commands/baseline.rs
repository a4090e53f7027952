//! `osvm audit baseline update`: what is found now becomes known.

use std::path::{Path, PathBuf};

use crate::{
    audit::{self, Setup},
    baseline::{Baseline, NAME},
    config::Config,
    failure::Failure,
    output,
};

pub(crate) fn update(
    path: &Path,
    file: Option<PathBuf>,
    config: Option<&Path>,
    db: Option<PathBuf>,
) -> Result<(), Failure> {
    let config = Config::read(config, path)?;
    let setup = Setup { config, db, ..Setup::bare(path) };
    let configured = setup.config.baseline.as_ref().map(|file| setup.config.folder.join(file));
    let file = file.or(configured).unwrap_or_else(|| setup.folder().join(NAME));
    let audit = audit::run(&setup)?;
    let old = if file.exists() { Baseline::read(&file).ok() } else { None };
    let baseline = Baseline::new(&audit.findings);
    let (new, kept, gone) = match &old {
        Some(old) => {
            let (new, kept, gone) = old.split(audit.findings, false);
            (new.len(), kept.len(), gone)
        }
        None => (baseline.len(), 0, 0),
    };
    baseline.write(&file)?;
    output::print(&format!(
        "{}: {} known findings ({new} added, {kept} kept, {gone} gone)\nuse it: osvm audit --baseline {}\n",
        file.display(),
        baseline.len(),
        file.display()
    ))
}
