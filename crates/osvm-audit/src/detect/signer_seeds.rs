//! OSVM-024, OSVM-025 and OSVM-026: what the program signs with, for whom, and for whose account.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Event, Node, Prop, V},
    model::{View, how},
    syntax::Lit,
};

pub(super) static DIFFER: Rule = Rule {
    id: "OSVM-024",
    class: "signer-seeds",
    title: "Signed with other seeds than the address is derived from",
    severity: Severity::Medium,
    cwe: 682,
    explanation: "The account that has to sign is derived from one list of seeds, and the call is signed with another one. The call fails, \
                  or the program signs for an address that nobody checked.",
    limits: "Compares constants at the same place and the number of seeds; seeds that are computed are taken to be equal.",
    fix: "Build both from one function.",
};

pub(super) fn check_differ(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for event in &view.events {
        let Action::Cpi { name, parts, seeds: Some(seeds), .. } = &event.action else { continue };
        let Some((_, authority)) = parts.iter().find(|(role, _)| matches!(&**role, "authority" | "owner")) else {
            continue;
        };
        let Some(account) = view.run.arena.account(*authority) else { continue };
        let Some((derived, _)) = view.derived(account, &event.facts) else { continue };
        let Some(signed) = one_list(view, *seeds) else { continue };
        // The bump comes last.
        let Some(differs) = difference(view, &derived, &signed[..signed.len().saturating_sub(1)]) else { continue };
        let message = format!("`{}` signs `{name}`, but {differs}", view.name(account));
        let steps = vec![view.origin(account), view.step(event.file, event.span, "it is signed here")];
        found.push(view.at(&DIFFER, event, how(Severity::Medium, Confidence::High), message, steps));
    }
}

/// The seeds of one signer, in order.
fn one_list(view: &View<'_, '_>, v: V) -> Option<Vec<V>> {
    let Node::Array(items) = view.node(view.strip(v)) else { return None };
    match items.as_slice() {
        [only] => match view.node(view.strip(*only)) {
            Node::Array(inner) if inner.len() > 1 => Some(inner.clone()),
            _ => one_list(view, *only),
        },
        [] => None,
        // Elements that are lists of lists: several signers.
        many if many.iter().any(|item| matches!(view.node(*item), Node::Array(inner) if inner.len() > 1)) => None,
        many => Some(many.to_vec()),
    }
}

fn difference(view: &View<'_, '_>, derived: &[V], signed: &[V]) -> Option<String> {
    let text = |v: V| match view.node(view.strip(v)) {
        Node::Lit(Lit::Bytes(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Node::Lit(Lit::Str(text)) => Some(text.to_string()),
        _ => None,
    };
    for (derived, signed) in derived.iter().zip(signed) {
        if let (Some(one), Some(other)) = (text(*derived), text(*signed))
            && one != other
        {
            return Some(format!("it is derived from \"{one}\" and signed with \"{other}\""));
        }
    }
    (derived.len() != signed.len())
        .then(|| format!("it is derived from {} seeds and signed with {}", derived.len(), signed.len()))
}

pub(super) static FORWARDED: Rule = Rule {
    id: "OSVM-025",
    class: "pda-signature-forwarded",
    title: "The program's signature goes along with accounts of the caller's choice",
    severity: Severity::Medium,
    cwe: 441,
    explanation: "The program signs a call into which it passes accounts out of `remaining_accounts` that nothing is known of. If one of \
                  them is an account that the signing address may spend, the called program spends it.",
    limits: "What the called program does with them is not known.",
    fix: "Compare owner or address of each account before it is passed on, and sign with an address that owns nothing else.",
};

pub(super) fn check_forwarded(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let Action::Cpi { name, parts, seeds: Some(_), .. } = &event.action else { continue };
        let open = parts.iter().find_map(|(_, v)| {
            let account = match view.node(view.strip(*v)) {
                Node::Info(account) | Node::Account(account) | Node::Prop(Prop::Key, account) => *account,
                _ => return None,
            };
            let free = view.account(account).remaining
                && !view.owned(account, &event.facts)
                && !view.pinned(account, &event.facts)
                && !view.signs(account, &event.facts);
            free.then_some(account)
        });
        let Some(account) = open else { continue };
        let message = format!("the program signs `{name}`, into which `{}` goes unchecked", view.name(account));
        let steps = vec![view.origin(account), view.step(event.file, event.span, "it is passed on with the signature")];
        found.push(view.at(&FORWARDED, event, how(Severity::Medium, Confidence::Medium), message, steps));
    }
}

pub(super) static NOBODY: Rule = Rule {
    id: "OSVM-026",
    class: "seeds-without-owner",
    title: "An account per user whose address names no user",
    severity: Severity::Low,
    cwe: 639,
    explanation: "The new account stores who it belongs to, and its seeds hold what the caller gives, without that owner's key: whoever comes \
                  first takes the address that another one wanted.",
    limits: "Registers of names, first come first served, are built like this on purpose.",
    fix: "Put the owner's key into the seeds.",
};

pub(super) fn check_nobody(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for event in &view.events {
        let Some((account, field, owner)) = stored_signer(view, event) else { continue };
        let entry = view.account(account);
        let Some((seeds, _)) = view.derived(account, &event.facts).filter(|_| entry.init) else { continue };
        let named = seeds.iter().any(|seed| {
            view.run.arena.any(
                *seed,
                &|node| matches!(node, Node::Prop(_, have) | Node::Account(have) | Node::Info(have) if *have == owner),
            )
        });
        let chosen = seeds.iter().any(|seed| view.given_by_caller(*seed));
        if named || !chosen {
            continue;
        }
        let message = format!("`{}` belongs to `{}`, whose key is none of its seeds", entry.name, view.name(owner));
        let note = format!("`{field}` says whose it is");
        let steps = vec![view.origin(account), view.step(event.file, event.span, note)];
        found.push(view.at(&NOBODY, event, how(Severity::Low, Confidence::Low), message, steps));
    }
}

fn stored_signer<'e>(view: &View<'_, '_>, event: &'e Event) -> Option<(u32, &'e str, u32)> {
    let Action::WriteField { account, field, value, .. } = &event.action else { return None };
    match view.node(view.strip(*value)) {
        Node::Prop(Prop::Key, by) if view.signs(*by, &event.facts) => Some((*account, field, *by)),
        _ => None,
    }
}
