//! OSVM-013 and OSVM-014: what Anchor has to be told of an account.

use std::collections::BTreeSet;

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Framework, Wrapper},
    model::{View, how},
};

pub(super) static CHECK_DOC: Rule = Rule {
    id: "OSVM-013",
    class: "undocumented-unchecked-account",
    title: "Unchecked account without a reason",
    severity: Severity::Info,
    cwe: 1164,
    explanation: "An `AccountInfo` or `UncheckedAccount` without a `/// CHECK:` comment and without a constraint: nobody wrote down why \
                  nothing has to be checked.",
    limits: "Says nothing about whether something has to be checked; other rules do.",
    fix: "Give it a type that checks, or say behind `/// CHECK:` why none is needed.",
};

pub(super) fn check_doc(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.run.framework != Framework::Anchor {
        return;
    }
    for account in view.accounts.iter().copied() {
        let entry = view.account(account);
        if !entry.declared || entry.wrapper != Wrapper::Raw || entry.check_doc {
            continue;
        }
        if entry.attr.constraints.iter().any(|constraint| &*constraint.key != "mut") {
            continue;
        }
        let message = format!("`{}` is unchecked, and no comment says why", entry.name);
        let how = how(Severity::Info, Confidence::High);
        found.push(view.finding(&CHECK_DOC, entry.file, entry.span, how, message, vec![view.origin(account)]));
    }
}

pub(super) static RULE: Rule = Rule {
    id: "OSVM-014",
    class: "missing-mut",
    title: "Account is changed without `mut`",
    severity: Severity::Low,
    cwe: 471,
    explanation: "Anchor stores the content of accounts that are marked `mut` only: what the handler assigns to this one is lost.",
    limits: "Accounts whose content is written past Anchor's wrapper are not looked at.",
    fix: "Mark it `#[account(mut)]`.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.run.framework != Framework::Anchor {
        return;
    }
    let mut told = BTreeSet::new();
    for event in &view.events {
        let Action::WriteField { account, field, .. } = &event.action else { continue };
        let entry = view.account(*account);
        if !entry.declared
            || entry.wrapper != Wrapper::Typed
            || entry.writable
            || entry.attr.has("close")
            || !told.insert(*account)
        {
            continue;
        }
        let message =
            format!("`{field}` of `{}` is assigned, but the account is not `mut`: the change is lost", entry.name);
        let steps = vec![view.origin(*account), view.step(event.file, event.span, "it is assigned here")];
        let mut finding = view.at(&RULE, event, how(Severity::Low, Confidence::High), message, steps);
        finding.edit = Some(super::edits::mark_mut(view, *account));
        found.push(finding);
    }
}
