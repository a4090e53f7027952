//! Part of OSVM-003: what Anchor's `has_one` would compare, and nothing does.
//!
//! `has_one = x` compares the field `x` with the account `x`. Where a declaration has both, and the handler uses both, somebody meant
//! them to be one; so names of the program are compared with each other here, and with no list.

use crate::{
    Confidence, Finding, Severity,
    interp::{Action, Event, Node, Prop, Wrapper},
    model::{View, how},
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    let Some(event) = view.events.last().filter(|_| view.effects()) else { return };
    for holder in view.accounts.iter().copied() {
        let entry = view.account(holder);
        let known = view.typed(holder) && entry.declared && !entry.init && !entry.init_if_needed;
        let Some(ty) = entry.ty.as_ref().filter(|_| known && !view.created(holder)) else { continue };
        let Some(item) = view.run.index.structure(entry.file, ty) else { continue };
        let fields = item.fields.iter().filter(|field| matches!(&*field.ty.name, "Pubkey" | "Address"));
        let loose = fields.into_iter().find_map(|field| {
            let named = view.accounts.iter().copied().find(|account| {
                let other = view.account(*account);
                *account != holder && other.declared && other.name == field.name && other.file == entry.file
            })?;
            free(view, named, holder, &field.name, event).then_some((named, &field.name))
        });
        let Some((named, field)) = loose else { continue };
        let message =
            format!("`{}` stores `{field}`, and nothing says that it is the `{field}` that comes in", entry.name);
        let steps = vec![view.origin(holder), view.origin(named), view.step(event.file, event.span, "both are used")];
        let how = how(Severity::Medium, Confidence::Medium);
        let place = view.account(named);
        found.push(view.finding(&super::data_matching::RULE, place.file, place.span, how, message, steps));
    }
}

/// Nothing is known of the account's address, and it takes part.
fn free(view: &View<'_, '_>, account: u32, holder: u32, field: &str, event: &Event) -> bool {
    let entry = view.account(account);
    let open = matches!(entry.wrapper, Wrapper::Raw | Wrapper::Typed | Wrapper::SystemAccount);
    if !open || entry.init || entry.init_if_needed || view.created(account) || view.passed_out(account) {
        return false;
    }
    let key = Node::Prop(Prop::Key, account);
    // Any comparison of either side, on whatever way, counts: a helper may know more than is seen here.
    let compared = view.run.learnt.keys().any(|(v, _)| {
        view.run.arena.any(*v, &|node| match node {
            Node::Bin(_, a, b) => [*a, *b].iter().any(|side| {
                *view.node(*side) == key
                    || view
                        .run
                        .arena
                        .state_field(*side)
                        .is_some_and(|(have, _, name)| (have == holder && &*name == field) || have == account)
            }),
            Node::Call(_, args) => args.iter().any(|arg| *view.node(*arg) == key),
            _ => false,
        })
    });
    // An address that is set here is another rule's matter.
    let set = view.events.iter().any(|event| match &event.action {
        Action::WriteField { account: have, field: name, .. } => *have == holder && &**name == field,
        _ => false,
    });
    let taken = view.written(account)
        || view.events.iter().any(|event| match &event.action {
            Action::Cpi { parts, .. } => parts.iter().any(|(_, v)| view.run.arena.account(*v) == Some(account)),
            _ => false,
        });
    let used = view.run.arena.nodes().any(|node| matches!(node, Node::State(have, _) if *have == holder));
    taken && used && !compared && !set && view.derived(account, &event.facts).is_none()
}
