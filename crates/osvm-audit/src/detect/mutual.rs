//! OSVM-005: two accounts that vouch for each other, and nobody for them.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Node, Prop},
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-005",
    class: "self-referential-checks",
    title: "Checks compare the caller's accounts with each other only",
    severity: Severity::Medium,
    cwe: 345,
    explanation: "An address that one account's content names is compared with another account, but the first one may be owned by any \
                  program. Whoever writes its content makes the comparison true.",
    limits: "An account that a call checks which could not be followed is left out.",
    fix: "Check the owner or the address of the account whose content is believed before anything is compared with it.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() || !view.effects() {
        return;
    }
    let Some(event) = view.events.last() else { return };
    for (account, field, other) in view.relations(&event.facts) {
        let Node::Prop(Prop::Key, named) = *view.node(other) else { continue };
        let open = |account: u32| {
            view.raw(account) && !view.owned(account, &event.facts) && !view.pinned(account, &event.facts)
        };
        if named == account || !open(account) || !open(named) || view.signs(named, &event.facts) {
            continue;
        }
        if view.created(account) || view.written(account) || view.passed_out(account) {
            continue;
        }
        let message = format!(
            "`{field}` of `{}` is compared with `{}`, and both are whatever the caller brings",
            view.name(account),
            view.name(named)
        );
        let mut steps = vec![view.origin(account), view.origin(named)];
        steps.extend(view.learnt(
            &event.facts,
            "they are compared here",
            &|node| matches!(node, Node::Bin(_, a, b) if *a == other || *b == other),
        ));
        let how = how(Severity::Medium, Confidence::Medium);
        let entry = view.account(account);
        found.push(view.finding(&RULE, entry.file, entry.span, how, message, steps));
        return;
    }
}
