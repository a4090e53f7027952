//! OSVM-031 and OSVM-032: initialising where anybody may come first, or again.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Event, Node, Prop},
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-031",
    class: "reinitialization",
    title: "`init_if_needed` without a guard",
    severity: Severity::Medium,
    cwe: 665,
    explanation: "`init_if_needed` runs the handler also on an account that exists. An address that it assigns then replaces the old one, \
                  whoever calls.",
    limits: "Accounts whose seeds name the signer belong to the signer and are left out.",
    fix: "Use `init`, or check a flag of the content before anything is assigned.",
};

pub(super) static FRONTRUN: Rule = Rule {
    id: "OSVM-032",
    class: "init-frontrun",
    title: "Anybody may initialise the one account",
    severity: Severity::High,
    cwe: 696,
    explanation: "An account with fixed seeds exists once for the whole program. The handler that makes it, or makes it again, lets its \
                  caller name the authority, and no signer is compared with anybody.",
    limits: "`init` is open to the first caller only; it is reported, as medium, where that caller becomes the authority itself.",
    fix: "Compare the signer with a fixed address or with the program's upgrade authority, and use `init`.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    each(view, &mut |account, event, field, _| {
        let by_signer = view.derived(account, &event.facts).is_some_and(|(seeds, _)| {
            let signers = view.signers(&event.facts);
            seeds.iter().any(|seed| {
                view.run.arena.any(*seed, &|node| matches!(node, Node::Prop(Prop::Key, have) if signers.contains(have)))
            })
        });
        if by_signer {
            return;
        }
        let message = format!("`{field}` of `{}` is assigned whether or not the account was there", view.name(account));
        let steps = vec![view.origin(account), view.step(event.file, event.span, "the old address is replaced here")];
        found.push(view.at(&RULE, event, how(Severity::Medium, Confidence::High), message, steps));
    });
}

pub(super) fn check_frontrun(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    each(view, &mut |account, event, field, fixed_seeds| {
        let known = view.signers(&event.facts).iter().any(|signer| {
            view.equal(&event.facts, &|a, b| {
                *view.node(a) == Node::Prop(Prop::Key, *signer) && !matches!(view.node(b), Node::Pda(..))
            })
        });
        if !fixed_seeds || known {
            return;
        }
        let message = format!("`{}` exists once, and whoever calls names its `{field}`", view.name(account));
        let steps =
            vec![view.origin(account), view.step(event.file, event.span, "the authority is whom the caller names")];
        found.push(view.at(&FRONTRUN, event, how(Severity::High, Confidence::Medium), message, steps));
    });
    // `init`: whoever comes first becomes the authority.
    for event in &view.events {
        let Action::WriteField { account, field, place, value, .. } = &event.action else { continue };
        let entry = view.account(*account);
        let signers = view.signers(&event.facts);
        let caller = match view.node(view.strip(*value)) {
            Node::Prop(Prop::Key, by) if signers.contains(by) => *by,
            _ => continue,
        };
        if !entry.init
            || entry.init_if_needed
            || !entry.attr.has("seeds")
            || !view.is_address(event.file, *place, *value)
        {
            continue;
        }
        let known = view.equal(&event.facts, &|a, b| {
            *view.node(a) == Node::Prop(Prop::Key, caller) && !matches!(view.node(b), Node::Pda(..))
        });
        if known
            || !fixed(view, *account, event)
            || signers.iter().any(|signer| *signer != caller && view.tied(*signer, &event.facts))
        {
            continue;
        }
        let message = format!("whoever comes first becomes `{field}` of `{}`, of which there is one", entry.name);
        let steps = vec![view.origin(*account), view.step(event.file, event.span, "the authority is the first caller")];
        found.push(view.at(&FRONTRUN, event, how(Severity::Medium, Confidence::Medium), message, steps));
        return;
    }
}

/// The address is derived from nothing that a caller chooses.
fn fixed(view: &View<'_, '_>, account: u32, event: &Event) -> bool {
    view.derived(account, &event.facts).is_some_and(|(seeds, _)| {
        seeds.iter().all(|seed| {
            !view.run.arena.any(*seed, &|node| matches!(node, Node::Prop(..) | Node::State(..) | Node::Arg(..)))
        })
    })
}

type Each<'f> = dyn FnMut(u32, &Event, &str, bool) + 'f;

/// Addresses that are assigned to an `init_if_needed` account without a look at what was there.
fn each(view: &View<'_, '_>, then: &mut Each<'_>) {
    for event in &view.events {
        let Action::WriteField { account, field, place, value, .. } = &event.action else { continue };
        let entry = view.account(*account);
        if !entry.init_if_needed || !view.is_address(event.file, *place, *value) {
            continue;
        }
        let looked = event
            .facts
            .iter()
            .any(|(v, _)| view.run.arena.any(*v, &|node| matches!(node, Node::State(have, _) if have == account)));
        if looked {
            continue;
        }
        then(*account, event, field, fixed(view, *account, event));
        return;
    }
}
