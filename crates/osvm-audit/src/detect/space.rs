//! OSVM-035, OSVM-036 and OSVM-039: how long an account is, and who pays for it.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Node, V},
    model::{View, how},
    syntax::{BinOp, Expr, Kind, Lit, Ty},
};

/// Anchor's discriminator.
const DISCRIMINATOR: u128 = 8;
/// Types in types that are added up.
const DEEPEST: u32 = 8;

pub(super) static REALLOC: Rule = Rule {
    id: "OSVM-035",
    class: "unsafe-realloc",
    title: "An account grows to what the caller says",
    severity: Severity::Medium,
    cwe: 131,
    explanation: "The new length comes from the caller and nothing bounds it, or the account grows and nobody tops up its rent. What was \
                  cut off before comes back where the new bytes are not zeroed.",
    limits: "Rent counts as looked at if the handler asks for a minimum balance or moves lamports at all.",
    fix: "Bound the length, pay the difference of the rent, and zero what is new: `realloc::zero = true`.",
};

pub(super) fn check_realloc(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    let pays =
        view.run.arena.nodes().any(|node| matches!(node, Node::Call(name, _) if name.contains("minimum_balance")))
            || view.events.iter().any(|event| match &event.action {
                Action::Cpi { name, .. } => name.contains("ransfer"),
                Action::Lamports { .. } => true,
                _ => false,
            });
    for event in &view.events {
        let Action::Realloc { account, size: Some(size) } = &event.action else { continue };
        let entry = view.account(*account);
        let by_anchor = entry.attr.has("realloc");
        // Facts of constraints further down are known at the end.
        let facts = view.events.last().map_or(&event.facts, |last| &last.facts);
        let bounded = view.entails(facts, &|node, _| match node {
            Node::Bin(BinOp::Lt | BinOp::Le | BinOp::Gt | BinOp::Ge | BinOp::Eq, a, b) => {
                [*a, *b].iter().any(|side| view.given_by_caller(*side) && shares(view, *side, *size))
            }
            _ => false,
        });
        let dirty = entry.attr.value("realloc::zero").is_some_and(is_false);
        if view.signers(facts).iter().any(|signer| view.tied(*signer, facts)) && by_anchor {
            continue;
        }
        let what = if view.given_by_caller(*size) && !bounded && (dirty || !by_anchor) {
            "the caller says how long it becomes"
        } else if !by_anchor && !pays && view.literal(*size).is_none() && !shrinks(view, *size, *account) {
            "nobody pays the rent of what is new"
        } else {
            continue;
        };
        let message = format!("`{}` is made longer or shorter, and {what}", entry.name);
        let steps = vec![view.origin(*account), view.step(event.file, event.span, "its length changes here")];
        found.push(view.at(&REALLOC, event, how(Severity::Medium, Confidence::Medium), message, steps));
    }
}

fn shares(view: &View<'_, '_>, side: V, size: V) -> bool {
    view.run.arena.any(size, &|node| match node {
        Node::Arg(..) => view.run.arena.any(side, &|other| other == node),
        _ => false,
    })
}

fn shrinks(view: &View<'_, '_>, size: V, account: u32) -> bool {
    matches!(view.node(view.strip(size)), Node::Bin(BinOp::Sub, from, _) if view.run.arena.account(*from) == Some(account))
}

fn is_false(expr: &Expr) -> bool {
    matches!(expr.kind, Kind::Lit(Lit::Bool(false)))
}

pub(super) static SPACE: Rule = Rule {
    id: "OSVM-036",
    class: "wrong-space",
    title: "An account is made too short for its content",
    severity: Severity::Low,
    cwe: 131,
    explanation: "`space` is less than the discriminator and the fields of the type need at the least: storing it fails, or the first long \
                  value does.",
    limits: "Arrays, whose length is not read, count as nothing, and strings and lists as empty; expressions with calls are left out.",
    fix: "Derive `InitSpace` and write `space = 8 + T::INIT_SPACE`.",
};

pub(super) fn check_space(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for account in view.accounts.iter().copied() {
        let entry = view.account(account);
        let (true, Some(space), Some(ty)) = (entry.init && entry.declared, entry.attr.value("space"), &entry.ty) else {
            continue;
        };
        let Some(item) = view.run.index.structure(entry.file, ty) else { continue };
        let Some(need) =
            item.fields.iter().try_fold(DISCRIMINATOR, |sum, field| Some(sum + least(view, entry.file, &field.ty, 0)?))
        else {
            continue;
        };
        let bare = matches!(&space.kind, Kind::Path(path, _)
            if path.len() == 2 && path[0] == *ty && &*path[1] == "INIT_SPACE");
        let have = constant(view, entry.file, space, 0);
        let message = match have {
            _ if bare => format!("`space` of `{}` leaves no room for the discriminator", entry.name),
            Some(have) if have < need => {
                format!("`{}` gets {have} bytes, and a `{ty}` needs {need} at the least", entry.name)
            }
            _ => continue,
        };
        let how = how(Severity::Low, Confidence::High);
        let mut finding = view.finding(&SPACE, entry.file, space.span, how, message, vec![view.origin(account)]);
        finding.edit = bare.then(|| super::edits::insert(view, entry.file, space.span, "8 + "));
        found.push(finding);
    }
}

/// What a value of this type takes at the least; None for what is not known.
fn least(view: &View<'_, '_>, file: usize, ty: &Ty, depth: u32) -> Option<u128> {
    if depth > DEEPEST {
        return None;
    }
    Some(match &*ty.name {
        "u8" | "i8" | "bool" | "Option" => 1,
        "u16" | "i16" => 2,
        "u32" | "i32" | "f32" | "String" | "Vec" => 4,
        "u64" | "i64" | "f64" => 8,
        "u128" | "i128" => 16,
        "Pubkey" | "Address" => 32,
        "[]" | "()" | "PhantomData" => 0,
        name => match view.run.index.structure(file, name) {
            Some(item) => {
                item.fields.iter().try_fold(0, |sum, field| Some(sum + least(view, file, &field.ty, depth + 1)?))?
            }
            None => 1.min(view.run.index.enumeration(file, name)?.variants.len() as u128),
        },
    })
}

fn constant(view: &View<'_, '_>, file: usize, expr: &Expr, depth: u32) -> Option<u128> {
    if depth > DEEPEST {
        return None;
    }
    let again = |expr: &Expr| constant(view, file, expr, depth + 1);
    match &expr.kind {
        Kind::Lit(Lit::Int(value, _)) => Some(*value),
        Kind::Binary(BinOp::Add, a, b) => again(a)?.checked_add(again(b)?),
        Kind::Binary(BinOp::Mul, a, b) => again(a)?.checked_mul(again(b)?),
        Kind::Binary(BinOp::Sub, a, b) => again(a)?.checked_sub(again(b)?),
        Kind::Cast(inner, _) => again(inner),
        // A type's own constant may have the name of another type's.
        Kind::Path(path, _) if path.len() == 1 => again(view.run.index.constant(file, path.last()?)?),
        _ => None,
    }
}

pub(super) static RENT: Rule = Rule {
    id: "OSVM-039",
    class: "rent-exemption",
    title: "A new account gets lamports that nobody compared with its rent",
    severity: Severity::Low,
    cwe: 682,
    explanation: "`create_account` is paid with a number that is fixed or that the caller gives. Less than the rent of its length fails; more \
                  is taken from the payer.",
    limits: "A number that was bounded before is left out, whatever it was compared with.",
    fix: "Ask the rent: `Rent::get()?.minimum_balance(space)`.",
};

pub(super) fn check_rent(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let Action::Cpi { name, parts, data, .. } = &event.action else { continue };
        let last = name.rsplit("::").next().unwrap_or(name);
        if !matches!(last, "create_account" | "CreateAccount") {
            continue;
        }
        let part = parts.iter().find(|(role, _)| &**role == "lamports").map(|(_, v)| *v);
        let Some(lamports) = part.or_else(|| data.first().copied()) else { continue };
        let told = view.literal(lamports).is_some_and(|value| value > 0)
            || matches!(view.node(view.strip(lamports)), Node::Arg(..));
        let compared = view.entails(&event.facts, &|node, _| {
            matches!(node, Node::Bin(BinOp::Lt | BinOp::Le | BinOp::Gt | BinOp::Ge, a, b) if *a == lamports || *b == lamports)
        });
        if !told || compared {
            continue;
        }
        let message = "what the new account gets is not asked of the rent".to_owned();
        let steps = vec![view.step(event.file, event.span, "it is paid here")];
        found.push(view.at(&RENT, event, how(Severity::Low, Confidence::High), message, steps));
    }
}
