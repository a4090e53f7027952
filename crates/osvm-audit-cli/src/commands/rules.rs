//! `osvm audit rules` and `osvm audit explain RULE`.

use std::fmt::Write as _;

use crate::{failure::Failure, output, rules};

/// A line a rule, or all that is known of them as JSON.
pub(crate) fn list(json: bool) -> Result<(), Failure> {
    let all = rules::all();
    if json {
        return output::print(&output::pretty(&all)?);
    }
    let widest = all.iter().map(|rule| rule.class.len()).max().unwrap_or(0);
    let mut text = String::new();
    for rule in &all {
        let _ = writeln!(text, "{}  {:<8}  {:<widest$}  {}", rule.id, rule.severity.as_str(), rule.class, rule.title);
    }
    let _ = writeln!(text, "{} rules; more of one: osvm audit explain RULE", all.len());
    output::print(&text)
}

/// All that is known of one.
pub(crate) fn explain(id: &str) -> Result<(), Failure> {
    let Some(rule) = rules::find(id) else {
        return Err(Failure::new(format!("there is no rule {id:?}")).help("all rules: osvm audit rules"));
    };
    let cwe = if rule.cwe > 0 { format!(", CWE-{}", rule.cwe) } else { String::new() };
    output::print(&format!(
        "{} {}\n{}{cwe}, class {}\n\n{}\n\nlimits  {}\n\nfix     {}\n\nallow   // osvm: allow({}, reason = \"…\") on the line or the one above it\n",
        rule.id,
        rule.title,
        rule.severity.as_str(),
        rule.class,
        rule.explanation,
        rule.limits,
        rule.fix,
        rule.id
    ))
}
