//! Expressions and statements on symbolic values.

use super::{Action, Node, Prop, Run, STEPS, V};
use crate::{
    Span,
    syntax::{BinOp, Expr, Kind, Lit, Name, Pat},
};

impl<'a> Run<'a> {
    pub(super) fn eval(&mut self, expr: &'a Expr) -> V {
        self.steps += 1;
        if self.steps > STEPS || (self.steps.is_multiple_of(256) && std::time::Instant::now() > self.deadline) {
            self.exhausted = true;
            self.st.dead = true;
            return self.arena.add(Node::Unit);
        }
        let span = expr.span;
        self.span = span;
        match &expr.kind {
            Kind::Path(path, _) => self.eval_path(path),
            Kind::Lit(lit) => self.arena.add(Node::Lit(lit.clone())),
            Kind::Field(base, name) => {
                let base = self.eval(base);
                self.field(base, name, span)
            }
            Kind::Index(base, by) => self.eval_index(base, by, span),
            Kind::Call(function, args) => self.eval_call(function, args, span),
            Kind::Method(receiver, name, types, args) => self.eval_method(receiver, name, types, args, span),
            Kind::Macro(name, args) => self.eval_macro(name, args, span),
            Kind::Not(inner) => {
                let inner = self.eval(inner);
                self.not(inner)
            }
            Kind::Neg(inner) => {
                let inner = self.eval(inner);
                self.arena.add(Node::Neg(inner))
            }
            Kind::Deref(inner) => self.eval_deref(inner, span),
            Kind::Ref(inner) => self.eval(inner),
            Kind::Binary(op, left, right) => self.eval_binary(*op, left, right, span),
            Kind::Assign(left, right) => {
                let value = self.eval(right);
                self.assign(left, value, span);
                self.arena.add(Node::Unit)
            }
            Kind::AssignOp(op, left, right) => {
                let value = self.eval(right);
                let place = self.eval(left);
                self.arith(*op, place, value, true, span);
                let made = self.arena.add(Node::Bin(*op, place, value));
                self.assign(left, made, span);
                self.arena.add(Node::Unit)
            }
            Kind::If(cond, then, otherwise) => self.eval_if(cond, then, otherwise.as_deref(), span),
            Kind::Match(on, arms) => self.eval_match(on, arms, span),
            Kind::Let(pat, value) => {
                let value = self.eval(value);
                let kind = match &**pat {
                    Pat::TupleStruct(path, _) | Pat::Path(path) => path.last().map(|last| &**last),
                    _ => None,
                };
                match kind {
                    Some(kind @ ("Ok" | "Some" | "Err" | "None")) => {
                        let name: Name = format!("let:{kind}").as_str().into();
                        self.arena.add(Node::Call(name, vec![value]))
                    }
                    _ => self.unknown(),
                }
            }
            Kind::Block(block) | Kind::Unsafe(block) => self.eval_block(block),
            Kind::While(cond, body) => {
                self.eval_while(cond.as_deref(), body, span);
                self.arena.add(Node::Unit)
            }
            Kind::For(pat, over, body) => {
                self.eval_for(pat, over, body, span);
                self.arena.add(Node::Unit)
            }
            Kind::Return(value) => {
                let value = match value {
                    Some(value) => self.eval(value),
                    None => self.arena.add(Node::Unit),
                };
                self.leave(value, true);
                self.arena.add(Node::Unit)
            }
            Kind::Break | Kind::Continue => {
                self.st.dead = true;
                self.arena.add(Node::Unit)
            }
            Kind::Try(inner) => {
                let inner = self.eval(inner);
                self.force(inner, span)
            }
            Kind::Tuple(parts) => {
                let parts: Vec<V> = parts.iter().map(|part| self.eval(part)).collect();
                let node = if parts.is_empty() { Node::Unit } else { Node::Tuple(parts) };
                self.arena.add(node)
            }
            Kind::Array(parts) => {
                let parts = parts.iter().map(|part| self.eval(part)).collect();
                self.arena.add(Node::Array(parts))
            }
            Kind::Repeat(value, _) => {
                let value = self.eval(value);
                self.arena.add(Node::Array(vec![value]))
            }
            Kind::Range(start, end) => {
                let start = start.as_deref().map(|start| self.eval(start));
                let end = end.as_deref().map(|end| self.eval(end));
                let unit = self.arena.add(Node::Unit);
                self.arena.add(Node::Call("..".into(), vec![start.unwrap_or(unit), end.unwrap_or(unit)]))
            }
            Kind::Struct(path, fields, rest) => {
                let mut values: Vec<(Name, V)> = Vec::with_capacity(fields.len());
                for (name, value) in fields {
                    let value = self.eval(value);
                    values.push((name.clone(), value));
                }
                if let Some(rest) = rest {
                    let rest = self.eval(rest);
                    if let Node::Struct(_, more) = self.arena.get(rest).clone() {
                        for (name, value) in more {
                            if !values.iter().any(|(have, _)| *have == name) {
                                values.push((name, value));
                            }
                        }
                    }
                }
                let path = self.resolve_self(path);
                self.arena.add(Node::Struct(path, values))
            }
            Kind::Closure(params, body) => {
                self.closures.push((params, body));
                let name: Name = format!("|{}|", self.closures.len() - 1).as_str().into();
                self.arena.add(Node::Call(name, Vec::new()))
            }
            Kind::Cast(inner, ty) => {
                let inner = self.eval(inner);
                if let Some(account) = self.arena.data_of(inner)
                    && ty.name.starts_with(char::is_uppercase)
                    && self.arena.account(inner).is_some()
                {
                    self.emit(Action::Deserialize { account, ty: ty.name.clone(), how: "as *".into() }, span);
                    return self.arena.add(Node::State(account, ty.name.clone()));
                }
                if matches!(self.arena.get(inner), Node::Lit(_)) {
                    return inner;
                }
                if ty.name.starts_with(['u', 'i', 'f']) {
                    self.emit(Action::Cast { from: inner, to: ty.name.clone() }, span);
                    return self.arena.add(Node::Cast(inner, ty.name.clone()));
                }
                inner
            }
            Kind::Other => self.unknown(),
        }
    }

    pub(super) fn not(&mut self, v: V) -> V {
        match *self.arena.get(v) {
            Node::Not(inner) => inner,
            _ => self.arena.add(Node::Not(v)),
        }
    }

    fn eval_path(&mut self, path: &[Name]) -> V {
        if let [name] = path {
            if let Some(v) = self.var(name) {
                return v;
            }
            match &**name {
                "None" => return self.arena.add(Node::Failed),
                "true" | "false" => {}
                _ => {}
            }
        }
        let path = self.resolve_self(path);
        // Constants that are literals or texts are compared by their value.
        if let Some(last) = path.last()
            && last.chars().all(|c| c.is_uppercase() || c.is_numeric() || c == '_')
            && let Some(value) = self.index.constant(self.file(), last)
            && matches!(
                value.kind,
                Kind::Lit(Lit::Str(_) | Lit::Bytes(_) | Lit::Int(..) | Lit::Bool(_)) | Kind::Ref(..)
            )
        {
            let inner = match &value.kind {
                Kind::Ref(inner) => inner,
                _ => value,
            };
            if let Kind::Lit(lit) = &inner.kind {
                return self.arena.add(Node::Lit(lit.clone()));
            }
        }
        self.arena.add(Node::Path(path))
    }

    pub(super) fn var(&self, name: &str) -> Option<V> {
        let base = self.frames.last().map_or(0, |frame| frame.base);
        self.st.vars.get(base..)?.iter().rev().find(|(have, _)| &**have == name).map(|(_, v)| *v)
    }

    pub(super) fn resolve_self(&self, path: &[Name]) -> Vec<Name> {
        let mut path = path.to_vec();
        if let Some(first) = path.first_mut()
            && &**first == "Self"
            && let Some(ty) = self.frames.last().and_then(|frame| frame.self_ty.clone())
        {
            *first = ty;
        }
        path
    }

    pub(super) fn field(&mut self, base: V, name: &Name, span: Span) -> V {
        match self.arena.get(base).clone() {
            Node::Res(inner, _) => self.field(inner, name, span),
            Node::Ctx(instance) => match &**name {
                "accounts" => self.arena.add(Node::Accounts(instance)),
                "program_id" => self.arena.add(Node::ProgramId),
                "remaining_accounts" => self.remaining(instance),
                "bumps" => self.arena.add(Node::Bumps(instance)),
                _ => self.unknown(),
            },
            Node::Accounts(instance) => self.instance_field(instance, name, span),
            Node::Bumps(instance) => {
                let account = self.instance_field(instance, name, span);
                let key = self.as_key(account);
                self.arena.add(Node::Bump(key))
            }
            Node::Info(account) => {
                self.prop(account, name, span).unwrap_or_else(|| self.arena.add(Node::Field(base, name.clone())))
            }
            Node::Account(account) => {
                let entry = &self.accounts[account as usize];
                let typed = matches!(entry.wrapper, super::Wrapper::Typed | super::Wrapper::Sysvar);
                let unseen = entry.wrapper == super::Wrapper::Unseen;
                let plain =
                    matches!(&**name, "key" | "is_signer" | "is_writable" | "lamports" | "rent_epoch" | "executable");
                if typed || (unseen && !plain) {
                    self.look(account, Some(name), span);
                    let state = self.state_of(account);
                    return self.arena.add(Node::Field(state, name.clone()));
                }
                self.prop(account, name, span).unwrap_or_else(|| {
                    let state = self.state_of(account);
                    self.arena.add(Node::Field(state, name.clone()))
                })
            }
            Node::Struct(_, fields) => match fields.iter().find(|(have, _)| have == name) {
                Some((_, v)) => *v,
                None => self.arena.add(Node::Field(base, name.clone())),
            },
            Node::Tuple(items) => match name.parse::<usize>().ok().and_then(|place| items.get(place).copied()) {
                Some(v) => v,
                None => self.unknown(),
            },
            Node::Cpi(program, accounts, _) => match &**name {
                "program" => program,
                "accounts" => accounts,
                _ => self.unknown(),
            },
            Node::Phi(parts) => {
                let mut made: Vec<V> = parts.iter().map(|part| self.field(*part, name, span)).collect();
                made.sort_unstable();
                made.dedup();
                match made.as_slice() {
                    [only] => *only,
                    _ => self.arena.add(Node::Phi(made)),
                }
            }
            _ => self.arena.add(Node::Field(base, name.clone())),
        }
    }

    fn remaining(&mut self, instance: u32) -> V {
        let name: Name = "remaining_accounts".into();
        let known = self.instances[instance as usize].fields.iter().find(|(have, _)| *have == name).map(|(_, v)| *v);
        known.unwrap_or_else(|| {
            let slice = self.slice(true);
            self.instances[instance as usize].fields.push((name, slice));
            slice
        })
    }

    /// A property of an account by its field's or method's name.
    pub(super) fn prop(&mut self, account: u32, name: &str, span: Span) -> Option<V> {
        let prop = match name {
            "key" | "address" | "unsigned_key" | "signer_key" | "pubkey" => Prop::Key,
            "owner" => Prop::Owner,
            "is_signer" => Prop::Signer,
            "is_writable" => Prop::Writable,
            "executable" | "is_executable" => Prop::Executable,
            "lamports"
            | "get_lamports"
            | "try_borrow_lamports"
            | "try_borrow_mut_lamports"
            | "borrow_lamports_unchecked"
            | "borrow_mut_lamports_unchecked" => Prop::Lamports,
            "data_len" => Prop::Len,
            "data_is_empty" | "is_data_empty" => Prop::Empty,
            "data"
            | "try_borrow_data"
            | "try_borrow_mut_data"
            | "borrow_data_unchecked"
            | "borrow_mut_data_unchecked"
            | "data_ptr"
            | "try_borrow"
            | "try_borrow_mut"
            | "borrow_unchecked"
            | "borrow_unchecked_mut"
            | "borrow_data"
            | "borrow_mut_data" => {
                self.emit(Action::ReadData { account }, span);
                Prop::Data
            }
            _ => return None,
        };
        Some(self.arena.prop(prop, account))
    }

    fn eval_index(&mut self, base: &'a Expr, by: &'a Expr, span: Span) -> V {
        let base = self.eval(base);
        let by = self.eval(by);
        let base = self.inner(base);
        match self.arena.get(base).clone() {
            Node::Slice(slice, from) => match self.arena.get(by).clone() {
                Node::Lit(Lit::Int(place, _)) => self.element(slice, from + place.min(1 << 20) as u32, span),
                Node::Call(name, parts) if &*name == ".." => {
                    let start = match parts.first().map(|start| self.arena.get(*start)) {
                        Some(Node::Lit(Lit::Int(start, _))) => (*start).min(1 << 20) as u32,
                        _ => 0,
                    };
                    self.arena.add(Node::Slice(slice, from + start))
                }
                _ => self.each(slice, span),
            },
            Node::Array(items) => {
                let place = match self.arena.get(by) {
                    Node::Lit(Lit::Int(place, _)) => usize::try_from(*place).ok(),
                    _ => None,
                };
                let whole = matches!(self.arena.get(by), Node::Call(name, _) if &**name == "..");
                match place.and_then(|place| items.get(place).copied()) {
                    Some(v) => v,
                    None if whole => base,
                    None => self.arena.add(Node::Index(base, by)),
                }
            }
            _ => self.arena.add(Node::Index(base, by)),
        }
    }

    fn eval_deref(&mut self, inner: &'a Expr, span: Span) -> V {
        // `*ptr.cast::<T>()` and `&*(ptr as *const T)` were read by the cast already.
        let _ = span;
        self.eval(inner)
    }

    fn eval_binary(&mut self, op: BinOp, left: &'a Expr, right: &'a Expr, span: Span) -> V {
        let a = self.eval(left);
        // The right side of `&&` and `||` runs only if the left side lets it.
        let b = match op {
            BinOp::And | BinOp::Or => {
                let kept = self.st.facts.clone();
                self.assume(a, op == BinOp::And, span);
                let b = self.eval(right);
                self.st.facts = kept;
                b
            }
            _ => self.eval(right),
        };
        match op {
            BinOp::Eq | BinOp::Ne => {
                let (a, b) = self.compared(a, b);
                self.emit(Action::Compare { left: a, right: b }, span);
                let eq = self.arena.eq(a, b);
                if op == BinOp::Eq { eq } else { self.not(eq) }
            }
            BinOp::Lt | BinOp::Le | BinOp::Gt | BinOp::Ge => {
                self.emit(Action::Compare { left: a, right: b }, span);
                self.arena.add(Node::Bin(op, a, b))
            }
            BinOp::And | BinOp::Or | BinOp::Bit | BinOp::Shift => self.arena.add(Node::Bin(op, a, b)),
            _ => {
                self.arith(op, a, b, false, span);
                self.arena.add(Node::Bin(op, a, b))
            }
        }
    }

    /// What a comparison compares: addresses where accounts stand for them, and what a `memcmp` that has to be zero
    /// was given.
    fn compared(&mut self, a: V, b: V) -> (V, V) {
        for (this, that) in [(a, b), (b, a)] {
            if let (Node::Call(name, args), Node::Lit(Lit::Int(0, _))) = (self.arena.get(this), self.arena.get(that))
                && name.ends_with("memcmp")
                && let [x, y] = args.as_slice()
            {
                return (*x, *y);
            }
        }
        (self.as_key(a), self.as_key(b))
    }

    fn arith(&mut self, op: BinOp, left: V, right: V, assigned: bool, span: Span) {
        if matches!(op, BinOp::Add | BinOp::Sub | BinOp::Mul | BinOp::Div | BinOp::Rem) {
            self.emit(Action::Arith { op, left, right, assigned }, span);
        }
    }

    /// `let x: &T = from_bytes(data)` reads a T although the call does not say so.
    pub(super) fn read_as(&mut self, v: V, ty: &crate::syntax::Ty, span: Span) -> V {
        let mut ty = ty;
        while let ("Box" | "Option" | "Result" | "Ref" | "RefMut", Some(inner)) = (&*ty.name, ty.args.first()) {
            ty = inner;
        }
        if matches!(self.arena.get(v), Node::Call(name, _) if name.contains("from_bytes") || name.contains("cast_ref") || name.contains("deserialize") || name.contains("transmute") || name.contains("from_slice"))
            && ty.name.starts_with(char::is_uppercase)
            && let Some(account) = self.arena.data_of(v)
        {
            let how = match self.arena.get(v) {
                Node::Call(name, _) => name.clone(),
                _ => "read".into(),
            };
            self.emit(Action::Deserialize { account, ty: ty.name.clone(), how }, span);
            return self.arena.add(Node::State(account, ty.name.clone()));
        }
        if matches!(self.arena.get(v), Node::Unknown(_) | Node::Call(..)) {
            self.arg_types.entry(v).or_insert_with(|| ty.clone());
        }
        v
    }

    /// An element of what a loop runs over.
    pub(super) fn item(&mut self, over: V, span: Span) -> V {
        match self.arena.get(over).clone() {
            Node::Slice(slice, _) => self.each(slice, span),
            Node::Iter(iter) => match self.iter_slice(iter) {
                Some(slice) => self.each(slice, span),
                None => self.unknown(),
            },
            Node::Res(inner, _) => self.item(inner, span),
            Node::Call(name, args) => match (&*name, args.as_slice()) {
                ("enumerate", [inner]) => {
                    let (at, item) = (self.unknown(), self.item(*inner, span));
                    self.arena.add(Node::Tuple(vec![at, item]))
                }
                ("zip", [a, b]) => {
                    let (a, b) = (self.item(*a, span), self.item(*b, span));
                    self.arena.add(Node::Tuple(vec![a, b]))
                }
                (
                    "rev" | "skip" | "take" | "filter" | "iter_mut" | "into_iter" | "peekable" | "copied" | "cloned",
                    [inner, ..],
                ) => self.item(*inner, span),
                ("..", _) => self.unknown(),
                _ => self.arena.add(Node::Elem(over)),
            },
            Node::Array(items) if items.len() == 1 => items[0],
            Node::Array(items) if !items.is_empty() && items.len() <= 8 => self.arena.add(Node::Phi(items)),
            _ => self.arena.add(Node::Elem(over)),
        }
    }
}

/// The name of what an expression calls.
pub(super) fn called(expr: &Expr) -> Name {
    match &expr.kind {
        Kind::Call(function, _) => match &function.kind {
            Kind::Path(path, _) => {
                path.iter().rev().take(2).rev().map(|name| &**name).collect::<Vec<_>>().join("::").as_str().into()
            }
            _ => "call".into(),
        },
        Kind::Method(_, name, ..) => name.clone(),
        Kind::Try(inner) => called(inner),
        _ => "call".into(),
    }
}
