//! One audit: the engine and the host checks, less what is allowed, known, excluded or outside a change.
//!
//! Nothing is dropped in silence: what is left out is counted and told in every format.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use osvm_audit::{Finding, Location, NotAnalysed, Options, Program, Report, Severity};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    ai::Ai, baseline::Baseline, chain::Deployed, cli::AuditArgs, config::Config, failure::Failure, fingerprint, host,
    since::Since, sources::Sources, suppress,
};

/// What `--format json` prints: the schema's name.
pub(crate) const SCHEMA: &str = "osvm.audit/v1";

/// An audit's outcome, as JSON has it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Audit {
    /// `osvm.audit/v1`.
    pub(crate) schema: &'static str,
    /// What made it.
    pub(crate) tool: Tool,
    /// What was audited, as it was asked for.
    pub(crate) root: String,
    /// What counts, sorted by file, place and rule.
    pub(crate) findings: Vec<Item>,
    /// Findings that the source or the settings accept.
    pub(crate) suppressed: Vec<Accepted>,
    /// Findings that the baseline holds.
    pub(crate) known: Vec<Item>,
    /// Entries of the baseline that were not found any more.
    pub(crate) gone: usize,
    /// What was left out altogether.
    pub(crate) left_out: LeftOut,
    /// Files about which nothing is said.
    pub(crate) not_analysed: Vec<NotAnalysed>,
    /// Crates with instruction handlers.
    pub(crate) programs: Vec<Program>,
    /// Rust files that were read.
    pub(crate) files: usize,
    /// Their lines.
    pub(crate) lines: usize,
    /// What is known of the dependencies.
    pub(crate) dependencies: Dependencies,
    /// What is known of a deployed program, if one was asked for.
    pub(crate) deployed: Option<Deployed>,
    /// What a language model said, if one was asked.
    pub(crate) ai: Option<Ai>,
    #[serde(skip)]
    pub(crate) took: Duration,
    /// The folder that paths are relative to.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
}

/// The program that made a report.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Tool {
    /// `osvm audit`.
    pub(crate) name: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
}

/// A finding and what names it from run to run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Item {
    /// What was found.
    #[serde(flatten)]
    pub(crate) finding: Finding,
    /// Stays when lines are added above, and changes with the code that it points at.
    pub(crate) fingerprint: String,
}

/// A finding that is accepted.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Accepted {
    /// What would have been reported.
    #[serde(flatten)]
    pub(crate) item: Item,
    /// By what.
    pub(crate) by: By,
    /// Why; empty if the source gives no reason.
    pub(crate) reason: String,
    /// The comment, where it is one.
    pub(crate) comment: Option<Location>,
}

/// Who accepts a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum By {
    /// A comment in the source.
    Source,
    /// `osvm.audit.toml`.
    Settings,
}

/// How many findings are not told, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct LeftOut {
    /// Their rule is off in the settings.
    pub(crate) rule_off: usize,
    /// The settings exclude their file.
    pub(crate) excluded: usize,
    /// They touch no changed line.
    pub(crate) outside_change: usize,
}

/// What the dependencies were held against.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Dependencies {
    /// How many `Cargo.lock` were read.
    pub(crate) lock_files: usize,
    /// How many packages they hold.
    pub(crate) packages: usize,
    /// Null if there is no local copy, and so nothing was checked.
    pub(crate) advisories: Option<Advisories>,
}

/// Which copy of the advisories.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Advisories {
    /// The commit of the copy, if it is a git checkout.
    pub(crate) revision: Option<String>,
    /// The day of that commit.
    pub(crate) date: Option<String>,
    /// How many there are for crates.
    pub(crate) count: usize,
}

impl Audit {
    /// How many findings are of each severity, the worst first.
    pub(crate) fn counts(&self) -> [(Severity, usize); 5] {
        let mut counts = Severity::ALL
            .map(|severity| (severity, self.findings.iter().filter(|item| item.finding.severity == severity).count()));
        counts.reverse();
        counts
    }

    /// Whether a finding is at or over the bar.
    pub(crate) fn fails(&self, bar: Option<Severity>) -> bool {
        bar.is_some_and(|bar| self.findings.iter().any(|item| item.finding.severity >= bar))
    }
}

/// What an audit needs to know beyond its root.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The file or folder.
    pub(crate) root: PathBuf,
    pub(crate) only: Vec<String>,
    pub(crate) config: Config,
    pub(crate) baseline: Option<Baseline>,
    pub(crate) since: Option<String>,
    pub(crate) db: Option<PathBuf>,
    /// Texts that stand in for files, by absolute path.
    pub(crate) overlay: Vec<(PathBuf, String)>,
}

impl Setup {
    /// From a command line, with the settings and the baseline read.
    pub(crate) fn new(args: &AuditArgs) -> Result<Self, Failure> {
        let config = Config::read(args.config.as_deref(), &args.path)?;
        let baseline = args.baseline.clone().or_else(|| config.baseline.as_ref().map(|file| config.folder.join(file)));
        let baseline = baseline.map(|file| Baseline::read(&file)).transpose()?;
        let setup = Self { config, baseline, since: args.since.clone(), db: args.db.clone(), ..Self::bare(&args.path) };
        Ok(Self { only: args.only.clone(), ..setup })
    }

    /// All rules over `root`, whatever settings lie about.
    pub(crate) fn bare(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            only: Vec::new(),
            config: Config::default(),
            baseline: None,
            since: None,
            db: None,
            overlay: Vec::new(),
        }
    }

    /// The folder that paths of the report are relative to.
    pub(crate) fn folder(&self) -> PathBuf {
        if self.root.is_file() {
            let parent = self.root.parent().filter(|parent| !parent.as_os_str().is_empty());
            parent.unwrap_or(Path::new(".")).to_owned()
        } else {
            self.root.clone()
        }
    }
}

/// What one audit leaves for the next.
#[derive(Debug, Default)]
pub(crate) struct Session {
    engine: osvm_audit::Session,
    host: host::Seen,
}

/// Makes one audit.
pub(crate) fn run(setup: &Setup) -> Result<Audit, Failure> {
    again(setup, &mut Session::default())
}

/// Makes an audit of many: what did not change is not looked at again.
pub(crate) fn again(setup: &Setup, session: &mut Session) -> Result<Audit, Failure> {
    let begin = Instant::now();
    let only_known = setup.only.iter().find(|id| crate::rules::find(id).is_none());
    if let Some(unknown) = only_known {
        return Err(Failure::new(format!("there is no rule {unknown}")).help("all rules: osvm audit rules"));
    }
    let mut report = engine(setup, &mut session.engine)?;
    let folder = setup.folder();
    let host = host::check(&setup.root, &report.programs, setup.db.as_deref(), &session.host)?;
    let wanted =
        |finding: &Finding| setup.only.is_empty() || setup.only.iter().any(|id| id.eq_ignore_ascii_case(finding.rule));
    report.findings.extend(host.findings.into_iter().filter(wanted));
    report.not_analysed.extend(host.not_analysed);
    sift(setup, report, host.dependencies, folder, begin)
}

fn engine(setup: &Setup, session: &mut osvm_audit::Session) -> Result<Report, Failure> {
    let mut only: Vec<String> = setup.only.iter().filter(|id| osvm_audit::rule(id).is_some()).cloned().collect();
    let none = only.is_empty() && !setup.only.is_empty();
    if none {
        // No rule of the engine is asked for, but what programs there are and what can be read is told all the same.
        only.extend(osvm_audit::rules().first().map(|rule| rule.id.to_owned()));
    }
    let options = Options { only, overlay: setup.overlay.clone(), ..Options::new(&setup.root) };
    let report = session.analyse(&options)?;
    Ok(if none { Report { findings: Vec::new(), suppressed: Vec::new(), ..report } } else { report })
}

fn sift(
    setup: &Setup,
    report: Report,
    dependencies: Dependencies,
    folder: PathBuf,
    begin: Instant,
) -> Result<Audit, Failure> {
    let config = &setup.config;
    let sources = Sources::new(folder.clone());
    let base = std::path::absolute(&folder).unwrap_or_else(|_| folder.clone());
    let since = setup.since.as_deref().map(|revision| Since::read(&folder, revision)).transpose()?;
    let mut left_out = LeftOut::default();
    let mut suppressed = Vec::new();
    let mut items = Vec::new();
    for by_comment in report.suppressed {
        let item = Item { finding: by_comment.finding, fingerprint: String::new() };
        let comment = Some(by_comment.location);
        suppressed.push(Accepted { item, by: By::Source, reason: by_comment.reason, comment });
    }
    for mut finding in report.findings {
        let file = base.join(&finding.location.file);
        match config.level(finding.rule).map(crate::config::Level::severity) {
            Some(None) => {
                left_out.rule_off += 1;
                continue;
            }
            Some(Some(severity)) => finding.severity = severity,
            None => {}
        }
        if config.excludes(&file) {
            left_out.excluded += 1;
            continue;
        }
        let item = Item { finding, fingerprint: String::new() };
        if let Some((reason, comment)) = suppress::comment(&item.finding, &sources) {
            suppressed.push(Accepted { item, by: By::Source, reason, comment: Some(comment) });
        } else if let Some(reason) = config.allows(item.finding.rule, &file) {
            let reason = reason.to_owned();
            suppressed.push(Accepted { item, by: By::Settings, reason, comment: None });
        } else {
            items.push(item);
        }
    }
    items.sort_by(|a, b| {
        (&a.finding.location, a.finding.rule, &a.finding.message).cmp(&(
            &b.finding.location,
            b.finding.rule,
            &b.finding.message,
        ))
    });
    // All of them together, so that the numbers of equal ones do not depend on what is shown.
    fingerprint::set(items.iter_mut().chain(suppressed.iter_mut().map(|accepted| &mut accepted.item)), &sources);
    if let Some(since) = &since {
        let all = items.len();
        items.retain(|item| since.touches(&item.finding));
        left_out.outside_change = all - items.len();
    }
    let (findings, known, gone) = match &setup.baseline {
        Some(baseline) => baseline.split(items, since.is_some()),
        None => (items, Vec::new(), 0),
    };
    let mut not_analysed = report.not_analysed;
    not_analysed.retain(|file| !config.excludes(&base.join(&file.file)));
    Ok(Audit {
        schema: SCHEMA,
        tool: Tool { name: "osvm audit", version: env!("CARGO_PKG_VERSION") },
        root: setup.root.display().to_string(),
        findings,
        suppressed,
        known,
        gone,
        left_out,
        not_analysed,
        programs: report.programs,
        files: report.files,
        lines: report.lines,
        dependencies,
        deployed: None,
        ai: None,
        took: begin.elapsed(),
        folder,
    })
}
