//! The least that SARIF's readers need of a report: `sarif audit PATH --format sarif`.

#![forbid(unsafe_code)]

use osvm_audit::{Options, Severity};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(2).unwrap_or_else(|| ".".to_owned());
    let report = osvm_audit::analyse(&Options::new(path))?;
    let rules: Vec<Value> = osvm_audit::rules()
        .iter()
        .map(|rule| json!({ "id": rule.id, "shortDescription": { "text": rule.title }, "properties": { "class": rule.class } }))
        .collect();
    let results: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            let level = match finding.severity {
                Severity::High | Severity::Critical => "error",
                Severity::Medium => "warning",
                Severity::Low | Severity::Info => "note",
            };
            let at = &finding.location;
            json!({
                "ruleId": finding.rule,
                "level": level,
                "message": { "text": finding.message },
                "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": at.file },
                    "region": { "startLine": at.span.line, "startColumn": at.span.column },
                } }],
            })
        })
        .collect();
    let notices: Vec<Value> = report
        .not_analysed
        .iter()
        .map(|part| json!({ "descriptor": { "id": "not-analysed" }, "message": { "text": format!("{}: {}", part.file, part.reason) } }))
        .collect();
    let log = json!({
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "osvm-audit", "rules": rules } },
            "invocations": [{ "executionSuccessful": true, "toolExecutionNotifications": notices }],
            "results": results,
        }],
    });
    println!("{log}");
    Ok(())
}
