//! OSVM-020: the caller chooses the bump.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Fact, Node, V},
    model::{View, how},
    syntax::BinOp,
    whole::Ask,
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-020",
    class: "bump-canonicalization",
    title: "Bump is not the canonical one",
    severity: Severity::Medium,
    cwe: 330,
    explanation: "An address is derived with a bump that the caller gives, or that is stored where no handler stores the canonical one. \
                  Several bumps give valid addresses for the same seeds, so one thing gets several accounts.",
    limits: "A stored bump counts as canonical if some handler of the package stores one from `find_program_address` or from Anchor's \
             `bumps` in that field.",
    fix: "Derive with `find_program_address` (Anchor: `bump` without a value), or store the canonical bump when the account is made and \
          use that one.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let Action::DeriveWithBump { pda, bump: Some(bump) } = &event.action else { continue };
        let Some((what, confidence)) = loose(view, *bump, *pda, &event.facts) else { continue };
        let message = format!("an address is derived with {what}");
        let steps =
            vec![view.step(event.file, event.span, "any bump that gives an address off the curve is taken here")];
        found.push(view.at(&RULE, event, how(Severity::Medium, confidence), message, steps));
    }
    // `seeds = [..], bump = argument`
    let Some(event) = view.events.first() else { return };
    for account in view.accounts.iter().copied() {
        let entry = view.account(account);
        let Some((_, Some(bump))) = entry.declared.then(|| view.derived(account, &event.facts)).flatten() else {
            continue;
        };
        if !view.given_by_caller(bump) || !entry.attr.has("seeds") {
            continue;
        }
        let message = format!("`{}` is derived with a bump that the caller gives", entry.name);
        let steps = vec![view.origin(account)];
        let how = how(Severity::Medium, Confidence::High);
        let mut finding = view.finding(&RULE, entry.file, entry.span, how, message, steps);
        finding.edit = entry.attr.all("bump").find_map(|mark| super::edits::bare(view, entry.file, mark));
        found.push(finding);
    }
}

fn loose(view: &View<'_, '_>, bump: V, pda: V, facts: &[Fact]) -> Option<(String, Confidence)> {
    let bump = view.strip(bump);
    if view.run.arena.any(bump, &|node| matches!(node, Node::Bump(_))) {
        return None;
    }
    // Compared with the canonical one, or the address with the canonical address.
    let confirmed = view.entails(facts, &|node, truth| match node {
        Node::Bin(BinOp::Eq, a, b) if truth => [(*a, *b), (*b, *a)].into_iter().any(|(this, that)| {
            (this == bump && matches!(view.node(that), Node::Bump(_)))
                || (this == pda && matches!(view.node(that), Node::Pda(_, None)))
        }),
        _ => false,
    });
    if confirmed {
        return None;
    }
    if let Some((account, ty, field)) = view.run.arena.state_field(bump) {
        if view.knows(Ask::Canonical((ty.clone(), field.clone())))
            || !view
                .run
                .index
                .structure(view.place().0, &ty)
                .is_some_and(|item| item.fields.iter().any(|have| have.name == field))
        {
            return None;
        }
        let what = format!("`{field}` of `{}`, where no handler stores the canonical bump", view.name(account));
        return Some((what, Confidence::Medium));
    }
    if view.given_by_caller(bump) {
        return Some(("a bump that the caller gives".to_owned(), Confidence::High));
    }
    None
}
