//! OSVM-038: creating an account that somebody may have paid for before.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Node, Prop},
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-038",
    class: "precreation-dos",
    title: "Creation can be blocked by a lamport",
    severity: Severity::Low,
    cwe: 400,
    explanation: "The system program's `create_account` fails on an address that holds lamports. The address is derived, so everybody knows \
                  it beforehand, and one lamport sent there blocks the handler for good.",
    limits: "Whether a blocked address does harm depends on who chooses the seeds.",
    fix: "Use Anchor's `init`, or transfer what is missing for the rent, then `allocate` and `assign`.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let Action::Cpi { name, parts, .. } = &event.action else { continue };
        let last = name.rsplit("::").next().unwrap_or(name);
        if !matches!(last, "create_account" | "CreateAccount") {
            continue;
        }
        let to = parts.iter().find(|(role, _)| &**role == "to").map(|(_, v)| *v);
        let Some(to) = to else { continue };
        let account = view.run.arena.account(to);
        let derived = matches!(view.node(view.strip(to)), Node::Pda(..))
            || account.is_some_and(|account| view.derived(account, &event.facts).is_some());
        let looked = event.facts.iter().any(|(v, _)| {
            view.run.arena.any(*v, &|node| matches!(node, Node::Prop(Prop::Lamports, have) if account.is_none_or(|account| account == *have)))
        });
        if !derived || looked {
            continue;
        }
        let message =
            "a derived account is made by `create_account`, which a lamport sent there beforehand blocks".to_owned();
        let mut steps: Vec<_> = account.map(|account| view.origin(account)).into_iter().collect();
        steps.push(view.step(event.file, event.span, "this fails if the address holds lamports"));
        found.push(view.at(&RULE, event, how(Severity::Low, Confidence::Medium), message, steps));
    }
}
