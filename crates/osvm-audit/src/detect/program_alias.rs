//! OSVM-018: an account that stands for a well-known program is not compared with it.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::Action,
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-018",
    class: "arbitrary-cpi",
    title: "Program account is not compared with the program",
    severity: Severity::Low,
    cwe: 345,
    explanation: "The handler takes an account for the system or a token program, calls another program, and never compares the \
                  account's address. Whether a wrong one does harm depends on how the call is made.",
    limits: "Goes by the names that Anchor resolves programs by. Where the call fixes the program itself, a wrong account only makes it \
             fail.",
    fix: "Use `Program<'info, T>`, or compare the address with the program's id.",
};

/// The names that Anchor resolves programs by.
pub(super) fn is_program_name(name: &str) -> bool {
    matches!(
        name,
        "system_program" | "token_program" | "associated_token_program" | "token_2022_program" | "memo_program"
    )
}

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    let Some(event) = view.events.iter().find(|event| matches!(event.action, Action::Cpi { .. })) else { return };
    for account in view.accounts.iter().copied() {
        let entry = view.account(account);
        if !view.raw(account) || !entry.declared || !is_program_name(&entry.name) || view.pinned(account, &event.facts)
        {
            continue;
        }
        let message = format!("`{}` is not compared with the program that it stands for", entry.name);
        let steps = vec![view.origin(account), view.step(event.file, event.span, "another program is called here")];
        let how = how(Severity::Low, Confidence::Medium);
        found.push(view.finding(&RULE, entry.file, entry.span, how, message, steps));
    }
}
