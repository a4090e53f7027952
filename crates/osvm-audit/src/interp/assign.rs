//! Assignments: to variables, to fields of what variables hold, and to places that are an account's.

use super::{Action, Lamports, Node, Prop, Run, V};
use crate::{
    Span,
    syntax::{BinOp, Expr, Kind, Lit},
};

impl<'a> Run<'a> {
    pub(super) fn assign(&mut self, place: &'a Expr, value: V, span: Span) {
        match &place.kind {
            Kind::Path(path, _) => {
                let [name] = path.as_slice() else { return };
                self.set(name, value);
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
                            self.set(name, value);
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
                    self.set(var, made);
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

    /// A variable that points into an account stays a pointer in `x = y`; the account is not written.
    fn set(&mut self, name: &str, value: V) {
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
}
