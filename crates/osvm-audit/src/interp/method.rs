//! Methods: those that change nothing, those of accounts in the frameworks, and those of the program's own types.

use super::{Action, Node, Prop, Run, V, call::reads_state};
use crate::{
    Span,
    syntax::{BinOp, Expr, Name, Ty},
};

/// Methods whose result stands for the receiver.
const SAME: [&str; 46] = [
    "as_ref",
    "as_mut",
    "borrow",
    "borrow_mut",
    "clone",
    "to_owned",
    "into",
    "by_ref",
    "deref",
    "deref_mut",
    "as_slice",
    "as_mut_slice",
    "to_vec",
    "to_bytes",
    "as_bytes",
    "as_bytes_ref",
    "copied",
    "cloned",
    "try_into",
    "as_account_info",
    "ok_or",
    "ok_or_else",
    "map_err",
    "context",
    "with_context",
    "iter",
    "into_iter",
    "as_array",
    "as_view",
    "as_str",
    "into_inner",
    "to_account_infos",
    "as_info",
    "inspect_err",
    "log_err",
    "or",
    "expect_err",
    "as_deref",
    "as_deref_mut",
    "to_vec_in",
    "as_ptr",
    "as_mut_ptr",
    "into_boxed_slice",
    "to_le_bytes",
    "to_be_bytes",
    "to_ne_bytes",
];

impl<'a> Run<'a> {
    pub(super) fn eval_method(
        &mut self,
        receiver: &'a Expr,
        name: &'a Name,
        types: &[Ty],
        args: &'a [Expr],
        span: Span,
    ) -> V {
        let r = self.eval(receiver);
        if self.st.dead {
            return r;
        }
        match &**name {
            "unwrap" | "expect" | "unwrap_unchecked" => {
                self.eval_all(args);
                if &**name != "unwrap_unchecked" && self.framework != super::Framework::Plain {
                    self.emit(Action::Unwrap { name: super::eval::called(receiver), on: r }, span);
                }
                return self.force(r, span);
            }
            "unwrap_or" | "unwrap_or_default" | "unwrap_or_else" | "ok" | "err" => {
                let values = self.eval_all(args);
                let cpi = self.events.last().is_some_and(|event| matches!(event.action, Action::Cpi { .. }));
                if &**name == "ok" && cpi {
                    self.emit(Action::Ignored { name: super::eval::called(receiver), cpi: true }, span);
                }
                let inner = self.inner(r);
                if &**name == "unwrap_or"
                    && let [default] = values.as_slice()
                {
                    let parts = vec![inner, *default];
                    return self.arena.add(Node::Phi(parts));
                }
                return inner;
            }
            _ => {}
        }
        let values = self.eval_all(args);
        if self.st.dead {
            return r;
        }
        if let Some(v) = self.on_list(r, name, &values, span) {
            return v;
        }
        if let Some(v) = self.on_account(r, name, types, &values, span) {
            return v;
        }
        if let Some(v) = self.on_call_chain(r, name, &values, span) {
            return v;
        }
        if SAME.contains(&&**name) || name.starts_with("map_err") {
            for value in &values {
                if let Some(number) = self.closure(*value) {
                    self.run_closure(number, &[], span);
                }
            }
            return r;
        }
        if let Some(v) = self.with_closure(r, name, &values, span) {
            return v;
        }
        self.on_content(r, name, types, values, span)
    }

    fn on_list(&mut self, r: V, name: &str, values: &[V], span: Span) -> Option<V> {
        let inner = self.inner(r);
        match self.arena.get(inner).clone() {
            Node::Slice(slice, from) => Some(match name {
                "iter" | "into_iter" | "iter_mut" => {
                    let iter = self.new_iter(slice, from);
                    self.arena.add(Node::Iter(iter))
                }
                "first" | "first_mut" => self.element(slice, from, span),
                "get" | "get_mut" | "get_unchecked" | "get_unchecked_mut" | "last" => {
                    match values.first().map(|at| self.arena.get(*at)) {
                        Some(Node::Lit(crate::syntax::Lit::Int(place, _))) => {
                            let place = from + (*place).min(1 << 20) as u32;
                            self.element(slice, place, span)
                        }
                        _ => self.each(slice, span),
                    }
                }
                "split_at" | "split_at_mut" | "split_at_checked" => {
                    let at = match values.first().map(|at| self.arena.get(*at)) {
                        Some(Node::Lit(crate::syntax::Lit::Int(place, _))) => (*place).min(1 << 20) as u32,
                        _ => 1 << 16,
                    };
                    let rest = self.arena.add(Node::Slice(slice, from + at));
                    self.arena.add(Node::Tuple(vec![inner, rest]))
                }
                "split_first" | "split_first_mut" => {
                    let first = self.element(slice, from, span);
                    let rest = self.arena.add(Node::Slice(slice, from + 1));
                    self.arena.add(Node::Tuple(vec![first, rest]))
                }
                "try_into" | "as_ref" | "to_vec" | "as_slice" | "clone" | "as_mut" | "as_array" | "first_chunk" => {
                    inner
                }
                "len" | "is_empty" => self.arena.add(Node::Call(name.into(), vec![inner])),
                _ => return None,
            }),
            Node::Iter(iter) => Some(match name {
                "next" => self.next(iter, span),
                "by_ref" | "as_slice" | "iter" | "into_iter" | "peekable" | "clone" | "collect" => inner,
                "enumerate" | "zip" | "skip" | "take" | "rev" | "filter" => {
                    let mut all = vec![inner];
                    all.extend(values);
                    if let Some(number) = values.first().and_then(|first| self.closure(*first)) {
                        let item = self.item(inner, span);
                        self.run_closure(number, &[item], span);
                    }
                    self.arena.add(Node::Call(name.into(), all))
                }
                _ => return None,
            }),
            _ => None,
        }
    }

    fn new_iter(&mut self, slice: u32, from: u32) -> u32 {
        let iter = self.st.iters.iter().map(|(iter, _)| iter & 0xffff).max().map_or(0, |last| last + 1);
        // The list's number rides along, so that an iterator knows what it runs over.
        let iter = iter | slice << 16;
        self.st.iters.push((iter, from));
        iter
    }

    pub(super) fn iter_slice(&self, iter: u32) -> Option<u32> {
        let slice = iter >> 16;
        ((slice as usize) < self.slices.len()).then_some(slice)
    }

    pub(super) fn next(&mut self, iter: u32, span: Span) -> V {
        let slice = iter >> 16;
        let Some((_, at)) = self.st.iters.iter_mut().find(|(have, _)| *have == iter) else {
            return self.each(slice, span);
        };
        let place = *at;
        *at += 1;
        if self.loops > 0 && place > 0 {
            // The next one in a loop is any one.
            return self.each(slice, span);
        }
        self.element(slice, place, span)
    }

    /// Fields, getters and checks of accounts.
    fn on_account(&mut self, r: V, name: &Name, types: &[Ty], values: &[V], span: Span) -> Option<V> {
        let inner = self.inner(r);
        if let (Node::Prop(Prop::Data, account), "as_ptr" | "as_mut_ptr" | "cast") =
            (self.arena.get(inner).clone(), &**name)
            && let Some(ty) = types.first().filter(|ty| ty.name.starts_with(char::is_uppercase))
        {
            self.emit(Action::Deserialize { account, ty: ty.name.clone(), how: "cast".into() }, span);
            return Some(self.arena.add(Node::State(account, ty.name.clone())));
        }
        let (number, raw) = match *self.arena.get(inner) {
            Node::Info(number) => (number, true),
            Node::Account(number) => (number, false),
            _ => return None,
        };
        let own = self.arena.add(Node::Info(number));
        let ok = |run: &mut Self, v: V, facts: Vec<super::Fact>| Some(run.arena.add(Node::Res(v, facts)));
        let prop = |run: &mut Self, prop: Prop| run.arena.prop(prop, number);
        match (&**name, values) {
            ("to_account_info" | "as_account_info" | "account_info" | "to_account_view", _) => return Some(own),
            ("as_ref" | "clone" | "deref" | "as_mut" | "deref_mut" | "borrow", []) => return Some(inner),
            ("key" | "address" | "signer_key" | "unsigned_key", []) => return Some(prop(self, Prop::Key)),
            ("assert_signer", _) => {
                let signer = prop(self, Prop::Signer);
                return ok(self, own, vec![(signer, true)]);
            }
            ("assert_writable" | "assert_not_empty" | "assert_data_len" | "assert_executable", _) => {
                return ok(self, own, Vec::new());
            }
            ("assert_empty", _) => {
                let empty = prop(self, Prop::Empty);
                return ok(self, own, vec![(empty, true)]);
            }
            ("assert_owner" | "has_owner" | "assert_owners", [owner, ..]) => {
                let (have, owner) = (prop(self, Prop::Owner), self.as_key(*owner));
                let eq = self.arena.eq(have, owner);
                return ok(self, own, vec![(eq, true)]);
            }
            ("is_owned_by" | "owned_by", [owner, ..]) => {
                let (have, owner) = (prop(self, Prop::Owner), self.as_key(*owner));
                return Some(self.arena.eq(have, owner));
            }
            (
                "assert_address" | "has_address" | "assert_addresses" | "assert_sysvar" | "assert_program"
                | "is_program" | "is_sysvar",
                [key, ..],
            ) => {
                let (have, key) = (prop(self, Prop::Key), self.as_key(*key));
                let eq = self.arena.eq(have, key);
                self.emit(Action::Compare { left: have, right: key }, span);
                return ok(self, own, vec![(eq, true)]);
            }
            ("assert_type" | "is_type" | "assert_account", rest) => {
                let (have, owner) = (prop(self, Prop::Owner), rest.first().copied());
                let owner = owner.unwrap_or_else(|| self.path(&["crate", "ID"]));
                let eq = self.arena.eq(have, owner);
                let typed = self.arena.add(Node::Call("typed".into(), vec![own]));
                return ok(self, own, vec![(eq, true), (typed, true)]);
            }
            ("as_account" | "as_account_mut" | "to_account" | "to_account_mut", [owner, ..]) => {
                let (have, owner) = (prop(self, Prop::Owner), self.as_key(*owner));
                let eq = self.arena.eq(have, owner);
                let typed = self.arena.add(Node::Call("typed".into(), vec![own]));
                let ty = types.first().map_or_else(|| "_".into(), |ty| ty.name.clone());
                self.emit(Action::Deserialize { account: number, ty: ty.clone(), how: name.clone() }, span);
                let state = self.arena.add(Node::State(number, ty));
                return ok(self, state, vec![(eq, true), (typed, true)]);
            }
            ("as_token_account_for_program" | "as_mint_for_program" | "as_token_mint_for_program", [owner, ..]) => {
                let (have, owner) = (prop(self, Prop::Owner), self.as_key(*owner));
                let eq = self.arena.eq(have, owner);
                let state = self.arena.add(Node::State(number, "TokenAccount".into()));
                return ok(self, state, vec![(eq, true)]);
            }
            ("as_associated_token_account_checked" | "as_token_account_checked", _) => {
                let have = prop(self, Prop::Owner);
                let token = self.path(&["token", "ID"]);
                let eq = self.arena.eq(have, token);
                let state = self.arena.add(Node::State(number, "TokenAccount".into()));
                return ok(self, state, vec![(eq, true)]);
            }
            ("as_token_account" | "as_mint" | "as_token_mint" | "as_token_2022_account" | "as_token_2022_mint", _) => {
                let ty: Name = if name.contains("mint") { "Mint".into() } else { "TokenAccount".into() };
                self.emit(Action::Deserialize { account: number, ty: ty.clone(), how: name.clone() }, span);
                let state = self.arena.add(Node::State(number, ty));
                return ok(self, state, Vec::new());
            }
            ("assert_seeds" | "has_seeds" | "assert_canonical_bump", [seeds, ..]) => {
                let seeds = self.seeds(*seeds);
                let pda = self.arena.add(Node::Pda(seeds, None));
                let have = prop(self, Prop::Key);
                let eq = self.arena.eq(have, pda);
                let bump = self.arena.add(Node::Bump(pda));
                return ok(self, bump, vec![(eq, true)]);
            }
            ("assert_seeds_with_bump", [seeds, ..]) => {
                let mut seeds = self.seeds(*seeds);
                let bump = seeds.pop().map(|bump| self.single(bump));
                let pda = self.arena.add(Node::Pda(seeds, bump));
                self.emit(Action::DeriveWithBump { pda, bump }, span);
                let have = prop(self, Prop::Key);
                let eq = self.arena.eq(have, pda);
                return ok(self, own, vec![(eq, true)]);
            }
            ("close_account_zeroed" | "close_account" | "close_with_recipient" | "close" | "close_unchecked", rest)
                if raw || self.index.method(self.file(), None, name).is_none() =>
            {
                let to = rest.first().copied();
                self.emit(Action::Close { account: number, to }, span);
                return ok(self, own, Vec::new());
            }
            ("send" | "send_owned", [amount, to, ..]) => {
                let own = self.arena.prop(Prop::Lamports, number);
                let left = self.arena.add(Node::Bin(BinOp::Sub, own, *amount));
                self.write_lamports(number, left, span);
                if let Some(to) = self.arena.account(*to) {
                    let have = self.arena.prop(Prop::Lamports, to);
                    let sum = self.arena.add(Node::Bin(BinOp::Add, have, *amount));
                    self.write_lamports(to, sum, span);
                }
                return ok(self, *to, Vec::new());
            }
            ("sub_lamports" | "add_lamports" | "set_lamports", [amount]) => {
                let own = self.arena.prop(Prop::Lamports, number);
                let value = match &**name {
                    "sub_lamports" => self.arena.add(Node::Bin(BinOp::Sub, own, *amount)),
                    "add_lamports" => self.arena.add(Node::Bin(BinOp::Add, own, *amount)),
                    _ => *amount,
                };
                self.write_lamports(number, value, span);
                let unit = self.arena.add(Node::Unit);
                return ok(self, unit, Vec::new());
            }
            ("assign", [_, ..]) => {
                self.emit(Action::Assign { account: number }, span);
                return ok(self, own, Vec::new());
            }
            ("realloc" | "resize" | "resize_unchecked", sizes) => {
                let size = sizes.first().copied();
                self.emit(Action::Realloc { account: number, size }, span);
                return ok(self, own, Vec::new());
            }
            ("load" | "load_mut" | "load_init", []) => return Some(self.state_of(number)),
            ("reload" | "exit" | "exit_with_expected_owner", _) => {
                if &**name == "reload" {
                    self.look(number, None, span);
                }
                let unit = self.arena.add(Node::Unit);
                return Some(unit);
            }
            ("set_inner" | "write", [value]) => {
                self.write_whole(number, *value, span);
                return Some(self.arena.add(Node::Unit));
            }
            _ => {}
        }
        let unseen = self.accounts[number as usize].wrapper == super::Wrapper::Unseen;
        if raw
            || unseen
            || !self.typed(number)
            || matches!(&**name, "key" | "try_borrow_data" | "try_borrow_mut_data" | "get_lamports")
        {
            let borrowed = matches!(&**name, "try_borrow_lamports" | "try_borrow_mut_lamports");
            if let Some(v) = self.prop(number, name, span) {
                let _ = borrowed;
                return Some(v);
            }
        }
        // A method of the account's own type.
        let ty = self.accounts[number as usize].ty.clone();
        let file = self.file();
        if let Some(ty) = ty
            && let Some((at, found)) = self.index.method(file, Some(&ty), name)
        {
            let state = self.state_of(number);
            if let Some(v) = self.follow(at, found, Some(state), values, span) {
                return Some(v);
            }
        }
        // A method that a trait of the program adds to accounts.
        if let Some((at, found)) = self.index.method(file, None, name) {
            return self.follow(at, found, Some(inner), values, span);
        }
        None
    }

    fn typed(&self, number: u32) -> bool {
        self.accounts[number as usize].wrapper == super::Wrapper::Typed
    }

    /// Calls of other programs that are built by a chain of methods.
    fn on_call_chain(&mut self, r: V, name: &Name, values: &[V], span: Span) -> Option<V> {
        match (self.arena.get(r).clone(), &**name) {
            (Node::Cpi(program, accounts, _), "with_signer") => {
                Some(self.arena.add(Node::Cpi(program, accounts, values.first().copied())))
            }
            (Node::Cpi(..), "with_remaining_accounts") => Some(r),
            (
                Node::Struct(..),
                "invoke" | "invoke_signed" | "invoke_signed_unchecked" | "invoke_unchecked" | "invoke_with_bounds",
            )
            | (Node::Call(..), "invoke" | "invoke_signed") => {
                let file = self.file();
                let own = match self.arena.get(r) {
                    Node::Struct(path, _) => path.last().cloned(),
                    _ => None,
                };
                if let Some(own) = own
                    && let Some((at, found)) = self.index.method(file, Some(&own), name)
                {
                    return self.follow(at, found, Some(r), values, span);
                }
                self.invoke(r, None, values.first().copied(), span);
                let unit = self.arena.add(Node::Unit);
                Some(self.arena.add(Node::Res(unit, Vec::new())))
            }
            _ => None,
        }
    }

    fn with_closure(&mut self, r: V, name: &Name, values: &[V], span: Span) -> Option<V> {
        let number = values.iter().find_map(|value| self.closure(*value))?;
        match (&**name, self.arena.get(r).clone()) {
            ("map", Node::Res(ok, facts)) => {
                let v = self.run_closure(number, &[ok], span);
                Some(self.arena.add(Node::Res(v, facts)))
            }
            ("and_then", Node::Res(ok, mut facts)) => {
                let v = self.run_closure(number, &[ok], span);
                if let Node::Res(inner, more) = self.arena.get(v).clone() {
                    facts.extend(more);
                    return Some(self.arena.add(Node::Res(inner, facts)));
                }
                Some(self.arena.add(Node::Res(v, facts)))
            }
            (
                "map" | "and_then" | "map_or" | "map_or_else",
                Node::Call(..) | Node::Field(..) | Node::Arg(..) | Node::Index(..),
            ) => {
                let v = self.run_closure(number, &[r], span);
                Some(self.arena.add(Node::Res(v, Vec::new())))
            }
            _ => {
                self.loops += 1;
                let item = self.item(r, span);
                let v = self.run_closure(number, &[item], span);
                self.loops -= 1;
                let mut all = vec![r, v];
                all.extend(values.iter().copied().filter(|value| self.closure(*value).is_none()));
                Some(self.arena.add(Node::Call(name.clone(), all)))
            }
        }
    }

    /// Methods of content, numbers, bytes and the program's own types.
    fn on_content(&mut self, r: V, name: &Name, types: &[Ty], values: Vec<V>, span: Span) -> V {
        let file = self.file();
        match (&**name, values.as_slice()) {
            ("eq" | "ne" | "key_eq", [other]) => {
                let (a, b) = (self.as_key(r), self.as_key(*other));
                self.emit(Action::Compare { left: a, right: b }, span);
                let eq = self.arena.eq(a, b);
                return if &**name == "ne" { self.not(eq) } else { eq };
            }
            ("get", [])
                if self.arena.state_field(r).is_some()
                    || matches!(self.arena.get(r), Node::Field(..) | Node::Arg(..)) =>
            {
                return r;
            }
            ("set", [value]) if self.arena.state_field(r).is_some() => {
                self.write(r, *value, span);
                return self.arena.add(Node::Unit);
            }
            ("key", []) => {
                if let Some(v) = self.behind(r) {
                    return v;
                }
            }
            _ => {}
        }
        // Pyth's methods are known by what they promise.
        if name.starts_with("get_price") || name.starts_with("get_ema_price") {
            let mut all = vec![r];
            all.extend(values);
            self.emit(Action::Unfollowed { name: name.clone(), args: all.clone() }, span);
            return self.arena.add(Node::Call(name.clone(), all));
        }
        if let Some(v) = self.own_method(r, name, &values, span) {
            return v;
        }
        // A setter of a type that is not among the sources.
        if let (Some(field), Node::State(account, ty)) =
            (name.strip_prefix("set_"), self.arena.get(self.inner(r)).clone())
            && let Some(value) = values.first()
        {
            let place = self.arena.add(Node::Field(r, field.into()));
            self.emit(Action::WriteField { account, ty, field: field.into(), place, value: *value }, span);
            return self.arena.add(Node::Unit);
        }
        // Writers: the bytes that they write to belong to the receiver or to an argument.
        let target = if matches!(
            &**name,
            "copy_from_slice" | "clone_from_slice" | "fill" | "write_all" | "write" | "swap_with_slice" | "copy_within"
        ) {
            self.arena.data_of(r).map(|account| (account, values.first().copied()))
        } else if name.contains("serialize") || name.contains("pack") || name.contains("save") || name.contains("store")
        {
            values.iter().find_map(|value| self.arena.data_of(*value)).map(|account| (account, Some(r)))
        } else {
            None
        };
        if let Some((account, value)) = target {
            self.emit(Action::WriteData { account, value }, span);
            let unit = self.arena.add(Node::Unit);
            return self.arena.add(Node::Res(unit, Vec::new()));
        }
        if let Node::Iter(_) | Node::Slice(..) = self.arena.get(r) {
            let mut all = vec![r];
            all.extend(values);
            return self.arena.add(Node::Call(name.clone(), all));
        }
        self.pass_cpi(name, &values, span);
        if let Some(account) = self.arena.data_of(r)
            && reads_state(name)
            && let Some(ty) = types.first()
        {
            self.emit(Action::Deserialize { account, ty: ty.name.clone(), how: name.clone() }, span);
            return self.arena.add(Node::State(account, ty.name.clone()));
        }
        let _ = file;
        if values
            .iter()
            .any(|value| matches!(self.arena.get(*value), Node::Info(_) | Node::Account(_) | Node::Accounts(_)))
        {
            let mut all = vec![r];
            all.extend(values.iter().copied());
            self.emit(Action::Unfollowed { name: name.clone(), args: all }, span);
        }
        let mut all = vec![r];
        all.extend(values);
        self.arena.add(Node::Call(name.clone(), all))
    }

    /// `key()` of what is no account, as of a stored address.
    fn behind(&mut self, r: V) -> Option<V> {
        match self.arena.get(r).clone() {
            Node::Phi(parts) => {
                let keys: Vec<V> = parts.iter().map(|part| self.as_key(*part)).collect();
                Some(self.arena.add(Node::Phi(keys)))
            }
            _ => None,
        }
    }

    fn own_method(&mut self, r: V, name: &Name, values: &[V], span: Span) -> Option<V> {
        let file = self.file();
        let inner = self.inner(r);
        let (ty, receiver): (Option<Name>, V) = match self.arena.get(inner).clone() {
            Node::Accounts(instance) => (Some(self.instances[instance as usize].struct_name.clone()), inner),
            Node::Ctx(_) => (None, inner),
            Node::State(_, ty) => (Some(ty), inner),
            Node::Struct(path, _) => (path.last().cloned(), inner),
            Node::Path(path) => {
                let owner = path.len().checked_sub(2).and_then(|at| path.get(at)).cloned();
                (owner, inner)
            }
            Node::Lit(_) | Node::Unknown(_) | Node::Failed | Node::Unit => return None,
            _ => (self.ty(file, inner).map(|ty| ty.name), inner),
        };
        if let Some(ty) = &ty
            && let Some((at, found)) = self.index.method(file, Some(ty), name)
        {
            return self.follow(at, found, Some(receiver), values, span);
        }
        let common = name.len() < 4
            || matches!(
                &**name,
                "contains" | "push" | "insert" | "remove" | "get_mut" | "len" | "is_empty" | "iter_mut"
            );
        if ty.is_none()
            && !common
            && let Some((at, found)) = self.index.method(file, None, name)
        {
            return self.follow(at, found, Some(receiver), values, span);
        }
        None
    }
}
