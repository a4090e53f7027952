//! SARIF 2.1.0 (OASIS), with what GitHub's code scanning reads of it.
//!
//! What was not analysed is a notification of the invocation, so that no reader takes silence for clean.

use osvm_audit::{Confidence, Finding, Location, NotAnalysed, Rule, Severity, Span, Step};
use serde_json::{Map, Value, json};

use super::wording;
use crate::{
    ai::AiFinding,
    audit::{Accepted, Audit, By, Item},
    rules,
    sources::Sources,
};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// The rule of what a language model found.
const AI_RULE: &str = "OSVM-AI";
/// The descriptor of what could not be analysed.
const NOT_ANALYSED: &str = "not-analysed";
/// The name under which our fingerprints stand; the version is the recipe's.
const FINGERPRINT: &str = "osvmAudit/v1";

/// The whole log.
pub(crate) fn log(audit: &Audit, sources: &Sources) -> Value {
    let rules = rules::all();
    let prefix = prefix(audit);
    let writer = Writer { prefix: &prefix, rules: &rules, sources };
    let mut results: Vec<Value> = audit.findings.iter().map(|item| writer.result(item, None)).collect();
    results.extend(audit.known.iter().map(|item| {
        let mut result = writer.result(item, Some(json!({ "kind": "external", "justification": "in the baseline" })));
        result["baselineState"] = json!("unchanged");
        result
    }));
    results.extend(audit.suppressed.iter().map(|accepted| writer.result(&accepted.item, Some(suppression(accepted)))));
    for found in audit.ai.iter().flat_map(|ai| &ai.findings) {
        results.push(writer.said_by_a_model(found));
    }
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": audit.tool.name,
                "semanticVersion": audit.tool.version,
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": descriptors(&rules, audit),
                "notifications": [{
                    "id": NOT_ANALYSED,
                    "shortDescription": { "text": "A file about which the audit says nothing" },
                }],
            } },
            "columnKind": "unicodeCodePoints",
            "invocations": [{
                "executionSuccessful": true,
                "toolExecutionNotifications":
                    audit.not_analysed.iter().map(|file| writer.notification(file)).collect::<Vec<_>>(),
            }],
            "results": results,
            "properties": {
                "files": audit.files,
                "lines": audit.lines,
                "leftOut": audit.left_out,
                "dependencies": wording::dependencies(audit),
                "ai": audit.ai,
            },
        }],
    })
}

struct Writer<'a> {
    /// From the repository's root to the audited folder: GitHub takes paths from there.
    prefix: &'a str,
    rules: &'a [&'static Rule],
    sources: &'a Sources,
}

impl Writer<'_> {
    fn result(&self, item: &Item, suppression: Option<Value>) -> Value {
        let finding = &item.finding;
        let mut result = Map::new();
        result.insert("ruleId".into(), json!(finding.rule));
        if let Some(index) = self.rules.iter().position(|rule| rule.id == finding.rule) {
            result.insert("ruleIndex".into(), json!(index));
        }
        result.insert("level".into(), json!(level(finding.severity)));
        result.insert("message".into(), json!({ "text": format!("{} Fix: {}", finding.message, finding.help) }));
        let mut location = self.location(&finding.location);
        if let Some(handler) = &finding.handler {
            location["logicalLocations"] = json!([{ "name": handler, "kind": "function" }]);
        }
        result.insert("locations".into(), json!([location]));
        result.insert("partialFingerprints".into(), json!({ FINGERPRINT: item.fingerprint }));
        if !finding.evidence.is_empty() {
            let steps: Vec<Value> = finding.evidence.iter().map(|step| self.step(step)).collect();
            result.insert("codeFlows".into(), json!([{ "threadFlows": [{ "locations": steps }] }]));
        }
        if let Some(fix) = self.fix(finding) {
            result.insert("fixes".into(), json!([fix]));
        }
        if let Some(suppression) = suppression {
            result.insert("suppressions".into(), json!([suppression]));
        }
        let properties = json!({
            "class": finding.class,
            "severity": finding.severity.as_str(),
            "confidence": finding.confidence.as_str(),
        });
        result.insert("properties".into(), properties);
        Value::Object(result)
    }

    fn said_by_a_model(&self, found: &AiFinding) -> Value {
        let text = format!(
            "Said by a language model in {} of {} runs: {}. {}",
            found.votes, found.runs, found.title, found.message
        );
        json!({
            "ruleId": AI_RULE,
            "level": "note",
            "message": { "text": text },
            "locations": [self.location(&found.location)],
            "properties": { "class": "ai", "confidence": "low" },
        })
    }

    fn artifact(&self, file: &str) -> Value {
        json!({ "uri": uri(&format!("{}{file}", self.prefix)) })
    }

    fn location(&self, location: &Location) -> Value {
        let mut physical = json!({ "artifactLocation": self.artifact(&location.file) });
        if location.span.line > 0 {
            physical["region"] = region(location.span);
            let source = self.sources.get(&location.file);
            if let Some(line) = source.as_ref().and_then(|source| source.line(location.span.line)) {
                physical["contextRegion"] =
                    json!({ "startLine": location.span.line, "snippet": { "text": wording::plain(line) } });
            }
        }
        json!({ "physicalLocation": physical })
    }

    fn step(&self, step: &Step) -> Value {
        let place = Location { file: step.file.clone(), span: step.span };
        let mut location = self.location(&place);
        location["message"] = json!({ "text": step.note });
        json!({ "location": location })
    }

    fn fix(&self, finding: &Finding) -> Option<Value> {
        let edit = finding.edit.as_ref()?;
        Some(json!({
            "description": { "text": finding.help },
            "artifactChanges": [{
                "artifactLocation": self.artifact(&edit.location.file),
                "replacements": [{
                    "deletedRegion": region(edit.location.span),
                    "insertedContent": { "text": edit.replacement },
                }],
            }],
        }))
    }

    fn notification(&self, file: &NotAnalysed) -> Value {
        let mut physical = json!({ "artifactLocation": self.artifact(&file.file) });
        if let Some(line) = file.line.filter(|line| *line > 0) {
            physical["region"] = json!({ "startLine": line });
        }
        json!({
            "descriptor": { "id": NOT_ANALYSED, "index": 0 },
            "level": "warning",
            "message": { "text": format!("not analysed: {}", file.reason) },
            "locations": [{ "physicalLocation": physical }],
        })
    }
}

/// All rules, and one more for what a language model found, if it found something.
fn descriptors(rules: &[&Rule], audit: &Audit) -> Vec<Value> {
    let mut all: Vec<Value> = rules.iter().map(|rule| descriptor(rule, audit)).collect();
    if audit.ai.as_ref().is_some_and(|ai| !ai.findings.is_empty()) {
        all.push(json!({
            "id": AI_RULE,
            "shortDescription": { "text": "Found by a language model, not checked by anybody" },
            "defaultConfiguration": { "level": "note" },
            "properties": { "class": "ai", "confidence": "low", "precision": "low", "tags": ["ai"] },
        }));
    }
    all
}

fn region(span: Span) -> Value {
    json!({
        "startLine": span.line,
        "startColumn": span.column.max(1),
        "endLine": span.end_line.max(span.line),
        "endColumn": span.end_column.max(1),
    })
}

fn suppression(accepted: &Accepted) -> Value {
    let kind = match accepted.by {
        By::Source => "inSource",
        By::Settings => "external",
    };
    let mut suppression = json!({ "kind": kind, "status": "accepted" });
    if !accepted.reason.is_empty() {
        suppression["justification"] = json!(accepted.reason);
    }
    suppression
}

fn descriptor(rule: &Rule, audit: &Audit) -> Value {
    let found = audit.findings.iter().map(|item| &item.finding);
    let confidence = found.filter(|finding| finding.rule == rule.id).map(|finding| finding.confidence).max();
    let confidence = confidence.unwrap_or(Confidence::Medium);
    let mut tags = vec!["security".to_owned()];
    if rule.cwe > 0 {
        tags.push(format!("external/cwe/cwe-{:03}", rule.cwe));
    }
    json!({
        "id": rule.id,
        "name": name(rule.class),
        "shortDescription": { "text": rule.title },
        "fullDescription": { "text": rule.explanation },
        "help": {
            "text": format!("{}\n\nLimits: {}\n\nFix: {}", rule.explanation, rule.limits, rule.fix),
        },
        "defaultConfiguration": { "level": level(rule.severity) },
        "properties": {
            "class": rule.class,
            "confidence": confidence.as_str(),
            "precision": confidence.as_str(),
            "security-severity": score(rule.severity),
            "problem.severity": problem(rule.severity),
            "tags": tags,
        },
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "note",
    }
}

fn problem(severity: Severity) -> &'static str {
    match level(severity) {
        "note" => "recommendation",
        level => level,
    }
}

/// GitHub sorts by a number: over 9.0 is critical, from 7.0 high, from 4.0 medium.
fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "9.5",
        Severity::High => "8.0",
        Severity::Medium => "5.5",
        Severity::Low => "3.0",
        Severity::Info => "1.0",
    }
}

/// `missing-signer` as `MissingSigner`: a name is to be an identifier.
fn name(class: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    class.split('-').map(capital).collect()
}

/// A relative reference: what is not plain in a path is percent-encoded.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.trim_start_matches("./").bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/!$&'()*+,=@".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

/// From the folder that holds `.git` to the audited one, with a slash at its end; empty if there is none.
fn prefix(audit: &Audit) -> String {
    let Ok(folder) = audit.folder.canonicalize() else { return String::new() };
    let top = folder.ancestors().find(|folder| folder.join(".git").exists());
    let below = top.and_then(|top| folder.strip_prefix(top).ok());
    match below.map(|below| below.to_string_lossy()) {
        Some(below) if !below.is_empty() => format!("{below}/"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_relative_references() {
        assert_eq!(uri("./src/a b#ä.rs"), "src/a%20b%23%C3%A4.rs");
        assert_eq!(uri("c:/x?y"), "c%3A/x%3Fy");
        assert_eq!(name("missing-signer"), "MissingSigner");
    }
}
