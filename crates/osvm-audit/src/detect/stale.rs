//! OSVM-052: content that a call has changed is read as it was before.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Framework, Wrapper},
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-052",
    class: "stale-account",
    title: "Content is read after a call changed it, and not loaded again",
    severity: Severity::Medium,
    cwe: 367,
    explanation: "Anchor reads an account once, before the handler begins. A balance or a supply that a call of the token program changed is \
                  still the old one in `ctx.accounts` until `reload` is called.",
    limits: "Token accounts and mints only: what other programs change in their own accounts is not known. Order is the order in the source.",
    fix: "Call `ctx.accounts.x.reload()?` after the call and before the read.",
};

/// What calls of the token programs change.
const CHANGED: [&str; 5] = ["amount", "supply", "delegated_amount", "delegate", "state"];

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.run.framework != Framework::Anchor {
        return;
    }
    let mut told = std::collections::BTreeSet::new();
    for read in &view.run.reads {
        let Some(field) = read.field.as_deref().filter(|field| CHANGED.contains(field)) else { continue };
        let entry = view.account(read.account);
        let token = entry.ty.as_deref().is_some_and(super::moves::is_token_state);
        if !token || entry.wrapper != Wrapper::Typed || told.contains(&read.account) {
            continue;
        }
        // The last call before the read that gets the account in a place where it is changed.
        let call = view.run.events.iter().take(read.after).enumerate().rev().find_map(|(at, event)| {
            let Action::Cpi { name, parts, .. } = &event.action else { return None };
            let last = name.rsplit("::").next().unwrap_or(name);
            let changes = ["transfer", "Transfer", "mint_to", "MintTo", "burn", "Burn", "sync_native"]
                .iter()
                .any(|start| last.starts_with(start));
            let gets = parts.iter().any(|(role, v)| {
                let stays = matches!(&**role, "authority" | "owner") || (&**role == "mint" && last.contains("ransfer"));
                !stays && view.run.arena.account(*v) == Some(read.account)
            });
            (changes && gets && event.group == read.group).then_some((at, event))
        });
        let Some((at, event)) = call else { continue };
        let again = view.run.reads.iter().any(|again| {
            again.field.is_none() && again.account == read.account && again.after > at && again.after <= read.after
        });
        if again {
            continue;
        }
        told.insert(read.account);
        let message = format!("`{field}` of `{}` is what it was before the call", entry.name);
        let steps = vec![
            view.step(event.file, event.span, "the call changes it"),
            view.step(read.file, read.span, "the copy from before is read"),
        ];
        let how = how(Severity::Medium, Confidence::Medium);
        found.push(view.finding(&RULE, read.file, read.span, how, message, steps));
    }
}
