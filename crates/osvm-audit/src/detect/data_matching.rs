//! OSVM-003: accounts that belong together by what they store are not compared.

use std::collections::BTreeSet;

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Lamports, Node, Prop},
    model::{View, how},
    syntax::{BinOp, Name},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-003",
    class: "account-data-matching",
    title: "Accounts are not tied to each other",
    severity: Severity::High,
    cwe: 345,
    explanation: "An account's content names other accounts (its owner, authority, mint, vault), and the handler uses it beside other \
                  accounts without comparing any of them. A caller can combine accounts that do not belong together.",
    limits: "A field and an account of one name, as `has_one` compares them, are expected to be compared whatever else is. \
             A handler that only adds to an account may be meant for everybody and is left out. Which of several stored addresses \
             has to be compared is not known; one is enough.",
    fix: "Compare the stored address: `has_one = authority`, `constraint = ..`, or `if state.authority != *authority.key { return \
          Err(..) }`; or derive the account's address from the other one's.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    super::has_one::check(view, found);
    let mut told = BTreeSet::new();
    for account in view.accounts.iter().copied() {
        let entry = view.account(account);
        if entry.init || entry.init_if_needed || entry.remaining || view.created(account) {
            continue;
        }
        let Some((ty, event)) = content(view, account) else { continue };
        if !stores_addresses(view, entry.file, &ty) || view.linked(account, &event.facts) || event_links(view, account)
        {
            continue;
        }
        if view.pinned(account, &event.facts) || view.passed_out(account) {
            continue;
        }
        let signers = view.signers(&event.facts);
        // A type that is not among the sources may store an address; a signer that is tied to something else speaks
        // against it.
        let unknown = view.run.index.structure(entry.file, &ty).is_none() && !is_token(&ty);
        if unknown && (signers.is_empty() || signers.iter().any(|signer| view.tied(*signer, &event.facts))) {
            continue;
        }
        let Some((severity, confidence, what)) = weight(view, account, &ty, !signers.is_empty()) else { continue };
        if !told.insert(account) {
            continue;
        }
        let message = format!("`{}` stores addresses of other accounts, but {what}", entry.name);
        let mut steps = vec![view.origin(account)];
        steps.extend(signers.first().map(|signer| view.origin(*signer)));
        steps.push(view.step(event.file, event.span, "its content is used here"));
        found.push(view.at(&RULE, event, how(severity, confidence), message, steps));
    }
}

/// The type of an account's content and the event that uses it last.
fn content<'r>(view: &View<'r, '_>, account: u32) -> Option<(Name, &'r crate::interp::Event)> {
    let mut last = None;
    for event in &view.events {
        let ty = match &event.action {
            Action::Deserialize { account: have, ty, .. } | Action::WriteField { account: have, ty, .. }
                if *have == account =>
            {
                ty.clone()
            }
            Action::Lamports { account: have, .. } if *have == account && view.typed(account) => {
                view.account(account).ty.clone()?
            }
            _ => continue,
        };
        last = Some((ty, *event));
    }
    last
}

fn event_links(view: &View<'_, '_>, account: u32) -> bool {
    view.events.iter().any(|event| match &event.action {
        Action::Compare { left, right } => {
            [*left, *right]
                .into_iter()
                .any(|side| view.run.arena.state_field(side).is_some_and(|(have, _, _)| have == account))
                && view.is_address(event.file, *left, *right)
        }
        _ => false,
    })
}

fn stores_addresses(view: &View<'_, '_>, file: usize, ty: &str) -> bool {
    match view.run.index.structure(file, ty) {
        Some(item) => item.fields.iter().any(|field| matches!(&*field.ty.name, "Pubkey" | "Address")),
        None => true,
    }
}

/// Token accounts under the names that programs import them by.
pub(super) fn is_token(ty: &str) -> bool {
    matches!(ty, "TokenAccount" | "SplTokenAccount" | "SplAccount" | "TokenAccountState" | "StateWithExtensions")
        || ty == "Account"
}

fn weight(view: &View<'_, '_>, account: u32, ty: &str, signed: bool) -> Option<(Severity, Confidence, String)> {
    let mut writes = false;
    let mut takes = false;
    for event in &view.events {
        match &event.action {
            Action::WriteField { account: have, place, value, .. } if *have == account => {
                // A handler that sets an address makes or hands over the account: another rule looks at that.
                if view.is_address(event.file, *place, *value) {
                    return None;
                }
                if adds(view, *place, *value) {
                    continue;
                }
                writes = true;
                takes |= signed;
            }
            Action::Lamports { account: have, change: Lamports::Debited | Lamports::Zeroed, .. }
                if *have == account =>
            {
                takes = true
            }
            _ => {}
        }
    }
    if signed && (takes || writes) {
        let what = "the account that signs is compared with none of them before it is changed".to_owned();
        return Some((Severity::High, Confidence::Medium, what));
    }
    // Only read: a signer that nothing is done with, or another account that nothing is known of.
    let idle = view.accounts.iter().copied().find(|other| *other != account && idle(view, *other));
    if let Some(other) = idle
        && !writes
    {
        let what = format!("`{}` beside it is compared with none of them", view.name(other));
        return Some((Severity::Medium, Confidence::Medium, what));
    }
    let told =
        view.events.iter().any(|event| match &event.action {
            Action::Use { value, .. } => view.run.arena.state_field(*value).is_some_and(|(have, _, field)| {
                have == account && (is_token(ty) && matches!(&*field, "owner" | "mint"))
            }),
            _ => false,
        });
    told.then(|| (Severity::Low, Confidence::Low, "what it stores is used without a comparison".to_owned()))
}

/// An account that is there to stand for something, but is not compared with anything.
fn idle(view: &View<'_, '_>, account: u32) -> bool {
    let entry = view.account(account);
    let stands = matches!(entry.wrapper, crate::interp::Wrapper::Signer | crate::interp::Wrapper::Raw);
    if !stands || view.read(account) || view.written(account) || super::sysvar::is_sysvar_name(&entry.name) {
        return false;
    }
    let signs = view.events.iter().any(|event| view.signs(account, &event.facts));
    if entry.wrapper == crate::interp::Wrapper::Raw
        && (signs || super::program_alias::is_program_name(&entry.name))
        && !is_only_signer(view, account)
    {
        return false;
    }
    !view.events.iter().any(|event| {
        event.facts.iter().any(|(v, _)| {
            view.run
                .arena
                .any(*v, &|node| matches!(node, Node::Prop(Prop::Key | Prop::Owner, have) if *have == account))
        }) || match &event.action {
            Action::Cpi { parts, .. } => parts.iter().any(|(_, v)| view.run.arena.account(*v) == Some(account)),
            Action::Lamports { account: have, .. } => *have == account,
            Action::WriteField { value, .. } => {
                view.run.arena.any(*value, &|node| *node == Node::Prop(Prop::Key, account))
            }
            _ => false,
        }
    })
}

fn is_only_signer(view: &View<'_, '_>, account: u32) -> bool {
    view.accounts.iter().filter(|other| view.raw(**other)).count() == 2 && view.account(account).declared
}

/// `x = x + y` in any form.
fn adds(view: &View<'_, '_>, place: crate::interp::V, value: crate::interp::V) -> bool {
    match view.node(view.strip(value)) {
        Node::Bin(BinOp::Add, left, right) => *left == place || *right == place,
        Node::Call(name, args) => {
            (name.contains("add") && args.first().is_some_and(|first| view.strip(*first) == place))
                || args.first().is_some_and(|first| adds(view, place, *first))
        }
        _ => false,
    }
}
