//! OSVM-022: a state account that is one per user is taken as it comes.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Lamports, Node, Prop},
    model::{View, how},
    syntax::BinOp,
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-022",
    class: "pda-validation",
    title: "Derived account is not checked",
    severity: Severity::High,
    cwe: 345,
    explanation: "A handler with a signer takes from an account that is tied to that signer neither by its address nor by its content: \
                  any account of the type will do, also somebody else's.",
    limits: "Where the account's type stores an address, OSVM-003 speaks instead.",
    fix: "Derive the address from the signer's key and compare it: `seeds = [b\"vault\", user.key().as_ref()], bump`.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for account in view.accounts.iter().copied() {
        let entry = view.account(account);
        if !view.typed(account) || !entry.declared || entry.init || entry.init_if_needed {
            continue;
        }
        let ty = entry.ty.as_deref().unwrap_or("");
        if view.run.index.structure(entry.file, ty).is_some_and(|item| {
            item.fields.is_empty() || item.fields.iter().any(|field| matches!(&*field.ty.name, "Pubkey" | "Address"))
        }) {
            continue;
        }
        let takes = view.events.iter().find(|event| match &event.action {
            Action::WriteField { account: have, place, value, .. } if *have == account => {
                match view.node(view.strip(*value)) {
                    Node::Bin(BinOp::Sub, left, _) => left == place,
                    Node::Call(name, args) => name.contains("sub") && args.first() == Some(place),
                    _ => false,
                }
            }
            Action::Lamports { account: have, change: Lamports::Debited | Lamports::Zeroed, .. } => *have == account,
            _ => false,
        });
        let Some(event) = takes else { continue };
        let signers = view.signers(&event.facts);
        if signers.is_empty() || view.linked(account, &event.facts) || view.pinned(account, &event.facts) {
            continue;
        }
        // Written down by hand elsewhere, as for a second account of the same kind.
        let paid = view.events.iter().any(|other| {
            matches!(&other.action, Action::Compare { left, right }
            if [*left, *right].iter().any(|side| *view.node(*side) == Node::Prop(Prop::Key, account)))
        });
        if paid {
            continue;
        }
        let message =
            format!("`{}` is taken from, but neither its address nor its content ties it to the signer", entry.name);
        let mut steps = vec![view.origin(account)];
        steps.extend(signers.first().map(|signer| view.origin(*signer)));
        steps.push(view.step(event.file, event.span, "it is taken from here"));
        found.push(view.at(&RULE, event, how(Severity::High, Confidence::Medium), message, steps));
    }
}
