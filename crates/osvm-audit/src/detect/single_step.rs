//! OSVM-075: authority is handed over in one step.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Node, Prop},
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-075",
    class: "single-step-authority",
    title: "Authority is handed over in one step",
    severity: Severity::Low,
    cwe: 269,
    explanation: "The holder of an authority replaces it by an address that need not answer. A mistyped address locks everybody out.",
    limits: "Programs that let the old authority come back in another way are not told apart.",
    fix: "Store the new one as pending and let it sign to accept.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for event in &view.events {
        let Action::WriteField { account, field, place, value, .. } = &event.action else { continue };
        if !view.is_address(event.file, *place, *value) || view.account(*account).init {
            continue;
        }
        let signers = view.signers(&event.facts);
        let held = view.relations(&event.facts).iter().any(|(have, name, other)| {
            have == account
                && name == field
                && matches!(view.node(*other), Node::Prop(Prop::Key, by) if signers.contains(by))
        });
        let unasked = match view.node(view.strip(*value)) {
            Node::Prop(Prop::Key, new) => !signers.contains(new),
            _ => view.given_by_caller(*value),
        };
        if !held || !unasked {
            continue;
        }
        let message = format!("`{field}` of `{}` goes to an address that does not sign", view.name(*account));
        let steps =
            vec![view.origin(*account), view.step(event.file, event.span, "the old authority is gone from here on")];
        found.push(view.at(&RULE, event, how(Severity::Low, Confidence::High), message, steps));
    }
}
