//! What an audit says: findings with their evidence, and what could not be read.
//!
//! Nothing here knows how a finding was made or how it will be printed.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

/// How bad it is if the finding is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Costs little, or needs much to go wrong.
    Low,
    /// Hurts under conditions that an attacker does not choose alone.
    Medium,
    /// Funds or control can be lost.
    High,
    /// Funds or control can be taken by anybody.
    Critical,
}

impl Severity {
    /// All of them, the least first.
    pub const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// How sure the engine is that the facts hold on some path of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// A pattern that is often wrong, and often right by design.
    Low,
    /// The facts hold, but a part of the program was out of sight.
    Medium,
    /// The facts hold on a path that was seen whole.
    High,
}

impl Confidence {
    /// The word that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// A stretch of a file. Lines and columns count from 1, columns in characters; the end is past the last character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub struct Span {
    /// First line.
    pub line: u32,
    /// First column.
    pub column: u32,
    /// Last line.
    pub end_line: u32,
    /// The column after the last character.
    pub end_column: u32,
}

/// Where in which file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub struct Location {
    /// The file, relative to [`crate::Options::root`], with `/` between its parts.
    pub file: String,
    /// The stretch of it.
    pub span: Span,
}

/// One step of the path that shows a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Step {
    /// The file, relative to the root.
    pub file: String,
    /// The stretch of it.
    pub span: Span,
    /// What happens there, in one line.
    pub note: String,
}

/// A change of the source that mends a finding mechanically.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Edit {
    /// Where; an empty span inserts.
    pub location: Location,
    /// What stands there afterwards.
    pub replacement: String,
}

/// One thing that is wrong, with what shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// The rule's id, as `OSVM-001`.
    pub rule: &'static str,
    /// The rule's class, as `missing-signer`.
    pub class: &'static str,
    /// The rule's title.
    pub title: &'static str,
    /// How bad.
    pub severity: Severity,
    /// How sure.
    pub confidence: Confidence,
    /// What is wrong here, in one or two sentences, with the names of the program.
    pub message: String,
    /// What to do about it here.
    pub help: String,
    /// The change that does it, where it is mechanical.
    pub edit: Option<Edit>,
    /// Where to point at.
    pub location: Location,
    /// The path that shows it, in order of execution.
    pub evidence: Vec<Step>,
    /// The instruction handler that it belongs to.
    pub handler: Option<String>,
}

/// A finding that the source allows by `// osvm: allow(RULE, reason = "…")`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Suppressed {
    /// What would have been reported.
    pub finding: Finding,
    /// The reason that the comment gives, empty if none.
    pub reason: String,
    /// Where the comment stands.
    pub location: Location,
}

/// A file, or a part of one, about which the audit says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NotAnalysed {
    /// The file, relative to the root.
    pub file: String,
    /// Why.
    pub reason: String,
    /// Where, if that is known.
    pub line: Option<u32>,
}

/// A crate that holds instruction handlers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Program {
    /// The crate's name.
    pub name: String,
    /// The crate's directory, relative to the root; empty for the root itself.
    pub path: String,
    /// `anchor`, `native` or `pinocchio`.
    pub framework: &'static str,
    /// Names of the handlers that were analysed, sorted.
    pub handlers: Vec<String>,
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// Sorted by file, place and rule.
    pub findings: Vec<Finding>,
    /// What the source allows.
    pub suppressed: Vec<Suppressed>,
    /// What was not read.
    pub not_analysed: Vec<NotAnalysed>,
    /// Crates with handlers.
    pub programs: Vec<Program>,
    /// Files that were read.
    pub files: usize,
    /// Lines of these files.
    pub lines: usize,
}

/// Where an audit starts, and its bounds.
#[derive(Clone, Debug)]
pub struct Options {
    /// A crate, a workspace, or any folder of Rust files; or one file.
    pub root: PathBuf,
    /// Threads that parse; 0 for one a core.
    pub threads: usize,
    /// Only these rules; all if empty.
    pub only: Vec<String>,
    /// Texts that stand in for files on disk, by absolute path: an editor's unsaved buffers.
    pub overlay: Vec<(PathBuf, String)>,
}

impl Options {
    /// All rules over what lies under `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), threads: 0, only: Vec::new(), overlay: Vec::new() }
    }
}
