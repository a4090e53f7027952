//! The audit log: one line of JSON for each call, whatever became of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{pins::hash, wire::RpcError};

/// The size at which a file is put aside as `.1`, bytes. There is one such file.
const LARGEST: u64 = 64 << 20;

/// The open log.
pub struct Audit {
    path: PathBuf,
    file: Mutex<File>,
}

/// A call that is going on. Dropped before its end, it is written down as cancelled.
pub struct Entry<'a> {
    audit: &'a Audit,
    line: Value,
    since: Instant,
    done: bool,
}

impl Audit {
    /// Opens the log, or makes one that only its owner may read.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(Self { path: path.to_owned(), file: Mutex::new(append(path)?) })
    }

    /// A call begins. Its arguments are written as a hash, or as they are if `shown`.
    pub fn begin(&self, client: &str, method: &str, name: &str, arguments: &Value, shown: bool) -> Entry<'_> {
        let arguments = if shown { arguments.clone() } else { json!(format!("sha256:{}", hash(arguments))) };
        let line = json!({ "client": client, "method": method, "name": name, "arguments": arguments });
        Entry { audit: self, line, since: Instant::now(), done: false }
    }

    /// A request that was refused before it was a call.
    pub fn refused(&self, client: &str, why: &str) {
        self.write(json!({ "client": client, "outcome": format!("refused: {why}") }));
    }

    fn write(&self, mut line: Value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        line["unix_ms"] = json!(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = rotate(&self.path, &mut file).and_then(|()| file.write_all(format!("{line}\n").as_bytes()));
        if let Err(error) = written {
            eprintln!("note: the audit log {} cannot be written: {error}", self.path.display());
        }
    }
}

impl Entry<'_> {
    /// The call has ended so.
    pub fn end(mut self, result: &Result<Value, RpcError>) {
        self.done = true;
        let outcome = match result {
            Ok(result) if result["isError"] == true => "the tool reports an error".to_owned(),
            Ok(result) if result["resultType"] == "input_required" => "asks for input".to_owned(),
            Ok(_) => "done".to_owned(),
            Err(error) => format!("error {}", error.code),
        };
        self.finish(&outcome);
    }

    fn finish(&mut self, outcome: &str) {
        let mut line = self.line.take();
        line["outcome"] = json!(outcome);
        line["ms"] = json!(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.audit.write(line);
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.finish("cancelled");
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn rotate(path: &Path, file: &mut File) -> io::Result<()> {
    if file.metadata()?.len() < LARGEST {
        return Ok(());
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(".1");
    fs::rename(path, aside)?;
    *file = append(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_a_line_and_arguments_are_hashed_unless_they_may_be_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        let arguments = json!({ "password": "hunter2" });
        audit.begin("c", "tools/call", "a__b", &arguments, false).end(&Ok(json!({ "isError": true })));
        drop(audit.begin("c", "tools/call", "a__b", &json!({ "n": 1 }), true));
        audit.refused("c", "too many calls");
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("hunter2"));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["outcome"], "the tool reports an error");
        assert_eq!(lines[0]["arguments"], format!("sha256:{}", hash(&arguments)));
        assert_eq!((&lines[1]["outcome"], &lines[1]["arguments"]), (&json!("cancelled"), &json!({ "n": 1 })));
        assert_eq!(lines[2]["outcome"], "refused: too many calls");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
