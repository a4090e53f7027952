//! OSVM-060: sums that wrap.

use std::collections::BTreeSet;

use crate::{
    Confidence, Finding, Rule, Severity, Span,
    interp::{Action, Event, Node, Prop, V},
    model::{View, how},
    syntax::BinOp,
    whole::Ask,
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-060",
    class: "arith-overflow",
    title: "Arithmetic may overflow",
    severity: Severity::High,
    cwe: 190,
    explanation: "A sum, difference or product of values that a caller or an account gives is computed with operators that wrap in a release \
                  build. A balance wraps to a huge one, a limit to a small one.",
    limits: "With `overflow-checks = true` in the release profile the operators panic instead and nothing is reported. Comparisons that bound \
             a difference are seen; other bounds are not.",
    fix: "Use `checked_add`, `checked_sub` and `checked_mul`, and set `overflow-checks = true`.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.knows(Ask::OverflowChecks) {
        return;
    }
    let mut told = BTreeSet::new();
    for event in &view.events {
        let Action::Arith { op, left, right, assigned } = &event.action else { continue };
        if !matches!(op, BinOp::Add | BinOp::Sub | BinOp::Mul) || !integers(view, event, *left, *right) {
            continue;
        }
        // The runtime adds up all lamports at the end and refuses what does not fit.
        if *assigned && matches!(view.node(*left), Node::Prop(Prop::Lamports, _)) {
            continue;
        }
        if *op == BinOp::Sub && bounded(view, event, *left, *right) {
            continue;
        }
        let Some((mut severity, confidence)) = weight(view, event, *op, *left, *right) else { continue };
        if severity == Severity::High && !decides(view, event, *op, *left, *right) {
            severity = Severity::Medium;
        }
        // Of an expression the innermost part that wraps is told; it comes first.
        let inside = told.iter().any(|(file, span): &(usize, Span)| {
            *file == event.file
                && (span.line, span.column) >= (event.span.line, event.span.column)
                && (span.end_line, span.end_column) <= (event.span.end_line, event.span.end_column)
        });
        if inside || !told.insert((event.file, event.span)) {
            continue;
        }
        let word = match op {
            BinOp::Add => "sum",
            BinOp::Sub => "difference",
            _ => "product",
        };
        let message = format!("this {word} wraps where it does not fit, and is used as if it had");
        let steps = vec![view.step(event.file, event.span, format!("the {word} is not checked"))];
        found.push(view.at(&RULE, event, how(severity, confidence), message, steps));
    }
}

/// Both sides are numbers for which overflow means something.
fn integers(view: &View<'_, '_>, event: &Event, left: V, right: V) -> bool {
    let mut known = false;
    for side in [left, right] {
        if let Some(ty) = view.run.ty(event.file, side) {
            let other = if side == left { right } else { left };
            let number =
                |ty: &crate::syntax::Ty| ty.name.starts_with("U") && ty.name[1..].chars().all(char::is_numeric);
            if view.run.ty(event.file, other).is_some_and(|ty| number(&ty)) && !number(&ty) && ty.name.contains("256") {
                known = true;
                continue;
            }
            match &*ty.name {
                "u8" | "u16" | "u32" | "u64" | "i8" | "i16" | "i32" | "i64" => known = true,
                "u128" | "i128" => {
                    // Widened on purpose.
                    if view.run.arena.any(side, &|node| matches!(node, Node::Cast(..))) {
                        return false;
                    }
                    known = true;
                }
                "U256" | "U192" | "U128" | "PodU64" | "LittleEndian" => known = true,
                _ => return false,
            }
        }
        if measure(view, side, 0) {
            return false;
        }
    }
    known || (view.given_by_caller(left) || view.given_by_caller(right))
}

/// A length, a size, a float or a text, by itself or in a sum.
fn measure(view: &View<'_, '_>, v: V, depth: u32) -> bool {
    if depth > 12 {
        return false;
    }
    match view.node(v) {
        Node::Call(name, args) => {
            let name = name.rsplit("::").next().unwrap_or(name);
            matches!(name, "len" | "size_of" | "count" | "position")
                || (matches!(name, "unwrap_or" | "min" | "max")
                    && args.iter().any(|arg| measure(view, *arg, depth + 1)))
        }
        Node::Lit(crate::syntax::Lit::Float | crate::syntax::Lit::Str(_)) | Node::Prop(Prop::Len | Prop::Key, _) => {
            true
        }
        Node::Cast(inner, ty) => matches!(&**ty, "f32" | "f64" | "usize") || measure(view, *inner, depth + 1),
        Node::Bin(_, a, b) => measure(view, *a, depth + 1) || measure(view, *b, depth + 1),
        Node::Res(inner, _) => measure(view, *inner, depth + 1),
        _ => false,
    }
}

/// The result is compared, so that wrapping passes a check; or it is what is left of something, and nothing bounds
/// what is taken. What is only added up stays below what exists of it.
fn decides(view: &View<'_, '_>, event: &Event, op: BinOp, left: V, right: V) -> bool {
    let this = |node: &Node| matches!(node, Node::Bin(have, a, b) if *have == op && *a == left && *b == right);
    let compared = view.events.iter().any(|event| match &event.action {
        Action::Compare { left, right } => [*left, *right].iter().any(|side| view.run.arena.any(*side, &this)),
        _ => false,
    });
    let taken = |node: &Node| match node {
        Node::Bin(BinOp::Lt | BinOp::Le | BinOp::Gt | BinOp::Ge, a, b) => *a == right || *b == right,
        Node::Call(name, args) => name.contains("sub") && args.get(1) == Some(&right),
        _ => false,
    };
    // What a call moves as well exists: sums of it fit.
    let moved = op == BinOp::Add
        && view.events.iter().any(|event| match &event.action {
            Action::Cpi { data, .. } => data.iter().any(|v| *v == left || *v == right),
            _ => false,
        });
    let bounded = event.facts.iter().any(|(v, _)| view.run.arena.any(*v, &taken));
    (compared && !moved) || (op == BinOp::Sub && view.run.arena.state_field(left).is_some() && !bounded)
}

/// A comparison says that what is taken is no more than what is there.
fn bounded(view: &View<'_, '_>, event: &Event, left: V, right: V) -> bool {
    view.entails(&event.facts, &|node, truth| match node {
        Node::Bin(BinOp::Ge | BinOp::Gt, a, b) => {
            (truth && *a == left && *b == right) || (!truth && *a == right && *b == left)
        }
        Node::Bin(BinOp::Le | BinOp::Lt, a, b) => {
            (truth && *a == right && *b == left) || (!truth && *a == left && *b == right)
        }
        _ => false,
    })
}

fn weight(view: &View<'_, '_>, event: &Event, op: BinOp, left: V, right: V) -> Option<(Severity, Confidence)> {
    let literal = view.literal(left).is_some() || view.literal(right).is_some();
    let constant = |v: V| !view.given_by_caller(v) && !view.read_of_state(v);
    if constant(left) && constant(right) {
        return None;
    }
    if view.is_plain() {
        return (!literal).then_some((Severity::Low, Confidence::Low));
    }
    let by_caller = view.given_by_caller(left) || view.given_by_caller(right);
    Some(match (literal, by_caller) {
        (true, false) => (Severity::Low, Confidence::Low),
        (true, true) if op == BinOp::Mul => (Severity::Medium, Confidence::Medium),
        (true, true) => (Severity::Low, Confidence::Medium),
        (false, true) => (Severity::High, Confidence::Medium),
        (false, false) => (Severity::Medium, Confidence::Low),
    })
    .filter(|_| !event.facts.is_empty() || by_caller || !constant(left) || !constant(right))
}
