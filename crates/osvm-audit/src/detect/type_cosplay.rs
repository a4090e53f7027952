//! OSVM-004: an account of one type passes for one of another.

use std::collections::BTreeSet;

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Event, Node, Prop},
    model::{View, how},
    syntax::BinOp,
    whole::Ask,
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-004",
    class: "type-cosplay",
    title: "Account type is not checked",
    severity: Severity::High,
    cwe: 843,
    explanation: "Bytes of an account are read as a type without a look at what type they were written as. Another account of the \
                  same program, with the same layout, passes for this one and its fields are taken for what they are not.",
    limits: "A program with one account type has nothing to confuse; the rule is silent then. A length that is compared makes the \
             finding low: lengths often tell types apart.",
    fix: "Store a discriminator first and compare it before anything else is read: Anchor's `Account<'info, T>` and \
          `T::try_deserialize` do; with Borsh or bytemuck compare the field yourself.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    let mut told = BTreeSet::new();
    for event in &view.events {
        let Action::Deserialize { account, ty, how: by } = &event.action else { continue };
        let entry = view.account(*account);
        if by_type(by) || view.typed(*account) || super::sysvar::is_sysvar(ty) || told.contains(&(*account, ty.clone()))
        {
            continue;
        }
        if by.contains("unpack") || by.starts_with("from_account") || by.starts_with("as_") || view.created(*account) {
            continue;
        }
        if !view.knows(Ask::SeveralTypes) || discriminated(view, event, *account, ty) {
            continue;
        }
        told.insert((*account, ty.clone()));
        let sized = measured(view, event, *account);
        let (severity, confidence) = match (sized, view.owned(*account, &event.facts)) {
            (true, _) => (Severity::Low, Confidence::Low),
            // Another program's type, which this one cannot give a discriminator.
            (false, true) if view.run.index.structure(event.file, ty).is_none() && variants(view, event, ty) == 0 => {
                (Severity::Low, Confidence::Low)
            }
            (false, true) => (Severity::High, Confidence::High),
            // Whoever may bring any account needs no other type.
            (false, false) => (Severity::Medium, Confidence::Medium),
        };
        let message =
            format!("`{}` is read as `{ty}` by `{by}`, which takes any account of the same layout", entry.name);
        let steps = vec![
            view.origin(*account),
            view.step(event.file, event.span, format!("nothing tells a `{ty}` from another type")),
        ];
        found.push(view.at(&RULE, event, how(severity, confidence), message, steps));
    }
    by_hand(view, found);
}

/// Readers that check a discriminator of their own.
fn by_type(by: &str) -> bool {
    matches!(by, "try_deserialize" | "as_account" | "as_account_mut" | "to_account" | "to_account_mut")
        || by.starts_with("Account")
        || by.starts_with("load")
}

/// Some field of the content, the first bytes or the enum's variant were compared.
fn discriminated(view: &View<'_, '_>, event: &Event, account: u32, ty: &str) -> bool {
    let variants = view.run.index.enumeration(event.file, ty).map(|item| item.variants.len());
    let state = |v| match view.node(v) {
        Node::State(have, of) => *have == account && **of == *ty,
        _ => false,
    };
    view.entails(&event.facts, &|node, truth| match node {
        Node::Bin(BinOp::Eq, a, b) => [(*a, *b), (*b, *a)].into_iter().any(|(this, that)| {
            let fixed = matches!(view.node(that), Node::Path(_) | Node::Lit(_) | Node::Call(..) | Node::Array(_));
            if state(this) {
                return fixed && variants.is_some_and(|count| count > 1);
            }
            if let Node::Field(inner, _) = view.node(this)
                && state(*inner)
            {
                let address = view.run.ty(event.file, this).is_some_and(|ty| matches!(&*ty.name, "Pubkey" | "Address"));
                return fixed && !address;
            }
            truth && fixed && first_bytes(view, this, account)
        }),
        Node::Call(name, args) => {
            truth && &**name == "typed" && args.iter().any(|arg| view.run.arena.account(*arg) == Some(account))
        }
        _ => false,
    }) || view.entails(&event.facts, &|node, _| matches!(node, Node::Field(inner, _) if state(*inner)))
        || variants.is_some_and(|count| count > 1)
            && view.events.iter().any(|other| {
                other
                    .facts
                    .iter()
                    .any(|(v, _)| matches!(view.node(*v), Node::Bin(BinOp::Eq, a, b) if state(*a) || state(*b)))
            })
}

/// A place in the account's bytes.
fn first_bytes(view: &View<'_, '_>, v: crate::interp::V, account: u32) -> bool {
    view.run.arena.data_of(v) == Some(account)
        && view.run.arena.any(v, &|node| matches!(node, Node::Index(..) | Node::Elem(_)) || matches!(node, Node::Call(name, _) if name.contains("get") || name.contains("slice") || name.contains("first")))
}

fn variants(view: &View<'_, '_>, event: &Event, ty: &str) -> usize {
    view.run.index.enumeration(event.file, ty).map_or(0, |item| item.variants.len())
}

/// The length was compared.
fn measured(view: &View<'_, '_>, event: &Event, account: u32) -> bool {
    event.facts.iter().any(|(v, _)| {
        view.run.arena.any(*v, &|node| match node {
            Node::Prop(Prop::Len, have) => *have == account,
            Node::Call(name, args) => {
                &**name == "len" && args.first().is_some_and(|first| view.run.arena.data_of(*first) == Some(account))
            }
            _ => false,
        })
    })
}

/// Bytes that are taken by their place, without a look at a first one.
fn by_hand(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for account in view.accounts.iter().copied() {
        let entry = view.account(account);
        let mine = |event: &&&Event| match &event.action {
            Action::ReadData { account: have } => *have == account,
            _ => false,
        };
        let read_as = view
            .events
            .iter()
            .any(|event| matches!(&event.action, Action::Deserialize { account: have, .. } if *have == account));
        let Some(event) = view.events.iter().find(mine) else { continue };
        if read_as || view.typed(account) || view.written(account) || entry.remaining || view.created(account) {
            continue;
        }
        if view.pinned(account, &event.facts) || super::sysvar::is_sysvar_name(&entry.name) {
            continue;
        }
        let checked = view.entails(&event.facts, &|node, truth| match node {
            Node::Bin(BinOp::Eq, a, b) => [(*a, *b), (*b, *a)].into_iter().any(|(this, that)| {
                let fixed = matches!(view.node(that), Node::Path(_) | Node::Lit(_) | Node::Array(_));
                truth && fixed && first_bytes(view, this, account)
            }),
            _ => false,
        });
        if checked || view.passed_out(account) {
            continue;
        }
        let owned = view.owned(account, &event.facts);
        let (severity, confidence) =
            if owned { (Severity::Medium, Confidence::Medium) } else { (Severity::Low, Confidence::Low) };
        let message =
            format!("bytes of `{}` are taken by their place, and nothing says what type they are of", entry.name);
        let steps = vec![view.origin(account), view.step(event.file, event.span, "no discriminator is compared")];
        found.push(view.at(&RULE, event, how(severity, confidence), message, steps));
    }
}
