//! `--watch`: audits again after each change. Folders that are built into are not watched.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::audit::format;
use crate::{
    audit::{self, Session, Setup},
    cli::AuditArgs,
    config,
    failure::Failure,
    host, output,
};

/// An editor writes a file in several steps; so long nothing may happen before the audit begins.
const QUIET: Duration = Duration::from_millis(30);

/// Runs until Ctrl-C.
pub(crate) fn run(args: &AuditArgs) -> Result<u8, Failure> {
    let cannot = |error: notify::Error| Failure::new(format!("cannot watch {}", args.path.display())).because(&error);
    let (sender, events) = channel();
    let mut watcher = notify::recommended_watcher(sender).map_err(cannot)?;
    let folder = Setup::bare(&args.path).folder();
    watch(&mut watcher, &folder).map_err(cannot)?;
    let mut session = Session::default();
    loop {
        // The settings and the baseline are read anew each time: they are among what changes.
        match Setup::new(args).and_then(|setup| audit::again(&setup, &mut session)) {
            Ok(audit) => output::print(&output::render(&audit, format(args), output::colour())?)?,
            Err(failure) => {
                failure.tell();
            }
        }
        wait(&events, &mut watcher)?;
    }
}

/// Returns once something changed that an audit reads, and nothing more for a moment.
fn wait(events: &Receiver<notify::Result<Event>>, watcher: &mut RecommendedWatcher) -> Result<(), Failure> {
    let mut changed = false;
    loop {
        let event = if changed {
            match events.recv_timeout(QUIET) {
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                other => other.map_err(|_| RecvTimeoutError::Disconnected),
            }
        } else {
            events.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        let event = event.map_err(|_| Failure::new("the watch on the files ended"))?;
        // An overflow of the kernel's queue is a change of everything.
        let Ok(event) = event else {
            changed = true;
            continue;
        };
        if event.kind.is_access() {
            continue;
        }
        for path in &event.paths {
            if path.is_dir() && event.kind.is_create() {
                let _ = watch(watcher, path);
                changed = true;
            }
            changed |= is_read(path);
        }
    }
}

fn is_read(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name == config::NAME || [".rs", ".toml", ".lock"].iter().any(|end| name.ends_with(end))
}

/// Each folder by itself, so that `target` is left out.
fn watch(watcher: &mut RecommendedWatcher, folder: &Path) -> notify::Result<()> {
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let skipped = host::is_skipped(&entry.file_name().to_string_lossy());
            if !skipped && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}
