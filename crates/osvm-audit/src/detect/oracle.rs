//! OSVM-070 and OSVM-071: prices that are believed.

use std::collections::BTreeSet;

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Node},
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-070",
    class: "oracle-validation",
    title: "A value of an unknown account is stored",
    severity: Severity::High,
    cwe: 345,
    explanation: "A number out of the bytes of an account, of which neither owner nor address is known, goes into the program's own state: a \
                  price, a rate, a limit that the caller makes up.",
    limits: "Numbers that only decide a branch are not followed.",
    fix: "Compare the account's owner with the oracle program and its address with the feed that is meant.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    let mut told = BTreeSet::new();
    for event in &view.events {
        let Action::WriteField { value, field, account: into, .. } = &event.action else { continue };
        let source = view.accounts.iter().copied().find(|account| {
            *account != *into
                && view.raw(*account)
                && view.run.arena.data_of(*value) == Some(*account)
                && !view.owned(*account, &event.facts)
                && !view.pinned(*account, &event.facts)
        });
        let Some(source) = source else { continue };
        if !told.insert(source) {
            continue;
        }
        let message = format!(
            "`{field}` of `{}` is set to what `{}` says, and nobody knows who wrote that",
            view.name(*into),
            view.name(source)
        );
        let steps = vec![view.origin(source), view.step(event.file, event.span, "the number is stored here")];
        found.push(view.at(&RULE, event, how(Severity::High, Confidence::High), message, steps));
    }
}

pub(super) static CONFIDENCE: Rule = Rule {
    id: "OSVM-071",
    class: "oracle-validation",
    title: "A price is taken without its confidence",
    severity: Severity::Medium,
    cwe: 672,
    explanation: "Pyth gives each price with how sure it is, and with its age. The handler uses the price and never looks at the confidence \
                  (or asks for a price of any age), so it trades on a guess when the market is in turmoil.",
    limits: "Knows Pyth's functions by their names.",
    fix: "Compare `conf` with the price before use, and ask with `get_price_no_older_than`.",
};

pub(super) fn check_confidence(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for event in &view.events {
        let Action::Unfollowed { name, .. } = &event.action else { continue };
        let last = name.rsplit("::").next().unwrap_or(name);
        let aged = last.starts_with("get_price_no_older_than");
        if !(aged || matches!(last, "get_price_unchecked" | "get_ema_price_unchecked" | "get_current_price")) {
            continue;
        }
        let looked = view.events.iter().any(|event| match &event.action {
            Action::Compare { left, right } => [*left, *right].iter().any(|side| {
                view.run.arena.any(*side, &|node| matches!(node, Node::Field(_, field) if matches!(&**field, "conf" | "confidence" | "std_deviation")))
            }),
            _ => false,
        });
        if aged && looked {
            continue;
        }
        let what = if aged { "its confidence is never compared" } else { "it may be of any age" };
        let message = format!("a price is taken from `{last}`, and {what}");
        let steps = vec![view.step(event.file, event.span, "the price is taken here")];
        found.push(view.at(&CONFIDENCE, event, how(Severity::Medium, Confidence::Medium), message, steps));
        return;
    }
}
