//! OSVM-001: an account stands for an authority and does not sign.

use std::collections::BTreeSet;

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Event, Lamports, Node, Prop, V, Wrapper},
    model::{View, how},
    syntax::BinOp,
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-001",
    class: "missing-signer",
    title: "Missing signer check",
    severity: Severity::Critical,
    cwe: 862,
    explanation: "An account's address decides whether the handler may act (it is compared with a stored address, or funds or \
                  stored addresses change) and no account that signs stands behind it. Anybody can pass the right address; \
                  only its holder can sign.",
    limits: "A handler that anybody may call by design looks the same: where the facts are weak the finding is low. A check that \
             holds on only one of several ways counts as a check.",
    fix: "Require the signature: `Signer<'info>` in Anchor, `if !authority.is_signer { return Err(..) }` elsewhere, and tie the \
          signer to the stored address.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() || view.accounts.is_empty() {
        return;
    }
    if compared(view, found) || view.unseen() {
        return;
    }
    let anybody = |facts: &[_]| !view.mentions_signer(facts) && view.signers(facts).is_empty();
    if !view.events.iter().all(|event| anybody(&event.facts))
        || view.accounts.iter().any(|account| view.account(*account).init)
    {
        return;
    }
    let mut told = BTreeSet::new();
    for event in &view.events {
        let Some((account, what, mut severity, confidence)) = acts(view, event) else { continue };
        // Where it goes is fixed, so it does not matter who sends it there.
        let addressed = matches!(&event.action, Action::WriteField { place, value, .. } if view.is_address(event.file, *place, *value));
        if !addressed && paid_to_its_place(view) {
            severity = Severity::Low;
        }
        if !told.insert((account, severity)) {
            continue;
        }
        let message = format!("`{}` {what}, and no account has to sign for it", view.handler());
        let steps = vec![view.origin(account), view.step(event.file, event.span, format!("{what}, whoever calls"))];
        found.push(view.at(&RULE, event, how(severity, confidence), message, steps));
    }
    if told.is_empty() {
        only_named(view, found);
    }
}

/// An address is compared with a stored one, but its account need not sign.
fn compared(view: &View<'_, '_>, found: &mut Vec<Finding>) -> bool {
    let mut told = BTreeSet::new();
    for event in view.events.iter().filter(|event| sensitive(view, event)) {
        let relations = view.relations(&event.facts);
        let signers = view.signers(&event.facts);
        let tied = signers.iter().any(|signer| view.tied(*signer, &event.facts));
        if tied || (signers.is_empty() && view.mentions_signer(&event.facts)) {
            continue;
        }
        for (state, field, other) in relations {
            let Node::Prop(Prop::Key, account) = *view.node(other) else { continue };
            let entry = view.account(account);
            let plain = matches!(entry.wrapper, Wrapper::Raw | Wrapper::SystemAccount);
            if account == state || !plain || view.signs(account, &event.facts) || moved(view, account) {
                continue;
            }
            if view.pinned(account, &event.facts) && !relates_only(view, account, &event.facts) {
                continue;
            }
            if !told.insert(account) {
                continue;
            }
            let (severity, confidence) = match signers.is_empty() {
                true if takes_part(view, account) => (Severity::Medium, Confidence::Low),
                true => (Severity::Critical, Confidence::High),
                false => (Severity::Medium, Confidence::Medium),
            };
            let message = format!(
                "`{}` is compared with `{field}` of `{}`, but it need not sign: anybody can pass its address",
                entry.name,
                view.name(state)
            );
            let mut steps = vec![view.origin(account)];
            steps.extend(view.learnt(
                &event.facts,
                "its address is compared here",
                &|node| matches!(node, Node::Bin(BinOp::Eq, a, b) if *a == other || *b == other),
            ));
            steps.push(view.step(event.file, event.span, "this happens without its signature"));
            found.push(view.finding(&RULE, entry.file, entry.span, how(severity, confidence), message, steps));
        }
    }
    !told.is_empty()
}

/// All that pins the address is the stored field it is compared with.
fn relates_only(view: &View<'_, '_>, account: u32, facts: &[(V, bool)]) -> bool {
    !view.equal(facts, &|a, b| {
        *view.node(a) == Node::Prop(Prop::Key, account)
            && matches!(view.node(b), Node::Path(_) | Node::Pda(..) | Node::Call(..))
    })
}

/// An account whose content or lamports the handler touches stands for itself, not for an authority.
fn moved(view: &View<'_, '_>, account: u32) -> bool {
    let own = |node: &Node| match node {
        Node::Prop(Prop::Lamports | Prop::Data | Prop::Len | Prop::Empty | Prop::Owner, have) => *have == account,
        _ => false,
    };
    view.read(account)
        || view.written(account)
        || view.run.arena.nodes().any(own)
        || view.events.iter().any(|event| match &event.action {
            Action::Lamports { account: have, .. } | Action::Close { account: have, .. } => *have == account,
            Action::Cpi { program, parts, .. } => {
                program.is_some_and(|program| view.run.arena.account(program) == Some(account))
                    || parts.iter().any(|(role, v)| {
                        view.run.arena.account(*v) == Some(account)
                            && !role.contains("authority")
                            && !role.contains("info")
                    })
            }
            _ => false,
        })
}

/// It goes into a call or a function that was not followed: it may be a program, a destination, or what a check is about.
fn takes_part(view: &View<'_, '_>, account: u32) -> bool {
    view.passed_out(account)
        || view.events.iter().any(|event| match &event.action {
            Action::Cpi { parts, .. } => parts.iter().any(|(_, v)| view.run.arena.account(*v) == Some(account)),
            _ => false,
        })
}

/// Lamports or tokens leave, or an address changes hands: more than one number of the program's own that moves to another.
fn leaves(view: &View<'_, '_>) -> bool {
    view.events
        .iter()
        .any(|event| matches!(event.action, Action::Cpi { .. } | Action::Lamports { .. } | Action::Close { .. }))
}

fn sensitive(view: &View<'_, '_>, event: &Event) -> bool {
    match &event.action {
        Action::WriteField { account, .. } | Action::WriteData { account, .. } => !view.created(*account),
        Action::Lamports { .. } | Action::Close { .. } | Action::Cpi { .. } => true,
        _ => false,
    }
}

/// What an event does that somebody should have signed for.
fn acts(view: &View<'_, '_>, event: &Event) -> Option<(u32, String, Severity, Confidence)> {
    match &event.action {
        Action::WriteField { account, field, place, value, .. } if !view.created(*account) => {
            // What is written after a look at the old content, and nothing else, is written for the first time.
            if super::reinit::guarded(view, event, *account) && !view.linked(*account, &event.facts) {
                return None;
            }
            if view.is_address(event.file, *place, *value)
                && !view.run.arena.any(*value, &|node| matches!(node, Node::Bump(_)))
            {
                let what = format!("writes the address `{field}` of `{}`", view.name(*account));
                return Some((*account, what, Severity::Critical, Confidence::High));
            }
            takes(view, *place, *value).then(|| {
                let what = format!("takes from `{field}` of `{}`", view.name(*account));
                let severity = if leaves(view) { Severity::High } else { Severity::Medium };
                (*account, what, severity, Confidence::Medium)
            })
        }
        Action::Lamports { account, change: Lamports::Debited | Lamports::Zeroed, .. } => {
            let what = format!("takes lamports from `{}`", view.name(*account));
            // Without anything that names an authority, who should have signed cannot be told.
            let named = view.typed(*account)
                || view.derived(*account, &event.facts).is_some()
                || view.linked(*account, &event.facts);
            let severity = if named { Severity::Critical } else { Severity::Medium };
            Some((*account, what, severity, Confidence::Medium))
        }
        Action::Cpi { name, parts, seeds: Some(_), .. } => {
            let account = parts.iter().find_map(|(_, v)| view.run.arena.account(*v))?;
            let what = format!("lets the program sign `{name}`");
            Some((account, what, Severity::Medium, Confidence::Low))
        }
        Action::Cpi { name, parts, seeds: None, .. } => {
            let by = |wanted: &str| parts.iter().find(|(role, _)| &**role == wanted);
            let (_, v) = by("authority").or_else(|| by("owner")).or_else(|| by("from"))?;
            let account = view.run.arena.account(*v)?;
            if !view.raw(account) {
                return None;
            }
            let what = format!("hands `{}` to `{name}` as the one who pays", view.name(account));
            Some((account, what, Severity::Low, Confidence::Low))
        }
        _ => None,
    }
}

/// All that is paid out goes to addresses that are compared with stored or fixed ones.
fn paid_to_its_place(view: &View<'_, '_>) -> bool {
    let mut paid = false;
    for event in &view.events {
        let to = match &event.action {
            Action::Lamports { account, change: Lamports::Credited | Lamports::Set, .. } => Some(*account),
            Action::Close { to: Some(to), .. } => view.run.arena.account(*to),
            Action::Cpi { parts, .. } => {
                parts.iter().find(|(role, _)| &**role == "to").and_then(|(_, v)| view.run.arena.account(*v))
            }
            _ => None,
        };
        let Some(to) = to else { continue };
        let facts = view.events.last().map_or(&event.facts, |last| &last.facts);
        let fixed = |facts: &[_]| {
            view.pinned(to, facts)
                || view.relations(facts).iter().any(|(_, _, other)| *view.node(*other) == Node::Prop(Prop::Key, to))
        };
        if !fixed(&event.facts) && !fixed(facts) {
            return false;
        }
        paid = true;
    }
    paid
}

/// `x = x - y` in any form.
fn takes(view: &View<'_, '_>, place: V, value: V) -> bool {
    match view.node(view.strip(value)) {
        Node::Bin(BinOp::Sub, left, _) => *left == place,
        Node::Call(name, args) => {
            (name.contains("sub") && args.first().is_some_and(|first| view.strip(*first) == place))
                || args.first().is_some_and(|first| takes(view, place, *first))
        }
        _ => false,
    }
}

/// The handler does nothing but look at an address; whoever reads its log believes it.
fn only_named(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for event in &view.events {
        let Action::Use { value, .. } = &event.action else { continue };
        let named = view.run.arena.any(*value, &|node| match node {
            Node::Prop(Prop::Key, account) | Node::Info(account) => {
                view.raw(*account) && !view.pinned(*account, &event.facts) && !view.account(*account).remaining
            }
            _ => false,
        });
        let Some(account) = view.run.arena.account(*value).filter(|_| named) else { continue };
        if view.account(account).remaining || super::sysvar::is_sysvar_name(view.name(account)) || view.read(account) {
            continue;
        }
        let message = format!(
            "`{}` tells of `{}`, which does not sign, and no other account does",
            view.handler(),
            view.name(account)
        );
        let steps = vec![view.origin(account), view.step(event.file, event.span, "its address is used here")];
        found.push(view.at(&RULE, event, how(Severity::Low, Confidence::Low), message, steps));
        return;
    }
}
