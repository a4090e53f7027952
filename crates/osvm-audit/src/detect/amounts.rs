//! OSVM-064, OSVM-072 and OSVM-077: amounts that are paid out, and what nobody asked about them.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Event, Node, V},
    model::{View, how},
    syntax::{BinOp, Lit},
};

pub(super) static ROUNDED: Rule = Rule {
    id: "OSVM-064",
    class: "rounding-direction",
    title: "What is paid out is rounded to the nearest",
    severity: Severity::Medium,
    cwe: 682,
    explanation: "An amount that leaves the program is rounded to the nearest number, so up in half of all cases. Taken often and small, the \
                  difference adds up to more than the fees.",
    limits: "Knows rounding by what the functions of the usual number libraries are called.",
    fix: "Round down what goes out and up what comes in: `try_floor_u64`, `try_ceil_u64`.",
};

pub(super) fn check_rounded(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let Action::Cpi { name, data, seeds: Some(_), parts, .. } = &event.action else { continue };
        let nearest = |node: &Node| match node {
            Node::Call(name, _) => {
                let last = name.rsplit("::").next().unwrap_or(name);
                matches!(last, "round" | "try_round_u64" | "try_round" | "round_u64" | "to_num_round")
            }
            _ => false,
        };
        let mut amounts = data.iter().copied().chain(parts.iter().map(|(_, v)| *v));
        if !amounts.any(|v| view.run.arena.any(v, &nearest)) {
            continue;
        }
        let message = format!("`{name}` pays an amount that was rounded to the nearest");
        let steps = vec![view.step(event.file, event.span, "it is paid here")];
        found.push(view.at(&ROUNDED, event, how(Severity::Medium, Confidence::Medium), message, steps));
    }
}

pub(super) static SLIPPAGE: Rule = Rule {
    id: "OSVM-072",
    class: "missing-slippage",
    title: "A trade without a least that the caller accepts",
    severity: Severity::Medium,
    cwe: 20,
    explanation: "The caller pays an amount in, and the program pays out another one that it computes from balances. Nothing compares it with \
                  what the caller would still accept, so whoever trades just before decides the price.",
    limits: "A trade is a payment of what the caller names and a payment that the program signs; other shapes are not seen.",
    fix: "Take a `minimum_out` and compare: `require!(out >= minimum_out, ..)`.",
};

pub(super) fn check_slippage(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    let moves: Vec<(&Event, super::moves::Move)> =
        view.events.iter().filter_map(|event| Some((*event, super::moves::of(view, event)?))).collect();
    let paid = moves.iter().find(|(_, moved)| {
        !moved.signed && moved.amount.is_some_and(|amount| matches!(view.node(view.strip(amount)), Node::Arg(..)))
    });
    let Some((paid, of)) = paid else { return };
    for (event, moved) in &moves {
        let Some(amount) = moved.amount.map(|amount| view.strip(amount)) else { continue };
        let by_price = view.run.arena.any(amount, &|node| match node {
            Node::Bin(BinOp::Div, ..) => true,
            Node::Call(name, _) => name.contains("div"),
            _ => false,
        }) && view.read_of_state(amount)
            && of.amount.is_some_and(|of| view.run.arena.any(amount, &|node| node == view.node(view.strip(of))));
        if !moved.signed || !by_price || moved.from == of.to {
            continue;
        }
        let asked = view.events.iter().any(|event| match &event.action {
            Action::Compare { left, right } => {
                let out = |v: V| view.run.arena.any(v, &|node| node == view.node(amount));
                (out(*left) && view.given_by_caller(*right) && !out(*right))
                    || (out(*right) && view.given_by_caller(*left) && !out(*left))
            }
            _ => false,
        });
        if asked {
            continue;
        }
        let message = "what is paid out follows from balances, and the caller cannot say what is too little".to_owned();
        let steps = vec![
            view.step(paid.file, paid.span, "the caller pays"),
            view.step(event.file, event.span, "and gets what comes out"),
        ];
        found.push(view.at(&SLIPPAGE, event, how(Severity::Medium, Confidence::Medium), message, steps));
    }
}

pub(super) static ZERO: Rule = Rule {
    id: "OSVM-077",
    class: "zero-amount",
    title: "Nothing is enough to leave a record",
    severity: Severity::Info,
    cwe: 20,
    explanation: "The handler moves an amount that the caller names and stores something that does not depend on it. With zero, the record is \
                  made and nothing is paid.",
    limits: "Whether the record is worth anything is not known.",
    fix: "Refuse zero: `require!(amount > 0, ..)`.",
};

pub(super) fn check_zero(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let Some(moved) = super::moves::of(view, event) else { continue };
        let Some(amount) = moved.amount.map(|amount| view.strip(amount)) else { continue };
        if moved.signed || !matches!(view.node(amount), Node::Arg(..)) {
            continue;
        }
        let inside = |v: V| view.run.arena.any(v, &|node| node == view.node(amount));
        let compared = view.events.iter().any(|event| match &event.action {
            Action::Compare { left, right } => inside(*left) || inside(*right),
            _ => false,
        });
        // A count or a flag that goes up whatever was paid.
        let record = view.events.iter().find(|event| match &event.action {
            Action::WriteField { value, place, .. } => {
                let counts = matches!(view.node(view.strip(*value)), Node::Bin(BinOp::Add, a, b)
                    if a == place && matches!(view.node(*b), Node::Lit(Lit::Int(1, _))));
                let flag = matches!(view.node(view.strip(*value)), Node::Lit(Lit::Bool(true)));
                counts || flag
            }
            _ => false,
        });
        let Some(record) = record.filter(|_| !compared) else { continue };
        let message = "an amount of zero pays nothing and is recorded all the same".to_owned();
        let steps = vec![
            view.step(event.file, event.span, "the amount is not compared with zero"),
            view.step(record.file, record.span, "the record does not depend on it"),
        ];
        found.push(view.at(&ZERO, event, how(Severity::Info, Confidence::Low), message, steps));
    }
}
