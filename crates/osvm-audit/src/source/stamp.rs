//! To know a file again without reading it.

use std::{
    fs::Metadata,
    time::{Duration, SystemTime},
};

/// File systems tell time in steps. A file that was changed less than this before it was looked at may change again within the step.
const STEP: Duration = Duration::from_millis(100);

/// A file's length and the time of its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    length: u64,
    changed: SystemTime,
}

impl Stamp {
    /// None where the time is not told, or so near that a later change might not show.
    #[must_use]
    pub fn of(meta: &Metadata) -> Option<Self> {
        let changed = meta.modified().ok()?;
        let age = SystemTime::now().duration_since(changed).ok()?;
        (age > STEP).then_some(Self { length: meta.len(), changed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_just_changed_has_no_stamp_and_a_change_shows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "one").unwrap();
        assert_eq!(Stamp::of(&std::fs::metadata(&path).unwrap()), None);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let before = SystemTime::now() - Duration::from_secs(60);
        file.set_modified(before).unwrap();
        let old = Stamp::of(&std::fs::metadata(&path).unwrap());
        assert!(old.is_some());
        file.set_modified(before + Duration::from_millis(1)).unwrap();
        assert_ne!(Stamp::of(&std::fs::metadata(&path).unwrap()), old);
    }
}
