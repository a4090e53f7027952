//! Words that several formats share.

use osvm_audit::Location;

use crate::{
    ai::{Ai, AiFinding, Verdict, Votes},
    audit::{Audit, Dependencies, LeftOut},
    chain::Deployed,
};

/// `1 file`, `2 files`.
pub(crate) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {one}s", thousands(number)) }
}

/// `1,234,567`.
pub(crate) fn thousands(number: usize) -> String {
    osvm_model::number(number as u64)
}

/// `1 critical, 2 high, 0 medium`: high and medium always, the others where there are any.
pub(crate) fn severities(audit: &Audit) -> String {
    let told = audit.counts().into_iter().filter(|(severity, number)| {
        *number > 0 || matches!(severity, osvm_audit::Severity::High | osvm_audit::Severity::Medium)
    });
    told.map(|(severity, number)| format!("{} {}", thousands(number), severity.as_str())).collect::<Vec<_>>().join(", ")
}

/// What was set aside, in words; empty if nothing was.
pub(crate) fn aside(audit: &Audit) -> Vec<String> {
    let LeftOut { rule_off, excluded, outside_change } = audit.left_out;
    let mut aside = Vec::new();
    let mut tell = |number: usize, words: &str| {
        if number > 0 {
            aside.push(format!("{} {words}", thousands(number)));
        }
    };
    tell(audit.suppressed.len(), "allowed");
    tell(audit.known.len(), "known by the baseline");
    tell(audit.gone, "of the baseline gone");
    tell(rule_off, "of rules that are off");
    tell(excluded, "in excluded files");
    tell(outside_change, "outside the change");
    aside
}

/// What is known of a deployed program, as names and values.
pub(crate) fn deployed(deployed: &Deployed) -> Vec<(&'static str, String)> {
    let authority = match &deployed.authority {
        None => "none: nobody may replace it".to_owned(),
        Some(key) if deployed.authority_is_key => format!("{key}, a key"),
        Some(address) => format!("{address}, an address of a program, as of a multisig"),
    };
    let mut facts = vec![
        ("program", format!("{} at {}, {}", deployed.program, deployed.cluster, deployed.loader)),
        ("authority", authority),
    ];
    if let Some(slot) = deployed.slot {
        facts.push(("deployed", format!("last in slot {slot}")));
    }
    facts.push(("file", format!("{} bytes, SBPF {}", thousands(deployed.bytes), deployed.sbpf)));
    facts.push(("hash", deployed.hash.clone()));
    if let Some(equal) = deployed.equals_build {
        facts.push(("build", if equal { "the same as the local one" } else { "not the local one" }.to_owned()));
    }
    if let Some(contact) = &deployed.security_txt {
        let pairs: Vec<String> = contact.iter().map(|(key, value)| format!("{key} {value}")).collect();
        facts.push(("security", pairs.join("; ")));
    }
    if !deployed.libraries.is_empty() {
        facts.push(("libraries", deployed.libraries.join(", ")));
    }
    facts
}

/// What a language model said, a line each: the label is part of it.
pub(crate) fn ai(ai: &Ai) -> Vec<String> {
    let mut lines = Vec::new();
    for Verdict { rule, fingerprint, verdict, votes, reason } in &ai.verdicts {
        let Votes { confirmed, refuted, unsure, no_answer } = votes;
        let spread =
            format!("{confirmed} confirmed, {refuted} refuted, {unsure} unsure, {no_answer} without an answer");
        let short = &fingerprint[..fingerprint.len().min(8)];
        lines.push(format!("of {rule} ({short}): {verdict} ({spread}) {reason}"));
    }
    for AiFinding { title, message, location, votes, runs } in &ai.findings {
        let Location { file, span } = location;
        lines.push(format!("{title}, {file}:{} ({votes} of {runs} runs): {message}", span.line));
    }
    let stopped = ai.stopped.as_ref().map(|why| format!("; stopped by {why}")).unwrap_or_default();
    lines.push(format!(
        "{} at {}: {} sent, {} from the cache, {} answers dropped, {} tokens{stopped}",
        ai.model,
        ai.target,
        ai.sent,
        ai.cached,
        ai.dropped,
        thousands(usize::try_from(ai.tokens).unwrap_or(usize::MAX))
    ));
    lines
}

/// What the reader has to know of the dependencies.
pub(crate) fn dependencies(audit: &Audit) -> String {
    let Dependencies { lock_files, packages, advisories } = &audit.dependencies;
    if *lock_files == 0 {
        return "no Cargo.lock, so no dependency was checked".to_owned();
    }
    let packages = count(*packages, "dependency").replace("ys", "ies");
    match advisories {
        None => format!("{packages} not checked against RustSec: no local copy (osvm audit db update)"),
        Some(db) => {
            let date = db.date.as_deref().map(|date| format!(" of {date}")).unwrap_or_default();
            format!("{packages} checked against {}{date}", count_of(db.count))
        }
    }
}

fn count_of(number: usize) -> String {
    if number == 1 { "1 RustSec advisory".to_owned() } else { format!("{} RustSec advisories", thousands(number)) }
}

/// Text from files: control characters cannot move a terminal's cursor.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}
