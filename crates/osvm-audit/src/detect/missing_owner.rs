//! OSVM-002: an account's bytes are believed although anybody may have written them.

use std::collections::BTreeSet;

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::Action,
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-002",
    class: "missing-owner",
    title: "Missing owner check",
    severity: Severity::High,
    cwe: 284,
    explanation: "The handler reads the bytes of an account of which it knows neither the owning program nor the address. Anybody \
                  can make an account with any content under a program of their own.",
    limits: "An account that the handler also writes is owned by the program or the transaction fails, so such findings are low. \
             Checks inside functions that are not among the sources are not seen.",
    fix: "Use `Account<'info, T>` in Anchor; elsewhere compare `account.owner` with the program that must own it before its data \
          is believed, or compare the address with a derived one.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    let mut told = BTreeSet::new();
    let reads = |typed: bool| {
        view.events.iter().filter(move |event| matches!(event.action, Action::Deserialize { .. }) == typed)
    };
    for event in reads(true).chain(reads(false)) {
        let (account, what) = match &event.action {
            Action::Deserialize { account, ty, how } => {
                if super::sysvar::is_sysvar(ty) || how.starts_with("Account") {
                    told.insert(*account);
                    continue;
                }
                (*account, format!("read as `{ty}`"))
            }
            Action::ReadData { account } => (*account, "read".to_owned()),
            _ => continue,
        };
        let entry = view.account(account);
        if !view.raw(account)
            || entry.remaining
            || told.contains(&account)
            || super::sysvar::is_sysvar_name(&entry.name)
        {
            continue;
        }
        if view.owned(account, &event.facts) || view.pinned(account, &event.facts) || view.created(account) {
            continue;
        }
        // Whether there is anything in it is asked before it is made.
        if matches!(event.action, Action::ReadData { .. })
            && view.written(account)
            && !view
                .events
                .iter()
                .any(|event| matches!(&event.action, Action::Deserialize { account: have, .. } if *have == account))
        {
            continue;
        }
        told.insert(account);
        let (severity, confidence) = if view.written(account) {
            (Severity::Low, Confidence::Medium)
        } else if view.passed_out(account) {
            (Severity::Medium, Confidence::Low)
        } else if matches!(event.action, Action::ReadData { .. }) || !view.effects() {
            (Severity::Medium, Confidence::Medium)
        } else {
            (Severity::High, Confidence::High)
        };
        let message = format!("`{}` is {what}, but nothing says which program owns it", entry.name);
        let steps = vec![view.origin(account), view.step(event.file, event.span, "its bytes are believed here")];
        found.push(view.at(&RULE, event, how(severity, confidence), message, steps));
    }
}
