//! OSVM-007: whose tokens these are is read, and not asked.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::Action,
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-007",
    class: "missing-owner",
    title: "Owner of a token account is not checked",
    severity: Severity::Medium,
    cwe: 863,
    explanation: "The handler reads the stored owner of a token account that its caller chose and compares it with nobody, so the \
                  tokens may be anybody's.",
    limits: "Only where the stored owner is used is it expected to be compared.",
    fix: "Compare it: `token::authority = authority`, or `require_keys_eq!(token.owner, authority.key())`.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for event in &view.events {
        let Action::Use { value, .. } = &event.action else { continue };
        let Some((account, ty, field)) = view.run.arena.state_field(*value) else { continue };
        if !super::data_matching::is_token(&ty) || &*field != "owner" {
            continue;
        }
        let compared =
            view.relations(&event.facts).iter().any(|(have, field, _)| *have == account && &**field == "owner");
        if compared || view.linked(account, &event.facts) {
            continue;
        }
        let message = format!("the owner of `{}` is used, and compared with nobody", view.name(account));
        let steps = vec![view.origin(account), view.step(event.file, event.span, "its stored owner is used here")];
        found.push(view.at(&RULE, event, how(Severity::Low, Confidence::Low), message, steps));
        return;
    }
}
