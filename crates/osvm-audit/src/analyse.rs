//! From sources to a report.

use std::{
    collections::{BTreeMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    thread,
};

use crate::{
    Error, Finding, Location, NotAnalysed, Options, Program, Report, Span, Suppressed, detect,
    index::Index,
    interp::{Framework, Ran, Run, enter, run_package},
    memo::{Entry, Memo},
    model::View,
    source::{self, Cache, Package, Sources},
    whole::Whole,
};

/// An audit that remembers the files it read and the handlers it followed, so that the next one looks only at what changed
/// and at what leads there.
#[derive(Debug, Default)]
pub struct Session {
    cache: Cache,
    memo: Memo,
    runs: usize,
}

impl Session {
    /// Nothing is remembered yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many handlers and other beginnings the last audit followed; the others were remembered.
    #[must_use]
    pub const fn runs(&self) -> usize {
        self.runs
    }

    /// As [`analyse()`](crate::analyse()).
    ///
    /// # Errors
    /// [`Error::Root`] if the root can't be read, [`Error::NoSuchRule`] if an unknown rule is asked for.
    pub fn analyse(&mut self, options: &Options) -> Result<Report, Error> {
        if let Some(unknown) = options.only.iter().find(|id| crate::rule(id).is_none()) {
            return Err(Error::NoSuchRule { rule: unknown.clone() });
        }
        let sources = source::read(options, &mut self.cache)?;
        self.memo.turn_to(&sources, &options.only);
        let (report, runs) = report(&sources, options, &mut self.memo)?;
        self.runs = runs;
        Ok(report)
    }
}

/// Audits one text as if it were a crate's only file.
///
/// # Errors
/// [`Error::Thread`] if the system gives no thread.
pub fn analyse_text(text: &str) -> Result<Report, Error> {
    let sources = source::of_text(text)?;
    Ok(report(&sources, &Options::new(""), &mut Memo::default())?.0)
}

#[derive(Default)]
struct Made {
    /// How many handlers and other beginnings were followed.
    runs: usize,
    findings: Vec<Arc<Finding>>,
    entries: Vec<(u64, Arc<Entry>)>,
    programs: Vec<Program>,
    not_analysed: Vec<NotAnalysed>,
}

fn report(sources: &Sources, options: &Options, memo: &mut Memo) -> Result<(Report, usize), Error> {
    let mut report = Report { files: sources.files.len(), ..Report::default() };
    for file in &sources.files {
        report.lines += file.lines;
        match &file.unit {
            Err((reason, line)) => {
                report.not_analysed.push(NotAnalysed { file: file.name.clone(), reason: reason.clone(), line: *line });
            }
            Ok(unit) => {
                if let Some(line) = unit.truncated {
                    let reason = "an expression nests too deep; what is inside is left out".to_owned();
                    let line = (line > 0).then_some(line);
                    report.not_analysed.push(NotAnalysed { file: file.name.clone(), reason, line });
                }
            }
        }
    }
    let made = packages(sources, options, memo)?;
    let runs = made.runs;
    memo.keep(made.entries);
    report.programs = made.programs;
    report.not_analysed.extend(made.not_analysed);
    let mut findings = made.findings;
    findings.sort_by(|a, b| {
        (&a.location, a.rule, b.severity, b.confidence, &a.message).cmp(&(
            &b.location,
            b.rule,
            a.severity,
            a.confidence,
            &b.message,
        ))
    });
    // One mistake in a helper is met once for each handler that calls it.
    findings.dedup_by(|later, first| later.rule == first.rule && later.location == first.location);
    let allows: BTreeMap<&str, &[source::Allow]> = sources
        .files
        .iter()
        .filter(|file| !file.allows.is_empty())
        .map(|file| (file.name.as_str(), file.allows.as_slice()))
        .collect();
    for finding in findings {
        let finding = Arc::unwrap_or_clone(finding);
        let line = finding.location.span.line;
        let allow = allows.get(finding.location.file.as_str()).and_then(|allows| {
            allows.iter().find(|allow| allow.covers == line && allow.rule.eq_ignore_ascii_case(finding.rule))
        });
        match allow {
            Some(allow) => {
                let span =
                    Span { line: allow.line, column: allow.column, end_line: allow.line, end_column: allow.column + 2 };
                let location = Location { file: finding.location.file.clone(), span };
                report.suppressed.push(Suppressed { finding, reason: allow.reason.clone(), location });
            }
            None => report.findings.push(finding),
        }
    }
    Ok((report, runs))
}

/// Runs all packages, each on one of the threads, on stacks that hold the deepest expression.
fn packages(sources: &Sources, options: &Options, memo: &Memo) -> Result<Made, Error> {
    let index = Index::new(sources);
    let next = Mutex::new(sources.packages.iter());
    let all = Mutex::new(Vec::new());
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if options.threads == 0 { cores } else { options.threads }.min(sources.packages.len()).max(1);
    thread::scope(|scope| {
        for _ in 0..threads {
            let work = || {
                loop {
                    let package = next.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                    let Some(package) = package else { return };
                    let made = catch_unwind(AssertUnwindSafe(|| one(sources, package, &index, options, memo)));
                    let made = made.unwrap_or_else(|_| Made {
                        not_analysed: vec![NotAnalysed {
                            file: package.manifest.dir.clone(),
                            reason: "the analysis failed".to_owned(),
                            line: None,
                        }],
                        ..Made::default()
                    });
                    all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(made);
                }
            };
            thread::Builder::new()
                .name("osvm-audit".to_owned())
                .stack_size(source::STACK)
                .spawn_scoped(scope, work)
                .map_err(|source| Error::Thread { source })?;
        }
        Ok::<(), Error>(())
    })?;
    let mut whole = Made::default();
    for made in all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        whole.runs += made.runs;
        whole.findings.extend(made.findings);
        whole.entries.extend(made.entries);
        whole.programs.extend(made.programs);
        whole.not_analysed.extend(made.not_analysed);
    }
    whole.programs.sort_by(|a, b| (&a.path, &a.name).cmp(&(&b.path, &b.name)));
    whole.not_analysed.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(whole)
}

fn one(sources: &Sources, package: &Package, index: &Index<'_>, options: &Options, memo: &Memo) -> Made {
    let all = run_package(sources, package, index, memo);
    let mut whole = Whole { overflow_checks: package.manifest.overflow_checks, ..Whole::default() };
    for file in &package.files {
        let Some(Ok(unit)) = sources.files.get(*file).map(|file| file.unit.as_ref()) else { continue };
        for item in &unit.structs {
            let stored = item.attrs.iter().any(|attr| matches!(&**attr, "account" | "zero_copy"))
                || item
                    .derives
                    .iter()
                    .any(|derive| matches!(&**derive, "BorshDeserialize" | "AnchorDeserialize" | "Pod"));
            if stored {
                whole.stored.insert(item.name.clone());
            }
        }
    }
    let mut learnt = Vec::with_capacity(all.len());
    for ran in &all {
        let mut of_run = Whole::default();
        match ran {
            Ran::Now(_, run) => of_run.learn(run),
            Ran::Before(_, _, entry) => of_run.merge(&entry.learnt),
        }
        whole.merge(&of_run);
        learnt.push(of_run);
    }
    let mut made = Made::default();
    let mut handlers = Vec::new();
    let mut framework = None;
    for (ran, learnt) in all.into_iter().zip(learnt) {
        let (id, run) = match ran {
            Ran::Before(root, with, entry) if entry.holds(&whole) => {
                let id = root.id(index, with);
                take(id, entry, &mut made, &mut handlers, &mut framework);
                continue;
            }
            Ran::Before(root, with, _) => (root.id(index, with), Box::new(enter(index, root, with))),
            Ran::Now(id, run) => (id, run),
        };
        made.runs += 1;
        if run.exhausted {
            let group = &run.groups[0];
            let file = run.index.name(group.file).to_owned();
            let reason = format!("`{}` has more paths than are followed; what lies behind is left out", group.name);
            made.not_analysed.push(NotAnalysed { file, reason, line: Some(group.span.line) });
        }
        let (mut findings, mut named) = (Vec::new(), Vec::new());
        look(&run, &whole, options, &mut findings, &mut named);
        let entry = Entry {
            asked: run.index.asked(),
            framework: run.framework,
            followed: run.followed.iter().map(|(_, id)| *id).collect(),
            learnt,
            heard: run.index.heard(),
            findings: findings.into_iter().map(Arc::new).collect(),
            handlers: named,
        };
        take(id, Arc::new(entry), &mut made, &mut handlers, &mut framework);
        if run.exhausted {
            // The next one may get further.
            made.entries.pop();
        }
    }
    if let Some(framework) = framework {
        handlers.sort();
        handlers.dedup();
        let manifest = &package.manifest;
        let program = Program {
            name: manifest.name.clone(),
            path: manifest.dir.clone(),
            framework: framework.as_str(),
            handlers,
        };
        made.programs.push(program);
    }
    made
}

/// What one root says goes into what the package says.
fn take(id: u64, entry: Arc<Entry>, made: &mut Made, handlers: &mut Vec<String>, framework: &mut Option<Framework>) {
    if entry.framework != Framework::Plain {
        framework.get_or_insert(entry.framework);
    }
    handlers.extend(entry.handlers.iter().cloned());
    made.findings.extend(entry.findings.iter().cloned());
    made.entries.push((id, entry));
}

fn look(run: &Run<'_>, whole: &Whole, options: &Options, findings: &mut Vec<Finding>, handlers: &mut Vec<String>) {
    let parents: HashSet<u32> = run.groups.iter().filter_map(|group| group.parent).collect();
    for (number, group) in run.groups.iter().enumerate() {
        let number = number as u32;
        // A dispatcher with arms is looked at arm by arm.
        if !group.consumed && (parents.contains(&number) || number > 0) && run.framework != Framework::Plain {
            continue;
        }
        let view = View::new(run, whole, number);
        if group.consumed && run.framework != Framework::Plain {
            handlers.push(group.name.clone());
        }
        for detector in &detect::ALL {
            let wanted =
                options.only.is_empty() || options.only.iter().any(|id| id.eq_ignore_ascii_case(detector.rule.id));
            if wanted {
                (detector.check)(&view, findings);
            }
        }
    }
}
