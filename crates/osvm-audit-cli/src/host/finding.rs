//! How findings of this crate are made.

use osvm_audit::{Confidence, Finding, Location, Rule, Span};

/// A finding without evidence, edit or handler; its severity is the rule's.
pub(crate) fn build(rule: &Rule, confidence: Confidence, location: Location, message: String, help: String) -> Finding {
    Finding {
        rule: rule.id,
        class: rule.class,
        title: rule.title,
        severity: rule.severity,
        confidence,
        message,
        help,
        edit: None,
        location,
        evidence: Vec::new(),
        handler: None,
    }
}

/// A file as a whole: no line of it is pointed at or shown.
pub(crate) fn whole_file(file: &str) -> Location {
    Location { file: file.to_owned(), span: Span::default() }
}
