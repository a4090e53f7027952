//! Expressions and statements on symbolic values.

use super::{Action, Lamports, Node, Prop, Run, STEPS, V};
use crate::{
    Span,
    syntax::{BinOp, Block, Expr, Kind, Lit, Name, Pat, Stmt},
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

    pub(super) fn assign(&mut self, place: &'a Expr, value: V, span: Span) {
        match &place.kind {
            Kind::Path(path, _) => {
                let [name] = path.as_slice() else { return };
                self.set(name, value, span);
            }
            Kind::Deref(inner) => {
                let target = self.eval(inner);
                match self.arena.get(target) {
                    Node::Prop(..)
                    | Node::Field(..)
                    | Node::Index(..)
                    | Node::Elem(..)
                    | Node::State(..)
                    | Node::Call(..) => {
                        self.write(target, value, span);
                    }
                    Node::Account(account) => {
                        // `*account = T { .. }` through an Anchor wrapper writes the whole content.
                        let account = *account;
                        self.write_whole(account, value, span);
                    }
                    _ => {
                        if let Kind::Path(path, _) = &inner.kind
                            && let [name] = path.as_slice()
                        {
                            self.set(name, value, span);
                        }
                    }
                }
            }
            Kind::Field(base, name) => {
                let target = self.eval(place);
                if self.arena.account(target).is_some() {
                    self.write(target, value, span);
                    return;
                }
                // A field of a struct that a variable holds.
                if let Kind::Path(path, _) = &base.kind
                    && let [var] = path.as_slice()
                    && let Some(whole) = self.var(var)
                    && let Node::Struct(path, mut fields) = self.arena.get(whole).clone()
                {
                    match fields.iter_mut().find(|(have, _)| have == name) {
                        Some((_, have)) => *have = value,
                        None => fields.push((name.clone(), value)),
                    }
                    let made = self.arena.add(Node::Struct(path, fields));
                    self.set(var, made, span);
                }
            }
            Kind::Index(..) => {
                let target = self.eval(place);
                self.write(target, value, span);
            }
            Kind::Tuple(parts) => {
                for (at, part) in parts.iter().enumerate() {
                    let value = self.tuple_field(value, at);
                    self.assign(part, value, span);
                }
            }
            _ => {
                let target = self.eval(place);
                self.write(target, value, span);
            }
        }
    }

    fn set(&mut self, name: &str, value: V, span: Span) {
        // A variable that points into an account stays a pointer in `x = y`; the account is not written.
        let _ = span;
        let base = self.frames.last().map_or(0, |frame| frame.base);
        if let Some(vars) = self.st.vars.get_mut(base..)
            && let Some((_, v)) = vars.iter_mut().rev().find(|(have, _)| &**have == name)
        {
            *v = value;
        }
    }

    /// Assigns all fields of an account's content at once.
    pub(super) fn write_whole(&mut self, account: u32, value: V, span: Span) {
        let state = self.state_of(account);
        let Node::State(_, ty) = self.arena.get(state).clone() else { return };
        if let Node::Struct(_, fields) = self.arena.get(value).clone() {
            for (field, value) in fields {
                let place = self.arena.add(Node::Field(state, field.clone()));
                self.emit(Action::WriteField { account, ty: ty.clone(), field, place, value }, span);
            }
        } else {
            self.emit(Action::WriteData { account, value: Some(value) }, span);
        }
    }

    /// Writes to a place that may be an account's.
    pub(super) fn write(&mut self, place: V, value: V, span: Span) {
        if let Some((account, ty, field)) = self.arena.state_field(place) {
            self.emit(Action::WriteField { account, ty, field, place, value }, span);
            return;
        }
        match self.arena.get(place).clone() {
            Node::Prop(Prop::Lamports, account) => self.write_lamports(account, value, span),
            Node::Prop(Prop::Data, account) => {
                self.emit(Action::WriteData { account, value: Some(value) }, span);
            }
            Node::State(account, _) => self.write_whole(account, value, span),
            _ => {
                if let Some(account) = self.arena.data_of(place) {
                    self.emit(Action::WriteData { account, value: Some(value) }, span);
                }
            }
        }
    }

    pub(super) fn write_lamports(&mut self, account: u32, value: V, span: Span) {
        let own = self.arena.prop(Prop::Lamports, account);
        let change = match self.arena.get(value) {
            Node::Lit(Lit::Int(0, _)) => Lamports::Zeroed,
            Node::Bin(BinOp::Sub, left, _) if *left == own => Lamports::Debited,
            Node::Bin(BinOp::Add, left, right) if *left == own || *right == own => Lamports::Credited,
            Node::Call(name, args) if args.first() == Some(&own) && name.contains("sub") => Lamports::Debited,
            Node::Call(name, args) if args.first() == Some(&own) && name.contains("add") => Lamports::Credited,
            _ => Lamports::Set,
        };
        // Taking away all of it is setting it to nothing.
        let change = match (change, self.arena.get(value)) {
            (Lamports::Debited, Node::Bin(BinOp::Sub, _, right)) if *right == own => Lamports::Zeroed,
            (Lamports::Debited, Node::Call(_, args)) if args.get(1) == Some(&own) => Lamports::Zeroed,
            (change, _) => change,
        };
        self.emit(Action::Lamports { account, change }, span);
    }

    fn eval_if(&mut self, cond: &'a Expr, then: &'a Block, otherwise: Option<&'a Expr>, span: Span) -> V {
        let c = self.eval(cond);
        if self.st.dead {
            return c;
        }
        let group = self.group;
        let splits = !self.groups[group as usize].consumed && otherwise.is_some();
        let (a, left) = self.branch(|run| {
            run.assume(c, true, span);
            run.bind_lets(cond, span);
            if splits {
                run.enter_group(String::new(), span);
            }
            run.eval_block(then)
        });
        self.group = group;
        let (b, right) = self.branch(|run| {
            run.assume(c, false, span);
            if splits {
                run.enter_group(String::new(), span);
            }
            match otherwise {
                Some(otherwise) => run.eval(otherwise),
                None => run.arena.add(Node::Unit),
            }
        });
        self.group = group;
        self.settle(vec![(a, left), (b, right)], splits)
    }

    /// Goes on where these paths meet, with the value that they give. Where some of them fail, the value is there
    /// only if what holds on the others does. Arms of a dispatcher have nothing to do with one another.
    fn settle(&mut self, sides: Vec<(V, super::State)>, dispatch: bool) -> V {
        let mut values = Vec::with_capacity(sides.len());
        let mut good: Option<Vec<super::Fact>> = None;
        let mut conditional = false;
        for (v, state) in sides.iter().filter(|(_, state)| !state.dead) {
            let mut facts = state.facts.clone();
            let mut inner = *v;
            while let Node::Res(ok, more) = self.arena.get(inner).clone() {
                conditional |= !more.is_empty();
                for fact in more {
                    super::flow::insert(&mut facts, fact);
                }
                inner = ok;
            }
            if matches!(self.arena.get(inner), Node::Failed) {
                conditional = true;
                continue;
            }
            values.push((inner, false));
            good = Some(match good {
                None => facts,
                Some(before) => self.meet_facts(&before, &facts),
            });
        }
        let failed = self.arena.add(Node::Failed);
        let alive = sides.iter().any(|(_, state)| !state.dead);
        let value = if values.is_empty() && alive { failed } else { self.either(&values) };
        self.meet(sides.into_iter().map(|(_, state)| state).collect());
        match good {
            Some(good) if conditional && !dispatch && !self.st.dead => {
                let extra = good.into_iter().filter(|fact| self.st.facts.binary_search(fact).is_err()).collect();
                self.arena.add(Node::Res(value, extra))
            }
            _ => value,
        }
    }

    /// Variables of `if let`, also inside `&&`.
    fn bind_lets(&mut self, cond: &'a Expr, span: Span) {
        match &cond.kind {
            Kind::Let(pat, value) => {
                // The value was run by the condition; only its name is needed again, quietly.
                let events = self.events.len();
                let value = self.eval(value);
                self.events.truncate(events);
                self.bind(pat, value, span);
            }
            Kind::Binary(BinOp::And, left, right) => {
                self.bind_lets(left, span);
                self.bind_lets(right, span);
            }
            _ => {}
        }
    }

    fn either(&mut self, sides: &[(V, bool)]) -> V {
        let mut alive: Vec<V> = sides.iter().filter(|(_, dead)| !dead).map(|(v, _)| *v).collect();
        alive.sort_unstable();
        alive.dedup();
        alive.truncate(8);
        match alive.as_slice() {
            [] => self.arena.add(Node::Unit),
            [only] => *only,
            _ => self.arena.add(Node::Phi(alive)),
        }
    }

    fn eval_match(&mut self, on: &'a Expr, arms: &'a [crate::syntax::Arm], span: Span) -> V {
        let value = self.eval(on);
        if self.st.dead {
            return value;
        }
        let group = self.group;
        let splits = !self.groups[group as usize].consumed && arms.len() > 1;
        let mut sides = Vec::with_capacity(arms.len());
        let mut seen: Vec<&Pat> = Vec::new();
        for arm in arms {
            let failing = is_failure(&arm.pat);
            let (v, state) = self.branch(|run| {
                if matches!(arm.pat, Pat::Wild | Pat::Bind(_, _, None)) {
                    // What earlier arms took is not what comes here.
                    for pat in &seen {
                        if let Pat::Lit(Lit::Bool(truth)) = pat {
                            run.assume(value, !truth, span);
                        }
                    }
                }
                if failing {
                    run.bind_failure(&arm.pat);
                } else {
                    run.bind(&arm.pat, value, span);
                }
                if splits {
                    run.enter_group(arm_name(&arm.pat), arm.body.span);
                }
                if let Some(guard) = &arm.guard {
                    let guard = run.eval(guard);
                    run.assume(guard, true, span);
                }
                run.eval(&arm.body)
            });
            self.group = group;
            seen.push(&arm.pat);
            sides.push((v, state));
        }
        self.settle(sides, splits)
    }

    fn bind_failure(&mut self, pat: &'a Pat) {
        if let Pat::TupleStruct(_, parts) = pat {
            for part in parts {
                let v = self.unknown();
                self.bind(part, v, Span::default());
            }
        }
    }

    pub(super) fn enter_group(&mut self, name: String, span: Span) {
        let (parent, file) = (self.group, self.file());
        self.groups.push(super::Group { name, parent: Some(parent), file, span, consumed: false });
        self.group = self.groups.len() as u32 - 1;
    }

    pub(super) fn eval_block(&mut self, block: &'a Block) -> V {
        let outer = self.st.vars.len();
        let mut last = self.arena.add(Node::Unit);
        for stmt in &block.stmts {
            if self.st.dead {
                break;
            }
            last = match stmt {
                Stmt::Let { pat, ty, init, otherwise } => {
                    self.eval_let(pat, ty.as_ref(), init.as_ref(), otherwise.as_ref());
                    self.arena.add(Node::Unit)
                }
                Stmt::Expr(expr, semi) => {
                    let v = self.eval(expr);
                    if *semi {
                        self.drop_result(v, expr);
                        self.arena.add(Node::Unit)
                    } else {
                        v
                    }
                }
            };
        }
        self.st.vars.truncate(outer);
        last
    }

    /// A statement's value that nobody takes.
    fn drop_result(&mut self, v: V, expr: &'a Expr) {
        if let Node::Res(_, facts) = self.arena.get(v)
            && !facts.is_empty()
            && matches!(expr.kind, Kind::Call(..) | Kind::Method(..))
        {
            let name = called(expr);
            self.emit(Action::Ignored { name, cpi: false }, expr.span);
        }
    }

    fn eval_let(
        &mut self,
        pat: &'a Pat,
        ty: Option<&'a crate::syntax::Ty>,
        init: Option<&'a Expr>,
        otherwise: Option<&'a Block>,
    ) {
        let Some(init) = init else {
            let v = self.unknown();
            self.bind(pat, v, Span::default());
            return;
        };
        let before = self.events.len();
        let mut v = self.eval(init);
        if let Some(ty) = ty {
            v = self.read_as(v, ty, init.span);
        }
        if matches!(pat, Pat::Wild) || matches!(pat, Pat::Bind(name, ..) if name.starts_with('_')) {
            let cpi = self.events[before..].iter().any(|event| matches!(event.action, Action::Cpi { .. }));
            let checks = matches!(self.arena.get(v), Node::Res(_, facts) if !facts.is_empty());
            if (cpi || checks) && matches!(pat, Pat::Wild) && matches!(init.kind, Kind::Call(..) | Kind::Method(..)) {
                self.emit(Action::Ignored { name: called(init), cpi }, init.span);
            }
        }
        if let Some(otherwise) = otherwise {
            let (_, other) = self.branch(|run| run.eval_block(otherwise));
            if other.dead {
                self.bind(pat, v, init.span);
                return;
            }
        }
        match pat {
            // Not to look at a result is not to know what it says.
            Pat::Wild => {}
            _ => self.bind(pat, v, init.span),
        }
    }

    /// `let x: &T = from_bytes(data)` reads a T although the call does not say so.
    fn read_as(&mut self, v: V, ty: &crate::syntax::Ty, span: Span) -> V {
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

    fn eval_while(&mut self, cond: Option<&'a Expr>, body: &'a Block, span: Span) {
        self.loops += 1;
        let (_, after) = self.branch(|run| {
            if let Some(cond) = cond {
                let c = run.eval(cond);
                run.assume(c, true, span);
                run.bind_lets(cond, span);
            }
            run.eval_block(body)
        });
        self.loops -= 1;
        self.after_loop(after);
    }

    fn after_loop(&mut self, after: super::State) {
        let before = self.st.clone();
        if after.dead {
            return;
        }
        let facts = before.facts.clone();
        self.meet(vec![before, after]);
        // The body may not have run at all.
        self.st.facts = facts;
    }

    fn eval_for(&mut self, pat: &'a Pat, over: &'a Expr, body: &'a Block, span: Span) {
        let over = self.eval(over);
        self.emit(Action::Loop { over }, span);
        self.loops += 1;
        let (_, after) = self.branch(|run| {
            let item = run.item(over, span);
            run.bind(pat, item, span);
            run.eval_block(body)
        });
        self.loops -= 1;
        self.after_loop(after);
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

fn is_failure(pat: &Pat) -> bool {
    match pat {
        Pat::TupleStruct(path, _) | Pat::Path(path) => {
            path.last().is_some_and(|last| matches!(&**last, "Err" | "None"))
        }
        _ => false,
    }
}

fn arm_name(pat: &Pat) -> String {
    match pat {
        Pat::TupleStruct(path, parts) => match (path.last().map(|last| &**last), parts.first()) {
            (Some("Some" | "Ok"), Some(inner)) => arm_name(inner),
            (Some(last), _) => last.to_owned(),
            _ => String::new(),
        },
        Pat::Struct(path, _) | Pat::Path(path) => path.last().map(|last| last.to_string()).unwrap_or_default(),
        Pat::Tuple(parts) => parts.iter().map(arm_name).find(|name| !name.is_empty()).unwrap_or_default(),
        Pat::Lit(Lit::Int(value, _)) => format!("instruction {value}"),
        Pat::Or(cases) => cases.first().map(arm_name).unwrap_or_default(),
        _ => String::new(),
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
