//! OSVM-050: the caller chooses which program is called.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Event, Node, Prop, V, Wrapper},
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-050",
    class: "arbitrary-cpi",
    title: "Any program can be called",
    severity: Severity::Critical,
    cwe: 829,
    explanation: "The program that is called is an account of the caller's choice. It gets the accounts and signatures of this call and need \
                  not do what the handler believes it does.",
    limits: "A program that the content of a checked account names is taken to be meant.",
    fix: "Use `Program<'info, T>` or `address = ..`, or compare the account's key with the program's id before the call.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let Action::Cpi { name, program: Some(program), seeds, .. } = &event.action else { continue };
        let Some((what, account)) = chosen(view, *program, event) else { continue };
        let confidence = if view.unseen() || account.is_some_and(|account| view.passed_out(account)) {
            Confidence::Low
        } else {
            Confidence::High
        };
        // Without the program's signature, and without state that the call is believed for, a caller fools nobody
        // but itself. The builders of the token programs compare the address themselves.
        let trusting = seeds.is_some()
            || view.events.iter().any(|event| {
                matches!(event.action, Action::WriteField { .. } | Action::WriteData { .. } | Action::Lamports { .. })
            });
        let built = name.contains("token") && name.contains("instruction::");
        let severity = match (confidence, trusting && !built) {
            (Confidence::Low, _) | (_, false) => Severity::Medium,
            _ => Severity::Critical,
        };
        let signed = if seeds.is_some() { ", with the program's signature" } else { "" };
        let message = format!("`{name}` calls {what}{signed}");
        let mut steps: Vec<_> = account.map(|account| view.origin(account)).into_iter().collect();
        steps.push(view.step(event.file, event.span, "it is called here"));
        found.push(view.at(&RULE, event, how(severity, confidence), message, steps));
    }
}

pub(super) fn chosen(view: &View<'_, '_>, program: V, event: &Event) -> Option<(String, Option<u32>)> {
    match view.node(view.strip(program)) {
        Node::Account(account) | Node::Info(account) | Node::Prop(Prop::Key, account) => {
            let entry = view.account(*account);
            let open = matches!(entry.wrapper, Wrapper::Raw | Wrapper::Signer | Wrapper::SystemAccount);
            if !open || view.pinned(*account, &event.facts) {
                return None;
            }
            Some((format!("`{}`, whose address is not compared", entry.name), Some(*account)))
        }
        Node::Arg(name, _) => Some((format!("the program that the argument `{name}` names"), None)),
        Node::Field(inner, name)
            if matches!(view.node(*inner), Node::Arg(..)) && view.run.ty(event.file, program).is_some() =>
        {
            Some((format!("the program that the argument's `{name}` names"), None))
        }
        _ => None,
    }
}
