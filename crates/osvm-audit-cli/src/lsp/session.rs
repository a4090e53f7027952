//! What the server knows: the folder, the buffers of the editor, and what it last said of each file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use osvm_audit::{Edit, Finding, Location, Severity, Span};
use serde_json::{Value, json};

use super::uri;
use crate::{
    audit::{self, Item, Setup},
    config::Config,
    sources::Text,
};

/// What follows from a message.
pub(super) enum Outcome {
    /// An answer to a request.
    Result(Value),
    /// Messages of the server's own.
    Notify(Vec<Value>),
    /// No such method.
    Unknown,
}

/// One editor's session.
pub(super) struct Session {
    /// The folder that the editor opened, if it said one.
    root: Option<PathBuf>,
    buffers: BTreeMap<PathBuf, String>,
    /// Files with diagnostics, to be cleared when there are none any more.
    told: BTreeSet<PathBuf>,
    /// The last audit's findings, with the folder that their paths are relative to.
    last: Vec<(PathBuf, Item)>,
    /// What the engine remembers of the files.
    engine: audit::Session,
}

impl Session {
    pub(super) fn new(params: &Value) -> Self {
        let folder = params.pointer("/workspaceFolders/0/uri").or_else(|| params.get("rootUri"));
        let root = folder.and_then(Value::as_str).and_then(uri::path);
        Self {
            root,
            buffers: BTreeMap::new(),
            told: BTreeSet::new(),
            last: Vec::new(),
            engine: audit::Session::default(),
        }
    }

    pub(super) fn handle(&mut self, method: &str, params: &Value) -> Outcome {
        let document = params.pointer("/textDocument/uri").and_then(Value::as_str).and_then(uri::path);
        match (method, document) {
            ("textDocument/didOpen", Some(path)) => {
                let text = params.pointer("/textDocument/text").and_then(Value::as_str).unwrap_or_default();
                self.buffers.insert(path.clone(), text.to_owned());
                Outcome::Notify(self.audit(&path))
            }
            ("textDocument/didChange", Some(path)) => {
                // Whole texts were asked for; the last one holds.
                let changes = params.get("contentChanges").and_then(Value::as_array);
                let text = changes.and_then(|changes| changes.last()).and_then(|change| change.get("text"));
                if let Some(text) = text.and_then(Value::as_str) {
                    self.buffers.insert(path, text.to_owned());
                }
                Outcome::Notify(Vec::new())
            }
            ("textDocument/didSave", Some(path)) => Outcome::Notify(self.audit(&path)),
            ("textDocument/didClose", Some(path)) => {
                self.buffers.remove(&path);
                Outcome::Notify(Vec::new())
            }
            ("textDocument/codeAction", Some(path)) => Outcome::Result(self.actions(&path, params)),
            ("initialized" | "workspace/didChangeConfiguration" | "$/setTrace" | "$/cancelRequest", _) => {
                Outcome::Notify(Vec::new())
            }
            _ => Outcome::Unknown,
        }
    }

    /// Audits what `path` belongs to, and says what changed.
    fn audit(&mut self, path: &Path) -> Vec<Value> {
        let root = self.root.clone().filter(|root| path.starts_with(root)).unwrap_or_else(|| crate_of(path));
        let config = match Config::read(None, &root) {
            Ok(config) => config,
            Err(failure) => return vec![message(&failure.line())],
        };
        let overlay = self.buffers.iter().map(|(path, text)| (path.clone(), text.clone())).collect();
        let setup = Setup { config, overlay, ..Setup::bare(&root) };
        let audit = match audit::again(&setup, &mut self.engine) {
            Ok(audit) => audit,
            Err(failure) => return vec![message(&failure.line())],
        };
        let mut by_file: BTreeMap<PathBuf, Vec<Value>> = BTreeMap::new();
        for item in &audit.findings {
            let file = root.join(&item.finding.location.file);
            let diagnostic = self.diagnostic(&root, &item.finding);
            by_file.entry(file).or_default().push(diagnostic);
        }
        for skipped in &audit.not_analysed {
            let line = skipped.line.unwrap_or(1).saturating_sub(1);
            let place = json!({ "line": line, "character": 0 });
            by_file.entry(root.join(&skipped.file)).or_default().push(json!({
                "range": { "start": place, "end": place },
                "severity": 2,
                "code": "not-analysed",
                "source": "osvm audit",
                "message": format!("not analysed: {}", skipped.reason),
            }));
        }
        let now: BTreeSet<PathBuf> = by_file.keys().cloned().collect();
        // An opened file is always spoken of, so that the editor knows that it was looked at.
        let cleared = self.told.difference(&now).cloned().chain([path.to_owned()]).collect::<BTreeSet<_>>();
        for file in cleared {
            by_file.entry(file).or_default();
        }
        self.told = now;
        self.last = audit.findings.into_iter().map(|item| (root.clone(), item)).collect();
        by_file
            .into_iter()
            .map(|(file, diagnostics)| {
                let params = json!({ "uri": uri::from_path(&file), "diagnostics": diagnostics });
                json!({ "jsonrpc": "2.0", "method": "textDocument/publishDiagnostics", "params": params })
            })
            .collect()
    }

    fn diagnostic(&self, root: &Path, finding: &Finding) -> Value {
        let steps: Vec<Value> = finding
            .evidence
            .iter()
            .map(|step| {
                let place = Location { file: step.file.clone(), span: step.span };
                let path = root.join(&step.file);
                let location = json!({ "uri": uri::from_path(&path), "range": self.range(&path, place.span) });
                json!({ "location": location, "message": step.note })
            })
            .collect();
        json!({
            "range": self.range(&root.join(&finding.location.file), finding.location.span),
            "severity": match finding.severity {
                Severity::Critical | Severity::High => 1,
                Severity::Medium => 2,
                Severity::Low | Severity::Info => 3,
            },
            "code": finding.rule,
            "source": "osvm audit",
            "message": format!("{}: {}\nfix: {}", finding.title, finding.message, finding.help),
            "relatedInformation": steps,
        })
    }

    fn actions(&self, path: &Path, params: &Value) -> Value {
        let line = |at: &str| params.pointer(at).and_then(Value::as_u64).unwrap_or(0);
        let (first, last) = (line("/range/start/line") + 1, line("/range/end/line") + 1);
        let here = self.last.iter().filter(|(root, item)| {
            let span = item.finding.location.span;
            root.join(&item.finding.location.file) == path
                && u64::from(span.line) <= last
                && first <= u64::from(span.end_line)
        });
        let actions: Vec<Value> = here
            .filter_map(|(root, item)| {
                let Edit { location, replacement } = item.finding.edit.as_ref()?;
                let file = root.join(&location.file);
                let edit = json!({ "range": self.range(&file, location.span), "newText": replacement });
                let mut changes = serde_json::Map::new();
                changes.insert(uri::from_path(&file), json!([edit]));
                Some(json!({
                    "title": format!("{}: {}", item.finding.rule, item.finding.help),
                    "kind": "quickfix",
                    "diagnostics": [self.diagnostic(root, &item.finding)],
                    "edit": { "changes": changes },
                }))
            })
            .collect();
        Value::Array(actions)
    }

    /// A place as LSP counts: from 0, in units of UTF-16.
    fn range(&self, path: &Path, span: Span) -> Value {
        let text = match self.buffers.get(path) {
            Some(text) => Text::new(text.clone()),
            None => Text::new(fs::read_to_string(path).unwrap_or_default()),
        };
        let place = |line: u32, column: u32| {
            let characters = (column as usize).saturating_sub(1);
            let before = text.line(line).unwrap_or_default().chars().take(characters);
            json!({ "line": line.saturating_sub(1), "character": before.map(char::len_utf16).sum::<usize>() })
        };
        json!({ "start": place(span.line, span.column), "end": place(span.end_line, span.end_column) })
    }
}

fn message(text: &str) -> Value {
    json!({ "jsonrpc": "2.0", "method": "window/showMessage", "params": { "type": 1, "message": text } })
}

/// The nearest folder with a manifest, else the file's own.
fn crate_of(path: &Path) -> PathBuf {
    let own = path.parent().unwrap_or(Path::new("/"));
    own.ancestors().find(|folder| folder.join("Cargo.toml").is_file()).unwrap_or(own).to_owned()
}
