//! Expressions and statements.

use syn::{Expr as Syn, Member, Token, UnOp, parse::Parser};

use super::{
    Arm, BinOp, Block, Expr, Kind, Lit, Name, Stmt,
    attr::only_for_tests,
    parse::{Lower, at, join},
};
use crate::Span;

impl Lower {
    pub(super) fn expr(&mut self, expr: &Syn) -> Expr {
        self.deeper(0, |lower| lower.expr_inner(expr)).unwrap_or(Expr { kind: Kind::Other, span: Span::default() })
    }

    fn boxed(&mut self, expr: &Syn) -> Box<Expr> {
        Box::new(self.expr(expr))
    }

    fn all<'a>(&mut self, exprs: impl IntoIterator<Item = &'a Syn>) -> Vec<Expr> {
        exprs.into_iter().map(|expr| self.expr(expr)).collect()
    }

    fn expr_inner(&mut self, expr: &Syn) -> Expr {
        let made = |kind, span| Expr { kind, span };
        match expr {
            Syn::Path(path) => {
                let names = self.path(&path.path);
                let args = path.path.segments.iter().flat_map(|segment| self.generics(&segment.arguments)).collect();
                let names = match &path.qself {
                    // `<T as Trait>::f` reads as `T::f`.
                    Some(qself) => {
                        let ty = self.ty(&qself.ty);
                        let last = names.last().cloned();
                        std::iter::once(ty.name).chain(last).collect()
                    }
                    None => names,
                };
                let first = path.path.segments.first().map_or_else(Span::default, |first| at(first.ident.span()));
                let last = path.path.segments.last().map_or(first, |last| at(last.ident.span()));
                made(Kind::Path(names, args), join(first, last))
            }
            Syn::Lit(lit) => made(Kind::Lit(self.lit(&lit.lit)), at(lit.lit.span())),
            Syn::Field(field) => {
                let base = self.boxed(&field.base);
                let (name, end) = match &field.member {
                    Member::Named(ident) => (self.ident(ident), at(ident.span())),
                    Member::Unnamed(index) => (self.name(&index.index.to_string()), at(index.span)),
                };
                let span = join(base.span, end);
                made(Kind::Field(base, name), span)
            }
            Syn::Index(index) => {
                let (base, by) = (self.boxed(&index.expr), self.boxed(&index.index));
                let span = join(base.span, at(index.bracket_token.span.close()));
                made(Kind::Index(base, by), span)
            }
            Syn::Call(call) => {
                let function = self.boxed(&call.func);
                let args = self.all(&call.args);
                let span = join(function.span, at(call.paren_token.span.close()));
                made(Kind::Call(function, args), span)
            }
            Syn::MethodCall(call) => {
                let receiver = self.boxed(&call.receiver);
                let args = self.all(&call.args);
                let types = call.turbofish.as_ref().map_or_else(Vec::new, |fish| self.angle(fish));
                let name = self.ident(&call.method);
                let span = join(receiver.span, at(call.paren_token.span.close()));
                made(Kind::Method(receiver, name, types, args), span)
            }
            Syn::Macro(mac) => self.macro_call(&mac.mac),
            Syn::Unary(unary) => {
                let inner = self.boxed(&unary.expr);
                let (kind, start): (fn(Box<Expr>) -> Kind, _) = match &unary.op {
                    UnOp::Deref(token) => (Kind::Deref, at(token.span)),
                    UnOp::Not(token) => (Kind::Not, at(token.span)),
                    UnOp::Neg(token) => (Kind::Neg, at(token.span)),
                    _ => return made(Kind::Other, inner.span),
                };
                let span = join(start, inner.span);
                made(kind(inner), span)
            }
            Syn::Reference(reference) => {
                let inner = self.boxed(&reference.expr);
                let span = join(at(reference.and_token.span), inner.span);
                made(Kind::Ref(inner), span)
            }
            Syn::RawAddr(raw) => self.expr(&raw.expr),
            Syn::Binary(binary) => self.binary(binary),
            Syn::Assign(assign) => {
                let (left, right) = (self.boxed(&assign.left), self.boxed(&assign.right));
                let span = join(left.span, right.span);
                made(Kind::Assign(left, right), span)
            }
            Syn::Paren(paren) => {
                let mut inner = self.expr(&paren.expr);
                inner.span = join(at(paren.paren_token.span.open()), at(paren.paren_token.span.close()));
                inner
            }
            Syn::Group(group) => self.expr(&group.expr),
            Syn::If(branch) => {
                let cond = self.boxed(&branch.cond);
                let then = self.block(&branch.then_branch);
                let otherwise = branch.else_branch.as_ref().map(|(_, other)| self.boxed(other));
                let span = join(at(branch.if_token.span), cond.span);
                made(Kind::If(cond, then, otherwise), span)
            }
            Syn::Match(choice) => {
                let on = self.boxed(&choice.expr);
                let arms = choice
                    .arms
                    .iter()
                    .filter(|arm| !only_for_tests(&arm.attrs))
                    .map(|arm| Arm {
                        pat: self.pat(&arm.pat),
                        guard: arm.guard.as_ref().map(|(_, guard)| self.expr(guard)),
                        body: self.expr(&arm.body),
                    })
                    .collect();
                let span = join(at(choice.match_token.span), on.span);
                made(Kind::Match(on, arms), span)
            }
            Syn::Let(bind) => {
                let value = self.boxed(&bind.expr);
                let span = join(at(bind.let_token.span), value.span);
                made(Kind::Let(Box::new(self.pat(&bind.pat)), value), span)
            }
            Syn::Block(block) => made(Kind::Block(self.block(&block.block)), braces(&block.block)),
            Syn::Const(block) => made(Kind::Block(self.block(&block.block)), braces(&block.block)),
            Syn::Async(block) => made(Kind::Block(self.block(&block.block)), braces(&block.block)),
            Syn::Unsafe(block) => {
                let span = at(block.unsafe_token.span);
                self.unit.unsafe_blocks.push(span);
                made(Kind::Unsafe(self.block(&block.block)), join(span, braces(&block.block)))
            }
            Syn::While(loops) => {
                let cond = self.boxed(&loops.cond);
                let span = join(at(loops.while_token.span), cond.span);
                made(Kind::While(Some(cond), self.block(&loops.body)), span)
            }
            Syn::Loop(loops) => made(Kind::While(None, self.block(&loops.body)), at(loops.loop_token.span)),
            Syn::ForLoop(loops) => {
                let over = self.boxed(&loops.expr);
                let span = join(at(loops.for_token.span), over.span);
                made(Kind::For(Box::new(self.pat(&loops.pat)), over, self.block(&loops.body)), span)
            }
            Syn::Return(ret) => {
                let value = ret.expr.as_ref().map(|value| self.boxed(value));
                let start = at(ret.return_token.span);
                let span = value.as_ref().map_or(start, |value| join(start, value.span));
                made(Kind::Return(value), span)
            }
            Syn::Break(token) => made(Kind::Break, at(token.break_token.span)),
            Syn::Continue(token) => made(Kind::Continue, at(token.continue_token.span)),
            Syn::Try(tried) => {
                let inner = self.boxed(&tried.expr);
                let span = join(inner.span, at(tried.question_token.span));
                made(Kind::Try(inner), span)
            }
            Syn::Await(awaited) => self.expr(&awaited.base),
            Syn::Tuple(tuple) => {
                let span = join(at(tuple.paren_token.span.open()), at(tuple.paren_token.span.close()));
                made(Kind::Tuple(self.all(&tuple.elems)), span)
            }
            Syn::Array(array) => {
                let span = join(at(array.bracket_token.span.open()), at(array.bracket_token.span.close()));
                // A table of bytes has nothing to analyse.
                let elems = if array.elems.len() > 1_000 { Vec::new() } else { self.all(&array.elems) };
                made(Kind::Array(elems), span)
            }
            Syn::Repeat(repeat) => {
                let span = join(at(repeat.bracket_token.span.open()), at(repeat.bracket_token.span.close()));
                made(Kind::Repeat(self.boxed(&repeat.expr), self.boxed(&repeat.len)), span)
            }
            Syn::Range(range) => {
                let start = range.start.as_ref().map(|start| self.boxed(start));
                let end = range.end.as_ref().map(|end| self.boxed(end));
                let dots = match &range.limits {
                    syn::RangeLimits::HalfOpen(token) => at(token.spans[0]),
                    syn::RangeLimits::Closed(token) => at(token.spans[0]),
                };
                let from = start.as_ref().map_or(dots, |start| start.span);
                let to = end.as_ref().map_or(dots, |end| end.span);
                made(Kind::Range(start, end), join(from, to))
            }
            Syn::Struct(literal) => {
                let path = self.path(&literal.path);
                let fields =
                    literal.fields.iter().map(|field| (self.member(&field.member), self.expr(&field.expr))).collect();
                let rest = literal.rest.as_ref().map(|rest| self.boxed(rest));
                let first = literal.path.segments.first().map_or_else(Span::default, |first| at(first.ident.span()));
                made(Kind::Struct(path, fields, rest), join(first, at(literal.brace_token.span.close())))
            }
            Syn::Closure(closure) => {
                let params = closure.inputs.iter().map(|input| self.pat(input)).collect();
                let body = self.boxed(&closure.body);
                let span = join(at(closure.or1_token.span), body.span);
                made(Kind::Closure(params, body), span)
            }
            Syn::Cast(cast) => {
                let inner = self.boxed(&cast.expr);
                let span = join(inner.span, at(cast.as_token.span));
                made(Kind::Cast(inner, self.ty(&cast.ty)), span)
            }
            _ => made(Kind::Other, Span::default()),
        }
    }

    fn binary(&mut self, binary: &syn::ExprBinary) -> Expr {
        use syn::BinOp as B;
        let (left, right) = (self.boxed(&binary.left), self.boxed(&binary.right));
        let span = join(left.span, right.span);
        let (op, assigns) = match &binary.op {
            B::Add(_) => (BinOp::Add, false),
            B::Sub(_) => (BinOp::Sub, false),
            B::Mul(_) => (BinOp::Mul, false),
            B::Div(_) => (BinOp::Div, false),
            B::Rem(_) => (BinOp::Rem, false),
            B::And(_) => (BinOp::And, false),
            B::Or(_) => (BinOp::Or, false),
            B::Eq(_) => (BinOp::Eq, false),
            B::Ne(_) => (BinOp::Ne, false),
            B::Lt(_) => (BinOp::Lt, false),
            B::Le(_) => (BinOp::Le, false),
            B::Gt(_) => (BinOp::Gt, false),
            B::Ge(_) => (BinOp::Ge, false),
            B::Shl(_) | B::Shr(_) => (BinOp::Shift, false),
            B::AddAssign(_) => (BinOp::Add, true),
            B::SubAssign(_) => (BinOp::Sub, true),
            B::MulAssign(_) => (BinOp::Mul, true),
            B::DivAssign(_) => (BinOp::Div, true),
            B::RemAssign(_) => (BinOp::Rem, true),
            B::BitXorAssign(_) | B::BitAndAssign(_) | B::BitOrAssign(_) => (BinOp::Bit, true),
            B::ShlAssign(_) | B::ShrAssign(_) => (BinOp::Shift, true),
            _ => (BinOp::Bit, false),
        };
        let kind = if assigns { Kind::AssignOp(op, left, right) } else { Kind::Binary(op, left, right) };
        Expr { kind, span }
    }

    fn macro_call(&mut self, mac: &syn::Macro) -> Expr {
        let name: Name = match mac.path.segments.last() {
            Some(last) => self.ident(&last.ident),
            None => self.name("_"),
        };
        let start = mac.path.segments.first().map_or_else(Span::default, |first| at(first.ident.span()));
        let span = join(start, at(mac.delimiter.span().close()));
        let comma = syn::punctuated::Punctuated::<Syn, Token![,]>::parse_terminated;
        let args = match comma.parse2(mac.tokens.clone()) {
            Ok(args) => self.all(&args),
            Err(_) => {
                let repeat = |input: syn::parse::ParseStream<'_>| {
                    let value: Syn = input.parse()?;
                    input.parse::<Token![;]>()?;
                    Ok((value, input.parse::<Syn>()?))
                };
                match repeat.parse2(mac.tokens.clone()) {
                    // On the heap, whatever its length.
                    Ok((value, _)) if &*name == "vec" => {
                        return Expr { kind: Kind::Array(vec![self.expr(&value)]), span };
                    }
                    Ok((value, len)) => {
                        let (value, len) = (self.boxed(&value), self.boxed(&len));
                        return Expr { kind: Kind::Repeat(value, len), span };
                    }
                    // `matches!(x, A | B)` and its like: what stands before the first comma.
                    Err(_) => {
                        let first = |input: syn::parse::ParseStream<'_>| {
                            let value: Syn = input.parse()?;
                            input.parse::<proc_macro2::TokenStream>()?;
                            Ok(value)
                        };
                        first.parse2(mac.tokens.clone()).map(|value| vec![self.expr(&value)]).unwrap_or_default()
                    }
                }
            }
        };
        if &*name == "vec" {
            return Expr { kind: Kind::Array(args), span };
        }
        Expr { kind: Kind::Macro(name, args), span }
    }

    pub(super) fn lit(&mut self, lit: &syn::Lit) -> Lit {
        match lit {
            syn::Lit::Int(int) => Lit::Int(int.base10_parse().unwrap_or(u128::MAX), self.name(int.suffix())),
            syn::Lit::Bool(value) => Lit::Bool(value.value),
            syn::Lit::Float(_) => Lit::Float,
            syn::Lit::Str(text) => Lit::Str(text.value().into()),
            syn::Lit::ByteStr(bytes) => Lit::Bytes(bytes.value()),
            syn::Lit::Byte(byte) => Lit::Int(u128::from(byte.value()), self.name("u8")),
            _ => Lit::Other,
        }
    }

    pub(super) fn block(&mut self, block: &syn::Block) -> Block {
        let mut stmts = Vec::with_capacity(block.stmts.len());
        for stmt in &block.stmts {
            match stmt {
                syn::Stmt::Local(local) => {
                    if only_for_tests(&local.attrs) {
                        continue;
                    }
                    let ty = match &local.pat {
                        syn::Pat::Type(typed) => Some(self.ty(&typed.ty)),
                        _ => None,
                    };
                    let pat = self.pat(&local.pat);
                    let init = local.init.as_ref().map(|init| self.expr(&init.expr));
                    let diverge = local.init.as_ref().and_then(|init| init.diverge.as_ref());
                    let otherwise = diverge.map(|(_, other)| Block { stmts: vec![Stmt::Expr(self.expr(other), true)] });
                    stmts.push(Stmt::Let { pat, ty, init, otherwise });
                }
                syn::Stmt::Expr(expr, semi) => {
                    let expr = self.expr(expr);
                    stmts.push(Stmt::Expr(expr, semi.is_some()));
                }
                syn::Stmt::Macro(mac) => {
                    if !only_for_tests(&mac.attrs) {
                        let expr = self.macro_call(&mac.mac);
                        stmts.push(Stmt::Expr(expr, mac.semi_token.is_some()));
                    }
                }
                syn::Stmt::Item(item) => {
                    self.deeper(0, |lower| lower.item(item));
                }
            }
        }
        Block { stmts }
    }
}

fn braces(block: &syn::Block) -> Span {
    join(at(block.brace_token.span.open()), at(block.brace_token.span.close()))
}
