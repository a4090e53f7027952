//! Finding Rust files.

use std::path::{Path, PathBuf};

/// Folders that hold what was built or fetched.
const SKIPPED: [&str; 3] = ["target", "node_modules", "vendor"];
/// Folders in folders.
const DEEPEST: usize = 64;

/// All Rust files under the root, sorted; hidden folders and what was built are left out.
pub(super) fn rust_files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![(root.to_path_buf(), 0)];
    while let Some((dir, depth)) = open.pop() {
        // A folder that can't be listed holds nothing that cargo could build either.
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if kind.is_dir() {
                if depth < DEEPEST && !name.starts_with('.') && !SKIPPED.contains(&&*name) {
                    open.push((path, depth + 1));
                }
            } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
