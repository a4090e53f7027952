//! OSVM-006: tokens of any mint are taken.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::Action,
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-006",
    class: "mint-validation",
    title: "Mint of a token account is not checked",
    severity: Severity::High,
    cwe: 345,
    explanation: "A handler has a mint that it accepts, and moves tokens between accounts neither of which is compared with it. A \
                  caller can pay in tokens that they made themselves.",
    limits: "Handlers without a mint account are not looked at. `transfer_checked` with the mint compares it.",
    fix: "Add `token::mint = mint` (or `constraint = account.mint == mint.key()`), or transfer with `transfer_checked`.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    let mint = view.accounts.iter().copied().find(|account| {
        let entry = view.account(*account);
        view.typed(*account) && entry.ty.as_deref() == Some("Mint") && !entry.init
    });
    let Some(mint) = mint else { return };
    for event in &view.events {
        let Action::Cpi { name, parts, .. } = &event.action else { continue };
        if !name.ends_with("transfer") {
            continue;
        }
        let tokens: Vec<u32> = parts
            .iter()
            .filter(|(role, _)| matches!(&**role, "from" | "to"))
            .filter_map(|(_, v)| view.run.arena.account(*v))
            .filter(|account| view.account(*account).ty.as_deref() == Some("TokenAccount"))
            .collect();
        let compared = |account: u32| {
            view.account(account).init
                || view.derived(account, &event.facts).is_some()
                || view.pinned(account, &event.facts)
                || view.relations(&event.facts).iter().any(|(have, field, _)| *have == account && &**field == "mint")
        };
        let named = parts.iter().any(|(_, v)| view.run.arena.account(*v) == Some(mint));
        if tokens.is_empty() || named || tokens.iter().any(|account| compared(*account)) {
            continue;
        }
        let from = tokens[0];
        let message = format!(
            "tokens of `{}` are moved, but its mint is not compared with `{}`",
            view.name(from),
            view.name(mint)
        );
        let steps = vec![
            view.origin(mint),
            view.origin(from),
            view.step(event.file, event.span, "tokens of any mint move here"),
        ];
        found.push(view.at(&RULE, event, how(Severity::High, Confidence::Medium), message, steps));
        return;
    }
}
