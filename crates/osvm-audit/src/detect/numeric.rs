//! OSVM-061, 062, 063, 065 and 081: numbers that come out otherwise than meant.

use std::collections::BTreeSet;

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Node, V},
    model::{View, how},
    syntax::BinOp,
};

pub(super) static SATURATING: Rule = Rule {
    id: "OSVM-061",
    class: "saturating-arithmetic",
    title: "A balance saturates or wraps",
    severity: Severity::Low,
    cwe: 682,
    explanation: "A stored number is changed by `saturating_*` or `wrapping_*`: what does not fit is lost without a word.",
    limits: "Counters that may stick at their end are written like this on purpose.",
    fix: "Use `checked_*` and return an error.",
};

pub(super) fn check_saturating(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    let mut told = BTreeSet::new();
    for event in &view.events {
        let Action::WriteField { value, field, account, .. } = &event.action else { continue };
        let Node::Call(name, _) = view.node(view.strip(*value)) else { continue };
        if !(name.starts_with("saturating_") || name.starts_with("wrapping_")) || !told.insert(event.span) {
            continue;
        }
        let message = format!("`{field}` of `{}` is changed by `{name}`", view.name(*account));
        let steps = vec![view.step(event.file, event.span, "what does not fit is lost here")];
        found.push(view.at(&SATURATING, event, how(Severity::Low, Confidence::Medium), message, steps));
    }
}

pub(super) static CAST: Rule = Rule {
    id: "OSVM-062",
    class: "lossy-cast",
    title: "Cast loses digits",
    severity: Severity::Medium,
    cwe: 681,
    explanation: "`as` cuts off what does not fit into the narrower type, or turns a negative number into a huge one.",
    limits: "Ranges are not followed: a value that was bounded before is reported as well, unless a comparison bounds it.",
    fix: "Use `try_from` and return an error.",
};

fn width(ty: &str) -> Option<(u32, bool)> {
    let signed = ty.starts_with('i');
    Some((ty.trim_start_matches(['u', 'i']).parse().ok().or((ty == "usize").then_some(64))?, signed))
}

pub(super) fn check_cast(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    let mut told = BTreeSet::new();
    for event in &view.events {
        let Action::Cast { from, to } = &event.action else { continue };
        let Some(ty) = view.run.ty(event.file, *from) else { continue };
        let (Some((have, signed)), Some((want, wants_sign))) = (width(&ty.name), width(to)) else { continue };
        let loses = want < have || (signed && !wants_sign);
        if !loses || (!view.given_by_caller(*from) && !view.read_of_state(*from)) {
            continue;
        }
        let bounded = view.entails(&event.facts, &|node, _| {
            matches!(node, Node::Bin(BinOp::Lt | BinOp::Le | BinOp::Gt | BinOp::Ge, a, b) if a == from || b == from)
        });
        if bounded || !told.insert((event.file, event.span)) {
            continue;
        }
        let severity = if want < have { Severity::Medium } else { Severity::Low };
        let message = format!("a `{}` is cut down to `{to}`", ty.name);
        let steps = vec![view.step(event.file, event.span, "what does not fit is cut off here")];
        found.push(view.at(&CAST, event, how(severity, Confidence::Medium), message, steps));
    }
}

pub(super) static DIVISION_FIRST: Rule = Rule {
    id: "OSVM-063",
    class: "precision-loss",
    title: "Division before multiplication",
    severity: Severity::Medium,
    cwe: 682,
    explanation: "`a / b * c` on integers throws the rest of the division away before it is multiplied; the result is too small by up to c.",
    limits: "Rounding down to a multiple on purpose looks the same, and is left out where the factor is the divisor.",
    fix: "Multiply first, in a wider type.",
};

pub(super) fn check_division_first(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    let mut told = BTreeSet::new();
    for event in &view.events {
        let Action::Arith { op: BinOp::Mul, left, right, .. } = &event.action else { continue };
        let float = [*left, *right].iter().any(|side| {
            view.run.ty(event.file, *side).is_some_and(|ty| ty.name.starts_with('f'))
                || view.run.arena.any(*side, &|node| matches!(node, Node::Lit(crate::syntax::Lit::Float)))
        });
        let divided = |v: V, by: V| match view.node(view.strip(v)) {
            Node::Bin(BinOp::Div, top, divisor) => {
                *divisor != by && (view.given_by_caller(*top) || view.read_of_state(*top))
            }
            Node::Call(name, args) => &**name == "checked_div" && args.get(1) != Some(&by),
            _ => false,
        };
        if float || !(divided(*left, *right) || divided(*right, *left)) || !told.insert((event.file, event.span)) {
            continue;
        }
        let message = "the rest of a division is thrown away before the product is made".to_owned();
        let steps = vec![view.step(event.file, event.span, "the quotient is multiplied here")];
        found.push(view.at(&DIVISION_FIRST, event, how(Severity::Medium, Confidence::High), message, steps));
    }
}

pub(super) static DIVISOR: Rule = Rule {
    id: "OSVM-065",
    class: "division-by-zero",
    title: "Division by a number that may be zero",
    severity: Severity::Low,
    cwe: 369,
    explanation: "A value from the caller or an account divides, and nothing says that it is not zero: the program panics.",
    limits: "A value that an earlier call bounded is not known to be so.",
    fix: "Use `checked_div`, or compare with zero before.",
};

pub(super) fn check_divisor(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    let mut told = BTreeSet::new();
    for event in &view.events {
        let Action::Arith { op: BinOp::Div | BinOp::Rem, right, .. } = &event.action else { continue };
        let open = matches!(view.node(view.strip(*right)), Node::Arg(..) | Node::Field(..));
        if !open || !(view.given_by_caller(*right) || view.read_of_state(*right)) {
            continue;
        }
        let compared =
            event.facts.iter().any(|(v, _)| matches!(view.node(*v), Node::Bin(_, a, b) if a == right || b == right));
        if compared || !told.insert((event.file, event.span)) {
            continue;
        }
        let message = "this divides by a number that may be zero".to_owned();
        let steps = vec![view.step(event.file, event.span, "zero panics here")];
        found.push(view.at(&DIVISOR, event, how(Severity::Low, Confidence::Medium), message, steps));
    }
}

pub(super) static LOOP: Rule = Rule {
    id: "OSVM-081",
    class: "unbounded-loop",
    title: "Loop over a list of the caller's length",
    severity: Severity::Info,
    cwe: 400,
    explanation: "A loop runs once for each element of a list that the caller gives; a long one uses up the compute budget.",
    limits: "A transaction's size bounds every list; where each step is cheap that is enough.",
    fix: "Compare the length with what is meant before the loop.",
};

pub(super) fn check_loop(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let Action::Loop { over } = &event.action else { continue };
        let list = view.run.ty(event.file, *over).is_some_and(|ty| &*ty.name == "Vec");
        let sized = event.facts.iter().any(|(v, _)| {
            view.run.arena.any(
                *v,
                &|node| matches!(node, Node::Call(name, args) if &**name == "len" && args.first() == Some(over)),
            )
        });
        if !list || !view.given_by_caller(*over) || sized {
            continue;
        }
        let message = "the caller decides how often this loop runs".to_owned();
        let steps = vec![view.step(event.file, event.span, "the list's length is not compared")];
        found.push(view.at(&LOOP, event, how(Severity::Info, Confidence::Medium), message, steps));
    }
}
