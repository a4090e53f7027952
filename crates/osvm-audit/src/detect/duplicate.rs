//! OSVM-011: one account passed twice.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Node, Prop, Wrapper},
    model::{View, how},
    syntax::BinOp,
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-011",
    class: "duplicate-mutable",
    title: "Two writable accounts may be the same one",
    severity: Severity::Medium,
    cwe: 694,
    explanation: "The handler changes two accounts of the same type and does not make sure that they are two. Passed the same account \
                  twice, one change overwrites the other: Anchor keeps a copy of each and stores the last one.",
    limits: "Accounts that are derived from different seeds differ; where one of them may be any account, they are taken to be able \
             to be the same.",
    fix: "Compare the addresses: `constraint = a.key() != b.key()`, or `if a.key == b.key { return Err(..) }`.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    let written: Vec<(u32, crate::syntax::Name)> = view
        .accounts
        .iter()
        .filter_map(|account| {
            let entry = view.account(*account);
            if entry.init || entry.remaining || entry.wrapper == Wrapper::Unseen {
                return None;
            }
            view.events.iter().find_map(|event| match &event.action {
                Action::WriteField { account: have, ty, .. } if have == account => Some((*account, ty.clone())),
                _ => None,
            })
        })
        .collect();
    for (at, (a, ty)) in written.iter().enumerate() {
        for (b, other) in &written[at + 1..] {
            if ty != other {
                continue;
            }
            let last = view.events.iter().rev().find(
                |event| matches!(&event.action, Action::WriteField { account, .. } if account == b || account == a),
            );
            let Some(event) = last else { continue };
            let differ = view.entails(&event.facts, &|node, truth| {
                let Node::Bin(BinOp::Eq, x, y) = node else { return false };
                let keys = (view.node(*x), view.node(*y));
                !truth
                    && matches!(keys, (Node::Prop(Prop::Key, x), Node::Prop(Prop::Key, y)) if (x == a && y == b) || (x == b && y == a))
            });
            let fixed =
                |account: u32| view.derived(account, &event.facts).is_some() || view.pinned(account, &event.facts);
            if differ || (fixed(*a) && fixed(*b) && !alike(view, event, *a, *b)) || view.created(*a) || view.created(*b)
            {
                continue;
            }
            let message =
                format!("`{}` and `{}` are both changed and may be the same account", view.name(*a), view.name(*b));
            let steps =
                vec![view.origin(*a), view.origin(*b), view.step(event.file, event.span, "the later change wins")];
            found.push(view.at(&RULE, event, how(Severity::Medium, Confidence::High), message, steps));
        }
    }
}

/// Both are derived from the same constants and, for the rest, from what they store themselves or from accounts that
/// may be one: the same account fits both.
fn alike(view: &View<'_, '_>, event: &crate::interp::Event, a: u32, b: u32) -> bool {
    let (Some((left, _)), Some((right, _))) = (view.derived(a, &event.facts), view.derived(b, &event.facts)) else {
        return false;
    };
    let own = |seed: crate::interp::V, account: u32| {
        view.run.arena.state_field(seed).is_some_and(|(have, _, _)| have == account)
    };
    // Two signers, or two accounts of the caller's choice, may be one as well.
    let free = |seed: crate::interp::V| {
        matches!(view.node(seed), Node::Prop(Prop::Key, _))
            && !view.equal(&event.facts, &|x, y| x == seed && matches!(view.node(y), Node::Path(_) | Node::ProgramId))
    };
    left.len() == right.len()
        && left.iter().zip(&right).all(|(x, y)| x == y || (own(*x, a) && own(*y, b)) || (free(*x) && free(*y)))
}
