//! From sources to a report.

use std::{
    collections::{BTreeMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    thread,
};

use crate::{
    Error, Finding, Location, NotAnalysed, Options, Program, Report, Span, Suppressed, detect,
    index::Index,
    interp::{Framework, Run, run_package},
    model::{View, Whole},
    source::{self, Cache, Package, Sources},
};

/// An audit that remembers the files it read, so that the next one parses only what changed.
#[derive(Debug, Default)]
pub struct Session {
    cache: Cache,
}

impl Session {
    /// Nothing is remembered yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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
        report(&sources, options)
    }
}

#[derive(Default)]
struct Made {
    findings: Vec<Finding>,
    programs: Vec<Program>,
    not_analysed: Vec<NotAnalysed>,
}

fn report(sources: &Sources, options: &Options) -> Result<Report, Error> {
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
    let made = packages(sources, options)?;
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
    let mut seen = HashSet::new();
    findings.retain(|finding| seen.insert((finding.rule, finding.location.clone())));
    let allows: BTreeMap<&str, &[source::Allow]> = sources
        .files
        .iter()
        .filter(|file| !file.allows.is_empty())
        .map(|file| (file.name.as_str(), file.allows.as_slice()))
        .collect();
    for finding in findings {
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
    Ok(report)
}

/// Runs all packages, each on one of the threads, on stacks that hold the deepest expression.
fn packages(sources: &Sources, options: &Options) -> Result<Made, Error> {
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
                    let made = catch_unwind(AssertUnwindSafe(|| one(sources, package, &index, options)));
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
        whole.findings.extend(made.findings);
        whole.programs.extend(made.programs);
        whole.not_analysed.extend(made.not_analysed);
    }
    whole.programs.sort_by(|a, b| (&a.path, &a.name).cmp(&(&b.path, &b.name)));
    whole.not_analysed.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(whole)
}

fn one(sources: &Sources, package: &Package, index: &Index<'_>, options: &Options) -> Made {
    let runs = run_package(sources, package, index);
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
    for run in &runs {
        whole.learn(run);
    }
    let mut made = Made::default();
    let mut handlers = Vec::new();
    let mut framework = None;
    for run in &runs {
        if run.exhausted {
            let group = &run.groups[0];
            let file = index.names.get(group.file).copied().unwrap_or("").to_owned();
            let reason = format!("`{}` has more paths than are followed; what lies behind is left out", group.name);
            made.not_analysed.push(NotAnalysed { file, reason, line: Some(group.span.line) });
        }
        if run.framework != Framework::Plain {
            framework.get_or_insert(run.framework);
        }
        look(run, &whole, options, &mut made.findings, &mut handlers);
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
