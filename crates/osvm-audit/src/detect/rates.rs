//! OSVM-073 and OSVM-074: numbers that prices and fees follow from.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Node, V},
    model::{View, how},
    syntax::BinOp,
    whole::Ask,
};

pub(super) static SPOT: Rule = Rule {
    id: "OSVM-073",
    class: "spot-price",
    title: "A price is the ratio of two balances",
    severity: Severity::Medium,
    cwe: 682,
    explanation: "The handler divides one token balance by another and stores or compares the result as a price. Whoever trades or pays in just \
                  before makes it what they like, with borrowed money and within one transaction.",
    limits: "A trade against the balances themselves, where what the caller gives is part of the sum, is no price and left out.",
    fix: "Take the price from an oracle, or average it over time.",
};

pub(super) fn check_spot(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let Action::Arith { op: BinOp::Div, left, right, .. } = &event.action else { continue };
        let (Some(top), Some(bottom)) = (balance(view, *left), balance(view, *right)) else { continue };
        if top == bottom || view.given_by_caller(*left) || view.given_by_caller(*right) {
            continue;
        }
        let price = |node: &Node| matches!(node, Node::Bin(BinOp::Div, a, b) if a == left && b == right);
        let used = view.events.iter().any(|event| match &event.action {
            Action::WriteField { value, .. } => view.run.arena.any(*value, &price),
            Action::Compare { left, right } => [*left, *right].iter().any(|side| view.run.arena.any(*side, &price)),
            _ => false,
        });
        if !used {
            continue;
        }
        let message =
            format!("this is what `{}` holds for each one that `{}` holds, now", view.name(top), view.name(bottom));
        let steps = vec![view.step(event.file, event.span, "one trade before moves it")];
        found.push(view.at(&SPOT, event, how(Severity::Medium, Confidence::Medium), message, steps));
    }
}

/// The token account whose balance a value is, times something.
fn balance(view: &View<'_, '_>, v: V) -> Option<u32> {
    let mut v = view.strip(v);
    for _ in 0..8 {
        v = match view.node(v) {
            Node::Bin(BinOp::Mul, a, b) => match view.run.arena.state_field(*a) {
                Some(_) => *a,
                None if view.literal(*a).is_some() => *b,
                None => *a,
            },
            Node::Cast(inner, _) | Node::Res(inner, _) => *inner,
            _ => break,
        };
    }
    let (account, ty, field) = view.run.arena.state_field(v)?;
    (super::moves::is_token_state(&ty) && &*field == "amount").then_some(account)
}

pub(super) static UNBOUNDED: Rule = Rule {
    id: "OSVM-074",
    class: "unbounded-parameter",
    title: "A rate can be set to anything",
    severity: Severity::Low,
    cwe: 20,
    explanation: "A number that other handlers multiply or divide by is set to what the caller gives, and nothing bounds it: a fee of more than \
                  all, or a divisor of zero.",
    limits: "Bounds that are checked where the number is used are not seen here.",
    fix: "Compare it with the most that is meant: `require!(fee_bps <= 10_000, ..)`.",
};

pub(super) fn check_unbounded(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let Action::WriteField { account, ty, field, place, value } = &event.action else { continue };
        let given = view.strip(*value);
        let plain = match view.node(given) {
            Node::Arg(..) => true,
            Node::Field(inner, _) => matches!(view.node(*inner), Node::Arg(..)),
            _ => false,
        };
        let number = view.run.ty(event.file, *place).is_some_and(|ty| {
            let width = ty.name.trim_start_matches(['u', 'i']);
            width.len() < ty.name.len() && width.chars().all(|digit| digit.is_ascii_digit())
        });
        if !plain || !number || !view.knows(Ask::Rate((ty.clone(), field.clone()))) {
            continue;
        }
        let bounded = view.run.learnt.keys().any(|(v, _)| {
            view.run.arena.any(*v, &|node| match node {
                Node::Bin(BinOp::Lt | BinOp::Le | BinOp::Gt | BinOp::Ge | BinOp::Eq, a, b) => {
                    *a == given || *b == given
                }
                Node::Call(_, args) => args.contains(&given),
                _ => false,
            })
        });
        if bounded {
            continue;
        }
        let message = format!("`{field}` of `{}` is a rate, and may be set to any number", view.name(*account));
        let steps = vec![view.origin(*account), view.step(event.file, event.span, "it is set here")];
        found.push(view.at(&UNBOUNDED, event, how(Severity::Low, Confidence::Medium), message, steps));
    }
}
