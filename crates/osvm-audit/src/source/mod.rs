//! What there is to audit: files, the crates that they belong to, and what manifests say.
//!
//! Not here: what the code means. Follows no symbolic link and reads nothing outside the root but the manifests above
//! it, which decide a crate's profile.

mod allow;
mod manifest;
mod pool;
mod stamp;
mod walk;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) use allow::Allow;
pub(crate) use manifest::Manifest;
pub(crate) use pool::STACK;
pub use stamp::Stamp;

use crate::{Error, Options, syntax::Unit};

/// A file as it was read.
#[derive(Debug)]
pub(crate) struct File {
    /// Relative to the root, with `/`.
    pub(crate) name: String,
    pub(crate) lines: usize,
    /// Its declarations, or why there are none.
    pub(crate) unit: Result<Unit, (String, Option<u32>)>,
    pub(crate) allows: Vec<Allow>,
}

/// A package with the files that are its program: tests, benches and examples are left out.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) manifest: Manifest,
    pub(crate) files: Vec<usize>,
}

/// Everything under a root.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) files: Vec<Arc<File>>,
    pub(crate) packages: Vec<Package>,
}

/// Lowered files of the last run, so that only what changed is parsed again.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    files: HashMap<PathBuf, (Option<Stamp>, u64, Arc<File>)>,
}

/// Reads and parses what lies under the root.
pub(crate) fn read(options: &Options, cache: &mut Cache) -> Result<Sources, Error> {
    let meta = std::fs::metadata(&options.root).map_err(|source| Error::Root { path: options.root.clone(), source })?;
    let (base, paths) = if meta.is_dir() {
        (options.root.clone(), walk::rust_files(&options.root))
    } else {
        let base = options.root.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        (base, vec![options.root.clone()])
    };
    let mut files: Vec<Option<Arc<File>>> = Vec::with_capacity(paths.len());
    let mut work = Vec::new();
    let mut kept = HashMap::with_capacity(paths.len());
    let mut stamps = Vec::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        let name = relative(&base, path);
        let overlay = options.overlay.iter().find(|(shown, _)| shown == path).map(|(_, text)| text.clone());
        // Taken before the text is read: a change in between makes the stamp too old, never too new.
        let stamp = match overlay {
            None => std::fs::metadata(path).ok().and_then(|meta| Stamp::of(&meta)),
            Some(_) => None,
        };
        stamps.push(stamp);
        if let Some((old, hash, file)) = cache.files.get(path)
            && stamp.is_some()
            && *old == stamp
            && file.name == name
        {
            kept.insert(path.clone(), (stamp, *hash, file.clone()));
            files.push(Some(file.clone()));
            continue;
        }
        let text = match overlay {
            Some(text) => Ok(text),
            None => std::fs::read(path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())),
        };
        match text {
            Ok(text) => {
                let hash = fingerprint(&text);
                match cache.files.get(path) {
                    Some((_, old, file)) if *old == hash && file.name == name => {
                        kept.insert(path.clone(), (stamp, hash, file.clone()));
                        files.push(Some(file.clone()));
                    }
                    _ => {
                        files.push(None);
                        work.push(pool::Job { index, name, text });
                    }
                }
            }
            Err(reason) => {
                let file = File { name, lines: 0, unit: Err((reason, None)), allows: Vec::new() };
                files.push(Some(Arc::new(file)));
            }
        }
    }
    for (index, hash, file) in pool::parse(work, options.threads)? {
        let file = Arc::new(file);
        if let (Some(slot), Some(path)) = (files.get_mut(index), paths.get(index)) {
            kept.insert(path.clone(), (stamps.get(index).copied().flatten(), hash, file.clone()));
            *slot = Some(file);
        }
    }
    cache.files = kept;
    let files: Vec<Arc<File>> = files.into_iter().flatten().collect();
    let packages = manifest::packages(&base, &paths);
    Ok(Sources { files, packages })
}

/// One text as a package of its own.
pub(crate) fn of_text(text: &str) -> Result<Sources, Error> {
    let job = pool::Job { index: 0, name: "lib.rs".to_owned(), text: text.to_owned() };
    let files = pool::parse(vec![job], 1)?.into_iter().map(|(_, _, file)| Arc::new(file)).collect();
    Ok(Sources { files, packages: vec![Package { manifest: Manifest::default(), files: vec![0] }] })
}

fn relative(base: &Path, path: &Path) -> String {
    let short = path.strip_prefix(base).unwrap_or(path);
    short.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// FNV-1a: to know a text again, against no adversary.
fn fingerprint(text: &str) -> u64 {
    text.as_bytes().chunks(8).fold(0xcbf2_9ce4_8422_2325, |hash: u64, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
    }) ^ text.len() as u64
}
