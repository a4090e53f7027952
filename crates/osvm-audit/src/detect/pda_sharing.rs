//! OSVM-021: one derived address signs for everybody.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Node, Prop, V},
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-021",
    class: "pda-sharing",
    title: "One derived address signs for several owners",
    severity: Severity::High,
    cwe: 863,
    explanation: "The program signs with an address whose seeds name nobody: not the signer, not the destination, not the account that \
                  says who may. Whoever can make such a state account of their own, with the same seeds, spends what belongs to others.",
    limits: "A program that keeps one vault for all and does its accounts elsewhere is built so on purpose; seeds of constants alone \
             are not reported.",
    fix: "Put what tells owners apart into the seeds: the state account's key, the owner or the destination.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let Action::Cpi { name, parts, seeds: Some(seeds), .. } = &event.action else { continue };
        if !name.contains("ransfer") && !name.contains("ithdraw") && !name.contains("urn") && !name.contains("int") {
            continue;
        }
        let list = flat(view, *seeds);
        let addresses: Vec<V> = list
            .iter()
            .copied()
            .filter(|seed| {
                view.run.arena.any(*seed, &|node| matches!(node, Node::Field(..) | Node::Prop(Prop::Key, _)))
            })
            .collect();
        let stored: Vec<V> = addresses
            .iter()
            .copied()
            .filter(|seed| view.is_address(event.file, *seed, *seed) || view.run.arena.state_field(*seed).is_none())
            .collect();
        if stored.is_empty() {
            continue;
        }
        let own = |seed: V| match view.node(view.strip(seed)) {
            // The key of a state account or of somebody who takes part.
            Node::Prop(Prop::Key, account) => view.account(*account).ty.as_deref() != Some("Mint"),
            _ => {
                let Some((account, _, _)) = view.run.arena.state_field(seed) else { return true };
                // A stored address that is the address of an account here.
                let named = view.equal(&event.facts, &|a, b| {
                    a == seed && matches!(view.node(b), Node::Prop(Prop::Key, have) if view.account(*have).ty.as_deref() != Some("Mint"))
                });
                named || view.derived(account, &event.facts).is_some()
            }
        };
        if stored.iter().any(|seed| own(*seed)) {
            continue;
        }
        let to = parts.iter().find(|(role, _)| &**role == "to").and_then(|(_, v)| view.run.arena.account(*v));
        let message = format!("the seeds that `{name}` is signed with name neither who may nor where it goes");
        let mut steps: Vec<_> = to.map(|to| view.origin(to)).into_iter().collect();
        steps.push(view.step(
            event.file,
            event.span,
            "every state account with these seeds signs with the same address",
        ));
        found.push(view.at(&RULE, event, how(Severity::High, Confidence::Medium), message, steps));
    }
}

/// The seeds of all signers, one list.
pub(super) fn flat(view: &View<'_, '_>, v: V) -> Vec<V> {
    let mut open = vec![v];
    let mut made = Vec::new();
    while let Some(v) = open.pop() {
        match view.node(v) {
            Node::Array(items) => open.extend(items.iter().copied()),
            Node::Res(inner, _) | Node::Index(inner, _) => open.push(*inner),
            _ => made.push(v),
        }
        if made.len() > 64 {
            break;
        }
    }
    made
}
