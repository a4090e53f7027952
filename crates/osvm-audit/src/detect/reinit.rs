//! OSVM-030: an account is initialised a second time.

use std::collections::BTreeSet;

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Event, Node, Prop},
    model::{View, how},
    syntax::{BinOp, Lit},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-030",
    class: "reinitialization",
    title: "Account can be initialised again",
    severity: Severity::High,
    cwe: 665,
    explanation: "A handler fills in the addresses of an account (who owns it, who may change it) and does not make sure that it is empty. \
                  Called again on an account in use, it hands the account to somebody else.",
    limits: "A handler that compares the stored authority with a signer changes it on purpose and is left out.",
    fix: "Use `init`, or check a flag or discriminator, or that the account is empty, before anything is written.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    let mut told = BTreeSet::new();
    for event in &view.events {
        let (account, what) = match &event.action {
            Action::WriteField { account, field, place, value, .. } => {
                if !view.is_address(event.file, *place, *value) || !given(view, *value) {
                    continue;
                }
                (*account, field.to_string())
            }
            Action::WriteData { account, value: Some(value) } => {
                let Node::Struct(_, fields) = view.node(*value) else { continue };
                let Some((field, _)) =
                    fields.iter().find(|(_, v)| matches!(view.node(view.strip(*v)), Node::Prop(Prop::Key, _)))
                else {
                    continue;
                };
                (*account, field.to_string())
            }
            _ => continue,
        };
        let entry = view.account(account);
        if entry.init || entry.init_if_needed || entry.remaining || told.contains(&account) {
            continue;
        }
        if view.created(account) || guarded(view, event, account) {
            continue;
        }
        told.insert(account);
        let (severity, confidence) = match view.unseen() || view.passed_out(account) {
            true => (Severity::Medium, Confidence::Low),
            false => (Severity::High, Confidence::High),
        };
        let message = format!("`{what}` of `{}` is set whether or not the account is in use already", entry.name);
        let steps = vec![
            view.origin(account),
            view.step(event.file, event.span, "an address is stored, and nothing of the old content was looked at"),
        ];
        found.push(view.at(&RULE, event, how(severity, confidence), message, steps));
    }
}

/// The new address comes from outside: an account's key or an argument.
fn given(view: &View<'_, '_>, value: crate::interp::V) -> bool {
    let value = view.strip(value);
    matches!(view.node(value), Node::Prop(Prop::Key, _)) || view.given_by_caller(value)
}

/// Some part of the old content, or its emptiness, was looked at; or the address says whose it is.
pub(super) fn guarded(view: &View<'_, '_>, event: &Event, account: u32) -> bool {
    let content = |node: &Node| match node {
        Node::State(have, _) | Node::Prop(Prop::Data | Prop::Empty | Prop::Lamports, have) => *have == account,
        _ => false,
    };
    event.facts.iter().any(|(v, truth)| match view.node(*v) {
        // `assert_eq!(account.owner, program_id)` says nothing about use.
        Node::Bin(BinOp::Eq, a, b) => {
            let by_content = view.run.arena.any(*v, &content);
            let fixed = [*a, *b].iter().any(|side| matches!(view.node(*side), Node::Lit(Lit::Int(..))));
            by_content || (fixed && *truth && view.run.arena.any(*v, &|node| *node == Node::Prop(Prop::Len, account)))
        }
        Node::Call(name, _) if matches!(&**name, "typed" | "len") => false,
        Node::Call(_, args) => view.run.arena.any(*v, &content) && !args.is_empty() && !is_read(view, *v),
        _ => view.run.arena.any(*v, &content),
    }) || view.derived(account, &event.facts).is_some_and(|(seeds, _)| {
        let signers = view.signers(&event.facts);
        seeds.iter().any(|seed| {
            view.run.arena.any(*seed, &|node| matches!(node, Node::Prop(Prop::Key, have) if signers.contains(have)))
        })
    }) && !view
        .events
        .iter()
        .any(|event| matches!(&event.action, Action::Cpi { name, .. } if &**name == "create_program_account"))
}

/// A call whose success says that the bytes could be read, not what they are.
fn is_read(view: &View<'_, '_>, v: crate::interp::V) -> bool {
    matches!(view.node(v), Node::Call(name, _) if name.contains("serialize") || name.contains("borrow") || name.contains("from"))
}
