//! An instance's log: a file that it appends to itself, so that it goes on writing when the daemon is gone.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// A log longer than this is moved aside.
pub const LIMIT: u64 = 16 << 20;
/// How much of a log's end is looked at for its last lines.
const TAIL: u64 = 1 << 20;

/// Where the older part of a log is, at most [`LIMIT`] and what was written between two looks.
pub fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// Bounds the log: once it is longer than `limit` it is copied aside, over what was there, and emptied. Lines written between the copy
/// and the emptying are lost. The writer must append (`O_APPEND`).
pub fn bound(path: &Path, limit: u64) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > limit => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    fs::copy(path, older(path))?;
    OpenOptions::new().write(true).open(path)?.set_len(0)
}

/// The last lines of a log, and the length of the file up to which they were read: where to read on. Lines of more than 1 MiB are
/// cut. A missing log has no lines.
pub fn tail(path: &Path, lines: usize) -> io::Result<(Vec<String>, u64)> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(length - from).read_to_end(&mut text)?;
    // An unfinished last line is left for whoever reads on from here.
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let read_to = from + end as u64;
    let text = String::from_utf8_lossy(&text[..end]);
    let all: Vec<&str> = text.lines().collect();
    let skipped = all.len().saturating_sub(lines);
    Ok((all.into_iter().skip(skipped).map(str::to_owned).collect(), read_to))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_tail_ends_at_the_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.log");
        assert_eq!(tail(&path, 3).unwrap(), (vec![], 0));
        fs::write(&path, "a\nb\nc\nd").unwrap();
        assert_eq!(tail(&path, 2).unwrap(), (vec!["b".to_owned(), "c".to_owned()], 6));
        assert_eq!(tail(&path, 0).unwrap(), (vec![], 6));
    }

    #[test]
    fn a_long_log_is_moved_aside_while_its_writer_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.log");
        let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        writer.write_all(b"old\n").unwrap();
        bound(&path, 10).unwrap();
        assert!(!older(&path).exists());
        writer.write_all(b"long enough\n").unwrap();
        bound(&path, 10).unwrap();
        writer.write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(older(&path)).unwrap(), "old\nlong enough\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
    }
}
