//! OSVM-056, OSVM-057 and OSVM-058: calls of the token programs, and lamports beside them.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Lamports, Node},
    model::{View, how},
};

pub(super) static UNBALANCED: Rule = Rule {
    id: "OSVM-056",
    class: "lamports-before-call",
    title: "Lamports move by hand before a call that does not see both sides",
    severity: Severity::Low,
    cwe: 682,
    explanation: "The runtime adds up the lamports of the accounts that a call gets. An account that was debited by hand before and is not \
                  among them makes the sum wrong, and the call fails.",
    limits: "Only calls whose accounts are listed one by one are looked at.",
    fix: "Call first and move lamports afterwards, or pass the account along.",
};

pub(super) fn check_unbalanced(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for (at, event) in view.events.iter().enumerate() {
        let Action::Lamports { account, change: Lamports::Debited | Lamports::Zeroed } = &event.action else {
            continue;
        };
        let call = view.events[at + 1..].iter().find_map(|later| {
            let Action::Cpi { name, parts, .. } = &later.action else { return None };
            let mut known = parts.iter().map(|(_, v)| view.run.arena.account(*v));
            let all = !parts.is_empty() && known.clone().all(|account| account.is_some());
            (all && !known.any(|have| have == Some(*account))).then_some((later, name))
        });
        let Some((later, name)) = call else { continue };
        let message =
            format!("`{name}` is called after `{}` was debited by hand, and does not get it", view.name(*account));
        let steps = vec![
            view.step(event.file, event.span, "lamports are taken by hand"),
            view.step(later.file, later.span, "the sum of what this call gets is wrong"),
        ];
        found.push(view.at(&UNBALANCED, later, how(Severity::Low, Confidence::Medium), message, steps));
    }
}

pub(super) static UNCHECKED: Rule = Rule {
    id: "OSVM-057",
    class: "token-2022",
    title: "Token-2022 is let in by a transfer that cannot do its extensions",
    severity: Severity::Low,
    cwe: 682,
    explanation: "The token program may be Token-2022, and `transfer` gives it neither mint nor decimals: it fails for mints with a fee or a \
                  hook, and tokens of such a mint that got in cannot get out.",
    limits: "What else extensions do (a permanent delegate, an authority that closes the mint) is not asked.",
    fix: "Use `transfer_checked`, and refuse mints with extensions that the program was not built for.",
};

pub(super) fn check_unchecked(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for event in &view.events {
        let Some(moved) = super::moves::of(view, event) else { continue };
        if !moved.interface || moved.checked {
            continue;
        }
        let message = "this transfer fails for mints of Token-2022 with a fee or a hook".to_owned();
        let steps = vec![view.step(event.file, event.span, "no mint and no decimals are given")];
        found.push(view.at(&UNCHECKED, event, how(Severity::Low, Confidence::High), message, steps));
    }
}

pub(super) static CREDITED: Rule = Rule {
    id: "OSVM-058",
    class: "fee-on-transfer",
    title: "What was asked for is credited, not what arrived",
    severity: Severity::Medium,
    cwe: 682,
    explanation: "The token program may be Token-2022, whose mints can keep a fee of each transfer. The handler books the amount that it asked \
                  for and never looks at what the account got.",
    limits: "A mint that is pinned, or refused for its fee elsewhere, is not known to be so.",
    fix: "Read the balance before and after (`reload`), and book the difference.",
};

pub(super) fn check_credited(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for (at, event) in view.events.iter().enumerate() {
        let Some(moved) = super::moves::of(view, event) else { continue };
        let (Some(to), Some(amount)) = (moved.to, moved.amount.map(|amount| view.strip(amount))) else { continue };
        if !moved.interface || moved.signed || !view.given_by_caller(amount) {
            continue;
        }
        let looked = view.run.reads.iter().any(|read| read.account == to && read.field.is_none());
        let credit = view.events[at + 1..].iter().chain(&view.events[..at]).find(|other| match &other.action {
            Action::WriteField { value, account, .. } => {
                let adds = |node: &Node| match node {
                    Node::Bin(crate::syntax::BinOp::Add, _, right) => view.strip(*right) == amount,
                    Node::Call(name, args) => {
                        name.contains("add") && args.get(1).is_some_and(|added| view.strip(*added) == amount)
                    }
                    _ => false,
                };
                *account != to && view.run.arena.any(*value, &adds)
            }
            _ => false,
        });
        let Some(credit) = credit.filter(|_| !looked) else { continue };
        let message = format!("what `{}` is asked to get is booked, less a fee that the mint may keep", view.name(to));
        let steps = vec![
            view.step(event.file, event.span, "the mint may keep a part of it"),
            view.step(credit.file, credit.span, "all of it is booked"),
        ];
        found.push(view.at(&CREDITED, credit, how(Severity::Medium, Confidence::Low), message, steps));
    }
}
