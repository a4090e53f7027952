//! Accounts and what their declaration says of them.

use super::{Framework, Instance, Node, Prop, Run, V};
use crate::{
    Span,
    interp::event::Action,
    syntax::{AccountAttr, BinOp, Field, Name, Ty},
};

/// The type that a field of an accounts struct has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrapper {
    /// `AccountInfo`, `UncheckedAccount`, `AccountView`: nothing is checked.
    Raw,
    Signer,
    SystemAccount,
    /// Owner and discriminator are checked.
    Typed,
    /// The address is that of a program.
    Program,
    Sysvar,
    /// The struct is not in sight.
    Unseen,
}

#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) name: Name,
    pub(crate) file: usize,
    pub(crate) span: Span,
    pub(crate) group: u32,
    pub(crate) wrapper: Wrapper,
    /// The type inside the wrapper.
    pub(crate) ty: Option<Name>,
    pub(crate) attr: AccountAttr,
    pub(crate) writable: bool,
    pub(crate) init: bool,
    pub(crate) init_if_needed: bool,
    /// Out of `remaining_accounts`.
    pub(crate) remaining: bool,
    /// Any element of a list, not a certain one.
    pub(crate) element: bool,
    pub(crate) check_doc: bool,
    /// A field of an accounts struct.
    pub(crate) declared: bool,
    /// Where its field begins, behind the attributes.
    pub(crate) start: Span,
    /// `Option<..>`: it may be left out.
    pub(crate) optional: bool,
    pub(super) named: bool,
}

impl Account {
    pub(super) fn raw(name: Name, file: usize, span: Span, group: u32) -> Self {
        Self {
            name,
            file,
            span,
            group,
            wrapper: Wrapper::Raw,
            ty: None,
            attr: AccountAttr::default(),
            writable: false,
            init: false,
            init_if_needed: false,
            remaining: false,
            element: false,
            check_doc: false,
            declared: false,
            start: Span::default(),
            optional: false,
            named: false,
        }
    }
}

/// Types that hold one account with nothing checked.
pub(super) fn is_raw(name: &str) -> bool {
    matches!(name, "AccountInfo" | "UncheckedAccount" | "AccountView" | "NoStdAccountInfo" | "NoStdAccountInfo4")
}

/// A list of accounts: a slice, an array or a vector of raw ones.
pub(super) fn is_raw_list(ty: &Ty) -> bool {
    matches!(&*ty.name, "[]" | "Vec") && ty.args.first().is_some_and(|elem| is_raw(&elem.name))
}

fn wrapper(ty: &Ty) -> Option<(Wrapper, Option<Name>)> {
    let inner = ty.args.first().map(|inner| inner.name.clone());
    Some(match &*ty.name {
        name if is_raw(name) => (Wrapper::Raw, None),
        "Signer" => (Wrapper::Signer, None),
        "SystemAccount" => (Wrapper::SystemAccount, None),
        "Account" | "InterfaceAccount" | "AccountLoader" | "LazyAccount" | "Loader" | "ProgramAccount"
        | "CpiAccount" | "Migration" | "BorshAccount" | "CpiState" | "ProgramState" => (Wrapper::Typed, inner),
        "Program" | "Interface" => (Wrapper::Program, inner),
        "Sysvar" => (Wrapper::Sysvar, inner),
        _ => return None,
    })
}

impl<'a> Run<'a> {
    pub(super) fn is_accounts_struct(&self, file: usize, name: &str) -> bool {
        self.index
            .structure(file, name)
            .is_some_and(|item| item.derives.iter().any(|derive| matches!(&**derive, "Accounts")))
    }

    /// An instance with accounts for all fields and the facts of their constraints.
    pub(super) fn instantiate(&mut self, file: usize, name: &Name, with_facts: bool) -> V {
        let number = self.instances.len() as u32;
        let found = self.index.structure_at(file, name);
        let declared = found.is_some();
        self.instances.push(Instance { struct_name: name.clone(), fields: Vec::new(), declared });
        if let Some((home, item)) = found {
            if self.instances.len() > 64 {
                return self.arena.add(Node::Accounts(number));
            }
            let mut fields = Vec::with_capacity(item.fields.len());
            for field in &item.fields {
                let v = self.field_account(home, field);
                fields.push((field.name.clone(), v));
            }
            self.instances[number as usize].fields = fields.clone();
            if with_facts {
                self.constraints(home, &item.fields, &fields, &item.instruction);
            }
        }
        self.arena.add(Node::Accounts(number))
    }

    fn field_account(&mut self, file: usize, field: &Field) -> V {
        let mut ty = &field.ty;
        let mut optional = false;
        while let ("Box" | "Option" | "Rc" | "Arc", Some(inner)) = (&*ty.name, ty.args.first()) {
            optional |= &*ty.name == "Option";
            ty = inner;
        }
        if is_raw_list(ty) {
            return self.slice(true);
        }
        let known = wrapper(ty);
        if known.is_none() && self.is_accounts_struct(file, &ty.name) {
            return self.instantiate(file, &ty.name.clone(), true);
        }
        if matches!(&*ty.name, "PhantomData" | "u8" | "u64" | "bool" | "Pubkey" | "Address") {
            return self.arg(&field.name, ty);
        }
        let (wrapper, inner) = known.unwrap_or((Wrapper::Unseen, Some(ty.name.clone())));
        let attr = &field.account;
        let account = Account {
            wrapper,
            ty: inner,
            writable: attr.has("mut")
                || attr.has("init")
                || attr.has("init_if_needed")
                || attr.has("zero")
                || ty.by_mut
                || field.ty.by_mut,
            init: attr.has("init") || attr.has("zero"),
            init_if_needed: attr.has("init_if_needed"),
            check_doc: field.check_doc,
            declared: true,
            named: true,
            optional,
            start: field.start,
            attr: attr.clone(),
            ..Account::raw(field.name.clone(), file, field.span, self.group)
        };
        self.accounts.push(account);
        let number = self.accounts.len() as u32 - 1;
        let node = if wrapper == Wrapper::Raw { Node::Info(number) } else { Node::Account(number) };
        self.arena.add(node)
    }

    /// A single account of no struct.
    pub(super) fn lone_account(&mut self, name: &Name, ty: &Ty, span: Span) -> V {
        let (file, group) = (self.file(), self.group);
        let (kind, inner) = wrapper(ty).unwrap_or((Wrapper::Raw, None));
        let mut account = Account::raw(name.clone(), file, span, group);
        account.wrapper = kind;
        account.ty = inner;
        account.named = true;
        account.writable = ty.by_mut;
        self.accounts.push(account);
        let number = self.accounts.len() as u32 - 1;
        self.wrapper_facts(number, span);
        let node = if kind == Wrapper::Raw { Node::Info(number) } else { Node::Account(number) };
        self.arena.add(node)
    }

    fn wrapper_facts(&mut self, number: u32, span: Span) {
        let account = &self.accounts[number as usize];
        let (wrapper, ty) = (account.wrapper, account.ty.clone());
        match wrapper {
            Wrapper::Signer => {
                let signer = self.arena.prop(Prop::Signer, number);
                self.learn((signer, true), span);
            }
            Wrapper::SystemAccount => {
                let owner = self.arena.prop(Prop::Owner, number);
                let system = self.path(&["system_program", "ID"]);
                self.learn_eq(owner, system, span);
            }
            Wrapper::Program | Wrapper::Sysvar => {
                let key = self.arena.prop(Prop::Key, number);
                let id = self.path(&[ty.as_deref().unwrap_or("_"), "ID"]);
                // `Program<'info>` alone only says that it is executable.
                if ty.is_some() {
                    self.learn_eq(key, id, span);
                }
            }
            Wrapper::Raw | Wrapper::Typed | Wrapper::Unseen => {}
        }
    }

    pub(super) fn learn_eq(&mut self, a: V, b: V, span: Span) {
        let eq = self.arena.eq(a, b);
        self.learn((eq, true), span);
    }

    fn constraints(&mut self, file: usize, fields: &'a [Field], values: &[(Name, V)], args: &[(Name, Ty)]) {
        let outer = self.st.vars.len();
        for (name, ty) in args {
            let v = self.arg(name, ty);
            self.st.vars.push((name.clone(), v));
        }
        self.st.vars.extend(values.iter().cloned());
        self.frames.push(super::Frame {
            file,
            at: None,
            self_ty: None,
            base: outer,
            exits: Vec::new(),
            branch: self.events.len(),
            fallible: false,
        });
        for (field, (_, v)) in fields.iter().zip(values) {
            let (Node::Account(number) | Node::Info(number)) = *self.arena.get(*v) else { continue };
            self.wrapper_facts(number, field.span);
            self.field_facts(number, *v, field);
        }
        self.frames.pop();
        self.st.vars.truncate(outer);
    }

    fn field_facts(&mut self, number: u32, v: V, field: &'a Field) {
        let attr = &field.account;
        let key = self.arena.prop(Prop::Key, number);
        for constraint in &attr.constraints {
            let span = constraint.span;
            match (&*constraint.key, &constraint.value) {
                ("signer", None) => {
                    let signer = self.arena.prop(Prop::Signer, number);
                    self.learn((signer, true), span);
                }
                ("executable", None) => {
                    let executable = self.arena.prop(Prop::Executable, number);
                    self.learn((executable, true), span);
                }
                ("address", Some(value)) => {
                    let value = self.eval(value);
                    let value = self.as_key(value);
                    self.learn_eq(key, value, span);
                }
                ("owner", Some(value)) => {
                    let owner = self.arena.prop(Prop::Owner, number);
                    let value = self.eval(value);
                    let value = self.as_key(value);
                    self.learn_eq(owner, value, span);
                }
                ("has_one", Some(value)) => {
                    let Some(name) = last_name(value) else { continue };
                    let other = self.eval(value);
                    let other = self.as_key(other);
                    let state = self.state_of(number);
                    let stored = self.arena.add(Node::Field(state, name));
                    self.learn_eq(stored, other, span);
                }
                ("constraint", Some(value)) => {
                    let value = self.eval(value);
                    self.assume(value, true, span);
                }
                ("seeds", Some(value)) => {
                    let seeds = self.eval(value);
                    let seeds = match self.arena.get(seeds) {
                        Node::Array(seeds) => seeds.clone(),
                        _ => vec![seeds],
                    };
                    let bump = attr.value("bump").map(|bump| self.eval(bump));
                    let pda = self.arena.add(Node::Pda(seeds, bump));
                    self.learn_eq(key, pda, span);
                }
                ("token::mint" | "associated_token::mint", Some(value)) => {
                    self.state_is(number, "mint", value, span);
                }
                ("token::authority" | "associated_token::authority", Some(value)) => {
                    if &*constraint.key == "associated_token::authority" {
                        let wallet = self.eval(value);
                        let pda = self.arena.add(Node::Pda(vec![wallet], None));
                        self.learn_eq(key, pda, span);
                    }
                    self.state_is(number, "owner", value, span);
                }
                ("mint::authority", Some(value)) => self.state_is(number, "mint_authority", value, span),
                ("close", Some(value)) => {
                    let to = self.eval(value);
                    self.emit(Action::Close { account: number, to: Some(to) }, span);
                }
                ("realloc", Some(size)) => {
                    let size = Some(self.eval(size));
                    self.emit(Action::Realloc { account: number, size }, span);
                }
                _ => {}
            }
        }
        let _ = v;
    }

    fn state_is(&mut self, number: u32, field: &str, value: &'a crate::syntax::Expr, span: Span) {
        let other = self.eval(value);
        let other = self.as_key(other);
        let state = self.state_of(number);
        let stored = self.arena.add(Node::Field(state, field.into()));
        self.learn_eq(stored, other, span);
    }

    /// The typed content of an account.
    pub(super) fn state_of(&mut self, number: u32) -> V {
        let ty = self.accounts[number as usize].ty.clone().unwrap_or_else(|| "_".into());
        self.arena.add(Node::State(number, ty))
    }

    /// Where an account stands for its address, as in `has_one`.
    pub(super) fn as_key(&mut self, v: V) -> V {
        match *self.arena.get(v) {
            Node::Account(number) | Node::Info(number) => self.arena.prop(Prop::Key, number),
            _ => v,
        }
    }

    /// A field of an instance; made up if the struct is not in sight.
    pub(super) fn instance_field(&mut self, instance: u32, name: &Name, span: Span) -> V {
        let known = self.instances[instance as usize].fields.iter().find(|(have, _)| have == name).map(|(_, v)| *v);
        if let Some(v) = known {
            return v;
        }
        if self.instances[instance as usize].declared {
            return self.unknown();
        }
        let mut account = Account::raw(name.clone(), self.file(), span, 0);
        account.wrapper = Wrapper::Unseen;
        account.named = true;
        self.accounts.push(account);
        let v = self.arena.add(Node::Account(self.accounts.len() as u32 - 1));
        self.instances[instance as usize].fields.push((name.clone(), v));
        v
    }

    pub(super) fn is_anchor(&self) -> bool {
        self.framework == Framework::Anchor
    }
}

fn last_name(expr: &crate::syntax::Expr) -> Option<Name> {
    match &expr.kind {
        crate::syntax::Kind::Path(path, _) => path.last().cloned(),
        crate::syntax::Kind::Field(_, name) => Some(name.clone()),
        crate::syntax::Kind::Method(inner, ..) => last_name(inner),
        _ => None,
    }
}

/// Whether an operator compares.
pub(super) fn compares(op: BinOp) -> bool {
    matches!(op, BinOp::Eq | BinOp::Ne | BinOp::Lt | BinOp::Le | BinOp::Gt | BinOp::Ge)
}
