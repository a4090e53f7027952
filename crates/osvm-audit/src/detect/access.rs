//! OSVM-017: a setting that anybody may change.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::Action,
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-017",
    class: "missing-signer",
    title: "The stored authority need not sign",
    severity: Severity::High,
    cwe: 862,
    explanation: "The handler stores what its caller gives in an account that exists once for the program and that stores who may change \
                  it. A signature is asked for, but whose it is, nobody compares.",
    limits: "Handlers that anybody may call by design look the same. A list of those who may is seen where it is looked up with the \
             signer's key.",
    fix: "Compare the signer with the stored address: `has_one = admin`, or `require_keys_eq!(config.admin, admin.key())`.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() || view.unseen() {
        return;
    }
    signed_for_anybody(view, found);
    for event in &view.events {
        let Action::WriteField { account, field, value, .. } = &event.action else { continue };
        let entry = view.account(*account);
        if !view.typed(*account) || !entry.declared || view.created(*account) || entry.init_if_needed {
            continue;
        }
        // What is added to or counted is not a setting.
        if !view.given_by_caller(*value)
            || view
                .run
                .arena
                .any(*value, &|node| matches!(node, crate::interp::Node::State(have, _) if have == account))
        {
            continue;
        }
        let ty = entry.ty.as_deref().unwrap_or("");
        let stores = view
            .run
            .index
            .structure(entry.file, ty)
            .is_none_or(|item| item.fields.iter().any(|field| matches!(&*field.ty.name, "Pubkey" | "Address")));
        let once = view.derived(*account, &event.facts).is_some_and(|(seeds, _)| {
            seeds.iter().all(|seed| {
                !view.given_by_caller(*seed) && !view.read_of_state(*seed) && view.run.arena.account(*seed).is_none()
            })
        });
        let signers = view.signers(&event.facts);
        if !stores || !once || signers.is_empty() || signers.iter().any(|signer| view.tied(*signer, &event.facts)) {
            continue;
        }
        let message = format!(
            "`{field}` of `{}` is set by whoever signs: `{}` is compared with nobody",
            entry.name,
            view.name(signers[0])
        );
        let steps = vec![
            view.origin(signers[0]),
            view.origin(*account),
            view.step(event.file, event.span, "the setting changes here"),
        ];
        found.push(view.at(&RULE, event, how(Severity::High, Confidence::Medium), message, steps));
        return;
    }
}

/// The program signs with an address whose seeds name somebody, and that somebody is compared with nobody.
fn signed_for_anybody(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for event in &view.events {
        let Action::Cpi { name, seeds: Some(seeds), .. } = &event.action else { continue };
        let signers = view.signers(&event.facts);
        if signers.is_empty() || signers.iter().any(|signer| view.tied(*signer, &event.facts)) {
            continue;
        }
        let relations = view.relations(&event.facts);
        let named = super::pda_sharing::flat(view, *seeds).into_iter().find_map(|seed| {
            let (account, ty, field) = view.run.arena.state_field(seed)?;
            let declared = view.run.index.structure(event.file, &ty)?;
            let address =
                declared.fields.iter().any(|have| have.name == field && matches!(&*have.ty.name, "Pubkey" | "Address"));
            let compared = relations.iter().any(|(have, name, other)| {
                *have == account && *name == field && view.run.arena.account(*other) != Some(account)
            });
            (address && !compared).then_some((account, field))
        });
        let Some((account, field)) = named else { continue };
        let message = format!(
            "the program signs `{name}` for `{field}` of `{}`, who need not be the one who calls",
            view.name(account)
        );
        let steps =
            vec![view.origin(account), view.origin(signers[0]), view.step(event.file, event.span, "it is signed here")];
        found.push(view.at(&RULE, event, how(Severity::High, Confidence::Medium), message, steps));
        return;
    }
}
