//! `osvm: allow(RULE, reason = "…")` in a comment, on the line of a finding or the one above it.
//!
//! The engine has taken out what it knows how to; this is for the findings of manifests, whose comments begin with `#`.

use osvm_audit::{Finding, Location, Span};

use crate::sources::Sources;

/// The reason and the place of the comment that accepts `finding`.
pub(crate) fn comment(finding: &Finding, sources: &Sources) -> Option<(String, Location)> {
    let source = sources.get(&finding.location.file)?;
    let line = finding.location.span.line;
    for number in [line, line.saturating_sub(1)] {
        let Some(text) = source.line(number) else { continue };
        // Above, only a line that is nothing but a comment belongs to the next one.
        let alone = text.trim_start().starts_with('#') || text.trim_start().starts_with("//");
        if number != line && !alone {
            continue;
        }
        if let Some((column, reason)) = parse(text, finding.rule) {
            let end_column = u32::try_from(text.chars().count() + 1).unwrap_or(u32::MAX);
            let span = Span { line: number, column, end_line: number, end_column };
            return Some((reason, Location { file: finding.location.file.clone(), span }));
        }
    }
    None
}

/// The column of the comment's words and its reason, if the line allows `rule`.
fn parse(line: &str, rule: &str) -> Option<(u32, String)> {
    let at =
        ["# osvm: allow(", "// osvm: allow("].iter().find_map(|mark| line.find(mark).map(|at| (at, at + mark.len())));
    let (at, begin) = at?;
    let words = line.get(begin..)?;
    let named = words.split([',', ')']).next()?.trim();
    if !named.eq_ignore_ascii_case(rule) {
        return None;
    }
    let reason = words.split_once("reason").and_then(|(_, rest)| rest.trim_start().strip_prefix('='));
    let reason = reason.and_then(|rest| rest.trim_start().strip_prefix('"')).and_then(|rest| rest.split('"').next());
    let column = u32::try_from(line[..at].chars().count() + 1).ok()?;
    Some((column, reason.unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_allows_the_rule_that_it_names_and_no_other() {
        let line = r#"x = { git = "u" } # osvm: allow(OSVM-095, reason = "our own fork")"#;
        assert_eq!(parse(line, "OSVM-095"), Some((19, "our own fork".to_owned())));
        assert_eq!(parse(line, "OSVM-094"), None);
        assert_eq!(parse("# osvm: allow(osvm-095)", "OSVM-095"), Some((1, String::new())));
        assert_eq!(parse("# osvm: allowed(OSVM-095)", "OSVM-095"), None);
    }
}
