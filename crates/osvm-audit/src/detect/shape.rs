//! OSVM-082, OSVM-083, OSVM-084 and OSVM-086: what a program's text says before anything of it runs.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Framework, Node, Prop},
    model::{View, how},
    syntax::{Expr, Kind, Lit, Pat, Stmt, expressions},
};

pub(super) static CAST: Rule = Rule {
    id: "OSVM-082",
    class: "unsafe-cast",
    title: "A pointer into an account is cast without a look at its length",
    severity: Severity::Medium,
    cwe: 125,
    explanation: "Bytes of an account become a reference to a type by a cast or `transmute`, and nothing says that there are enough of them: a \
                  short account is read past its end.",
    limits: "A length that a function compares which was not followed is not seen. Alignment is not looked at.",
    fix: "Compare the length first, or use a reader that does, such as `bytemuck::try_from_bytes`.",
};

pub(super) fn check_cast(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for event in &view.events {
        let Action::Deserialize { account, ty, how: by } = &event.action else { continue };
        if !(matches!(&**by, "as *" | "cast") || by.contains("transmute")) || view.typed(*account) {
            continue;
        }
        let measured = event.facts.iter().any(|(v, _)| {
            view.run.arena.any(*v, &|node| match node {
                Node::Prop(Prop::Len, have) => have == account,
                Node::Call(name, args) => {
                    matches!(&**name, "len" | "is_empty" | "get")
                        && args.first().is_some_and(|first| view.run.arena.data_of(*first) == Some(*account))
                }
                _ => false,
            })
        });
        if measured || view.created(*account) || view.passed_out(*account) {
            continue;
        }
        let message = format!("`{}` is read as `{ty}` whatever its length", view.name(*account));
        let steps = vec![view.origin(*account), view.step(event.file, event.span, "the pointer is cast here")];
        found.push(view.at(&CAST, event, how(Severity::Medium, Confidence::Medium), message, steps));
    }
}

pub(super) static ARGUMENTS: Rule = Rule {
    id: "OSVM-083",
    class: "instruction-attribute",
    title: "`#[instruction]` does not say what the handler takes",
    severity: Severity::Medium,
    cwe: 628,
    explanation: "Anchor reads the arguments of `#[instruction(..)]` in their order from the instruction's data, whatever they are called. \
                  Another type or another order than the handler's gives the constraints other values than the handler.",
    limits: "Types are compared by their names.",
    fix: "Write the handler's arguments, in its order, up to the last one that a constraint needs.",
};

pub(super) fn check_arguments(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    let Some((file, handler)) = view.run.bodies.first().filter(|_| view.run.framework == Framework::Anchor) else {
        return;
    };
    let Some((_, context)) = handler.params.first().filter(|(_, ty)| &*ty.name == "Context") else { return };
    let Some(accounts) = context.args.last() else { return };
    let Some((_, item)) = view.run.index.structure_at(*file, &accounts.name) else { return };
    let given: Vec<(Option<&str>, &str)> = handler.params[1..]
        .iter()
        .map(|(pat, ty)| {
            let name = match pat {
                Pat::Bind(name, ..) => Some(name.trim_start_matches('_')),
                _ => None,
            };
            (name, &*ty.name)
        })
        .collect();
    for (at, (name, ty)) in item.instruction.iter().enumerate() {
        let bare = name.trim_start_matches('_');
        let what = match given.get(at) {
            None => format!("`{name}` is read, and the handler has no argument {}", at + 1),
            Some((have, other)) if **other != *ty.name => {
                let have = have.map_or(String::new(), |have| format!(" `{have}`"));
                format!("`{name}` is read as `{}`, and stands where the handler takes a `{other}`{have}", ty.name)
            }
            Some((Some(have), _)) if *have != bare && given.iter().any(|(other, _)| *other == Some(bare)) => {
                format!("`{name}` is read where the handler's `{have}` stands")
            }
            Some(_) => continue,
        };
        let how = how(Severity::Medium, Confidence::High);
        let (file, span) = view.place();
        let steps = vec![view.step(file, span, "the handler")];
        found.push(view.finding(&ARGUMENTS, file, span, how, what, steps));
        return;
    }
}

pub(super) static DEFAULT: Rule = Rule {
    id: "OSVM-084",
    class: "silent-default",
    title: "An unknown instruction succeeds",
    severity: Severity::Low,
    cwe: 478,
    explanation: "The dispatcher's last arm takes every tag that no other arm takes, and says `Ok`. A client with a newer or a wrong tag \
                  believes that something happened.",
    limits: "A dispatcher is a choice among at least two arms that call something, by number or variant, in a function that takes the \
             accounts.",
    fix: "Return an error: `_ => Err(ProgramError::InvalidInstructionData)`.",
};

pub(super) fn check_default(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if !matches!(view.run.framework, Framework::Native | Framework::Pinocchio) {
        return;
    }
    let Some((file, root)) = view.run.bodies.first() else { return };
    let mut bad = Vec::new();
    expressions(&root.body, &mut |expr| {
        let Kind::Match(_, arms) = &expr.kind else { return };
        let known = arms.iter().filter(|arm| {
            let fixed = matches!(
                &arm.pat,
                Pat::Lit(_) | Pat::Path(_) | Pat::TupleStruct(..) | Pat::Struct(..) | Pat::Or(_) | Pat::Slice(_)
            );
            fixed && calls(&arm.body)
        });
        let open = arms.iter().find(|arm| matches!(arm.pat, Pat::Wild | Pat::Bind(_, _, None)) && arm.guard.is_none());
        if known.count() >= 2
            && let Some(open) = open.filter(|open| is_ok(&open.body))
        {
            bad.push(open.body.span);
        }
    });
    for span in bad {
        let message = "a tag that no arm knows succeeds and does nothing".to_owned();
        let steps = vec![view.step(*file, span, "every other tag ends here")];
        found.push(view.finding(&DEFAULT, *file, span, how(Severity::Low, Confidence::High), message, steps));
    }
}

fn calls(expr: &Expr) -> bool {
    match &expr.kind {
        Kind::Call(..) => !is_ok(expr),
        Kind::Method(..) | Kind::Try(_) => true,
        Kind::Block(block) => block.stmts.iter().any(|stmt| match stmt {
            Stmt::Expr(expr, _) => calls(expr),
            Stmt::Let { .. } => true,
        }),
        Kind::Return(Some(inner)) => calls(inner),
        _ => false,
    }
}

fn is_ok(expr: &Expr) -> bool {
    match &expr.kind {
        Kind::Call(function, args) => {
            let ok = matches!(&function.kind, Kind::Path(path, _) if path.last().is_some_and(|last| &**last == "Ok"));
            ok && matches!(args.as_slice(), [only] if matches!(&only.kind, Kind::Tuple(parts) if parts.is_empty()))
        }
        Kind::Block(block) => match block.stmts.as_slice() {
            [.., Stmt::Expr(last, _)] => is_ok(last) && block.stmts.len() == 1,
            _ => false,
        },
        Kind::Return(Some(inner)) => is_ok(inner),
        _ => false,
    }
}

pub(super) static FRAME: Rule = Rule {
    id: "OSVM-086",
    class: "stack-frame",
    title: "An array is larger than a stack frame",
    severity: Severity::Low,
    cwe: 770,
    explanation: "A frame of the virtual machine has 4,096 bytes. A larger array in a function's variables overwrites the next frame or ends \
                  the program; `Box::new([..])` makes it on the stack first.",
    limits: "Counts arrays whose element and length are literals or constants; what the compiler moves elsewhere is not known.",
    fix: "Use `vec![..]`, or an account of type `AccountLoader`.",
};

/// A frame of the virtual machine.
const FRAME_BYTES: u128 = 4_096;

pub(super) fn check_frame(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for (file, function) in &view.run.bodies {
        let mut bad = Vec::new();
        expressions(&function.body, &mut |expr| {
            let Kind::Repeat(element, length) = &expr.kind else { return };
            let Some(length) = number(view, *file, length) else { return };
            let each: u128 = match &element.kind {
                Kind::Lit(Lit::Int(_, suffix)) => {
                    suffix.trim_start_matches(['u', 'i']).parse::<u128>().map_or(1, |bits| bits / 8)
                }
                Kind::Lit(Lit::Bool(_)) => 1,
                _ => return,
            };
            if length.saturating_mul(each) > FRAME_BYTES {
                bad.push((expr.span, length));
            }
        });
        for (span, length) in bad {
            let message = format!("an array of {length} does not fit into a frame of {FRAME_BYTES} bytes");
            let steps = vec![view.step(*file, span, "it is made on the stack")];
            found.push(view.finding(&FRAME, *file, span, how(Severity::Low, Confidence::Medium), message, steps));
        }
    }
}

fn number(view: &View<'_, '_>, file: usize, expr: &Expr) -> Option<u128> {
    match &expr.kind {
        Kind::Lit(Lit::Int(value, _)) => Some(*value),
        Kind::Path(path, _) if path.len() == 1 => match &view.run.index.constant(file, path.last()?)?.kind {
            Kind::Lit(Lit::Int(value, _)) => Some(*value),
            _ => None,
        },
        _ => None,
    }
}
