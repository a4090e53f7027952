//! OSVM-051: a call's failure goes unseen.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::Action,
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-051",
    class: "ignored-result",
    title: "Result of a call is not looked at",
    severity: Severity::Medium,
    cwe: 252,
    explanation: "The result of a call of another program, or of a function that checks something, is dropped: what it refuses happens anyway.",
    limits: "A failing call of another program ends the transaction by itself on today's runtime; a failing check of one's own does not.",
    fix: "End the call with `?`.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for event in &view.events {
        let Action::Ignored { name, cpi } = &event.action else { continue };
        let (severity, what) = match cpi {
            true => (Severity::Low, "calls another program"),
            false => (Severity::Medium, "checks something"),
        };
        let message = format!("`{name}` {what}, and its result is dropped");
        let steps = vec![view.step(event.file, event.span, "the result ends here")];
        found.push(view.at(&RULE, event, how(severity, Confidence::Medium), message, steps));
    }
}
