//! OSVM-015 and OSVM-016: declarations that ask for more than the handler needs.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Framework, Node, Prop, Wrapper},
    model::{View, how},
};

pub(super) static WRITABLE: Rule = Rule {
    id: "OSVM-015",
    class: "writable-builtin",
    title: "A program or sysvar is marked writable",
    severity: Severity::Low,
    cwe: 732,
    explanation: "Programs and sysvars are never written. Marked writable, they make every transaction with this instruction \
                  wait for every other one that does the same.",
    limits: "Looks at Anchor's declarations; metas that are built by hand are not read.",
    fix: "Take `mut` away.",
};

pub(super) fn check_writable(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for account in view.accounts.iter().copied() {
        let entry = view.account(account);
        let builtin = matches!(entry.wrapper, Wrapper::Program | Wrapper::Sysvar);
        let Some(mark) = entry.attr.all("mut").next().filter(|_| builtin && entry.declared) else { continue };
        let message = format!("`{}` is never written, and marked `mut`", entry.name);
        let how = how(Severity::Low, Confidence::High);
        let mut finding = view.finding(&WRITABLE, entry.file, entry.span, how, message, vec![view.origin(account)]);
        finding.edit = super::edits::without(view, entry.file, &entry.attr, mark);
        found.push(finding);
    }
}

pub(super) static SEED_ONLY: Rule = Rule {
    id: "OSVM-016",
    class: "overconstrained-seed",
    title: "An account that only names a seed has to be a plain wallet",
    severity: Severity::Low,
    cwe: 691,
    explanation: "The account's address is a seed and nothing else is done with it, yet it is declared `SystemAccount`: owners that \
                  are programs, such as a multisig's vault with content, are locked out.",
    limits: "A `Signer` whose key is a seed is how an owner is asked; it is not reported.",
    fix: "Declare it `UncheckedAccount` with a comment that its address alone is used.",
};

pub(super) fn check_seed_only(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    let Some(event) = view.events.last().filter(|_| view.run.framework == Framework::Anchor) else { return };
    for account in view.accounts.iter().copied() {
        let entry = view.account(account);
        if entry.wrapper != Wrapper::SystemAccount || !entry.declared || entry.writable {
            continue;
        }
        let key = Node::Prop(Prop::Key, account);
        let seed = view.accounts.iter().any(|other| {
            view.derived(*other, &event.facts)
                .is_some_and(|(seeds, _)| seeds.iter().any(|seed| view.run.arena.any(*seed, &|node| *node == key)))
        });
        let mine = |node: &Node| match node {
            Node::Account(have) | Node::Info(have) | Node::Prop(_, have) => *have == account,
            _ => false,
        };
        let used = view.relations(&event.facts).iter().any(|(_, _, other)| *view.node(*other) == key)
            || view.events.iter().any(|event| {
                let values = match &event.action {
                    Action::Cpi { parts, data, .. } => {
                        parts.iter().map(|(_, v)| *v).chain(data.iter().copied()).collect()
                    }
                    Action::WriteField { value, .. } | Action::Use { value } => vec![*value],
                    Action::WriteData { value, .. } => value.iter().copied().collect(),
                    Action::Compare { left, right } => vec![*left, *right],
                    Action::Unfollowed { args, .. } => args.clone(),
                    Action::Lamports { account: have, .. } => return *have == account,
                    _ => Vec::new(),
                };
                values.into_iter().any(|v| view.run.arena.any(v, &mine))
            });
        if !seed || used {
            continue;
        }
        let message =
            format!("only the address of `{}` is used, yet it has to belong to the system program", entry.name);
        let how = how(Severity::Low, Confidence::Medium);
        found.push(view.finding(&SEED_ONLY, entry.file, entry.span, how, message, vec![view.origin(account)]));
    }
}
