//! Answers by what was asked, so that the same question costs once.

use std::{fs, path::PathBuf};

use osvm_model::hex;
use sha2::{Digest, Sha256};

use crate::{baseline::write_whole, host};

/// Where answers are kept; nowhere if there is no cache folder.
#[derive(Debug)]
pub(super) struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    pub(super) fn open() -> Self {
        let folder = host::cache_folder().map(|cache| cache.join("osvm/ai"));
        Self { folder: folder.filter(|folder| fs::create_dir_all(folder).is_ok()) }
    }

    /// The name of a question: all that its answer depends on.
    pub(super) fn key(parts: &[&str]) -> String {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hex(&hash.finalize())
    }

    pub(super) fn get(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.folder.as_ref()?.join(key)).ok()
    }

    pub(super) fn put(&self, key: &str, answer: &str) {
        // A cache that cannot be written costs money, not correctness.
        if let Some(folder) = &self.folder {
            let _ = write_whole(&folder.join(key), answer.as_bytes());
        }
    }
}
