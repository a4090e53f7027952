//! `osvm audit db`: the local copy of the RustSec advisories. `update` is what opens a connection, by git.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    baseline::write_whole,
    failure::Failure,
    host::{self, Database},
    output,
};

/// Where RustSec publishes.
pub(crate) const UPSTREAM: &str = "https://github.com/RustSec/advisory-db.git";

/// Fetches into a folder beside the old copy, looks at it, and only then takes its place.
pub(crate) fn update(from: &str, db: Option<PathBuf>) -> Result<(), Failure> {
    let Some(folder) = host::database_folder(db.as_deref()) else {
        return Err(Failure::new("there is no folder for the advisories: HOME is not set").help("name one with --db"));
    };
    let shown = folder.display().to_string();
    if folder.exists() && !folder.join(host::STAMP).is_file() {
        let empty = fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_none());
        if !empty {
            return Err(Failure::new(format!("{shown} was not made by `osvm audit db update`, so it is not replaced"))
                .help("name another folder with --db"));
        }
    }
    let parent = folder.parent().unwrap_or(Path::new("."));
    let cannot = |error: std::io::Error| Failure::new(format!("cannot write {shown}")).because(&error);
    fs::create_dir_all(parent).map_err(cannot)?;
    let beside = |end: &str| {
        let mut name = folder.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.{end}", std::process::id()));
        folder.with_file_name(name)
    };
    let (new, old) = (beside("new"), beside("old"));
    let fetched = fetch(from, &new).and_then(|stamp| {
        if folder.exists() {
            fs::rename(&folder, &old).map_err(cannot)?;
        }
        fs::rename(&new, &folder).map_err(cannot)?;
        Ok(stamp)
    });
    let _ = fs::remove_dir_all(&new);
    let _ = fs::remove_dir_all(&old);
    fetched?;
    show(Some(folder))
}

fn fetch(from: &str, new: &Path) -> Result<(), Failure> {
    let clone = ["clone", "--quiet", "--depth", "1", "--single-branch", "--no-tags", "--"];
    git(Command::new("git").args(clone).arg(from).arg(new), from)?;
    let revision = git(Command::new("git").arg("-C").arg(new).args(["rev-parse", "HEAD"]), from)?;
    let date = git(Command::new("git").arg("-C").arg(new).args(["log", "-1", "--format=%cs"]), from)?;
    let stamp = host::Stamp { from: from.to_owned(), revision, date };
    let database = Database::open(Some(new));
    let count = database.ok().flatten().map_or(0, |database| database.len());
    if count == 0 {
        return Err(Failure::new(format!("{from} holds no advisories; nothing was changed"))
            .help("they lie in crates/NAME/ID.md there"));
    }
    let bytes = serde_json::to_vec_pretty(&stamp).map_err(|error| Failure::new("cannot write JSON").because(&error))?;
    write_whole(&new.join(host::STAMP), &bytes)
        .map_err(|error| Failure::new(format!("cannot write {}", new.display())).because(&error))
}

fn git(command: &mut Command, from: &str) -> Result<String, Failure> {
    // A question for a password would wait for ever where nobody sits before it.
    let output = command.env("GIT_TERMINAL_PROMPT", "0").output();
    let output =
        output.map_err(|error| Failure::new("cannot run git, which fetches the advisories").because(&error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let why = words.lines().last().unwrap_or("git gave no reason").trim().to_owned();
    Err(Failure::new(format!("cannot fetch the advisories from {from}; nothing was changed: {why}")))
}

/// Which copy is there.
pub(crate) fn show(db: Option<PathBuf>) -> Result<(), Failure> {
    let Some(database) = Database::open(db.as_deref())? else {
        return Err(Failure::new("there is no local copy of the advisories").help("fetch it: osvm audit db update"));
    };
    let (folder, stamp) = database.origin();
    let mut text = format!("advisories  {} in {}\n", database.len(), folder.display());
    if let Some(host::Stamp { from, revision, date }) = stamp {
        text.push_str(&format!("revision    {revision} of {date}\nfrom        {from}\n"));
    }
    text.push_str("licence     CC0-1.0; imported ones CC-BY-4.0, as each file says\n");
    output::print(&text)
}
