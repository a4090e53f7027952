//! For a pull request: a table of what was found, and each finding with its path under a fold.

use std::fmt::Write as _;

use osvm_audit::{Finding, Location};

use super::wording;
use crate::audit::Audit;

pub(crate) fn render(audit: &Audit) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "# Audit of `{}`\n", code(&audit.root));
    let _ = writeln!(
        text,
        "{} in {}, {}.\n",
        wording::severities(audit),
        wording::count(audit.files, "file"),
        wording::count(audit.lines, "line")
    );
    if !audit.findings.is_empty() {
        text.push_str("| severity | rule | where | what |\n|---|---|---|---|\n");
        for item in &audit.findings {
            let Finding { severity, rule, title, location, .. } = &item.finding;
            let _ = writeln!(text, "| {} | {rule} | `{}` | {title} |", severity.as_str(), cell(&at(location)));
        }
        text.push('\n');
        for item in &audit.findings {
            finding(&mut text, &item.finding);
        }
    }
    if !audit.not_analysed.is_empty() {
        text.push_str("## Not analysed\n\nNothing is said about these files.\n\n");
        for file in &audit.not_analysed {
            let line = file.line.map(|line| format!(":{line}")).unwrap_or_default();
            let _ = writeln!(text, "- `{}{line}`: {}", code(&file.file), escape(&file.reason));
        }
        text.push('\n');
    }
    if let Some(deployed) = &audit.deployed {
        text.push_str("## Deployed program\n\n");
        for (name, value) in wording::deployed(deployed) {
            let _ = writeln!(text, "- {name}: {}", escape(&value));
        }
        text.push('\n');
    }
    if let Some(ai) = &audit.ai {
        text.push_str("## Said by a language model\n\nNot checked by anybody. It changes no severity.\n\n");
        for line in wording::ai(ai) {
            let _ = writeln!(text, "- {}", escape(&line));
        }
        text.push('\n');
    }
    if !audit.suppressed.is_empty() {
        text.push_str("## Allowed\n\n");
        for accepted in &audit.suppressed {
            let Finding { rule, title, location, .. } = &accepted.item.finding;
            let reason = if accepted.reason.is_empty() { "no reason given" } else { &accepted.reason };
            let _ = writeln!(text, "- {rule} {title}, `{}`: {}", code(&at(location)), escape(reason));
        }
        text.push('\n');
    }
    let aside = wording::aside(audit);
    if !aside.is_empty() {
        let _ = writeln!(text, "Set aside: {}.\n", aside.join(", "));
    }
    let dependencies = wording::dependencies(audit);
    let _ = writeln!(text, "{} {}; {dependencies}.", audit.tool.name, audit.tool.version);
    text
}

fn finding(text: &mut String, finding: &Finding) {
    let Finding { severity, rule, title, .. } = finding;
    let _ = writeln!(
        text,
        "<details><summary>{}: {rule} {title}, <code>{}</code></summary>\n",
        severity.as_str(),
        html(&at(&finding.location))
    );
    let _ = writeln!(text, "{}\n", escape(&finding.message));
    for (number, step) in (1..).zip(&finding.evidence) {
        let _ = writeln!(text, "{number}. {} (`{}:{}`)", escape(&step.note), code(&step.file), step.span.line);
    }
    if !finding.evidence.is_empty() {
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "Fix: {}. Confidence: {}.\n\n</details>\n",
        escape(finding.help.trim_end_matches('.')),
        finding.confidence.as_str()
    );
}

fn at(location: &Location) -> String {
    if location.span.line == 0 { location.file.clone() } else { format!("{}:{}", location.file, location.span.line) }
}

/// Text between backticks.
fn code(text: &str) -> String {
    wording::plain(text).replace(['`', '\n'], "'")
}

/// The same in a cell of a table.
fn cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

fn html(text: &str) -> String {
    wording::plain(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Running text: code in backticks stays code, everything else has no meaning of its own.
fn escape(text: &str) -> String {
    let text = wording::plain(text).replace('\n', " ");
    let parts: Vec<&str> = text.split('`').collect();
    // An odd number of backticks marks nothing.
    if parts.len().is_multiple_of(2) {
        return mask(&text);
    }
    let masked =
        parts.iter().enumerate().map(|(index, part)| if index % 2 == 1 { format!("`{part}`") } else { mask(part) });
    masked.collect()
}

fn mask(text: &str) -> String {
    let mut masked = String::new();
    for c in text.chars() {
        match c {
            '<' => masked.push_str("&lt;"),
            '>' => masked.push_str("&gt;"),
            '&' => masked.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '@' | '!' => {
                masked.push('\\');
                masked.push(c);
            }
            _ => masked.push(c),
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_program_are_no_markup() {
        assert_eq!(escape("`a_b` <img> @who [x](y)"), "`a_b` &lt;img&gt; \\@who \\[x\\](y)");
        assert_eq!(escape("one ` alone"), "one \\` alone");
        assert_eq!(cell("a|b`c"), "a\\|b'c");
    }
}
