//! One HTML file that needs nothing else: no script, no font, no image from elsewhere, and a policy that forbids them.

use std::fmt::Write as _;

use osvm_audit::{Finding, Location, Span};

use super::{svg, wording};
use crate::{
    audit::{Accepted, Audit, By, Item},
    sources::Sources,
};

const STYLE: &str = include_str!("report.css");
/// Lines shown around a place.
const AROUND: u32 = 3;
/// Of a place that spans more lines, only the first so many are shown.
const SHOWN_LINES: u32 = 12;

pub(crate) fn render(audit: &Audit, sources: &Sources) -> String {
    let root = escape(&audit.root);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Audit of {root}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>Audit of <code>{root}</code></h1>\n"
    );
    let _ = writeln!(
        html,
        "<p class=\"sum\">{} in {}, {}; {}.</p>",
        wording::severities(audit),
        wording::count(audit.files, "file"),
        wording::count(audit.lines, "line"),
        match audit.not_analysed.len() {
            0 => "all files analysed".to_owned(),
            number => format!("<strong>{} not analysed</strong>", wording::count(number, "file")),
        }
    );
    html.push_str(&svg::severities(audit));
    programs(&mut html, audit);
    overview(&mut html, audit);
    for (number, item) in audit.findings.iter().enumerate() {
        finding(&mut html, number, item, sources);
    }
    deployed(&mut html, audit);
    said_by_a_model(&mut html, audit);
    not_analysed(&mut html, audit);
    accepted(&mut html, audit);
    let aside = wording::aside(audit);
    if !aside.is_empty() {
        let _ = writeln!(html, "<p>Set aside: {}.</p>", escape(&aside.join(", ")));
    }
    let _ = writeln!(
        html,
        "<footer>{} {}; {}.</footer>\n</main>\n</body>\n</html>",
        audit.tool.name,
        audit.tool.version,
        escape(&wording::dependencies(audit))
    );
    html
}

fn programs(html: &mut String, audit: &Audit) {
    if audit.programs.is_empty() {
        return;
    }
    html.push_str("<h2>Programs</h2>\n<ul>\n");
    for program in &audit.programs {
        let handlers: Vec<String> =
            program.handlers.iter().map(|handler| format!("<code>{}</code>", escape(handler))).collect();
        let _ = writeln!(
            html,
            "<li><strong>{}</strong> ({}), {}: {}</li>",
            escape(&program.name),
            program.framework,
            wording::count(handlers.len(), "handler"),
            handlers.join(", ")
        );
    }
    html.push_str("</ul>\n");
}

fn overview(html: &mut String, audit: &Audit) {
    if audit.findings.is_empty() {
        html.push_str("<p>No findings.</p>\n");
        return;
    }
    html.push_str(
        "<h2>Findings</h2>\n<table>\n<thead><tr><th>severity</th><th>rule</th><th>where</th><th>what</th></tr></thead>\n<tbody>\n",
    );
    for (number, item) in audit.findings.iter().enumerate() {
        let Finding { severity, rule, title, location, .. } = &item.finding;
        let word = severity.as_str();
        let _ = writeln!(
            html,
            "<tr><td><span class=\"tag {word}\">{word}</span></td><td>{rule}</td><td><a href=\"#f{number}\"><code>{}</code></a></td><td>{}</td></tr>",
            escape(&at(location)),
            escape(title)
        );
    }
    html.push_str("</tbody>\n</table>\n");
}

fn finding(html: &mut String, number: usize, item: &Item, sources: &Sources) {
    let Finding { severity, rule, title, message, help, location, handler, confidence, evidence, .. } = &item.finding;
    let word = severity.as_str();
    let _ = writeln!(
        html,
        "<section id=\"f{number}\">\n<h3><span class=\"tag {word}\">{word}</span> {rule} {}</h3>\n<p class=\"where\"><code>{}</code>{}, confidence {}</p>\n<p>{}</p>",
        escape(title),
        escape(&at(location)),
        handler.as_ref().map(|handler| format!(" in <code>{}</code>", escape(handler))).unwrap_or_default(),
        confidence.as_str(),
        prose(message)
    );
    excerpt(html, location, sources);
    if !evidence.is_empty() {
        html.push_str(&svg::path(&item.finding));
    }
    let _ = writeln!(html, "<p><strong>Fix</strong> {}</p>\n</section>", prose(help));
}

fn excerpt(html: &mut String, location: &Location, sources: &Sources) {
    let span = location.span;
    let Some(source) = sources.get(&location.file).filter(|_| span.line > 0) else { return };
    let first = span.line.saturating_sub(AROUND).max(1);
    let last = span.end_line.clamp(span.line, span.line.saturating_add(SHOWN_LINES)).saturating_add(AROUND);
    html.push_str("<pre>");
    for number in first..=last.min(source.len()) {
        let Some(line) = source.line(number) else { break };
        let _ = writeln!(html, "<span class=\"no\">{number:>5}</span> {}", marked(line, number, span));
    }
    html.push_str("</pre>\n");
}

/// A line with what the span covers of it marked.
fn marked(line: &str, number: u32, span: Span) -> String {
    if number < span.line || number > span.end_line {
        return escape(line);
    }
    let characters: Vec<char> = line.chars().collect();
    let begin = if number == span.line { span.column.saturating_sub(1) as usize } else { 0 }.min(characters.len());
    let end = if number == span.end_line { span.end_column.saturating_sub(1) as usize } else { characters.len() };
    let end = end.clamp(begin, characters.len());
    let text = |part: &[char]| escape(&part.iter().collect::<String>());
    format!("{}<mark>{}</mark>{}", text(&characters[..begin]), text(&characters[begin..end]), text(&characters[end..]))
}

fn deployed(html: &mut String, audit: &Audit) {
    let Some(deployed) = &audit.deployed else { return };
    html.push_str("<h2>Deployed program</h2>\n<table>\n");
    for (name, value) in wording::deployed(deployed) {
        let _ = writeln!(html, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value));
    }
    html.push_str("</table>\n");
}

fn said_by_a_model(html: &mut String, audit: &Audit) {
    let Some(ai) = &audit.ai else { return };
    html.push_str("<h2>Said by a language model</h2>\n<p>Not checked by anybody. It changes no severity.</p>\n<ul>\n");
    for line in wording::ai(ai) {
        let _ = writeln!(html, "<li>{}</li>", escape(&line));
    }
    html.push_str("</ul>\n");
}

fn not_analysed(html: &mut String, audit: &Audit) {
    if audit.not_analysed.is_empty() {
        return;
    }
    html.push_str("<h2>Not analysed</h2>\n<p>Nothing is said about these files.</p>\n<ul>\n");
    for file in &audit.not_analysed {
        let line = file.line.map(|line| format!(":{line}")).unwrap_or_default();
        let _ = writeln!(html, "<li><code>{}{line}</code>: {}</li>", escape(&file.file), escape(&file.reason));
    }
    html.push_str("</ul>\n");
}

fn accepted(html: &mut String, audit: &Audit) {
    if audit.suppressed.is_empty() {
        return;
    }
    html.push_str("<h2>Allowed</h2>\n<ul>\n");
    for Accepted { item, by, reason, .. } in &audit.suppressed {
        let Finding { rule, title, location, .. } = &item.finding;
        let by = if *by == By::Source { "in the source" } else { "in osvm.audit.toml" };
        let reason = if reason.is_empty() { "no reason given" } else { reason };
        let _ =
            writeln!(html, "<li>{rule} {title}, <code>{}</code>, {by}: {}</li>", escape(&at(location)), escape(reason));
    }
    html.push_str("</ul>\n");
}

fn at(location: &Location) -> String {
    if location.span.line == 0 { location.file.clone() } else { format!("{}:{}", location.file, location.span.line) }
}

/// Running text: what stands between backticks is code.
fn prose(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return escape(text);
    }
    let shown = parts
        .iter()
        .enumerate()
        .map(|(index, part)| if index % 2 == 1 { format!("<code>{}</code>", escape(part)) } else { escape(part) });
    shown.collect()
}

/// Text that has no meaning in HTML or SVG, in content and in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in wording::plain(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pointed_at_is_marked_and_nothing_is_markup() {
        let span = Span { line: 2, column: 3, end_line: 3, end_column: 2 };
        assert_eq!(marked("a<b>c", 1, span), "a&lt;b&gt;c");
        assert_eq!(marked("a<b>c", 2, span), "a&lt;<mark>b&gt;c</mark>");
        assert_eq!(marked("xyz", 3, span), "<mark>x</mark>yz");
        assert_eq!(prose("`a<b>` & c"), "<code>a&lt;b&gt;</code> &amp; c");
        let beyond = Span { line: 1, column: 90, end_line: 1, end_column: 20 };
        assert_eq!(marked("xyz", 1, beyond), "xyz<mark></mark>");
    }
}
