//! OSVM-019, OSVM-066 and OSVM-080: `unwrap` where an error would do.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Event, Node, V},
    model::{View, how},
};

pub(super) static OPTIONAL: Rule = Rule {
    id: "OSVM-019",
    class: "optional-account",
    title: "An optional account is taken to be there",
    severity: Severity::Low,
    cwe: 754,
    explanation: "The account is declared `Option<..>`, so a caller may leave it out; `unwrap` then panics with nothing that says what is \
                  missing.",
    limits: "An `unwrap` behind a look at `is_some` is left out only where the look is on the same account.",
    fix: "Return an error that names the account: `.ok_or(ErrorCode::AccountNotProvided)?`, or do not declare it optional.",
};

pub(super) static CHECKED: Rule = Rule {
    id: "OSVM-066",
    class: "panic-on-overflow",
    title: "A checked sum that panics",
    severity: Severity::Info,
    cwe: 248,
    explanation: "`checked_*` finds the overflow, and `unwrap` turns it into a panic: clients see a program that failed to complete \
                  instead of an error that says why.",
    limits: "The transaction fails either way; nothing is lost but the reason.",
    fix: "Return an error of your own: `.ok_or(ErrorCode::Overflow)?`.",
};

pub(super) static PANIC: Rule = Rule {
    id: "OSVM-080",
    class: "panic-on-input",
    title: "The caller's input can make it panic",
    severity: Severity::Info,
    cwe: 248,
    explanation: "`unwrap` or `expect` on something that depends on instruction data or on an account's content: what does not fit ends \
                  in a panic without a reason.",
    limits: "A panic fails the transaction and changes nothing; on a host it ends the process. Conversions of slices of a fixed length, \
             which cannot fail, are left out.",
    fix: "Return an error.",
};

pub(super) fn check_optional(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for (event, _, on) in unwraps(view) {
        let (Node::Account(account) | Node::Info(account)) = *view.node(view.strip(on)) else { continue };
        let looked = view.entails(&event.facts, &|node, _| match node {
            // `is_some()`, or something that was made of the account and is there.
            Node::Call(_, args) => args.iter().any(|arg| view.run.arena.account(*arg) == Some(account)),
            _ => false,
        });
        if !view.account(account).optional || looked {
            continue;
        }
        let message = format!("`{}` may be left out, and panics then", view.name(account));
        let steps = vec![view.origin(account), view.step(event.file, event.span, "it is taken to be there")];
        found.push(view.at(&OPTIONAL, event, how(Severity::Low, Confidence::High), message, steps));
    }
}

pub(super) fn check_checked(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for (event, name, _) in unwraps(view).filter(|(_, name, _)| name.starts_with("checked_")) {
        let message = format!("`{name}` is unwrapped");
        let steps = vec![view.step(event.file, event.span, "an overflow panics here")];
        found.push(view.at(&CHECKED, event, how(Severity::Info, Confidence::High), message, steps));
    }
}

pub(super) fn check_panic(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for (event, name, on) in unwraps(view) {
        let input = view.given_by_caller(on) || view.run.arena.data_of(on).is_some();
        let cannot = name.starts_with("checked_")
            || matches!(name, "try_into" | "as_ref" | "as_mut" | "get" | "last" | "first")
            || name.contains("borrow")
            || matches!(view.node(view.strip(on)), Node::Account(_) | Node::Info(_));
        if !input || cannot {
            continue;
        }
        let message = format!("`{name}` depends on what the caller gives, and is unwrapped");
        let steps = vec![view.step(event.file, event.span, "it panics here")];
        found.push(view.at(&PANIC, event, how(Severity::Info, Confidence::Medium), message, steps));
    }
}

fn unwraps<'v>(view: &'v View<'_, '_>) -> impl Iterator<Item = (&'v Event, &'v str, V)> {
    view.events.iter().filter_map(|event| match &event.action {
        Action::Unwrap { name, on } => Some((*event, name.rsplit("::").next().unwrap_or(name), *on)),
        _ => None,
    })
}
