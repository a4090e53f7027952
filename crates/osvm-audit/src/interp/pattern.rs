//! Patterns: what they bind and what matching them tells.

use super::{Node, Run, V};
use crate::{
    Span,
    syntax::{Lit, Name, Pat},
};

impl<'a> Run<'a> {
    /// Binds a pattern that matches.
    pub(super) fn bind(&mut self, pat: &'a Pat, v: V, span: Span) {
        match pat {
            Pat::Bind(name, at, sub) => {
                self.name_account(v, name, *at);
                self.st.vars.push((name.clone(), v));
                if let Some(sub) = sub {
                    self.bind(sub, v, span);
                }
            }
            Pat::Wild | Pat::Rest => {}
            Pat::Tuple(parts) => {
                let v = self.inner(v);
                for (place, part) in parts.iter().enumerate() {
                    let field = self.tuple_field(v, place);
                    self.bind(part, field, span);
                }
            }
            Pat::Slice(parts) => self.bind_slice(parts, v, span),
            Pat::TupleStruct(path, parts) => {
                let last = path.last().map(|last| &**last);
                match (last, parts.as_slice()) {
                    (Some("Some" | "Ok"), [part]) => {
                        let v = self.force(v, span);
                        self.bind(part, v, span);
                    }
                    _ => {
                        self.variant(v, path, span);
                        for (place, part) in parts.iter().enumerate() {
                            let name: Name = place.to_string().as_str().into();
                            let field = self.field(v, &name, span);
                            self.bind(part, field, span);
                        }
                    }
                }
            }
            Pat::Struct(path, parts) => {
                self.variant(v, path, span);
                for (name, part) in parts {
                    let field = self.field(v, name, span);
                    self.bind(part, field, span);
                }
            }
            Pat::Path(path) => self.variant(v, path, span),
            Pat::Lit(lit) => match lit {
                Lit::Bool(truth) => self.assume(v, *truth, span),
                Lit::Other => {}
                _ => {
                    let lit = self.arena.add(Node::Lit(lit.clone()));
                    self.learn_eq(v, lit, span);
                }
            },
            Pat::Or(cases) => {
                // The cases bind the same names; which of them matched stays open.
                let facts = self.st.facts.clone();
                if let Some(first) = cases.first() {
                    self.bind(first, v, span);
                }
                self.st.facts = facts;
            }
        }
    }

    fn variant(&mut self, v: V, path: &[Name], span: Span) {
        let last = path.last().map(|last| &**last);
        match last {
            Some("None" | "Err") => {}
            _ => {
                let fixed = self.arena.add(Node::Path(path.to_vec()));
                self.learn_eq(v, fixed, span);
            }
        }
    }

    fn bind_slice(&mut self, parts: &'a [Pat], v: V, span: Span) {
        let v = self.inner(v);
        if let Node::Iter(iter) = *self.arena.get(v) {
            // `let [a, b] = next_account_infos(iter, 2)?`
            for part in parts {
                let item = self.next(iter, span);
                self.bind(part, item, span);
            }
            return;
        }
        let slice = match self.arena.get(v) {
            Node::Slice(slice, from) => Some((*slice, *from)),
            _ => None,
        };
        for (place, part) in parts.iter().enumerate() {
            match (slice, part) {
                (Some((slice, from)), Pat::Rest) => {
                    let _ = (slice, from);
                    return;
                }
                (Some((slice, from)), Pat::Bind(name, _, Some(rest))) if matches!(**rest, Pat::Rest) => {
                    let rest = self.arena.add(Node::Slice(slice, from + place as u32));
                    self.st.vars.push((name.clone(), rest));
                    return;
                }
                (Some((slice, from)), _) => {
                    let at = match part {
                        Pat::Bind(_, at, _) => *at,
                        _ => span,
                    };
                    // An account that is there but unnamed is not looked at by anybody.
                    if !matches!(part, Pat::Wild) {
                        let item = self.element(slice, from + place as u32, at);
                        self.bind(part, item, span);
                    }
                }
                (None, Pat::Rest) => return,
                (None, _) => {
                    let item = match self.arena.get(v) {
                        Node::Array(items) => items.get(place).copied(),
                        _ => None,
                    };
                    let item = item.unwrap_or_else(|| self.arena.add(Node::Elem(v)));
                    self.bind(part, item, span);
                }
            }
        }
    }

    /// Behind a result that is looked into without being forced.
    pub(super) fn inner(&self, v: V) -> V {
        match self.arena.get(v) {
            Node::Res(ok, _) => self.inner(*ok),
            _ => v,
        }
    }

    pub(super) fn tuple_field(&mut self, v: V, place: usize) -> V {
        match self.arena.get(v) {
            Node::Tuple(items) => items.get(place).copied(),
            _ => None,
        }
        .unwrap_or_else(|| {
            let name: Name = place.to_string().as_str().into();
            self.arena.add(Node::Field(v, name))
        })
    }
}
