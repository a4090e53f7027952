//! Calls: followed into the sources where they can be, modelled where a framework's functions are called.

use super::{Action, DEEPEST, Frame, Node, Prop, Run, V, account::is_raw};
use crate::{
    Span,
    index::At,
    syntax::{BinOp, Expr, Function, Kind, Lit, Name, Ty},
};

/// Types whose functions read no account's content, although bytes of one go in.
const NO_STATE: [&str; 19] = [
    "Pubkey",
    "Address",
    "Cursor",
    "Vec",
    "Box",
    "Ref",
    "RefMut",
    "Rc",
    "Arc",
    "String",
    "Some",
    "Ok",
    "Err",
    "Seed",
    "Signer",
    "AccountMeta",
    "Hash",
    "Cell",
    "RefCell",
];

impl<'a> Run<'a> {
    pub(super) fn eval_call(&mut self, function: &'a Expr, args: &'a [Expr], span: Span) -> V {
        let Kind::Path(path, types) = &function.kind else {
            let called = self.eval(function);
            let args = self.eval_all(args);
            return self.call_value(called, &args, span);
        };
        if let [name] = path.as_slice()
            && let Some(local) = self.var(name)
        {
            let args = self.eval_all(args);
            return self.call_value(local, &args, span);
        }
        let path = self.resolve_self(path);
        let Some(last) = path.last().cloned() else { return self.unknown() };
        let values = self.eval_all(args);
        if self.st.dead {
            return self.arena.add(Node::Unit);
        }
        match (&*last, values.as_slice()) {
            ("Ok" | "Some", [inner]) => return self.arena.add(Node::Res(*inner, Vec::new())),
            ("Err", _) => return self.arena.add(Node::Failed),
            ("panic_handler" | "abort" | "exit", []) => {
                self.st.dead = true;
                return self.arena.add(Node::Unit);
            }
            _ => {}
        }
        if let Some(v) = self.framework_call(&path, types, &values, span) {
            return v;
        }
        // Pyth's functions are known by what they promise, whoever wraps them.
        if last.starts_with("get_price") || last.starts_with("get_ema_price") {
            self.emit(Action::Unfollowed { name: last.clone(), args: values.clone() }, span);
            return self.arena.add(Node::Call(last, values));
        }
        if let Some((at, found)) = self.index.function(self.file(), &path) {
            let before = self.events.len();
            if let Some(v) = self.follow(at, found, None, &values, span) {
                let called = self.events[before..].iter().any(|event| matches!(event.action, Action::Cpi { .. }));
                if !called {
                    self.pass_cpi(&last, &values, span);
                }
                return v;
            }
        }
        // `Type::method(receiver, ..)`
        if let [.., ty, name] = path.as_slice()
            && let Some((at, found)) = self.index.method(self.file(), Some(ty), name)
            && let Some((receiver, rest)) = values.split_first()
            && let Some(v) = self.follow(at, found, Some(*receiver), rest, span)
        {
            return v;
        }
        self.unfollowed(&path, types, values, span)
    }

    pub(super) fn eval_all(&mut self, args: &'a [Expr]) -> Vec<V> {
        args.iter().map(|arg| self.eval(arg)).collect()
    }

    /// A call of a value: a closure, or something unknown.
    fn call_value(&mut self, called: V, args: &[V], span: Span) -> V {
        match self.closure(called) {
            Some(number) => self.run_closure(number, args, span),
            None => {
                let mut all = vec![called];
                all.extend(args);
                self.arena.add(Node::Call("call".into(), all))
            }
        }
    }

    pub(super) fn closure(&self, v: V) -> Option<usize> {
        match self.arena.get(v) {
            Node::Call(name, args) if args.is_empty() => name.strip_prefix('|')?.strip_suffix('|')?.parse().ok(),
            _ => None,
        }
    }

    /// Runs a closure on a path of its own.
    pub(super) fn run_closure(&mut self, number: usize, args: &[V], span: Span) -> V {
        let Some((params, body)) = self.closures.get(number).copied() else { return self.unknown() };
        if self.frames.len() > DEEPEST * 2 {
            return self.unknown();
        }
        let frame = Frame {
            file: self.file(),
            at: None,
            self_ty: self.frames.last().and_then(|frame| frame.self_ty.clone()),
            base: self.frames.last().map_or(0, |frame| frame.base),
            exits: Vec::new(),
            branch: self.events.len(),
            fallible: true,
        };
        self.frames.push(frame);
        let (v, _) = self.branch(|run| {
            for (place, param) in params.iter().enumerate() {
                let v = match args.get(place) {
                    Some(v) => *v,
                    None => run.unknown(),
                };
                run.bind(param, v, span);
            }
            let v = run.eval(body);
            if !run.st.dead {
                run.leave(v, false);
            }
            v
        });
        let exits = self.frames.pop().map(|frame| frame.exits).unwrap_or_default();
        match exits.as_slice() {
            [(only, _)] => *only,
            [] => self.arena.add(Node::Failed),
            _ => v,
        }
    }

    /// Records a way out of the function with this value.
    pub(super) fn leave(&mut self, value: V, returned: bool) {
        let span = self.span;
        let mut value = value;
        // The caller sees the facts of a result only if it looks at it; inside, leaving with it is looking.
        while let Node::Res(ok, facts) = self.arena.get(value).clone() {
            for fact in facts {
                self.learn(fact, span);
            }
            value = ok;
        }
        if let Node::Call(..) = self.arena.get(value)
            && self.frames.last().is_some_and(|frame| frame.fallible)
        {
            self.learn((value, true), span);
        }
        if !matches!(self.arena.get(value), Node::Failed) {
            let facts = self.st.facts.clone();
            if let Some(frame) = self.frames.last_mut() {
                frame.exits.push((value, facts.clone()));
                let from = frame.branch;
                self.spread(from, &facts, returned);
            }
        }
        if returned {
            self.st.dead = true;
        }
    }

    /// Runs a function in place. None if it is too deep or already running.
    pub(super) fn follow(
        &mut self,
        at: At,
        function: &'a Function,
        receiver: Option<V>,
        args: &[V],
        span: Span,
    ) -> Option<V> {
        let deepest = if self.framework == super::Framework::Plain { super::DEEPEST_PLAIN } else { DEEPEST };
        if self.frames.len() > deepest || self.frames.iter().any(|frame| frame.at == Some(at)) {
            return None;
        }
        if !self.followed.iter().any(|(have, _)| *have == at) {
            self.followed.push((at, self.index.id(at.0, function)));
            self.bodies.push((at.0, function));
        }
        self.name_group(function, args);
        let before = self.st.facts.clone();
        let first = self.events.len();
        let base = self.st.vars.len();
        self.frames.push(Frame {
            file: at.0,
            at: Some(at),
            self_ty: function.self_ty.as_ref().map(|ty| ty.name.clone()),
            base,
            exits: Vec::new(),
            branch: first,
            fallible: function.ret.as_ref().is_some_and(is_fallible),
        });
        if let Some(receiver) = receiver {
            self.st.vars.push(("self".into(), receiver));
        }
        for ((pat, ty), arg) in function.params.iter().zip(args) {
            if ty.args.is_empty() && ty.name.len() <= 5 && ty.name.starts_with(['u', 'i', 'f']) {
                self.arg_types.entry(*arg).or_insert_with(|| ty.clone());
            }
            self.bind(pat, *arg, function.span);
        }
        let tail = self.eval_block(&function.body);
        if !self.st.dead {
            self.leave(tail, false);
        }
        let (exits, fallible) = self.frames.pop().map_or((Vec::new(), false), |frame| (frame.exits, frame.fallible));
        self.st.vars.truncate(base);
        self.st.dead = false;
        Some(self.returned(function, exits, before, first, fallible, span))
    }

    fn returned(
        &mut self,
        function: &Function,
        mut exits: Vec<(V, Vec<super::Fact>)>,
        before: Vec<super::Fact>,
        first: usize,
        fallible: bool,
        span: Span,
    ) -> V {
        let gives_bool = function.ret.as_ref().is_some_and(|ty| &*ty.name == "bool");
        let several = exits.len() > 1;
        if gives_bool && several {
            // What is known if it says true.
            exits.retain(|(v, _)| !matches!(self.arena.get(*v), Node::Lit(Lit::Bool(false))));
            for (v, facts) in &mut exits {
                self.st.facts.clone_from(facts);
                self.assume(*v, true, span);
                *facts = std::mem::take(&mut self.st.facts);
            }
        }
        let mut exits = exits.into_iter();
        let Some((value, mut facts)) = exits.next() else {
            self.st.facts = before;
            if !fallible && !gives_bool {
                self.st.dead = true;
            }
            return self.arena.add(Node::Failed);
        };
        let mut values = vec![value];
        for (value, other) in exits {
            values.push(value);
            facts = self.meet_facts(&facts, &other);
        }
        values.sort_unstable();
        values.dedup();
        values.truncate(8);
        let value = match values.as_slice() {
            [only] => *only,
            _ => self.arena.add(Node::Phi(values)),
        };
        self.spread(first, &facts, false);
        let new: Vec<super::Fact> = facts.iter().filter(|fact| before.binary_search(fact).is_err()).copied().collect();
        if gives_bool && several {
            self.st.facts = before;
            let yes = self.arena.add(Node::Lit(Lit::Bool(true)));
            return self.arena.add(Node::Res(yes, new));
        }
        if fallible {
            self.st.facts = before;
            return self.arena.add(Node::Res(value, new));
        }
        self.st.facts = facts;
        value
    }

    /// A dispatcher's arm is named after the function that it hands the accounts to.
    fn name_group(&mut self, function: &Function, args: &[V]) {
        let group = self.group as usize;
        if self.groups[group].consumed {
            return;
        }
        let takes = |run: &Self, v: V| match run.arena.get(v) {
            Node::Slice(..) => true,
            Node::Tuple(parts) => parts.iter().any(|part| matches!(run.arena.get(*part), Node::Slice(..))),
            _ => false,
        };
        if args.iter().any(|arg| takes(self, *arg)) {
            let generic = matches!(
                &*function.name,
                "try_from" | "process" | "new" | "from" | "handle" | "handler" | "execute" | "run"
            );
            self.groups[group].name = match &function.self_ty {
                Some(ty) if generic => ty.name.to_string(),
                _ => function.name.to_string(),
            };
            self.groups[group].span = function.span;
        }
    }

    fn framework_call(&mut self, path: &[Name], types: &[Ty], values: &[V], span: Span) -> Option<V> {
        let last = path.last()?;
        let qualifier = path.len().checked_sub(2).and_then(|at| path.get(at)).map_or("", |name| &**name);
        match (&**last, values) {
            ("next_account_info" | "next_account" | "next_info", [iter]) => match *self.arena.get(*iter) {
                Node::Iter(iter) => Some(self.next(iter, span)),
                _ => None,
            },
            ("next_account_infos", [iter, ..]) => Some(*iter),
            (
                "find_program_address"
                | "try_find_program_address"
                | "derive_program_address"
                | "try_derive_program_address",
                [seeds, ..],
            ) => {
                let seeds = self.seeds(*seeds);
                let pda = self.arena.add(Node::Pda(seeds, None));
                let bump = self.arena.add(Node::Bump(pda));
                Some(self.arena.add(Node::Tuple(vec![pda, bump])))
            }
            (
                "create_program_address" | "checked_create_program_address" | "create_with_seed_unchecked",
                [seeds, ..],
            ) => {
                let mut seeds = self.seeds(*seeds);
                let bump = seeds.pop().map(|bump| self.single(bump));
                let pda = self.arena.add(Node::Pda(seeds, bump));
                self.emit(Action::DeriveWithBump { pda, bump }, span);
                Some(pda)
            }
            ("derive_address" | "derive_address_const", [seeds, bump, ..]) => {
                let seeds = self.seeds(*seeds);
                let bump = self.inner(*bump);
                let bump = (!matches!(self.arena.get(bump), Node::Failed)).then_some(bump);
                let pda = self.arena.add(Node::Pda(seeds, bump));
                self.emit(Action::DeriveWithBump { pda, bump }, span);
                Some(pda)
            }
            (
                "invoke"
                | "invoke_signed"
                | "invoke_unchecked"
                | "invoke_signed_unchecked"
                | "slice_invoke"
                | "slice_invoke_signed"
                | "invoke_with_bounds"
                | "invoke_signed_with_bounds"
                | "invoke_with_slice"
                | "invoke_signed_with_slice",
                [instruction, infos, rest @ ..],
            ) if self.index.function(self.file(), path).is_none() || qualifier == "program" || qualifier == "cpi" => {
                let seeds = rest.first().copied();
                self.invoke(*instruction, Some(*infos), seeds, span);
                let unit = self.arena.add(Node::Unit);
                Some(self.arena.add(Node::Res(unit, Vec::new())))
            }
            ("new", [program, accounts]) if qualifier == "CpiContext" => {
                Some(self.arena.add(Node::Cpi(*program, *accounts, None)))
            }
            ("new_with_signer", [program, accounts, seeds]) if qualifier == "CpiContext" => {
                Some(self.arena.add(Node::Cpi(*program, *accounts, Some(*seeds))))
            }
            ("try_from" | "try_from_unchecked", [account, ..])
                if matches!(qualifier, "Account" | "AccountLoader" | "InterfaceAccount" | "LazyAccount") =>
            {
                let account = self.arena.account(*account)?;
                let ty = types.first().map_or_else(|| "_".into(), |ty| ty.name.clone());
                let how: Name = format!("{qualifier}::{last}").as_str().into();
                self.emit(Action::Deserialize { account, ty: ty.clone(), how }, span);
                let owner = self.arena.prop(Prop::Owner, account);
                let program = self.path(&["crate", "ID"]);
                let eq = self.arena.eq(owner, program);
                let state = self.arena.add(Node::State(account, ty));
                Some(self.arena.add(Node::Res(state, vec![(eq, true)])))
            }
            ("try_from" | "try_from_unchecked", [account, ..])
                if matches!(qualifier, "Signer" | "Program" | "Sysvar" | "Interface") =>
            {
                let account = self.arena.account(*account)?;
                let info = self.arena.add(Node::Info(account));
                let fact = if qualifier == "Signer" {
                    self.arena.prop(Prop::Signer, account)
                } else {
                    let key = self.arena.prop(Prop::Key, account);
                    let id = self.path(&[qualifier, "ID"]);
                    self.arena.eq(key, id)
                };
                Some(self.arena.add(Node::Res(info, vec![(fact, true)])))
            }
            (name, [account, ..])
                if name.starts_with("create_program_account") || name.starts_with("create_account_with_bump") =>
            {
                // pina's makers of program accounts: they derive, pay for and allocate the account.
                let number = self.arena.account(*account)?;
                let bump = name.contains("with_bump").then(|| values.last().copied()).flatten();
                let seeds = values.get(3).copied().map(|seeds| self.seeds(seeds)).unwrap_or_default();
                let pda = self.arena.add(Node::Pda(seeds, bump));
                if name.contains("with_bump") {
                    self.emit(Action::DeriveWithBump { pda, bump }, span);
                }
                let key = self.arena.prop(Prop::Key, number);
                let eq = self.arena.eq(key, pda);
                let to = ("to".into(), *account);
                let parts = vec![to];
                let ty = types.first().map(|ty| ty.name.clone());
                self.emit(
                    Action::Cpi {
                        name: "create_program_account".into(),
                        program: None,
                        parts,
                        data: Vec::new(),
                        seeds: None,
                    },
                    span,
                );
                let canonical = self.arena.add(Node::Bump(pda));
                let pair = self.arena.add(Node::Tuple(vec![pda, canonical]));
                let _ = ty;
                Some(self.arena.add(Node::Res(pair, vec![(eq, true)])))
            }
            ("from_ref", [inner]) => Some(*inner),
            ("from" | "new_from_array" | "new" | "try_from" | "as_ref" | "from_slice", [inner])
                if matches!(
                    qualifier,
                    "Pubkey" | "Address" | "Seed" | "Signer" | "AccountMeta" | "Some" | "Ref" | "Box" | "Rc"
                ) =>
            {
                Some(*inner)
            }
            ("new" | "new_readonly" | "writable" | "readonly" | "writable_signer" | "readonly_signer", [key, ..])
                if matches!(qualifier, "AccountMeta" | "InstructionAccount") =>
            {
                Some(*key)
            }
            ("map" | "filter_map", [inner, _]) if qualifier == "Ref" || qualifier == "RefMut" => Some(*inner),
            (
                "take" | "replace" | "swap" | "drop" | "size_of_val" | "black_box" | "unlikely" | "likely",
                [inner, ..],
            ) => Some(*inner),
            ("eq" | "pubkey_eq" | "address_eq" | "fast_eq", [a, b]) => {
                let (a, b) = (self.as_key(*a), self.as_key(*b));
                self.emit(Action::Compare { left: a, right: b }, span);
                Some(self.arena.eq(a, b))
            }
            ("sol_memcmp" | "memcmp", [a, b, ..]) => {
                let (a, b) = (self.as_key(*a), self.as_key(*b));
                self.emit(Action::Compare { left: a, right: b }, span);
                Some(self.arena.add(Node::Call("sol_memcmp".into(), vec![a, b])))
            }
            ("sol_memset" | "sol_memcpy" | "sol_memmove" | "memset" | "copy_nonoverlapping", [target, value, ..]) => {
                let (target, value) =
                    if &**last == "copy_nonoverlapping" { (*value, *target) } else { (*target, *value) };
                if let Some(account) = self.arena.data_of(target) {
                    self.emit(Action::WriteData { account, value: Some(value) }, span);
                }
                Some(self.arena.add(Node::Unit))
            }
            _ => None,
        }
    }

    /// The elements of a seeds list.
    pub(super) fn seeds(&self, v: V) -> Vec<V> {
        match self.arena.get(v) {
            Node::Array(seeds) => seeds.clone(),
            Node::Res(inner, _) => self.seeds(*inner),
            _ => vec![v],
        }
    }

    /// `[bump]` and `[&[bump]]` are the bump.
    pub(super) fn single(&self, v: V) -> V {
        match self.arena.get(v) {
            Node::Array(items) if items.len() == 1 => self.single(items[0]),
            Node::Res(inner, _) => self.single(*inner),
            _ => v,
        }
    }

    pub(super) fn invoke(&mut self, instruction: V, infos: Option<V>, seeds: Option<V>, span: Span) {
        let instruction = self.inner(instruction);
        let seeds = seeds.filter(|seeds| !matches!(self.arena.get(*seeds), Node::Array(items) if items.is_empty()));
        let (mut parts, mut data) = (Vec::new(), Vec::new());
        let (name, program) = match self.arena.get(instruction).clone() {
            Node::Struct(path, fields) => {
                let name = path.last().cloned().unwrap_or_else(|| "Instruction".into());
                let program = fields
                    .iter()
                    .find(|(name, _)| matches!(&**name, "program_id" | "token_program" | "program"))
                    .map(|(_, v)| *v);
                for (name, v) in &fields {
                    match &**name {
                        "program_id" | "program" => {}
                        "data" => data.push(*v),
                        _ => parts.push((name.clone(), *v)),
                    }
                }
                (name, program)
            }
            Node::Call(name, args) => {
                let fixed = ["system", "associated_token", "stake", "vote", "loader", "memo", "compute_budget"];
                let fixed = fixed.iter().any(|fixed| name.contains(fixed))
                    || name.contains("create_account")
                    || name.contains("create_associated");
                let first = args.first().copied();
                let program =
                    first.filter(|first| !fixed && matches!(self.arena.get(*first), Node::Prop(Prop::Key, _)));
                let roles = args.iter().skip(usize::from(program.is_some()));
                for (place, v) in roles.enumerate() {
                    if self.arena.account(*v).is_some() {
                        parts.push((role(&name, place), *v));
                    } else {
                        data.push(*v);
                    }
                }
                (name, program)
            }
            _ => ("instruction".into(), Some(self.instruction_program(instruction))),
        };
        if let Some(infos) = infos {
            let infos = match self.arena.get(infos).clone() {
                Node::Array(infos) => infos,
                _ => vec![infos],
            };
            for (place, info) in infos.into_iter().enumerate() {
                parts.push((format!("info {place}").as_str().into(), info));
            }
        }
        self.emit(Action::Cpi { name, program, parts, data, seeds }, span);
    }

    fn instruction_program(&mut self, instruction: V) -> V {
        let name: Name = "program_id".into();
        self.field(instruction, &name, Span::default())
    }

    /// A call of something that is not among the sources.
    fn unfollowed(&mut self, path: &[Name], types: &[Ty], values: Vec<V>, span: Span) -> V {
        let path = self.index.full_path(self.file(), path);
        let Some(last) = path.last() else { return self.unknown() };
        // Of an instruction's builder the crate is kept as well.
        let builder = path.iter().rev().nth(1).is_some_and(|module| module.contains("instruction"));
        let kept = if builder { path.len() } else { 2 };
        let name: Name =
            path.iter().rev().take(kept).rev().map(|name| &**name).collect::<Vec<_>>().join("::").as_str().into();
        if values.is_empty() {
            let last = last.clone();
            let v = self.arena.add(Node::Path(path));
            self.emit(Action::Unfollowed { name: last, args: values }, span);
            return v;
        }
        self.pass_cpi(last, &values, span);
        let qualifier = path.len().checked_sub(2).and_then(|at| path.get(at)).cloned();
        let reads = reads_state(last);
        let account = values.first().and_then(|first| match self.arena.get(*first) {
            Node::Info(account) | Node::Account(account)
                if last.starts_with("from_account") || last.starts_with("load") =>
            {
                Some(*account)
            }
            _ => self.arena.data_of(*first),
        });
        if let Some(account) = account
            && reads
        {
            let by_type = qualifier
                .filter(|ty| ty.starts_with(char::is_uppercase) && !NO_STATE.contains(&&**ty))
                .or_else(|| types.first().map(|ty| ty.name.clone()).filter(|ty| ty.starts_with(char::is_uppercase)));
            if let Some(ty) = by_type {
                self.emit(Action::Deserialize { account, ty: ty.clone(), how: last.clone() }, span);
                let state = self.arena.add(Node::State(account, ty.clone()));
                // Token accounts of pinocchio's crates look at the owner, unless they are told not to.
                if last.starts_with("from_account")
                    && !last.contains("unchecked")
                    && matches!(&*ty, "TokenAccount" | "Mint" | "Multisig")
                {
                    let owner = self.arena.prop(Prop::Owner, account);
                    let token = self.path(&["token", "ID"]);
                    let eq = self.arena.eq(owner, token);
                    return self.arena.add(Node::Res(state, vec![(eq, true)]));
                }
                return state;
            }
        }
        self.emit(Action::Unfollowed { name: name.clone(), args: values.clone() }, span);
        self.arena.add(Node::Call(name, values))
    }

    /// A `CpiContext` that is passed on is a call of its program.
    pub(super) fn pass_cpi(&mut self, name: &Name, values: &[V], span: Span) {
        let Some(cpi) = values.iter().copied().find(|v| matches!(self.arena.get(*v), Node::Cpi(..))) else { return };
        let Node::Cpi(program, accounts, seeds) = *self.arena.get(cpi) else { return };
        let parts = match self.arena.get(accounts).clone() {
            Node::Struct(_, fields) => fields,
            _ => vec![("accounts".into(), accounts)],
        };
        let data = values.iter().copied().filter(|v| *v != cpi).collect();
        self.emit(Action::Cpi { name: name.clone(), program: Some(program), parts, data, seeds }, span);
    }

    pub(super) fn eval_macro(&mut self, name: &Name, args: &'a [Expr], span: Span) -> V {
        match &**name {
            "require" | "assert" | "ensure" | "require_true" => {
                if let Some((cond, rest)) = args.split_first() {
                    let c = self.eval(cond);
                    let _ = rest;
                    self.assume(c, true, span);
                }
                self.arena.add(Node::Unit)
            }
            "require_eq" | "require_keys_eq" | "assert_eq" | "assert_keys_eq" => self.require_pair(args, true, span),
            "require_neq" | "require_keys_neq" | "assert_ne" | "assert_keys_neq" => {
                self.require_pair(args, false, span)
            }
            "require_gt" | "require_gte" => {
                if let [a, b, ..] = args {
                    let (a, b) = (self.eval(a), self.eval(b));
                    let op = if &**name == "require_gt" { BinOp::Gt } else { BinOp::Ge };
                    self.emit(Action::Compare { left: a, right: b }, span);
                    let c = self.arena.add(Node::Bin(op, a, b));
                    self.assume(c, true, span);
                }
                self.arena.add(Node::Unit)
            }
            "err" | "bail" => {
                self.eval_all(args);
                self.arena.add(Node::Failed)
            }
            "panic" | "unreachable" | "todo" | "unimplemented" => {
                self.st.dead = true;
                self.arena.add(Node::Unit)
            }
            "debug_assert" | "debug_assert_eq" | "debug_assert_ne" => self.arena.add(Node::Unit),
            "array_ref" | "array_mut_ref" | "array_refs" | "array_offset" => {
                let args = self.eval_all(args);
                match args.as_slice() {
                    [base, by, ..] => self.arena.add(Node::Index(*base, *by)),
                    [base] => *base,
                    [] => self.unknown(),
                }
            }
            "seeds" | "signer_seeds" => {
                let args = self.eval_all(args);
                self.arena.add(Node::Array(args))
            }
            "pubkey" | "address" | "declare_id" | "from_str" => {
                let args = self.eval_all(args);
                self.arena.add(Node::Call(format!("{name}!").as_str().into(), args))
            }
            _ => {
                let checks =
                    ["require", "assert", "ensure", "check", "verify"].iter().any(|start| name.starts_with(start));
                let values = self.eval_all(args);
                if checks && let Some(first) = values.first() {
                    self.assume(*first, true, span);
                    return self.arena.add(Node::Unit);
                }
                for value in &values {
                    self.emit(Action::Use { value: *value }, span);
                }
                self.arena.add(Node::Call(format!("{name}!").as_str().into(), values))
            }
        }
    }

    fn require_pair(&mut self, args: &'a [Expr], same: bool, span: Span) -> V {
        if let [a, b, ..] = args {
            let (a, b) = (self.eval(a), self.eval(b));
            let (a, b) = (self.as_key(a), self.as_key(b));
            self.emit(Action::Compare { left: a, right: b }, span);
            let eq = self.arena.eq(a, b);
            self.assume(eq, same, span);
        }
        self.arena.add(Node::Unit)
    }
}

/// What an argument of a well-known instruction builder is.
fn role(name: &str, place: usize) -> Name {
    let last = name.rsplit("::").next().unwrap_or(name);
    let roles: &[&str] = match last {
        "transfer" if name.contains("system") => &["from", "to"],
        "create_account" => &["from", "to"],
        "transfer" => &["from", "to", "authority"],
        "transfer_checked" => &["from", "mint", "to", "authority"],
        "burn" => &["from", "mint", "authority"],
        "mint_to" => &["mint", "to", "authority"],
        "close_account" => &["account", "destination", "authority"],
        _ => &[],
    };
    roles.get(place).map_or_else(|| format!("part {place}").as_str().into(), |role| (*role).into())
}

pub(super) fn reads_state(name: &str) -> bool {
    [
        "deserialize",
        "unpack",
        "from_slice",
        "from_bytes",
        "from_account",
        "load",
        "cast",
        "read_from",
        "decode",
        "parse",
        "get_packed",
        "transmute",
    ]
    .iter()
    .any(|part| name.contains(part))
}

fn is_fallible(ty: &Ty) -> bool {
    ty.name.ends_with("Result") || &*ty.name == "Option"
}

/// Whether a parameter's type is a list of accounts, or a tuple with one in it.
pub(super) fn takes_accounts(ty: &Ty) -> bool {
    super::account::is_raw_list(ty) || (&*ty.name == "()" && ty.args.iter().any(takes_accounts))
}

/// Whether a parameter's type is one account.
pub(super) fn is_account(ty: &Ty) -> bool {
    is_raw(&ty.name)
        || matches!(&*ty.name, "Signer" | "UncheckedAccount" | "SystemAccount")
        || (matches!(&*ty.name, "Account" | "InterfaceAccount" | "AccountLoader" | "Program" | "Sysvar" | "Interface")
            && !ty.args.is_empty())
}
