//! Every expression of a block, outermost first.

use super::{Block, Expr, Kind as K, Stmt};

/// Calls `then` with each expression of the block, nested ones too; closures are looked into.
pub(crate) fn expressions<'a>(block: &'a Block, then: &mut dyn FnMut(&'a Expr)) {
    for stmt in &block.stmts {
        match stmt {
            Stmt::Let { init, otherwise, .. } => {
                if let Some(init) = init {
                    expression(init, then);
                }
                if let Some(otherwise) = otherwise {
                    expressions(otherwise, then);
                }
            }
            Stmt::Expr(expr, _) => expression(expr, then),
        }
    }
}

fn expression<'a>(expr: &'a Expr, then: &mut dyn FnMut(&'a Expr)) {
    then(expr);
    let mut all = |parts: &mut dyn Iterator<Item = &'a Expr>| parts.for_each(|part| expression(part, then));
    match &expr.kind {
        K::Call(function, args) | K::Method(function, _, _, args) => {
            all(&mut std::iter::once(&**function).chain(args));
        }
        K::Macro(_, args) | K::Tuple(args) | K::Array(args) => all(&mut args.iter()),
        K::Field(inner, _)
        | K::Not(inner)
        | K::Neg(inner)
        | K::Deref(inner)
        | K::Ref(inner)
        | K::Try(inner)
        | K::Cast(inner, _)
        | K::Closure(_, inner)
        | K::Let(_, inner)
        | K::Return(Some(inner)) => expression(inner, then),
        K::Index(a, b) | K::Binary(_, a, b) | K::Assign(a, b) | K::AssignOp(_, a, b) | K::Repeat(a, b) => {
            all(&mut [&**a, &**b].into_iter());
        }
        K::If(cond, body, otherwise) => {
            expression(cond, then);
            expressions(body, then);
            if let Some(otherwise) = otherwise {
                expression(otherwise, then);
            }
        }
        K::Match(on, arms) => {
            expression(on, then);
            for arm in arms {
                if let Some(guard) = &arm.guard {
                    expression(guard, then);
                }
                expression(&arm.body, then);
            }
        }
        K::Block(block) | K::Unsafe(block) => expressions(block, then),
        K::While(cond, body) => {
            if let Some(cond) = cond {
                expression(cond, then);
            }
            expressions(body, then);
        }
        K::For(_, over, body) => {
            expression(over, then);
            expressions(body, then);
        }
        K::Range(a, b) => all(&mut [a, b].into_iter().flatten().map(|side| &**side)),
        K::Struct(_, fields, rest) => {
            all(&mut fields.iter().map(|(_, value)| value).chain(rest.as_deref()));
        }
        K::Path(..) | K::Lit(_) | K::Break | K::Continue | K::Return(None) | K::Other => {}
    }
}
