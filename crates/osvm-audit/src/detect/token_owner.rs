//! OSVM-007: whose tokens these are is read, and not asked.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Node, Prop},
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-007",
    class: "missing-owner",
    title: "Owner of a token account is not checked",
    severity: Severity::Medium,
    cwe: 863,
    explanation: "The handler reads the stored owner of a token account that its caller chose and compares it with nobody, so the \
                  tokens may be anybody's. Or it stores the address of such an account in a new account of its own, as the place where \
                  tokens are kept, and whoever owns it takes them.",
    limits: "Only where the stored owner is used, or the address is stored for good, is it expected to be compared.",
    fix: "Compare it: `token::authority = authority`, or `require_keys_eq!(token.owner, authority.key())`.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    kept(view, found);
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

/// A token account that a new account names as its own.
fn kept(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for event in &view.events {
        let Action::WriteField { account: into, field, value, .. } = &event.action else { continue };
        let Node::Prop(Prop::Key, tokens) = *view.node(view.strip(*value)) else { continue };
        let entry = view.account(tokens);
        if !view.account(*into).init
            || entry.ty.as_deref() != Some("TokenAccount")
            || !view.typed(tokens)
            || view.created(tokens)
            || entry.init_if_needed
        {
            continue;
        }
        let facts = view.events.last().map_or(&event.facts, |last| &last.facts);
        // An address that is derived, or one that somebody else vouches for.
        let fixed = view.derived(tokens, facts).is_some() || view.pinned(tokens, facts);
        if fixed || owner_compared(view, tokens, facts) {
            continue;
        }
        let message = format!(
            "`{field}` of `{}` becomes `{}`, and whose tokens it holds is compared with nobody",
            view.name(*into),
            entry.name
        );
        let steps = vec![view.origin(tokens), view.step(event.file, event.span, "it is named for good here")];
        found.push(view.at(&RULE, event, how(Severity::Medium, Confidence::Medium), message, steps));
    }
}

fn owner_compared(view: &View<'_, '_>, tokens: u32, facts: &[crate::interp::Fact]) -> bool {
    view.relations(facts).iter().any(|(have, field, _)| *have == tokens && &**field == "owner")
}
