//! OSVM-012: accounts out of an open list are used as they come.

use std::collections::BTreeSet;

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Node, Prop},
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-012",
    class: "unchecked-remaining-accounts",
    title: "Remaining accounts are not checked",
    severity: Severity::High,
    cwe: 20,
    explanation: "Accounts beyond the declared ones come as the caller likes, in any number and order, and no constraint of the \
                  framework looks at them. The handler reads, pays or counts them without comparing owner, address or signature.",
    limits: "A list that is handed on whole to another program is that program's to check.",
    fix: "Compare each account's owner or address before use, and the list's length with what is expected.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    let mut told = BTreeSet::new();
    for event in &view.events {
        let (account, severity) = match &event.action {
            Action::Deserialize { account, how, .. } if !how.starts_with("Account") => (*account, Severity::High),
            Action::ReadData { account } => (*account, Severity::Medium),
            Action::Lamports { account, .. } | Action::WriteData { account, .. } => (*account, Severity::High),
            Action::Use { value, .. } => match view.node(view.strip(*value)) {
                Node::Prop(Prop::Key, account) | Node::Info(account) => (*account, Severity::Medium),
                _ => continue,
            },
            _ => continue,
        };
        let entry = view.account(account);
        if !entry.remaining || !entry.element && !view.run.framework.eq(&crate::interp::Framework::Anchor) {
            continue;
        }
        let known = view.owned(account, &event.facts)
            || view.pinned(account, &event.facts)
            || view.signs(account, &event.facts);
        let compared = view.entails(&event.facts, &|node, truth| {
            truth
                && matches!(node, crate::interp::Node::Bin(crate::syntax::BinOp::Eq, a, b)
                if [*a, *b].iter().any(|side| *view.node(*side) == Node::Prop(Prop::Key, account)))
        });
        if known || compared || view.passed_out(account) || !told.insert(account) {
            continue;
        }
        let message = "an account out of `remaining_accounts` is used, and nothing is known of it".to_owned();
        let steps = vec![view.origin(account), view.step(event.file, event.span, "it is used here")];
        found.push(view.at(&RULE, event, how(severity, Confidence::Medium), message, steps));
    }
}
