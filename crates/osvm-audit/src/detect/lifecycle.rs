//! OSVM-037 and OSVM-040: what is left unset when an account begins, and what is set when it is over.

use std::collections::BTreeSet;

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Lamports, Node},
    model::{View, how},
    syntax::Lit,
    whole::Ask,
};

pub(super) static UNSET: Rule = Rule {
    id: "OSVM-037",
    class: "missing-field-init",
    title: "A new account does not say who may use it",
    severity: Severity::Low,
    cwe: 456,
    explanation: "The handler makes an account and sets some of its fields, but not one that another handler compares with who calls. It \
                  stays zero, and the other handler refuses everybody.",
    limits: "Fields that a later handler is meant to set, such as a pending authority, look the same.",
    fix: "Set the field where the account is made.",
};

pub(super) fn check_unset(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for account in view.accounts.iter().copied() {
        let entry = view.account(account);
        let Some(ty) = entry.ty.as_ref().filter(|_| entry.init && entry.declared) else { continue };
        let Some(item) = view.run.index.structure(entry.file, ty) else { continue };
        let mut set = BTreeSet::new();
        let mut whole = view.passed_out(account);
        for event in &view.events {
            match &event.action {
                Action::WriteField { account: have, field, .. } if *have == account => {
                    set.insert(field.clone());
                }
                Action::WriteData { account: have, .. } => whole |= *have == account,
                // The content itself went into a call that was not followed.
                Action::Unfollowed { args, .. } => {
                    whole |= args.iter().any(|arg| matches!(view.node(*arg), Node::State(have, _) if *have == account));
                }
                _ => {}
            }
        }
        let missing = item.fields.iter().find(|field| {
            let address = matches!(&*field.ty.name, "Pubkey" | "Address");
            let gate = view.knows(Ask::Gate((ty.clone(), field.name.clone())));
            address && gate && !set.contains(&field.name)
        });
        let Some(missing) = missing.filter(|_| !whole && !set.is_empty()) else { continue };
        let message = format!("`{}` of `{}` is never set here, and another handler asks it", missing.name, entry.name);
        let how = how(Severity::Low, Confidence::Medium);
        found.push(view.finding(&UNSET, entry.file, entry.span, how, message, vec![view.origin(account)]));
    }
}

pub(super) static REVIVED: Rule = Rule {
    id: "OSVM-040",
    class: "write-after-close",
    title: "An account is written after it was drained",
    severity: Severity::Low,
    cwe: 672,
    explanation: "All lamports of the account are taken, and content is stored in it afterwards: either the change is lost, or the account \
                  lives on with it when somebody pays its rent within the transaction.",
    limits: "Order is the order in the source. Zeroes and marks of a closed account are left out.",
    fix: "Write before the account is closed, or not at all.",
};

pub(super) fn check_revived(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for (at, event) in view.events.iter().enumerate() {
        let Action::Lamports { account, change: Lamports::Zeroed } = &event.action else { continue };
        let later = view.events[at + 1..].iter().find(|later| match &later.action {
            Action::WriteField { account: have, value, .. } if have == account => !is_nothing(view.node(*value)),
            _ => false,
        });
        let Some(later) = later else { continue };
        let message = format!("`{}` is written after all its lamports were taken", view.name(*account));
        let steps = vec![
            view.step(event.file, event.span, "its lamports go"),
            view.step(later.file, later.span, "and content comes"),
        ];
        found.push(view.at(&REVIVED, later, how(Severity::Low, Confidence::Medium), message, steps));
    }
}

/// What wipes content: zero, false, a default, a mark.
fn is_nothing(node: &Node) -> bool {
    match node {
        Node::Lit(Lit::Int(0, _) | Lit::Bool(_)) | Node::Path(_) => true,
        Node::Call(name, _) => name.contains("default"),
        _ => false,
    }
}
