//! For a terminal: each finding with its source, the path that shows it, and what mends it; last a line that sums up.

use std::fmt::Write as _;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use osvm_audit::{Finding, Location, Severity, Step};

use super::wording;
use crate::{
    audit::{Accepted, Audit, By, Item},
    sources::Sources,
};

/// How wide a report may be.
const WIDTH: usize = 100;
/// Of a place that spans more lines, only the first so many are shown.
const SHOWN_LINES: u32 = 6;
/// Lines shown above a place.
const ABOVE: u32 = 2;

pub(crate) fn render(audit: &Audit, sources: &Sources, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.term_width(WIDTH);
    let mut text = String::new();
    for item in &audit.findings {
        finding(&mut text, &renderer, item, sources);
    }
    for Accepted { item, by, reason, .. } in &audit.suppressed {
        let reason = if reason.is_empty() { "no reason given" } else { reason };
        let by = match by {
            By::Source => "in the source",
            By::Settings => "in osvm.audit.toml",
        };
        let _ = writeln!(text, "allowed {by}: {}: {}", line(&item.finding), wording::plain(reason));
    }
    for file in &audit.not_analysed {
        let at = file.line.map(|line| format!(":{line}")).unwrap_or_default();
        let _ = writeln!(text, "not analysed: {}{at}: {}", wording::plain(&file.file), wording::plain(&file.reason));
    }
    for (name, value) in audit.deployed.iter().flat_map(wording::deployed) {
        let _ = writeln!(text, "{name:<9} {}", wording::plain(&value));
    }
    for line in audit.ai.iter().flat_map(wording::ai) {
        let _ = writeln!(text, "ai: {}", wording::plain(&line));
    }
    text.push_str(&summary(audit));
    text
}

/// The line that sums up, and what was set aside.
pub(crate) fn summary(audit: &Audit) -> String {
    let read = format!("{}, {}", wording::count(audit.files, "file"), wording::count(audit.lines, "line"));
    let whole = match audit.not_analysed.len() {
        0 if audit.files == 0 => "no Rust file was found".to_owned(),
        0 => "all files analysed".to_owned(),
        number => format!("{} not analysed", wording::count(number, "file")),
    };
    let severities = wording::severities(audit);
    let mut text = format!("{severities} in {read}, {} ms; {whole}\n", audit.took.as_millis());
    let aside = wording::aside(audit);
    if !aside.is_empty() {
        let _ = writeln!(text, "{}", aside.join(", "));
    }
    let _ = writeln!(text, "{}", wording::dependencies(audit));
    text
}

fn line(finding: &Finding) -> String {
    let Finding { rule, title, location, .. } = finding;
    format!("{rule} {title}   {}", at(location))
}

/// `src/lib.rs:41`, or the file alone where no line is known.
fn at(location: &Location) -> String {
    let file = wording::plain(&location.file);
    if location.span.line == 0 { file } else { format!("{file}:{}", location.span.line) }
}

fn finding(text: &mut String, renderer: &Renderer, item: &Item, sources: &Sources) {
    let finding = &item.finding;
    let level = match finding.severity {
        Severity::Critical | Severity::High => Level::ERROR,
        Severity::Medium => Level::WARNING,
        Severity::Low | Severity::Info => Level::NOTE,
    };
    let level = level.with_name(finding.severity.as_str());
    let file = wording::plain(&finding.location.file);
    let message = wording::plain(&finding.message);
    match excerpt(&finding.location, sources) {
        Some((source, first, range)) => {
            let title = level.primary_title(finding.title).id(finding.rule);
            let annotation = AnnotationKind::Primary.span(range).label(message);
            let snippet = Snippet::source(source).line_start(first).path(file).fold(false).annotation(annotation);
            text.push_str(&renderer.render(&[title.element(snippet)]));
            text.push('\n');
        }
        None => {
            let severity = finding.severity.as_str();
            let _ = writeln!(
                text,
                "{severity}[{}]: {}   {}\n  {message}",
                finding.rule,
                finding.title,
                at(&finding.location)
            );
        }
    }
    path(text, &finding.evidence, &finding.location);
    if let Some(handler) = &finding.handler {
        let _ = writeln!(text, "  in    {} (confidence {})", wording::plain(handler), finding.confidence.as_str());
    } else {
        let _ = writeln!(text, "  confidence {}", finding.confidence.as_str());
    }
    let mechanical = if finding.edit.is_some() { format!(": osvm audit fix {}", finding.rule) } else { String::new() };
    let _ = writeln!(text, "  fix   {}{mechanical}\n", wording::plain(&finding.help));
}

fn path(text: &mut String, steps: &[Step], place: &Location) {
    for (index, step) in steps.iter().enumerate() {
        let head = if index == 0 { "path" } else { "    " };
        let line = step.span.line;
        let at = if step.file == place.file { format!("line {line}") } else { format!("{}:{line}", step.file) };
        let _ = writeln!(text, "  {head}  {} ({})", wording::plain(&step.note), wording::plain(&at));
    }
}

/// The lines around a place, the number of the first, and where the place is among their bytes.
fn excerpt(location: &Location, sources: &Sources) -> Option<(String, usize, std::ops::Range<usize>)> {
    let source = sources.get(&location.file)?;
    let span = location.span;
    let first = span.line.saturating_sub(ABOVE).max(1);
    let last = span.end_line.clamp(span.line, span.line.saturating_add(SHOWN_LINES)).min(source.len());
    let begin = source.offset(first, 1)?;
    let range = source.range(span)?;
    let end = source.offset(last, u32::MAX)?;
    let shown = source.as_str().get(begin..end)?;
    let range = range.start.checked_sub(begin)?..range.end.min(end).checked_sub(begin)?;
    Some((shown.to_owned(), first as usize, range))
}
