//! OSVM-033 and OSVM-034: closing accounts.

use std::collections::BTreeSet;

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Framework, Lamports, Node},
    model::{View, how},
    whole::{Ask, is_closed_mark},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-033",
    class: "insecure-close",
    title: "Account is closed by taking its lamports only",
    severity: Severity::High,
    cwe: 672,
    explanation: "The handler takes all lamports of an account with content and leaves the content. Within the transaction somebody can \
                  pay the rent again, and the account lives on with its old content.",
    limits: "A native program may wipe the content instead of marking it; that counts as closing there, and not with Anchor, whose \
             discriminator a wiped account can get again.",
    fix: "Use Anchor's `close = destination`; elsewhere shrink the account to nothing and assign it to the system program.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    let mut told = BTreeSet::new();
    for event in &view.events {
        let Action::Lamports { account, change: Lamports::Zeroed, .. } = &event.action else { continue };
        let has_content = view.typed(*account)
            || view
                .events
                .iter()
                .any(|event| matches!(&event.action, Action::Deserialize { account: have, .. } if have == account));
        if !has_content || event.facts.iter().any(|(v, _)| view.run.arena.any(*v, &is_closed_mark)) {
            continue;
        }
        let mut marked = false;
        let closed = view.events.iter().any(|other| match &other.action {
            Action::Close { account: have, .. }
            | Action::Assign { account: have, .. }
            | Action::Realloc { account: have, .. } => have == account,
            Action::WriteData { account: have, value } if have == account => {
                let mark = value.is_some_and(|value| view.run.arena.any(value, &is_closed_mark));
                marked |= mark;
                (mark && view.knows(Ask::ClosedChecked)) || (!mark && view.run.framework != Framework::Anchor)
            }
            // Content that is set to its default is wiped as well.
            Action::WriteField { account: have, .. } => have == account && view.run.framework != Framework::Anchor,
            _ => false,
        });
        if closed || !told.insert(*account) {
            continue;
        }
        let rest = if marked { "and no handler drains accounts that carry the mark" } else { "and its content stays" };
        let message = format!("all lamports of `{}` are taken, {rest}", view.name(*account));
        let steps = vec![view.origin(*account), view.step(event.file, event.span, "its lamports go to nothing")];
        found.push(view.at(&RULE, event, how(Severity::High, Confidence::High), message, steps));
    }
}

pub(super) static DESTINATION: Rule = Rule {
    id: "OSVM-034",
    class: "close-destination",
    title: "Rent of a closed account goes to whoever is named",
    severity: Severity::Low,
    cwe: 863,
    explanation: "`close = destination` pays to an account that the caller chooses: it neither signs nor is compared with a stored address.",
    limits: "Where a tied signer closes, letting it choose is usual; such handlers are left out.",
    fix: "Tie the destination: `has_one`, or close to the signer.",
};

pub(super) fn check_destination(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for event in &view.events {
        let Action::Close { account, to: Some(to), .. } = &event.action else { continue };
        let Some(to) = view.run.arena.account(*to) else { continue };
        // Constraints of fields further down are known only once all of them are read.
        let facts = view.events.last().map_or(&event.facts, |last| &last.facts);
        let tied = view.signs(to, facts) || view.pinned(to, facts) || !view.signers(facts).is_empty();
        let compared = view
            .relations(facts)
            .iter()
            .any(|(_, _, other)| *view.node(*other) == Node::Prop(crate::interp::Prop::Key, to));
        if tied || compared {
            continue;
        }
        let message =
            format!("what `{}` holds goes to `{}`, which nothing is known of", view.name(*account), view.name(to));
        let steps = vec![view.origin(*account), view.origin(to)];
        found.push(view.at(&DESTINATION, event, how(Severity::Low, Confidence::Medium), message, steps));
    }
}
