//! Symbolic values. Equal values have equal numbers, so that facts about them can be compared.

use std::collections::HashMap;

use crate::{
    fingerprint::Quick,
    syntax::{BinOp, Lit, Name},
};

/// A value's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct V(u32);

/// A value that is known to be true or false.
pub(crate) type Fact = (V, bool);

/// What an account has beside its typed content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Prop {
    Key,
    Owner,
    Lamports,
    Data,
    Signer,
    Writable,
    Len,
    Empty,
    Executable,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    /// Nothing is known; each one is another.
    Unknown(u32),
    /// An account as its wrapper shows it.
    Account(u32),
    /// An account as the runtime shows it.
    Info(u32),
    /// An instance of a struct of accounts.
    Accounts(u32),
    Ctx(u32),
    Bumps(u32),
    /// A list of accounts from an offset on.
    Slice(u32, u32),
    Iter(u32),
    Prop(Prop, u32),
    /// An account's content, read as a type.
    State(u32, Name),
    Field(V, Name),
    Index(V, V),
    /// Some element of a collection.
    Elem(V),
    /// An argument of the handler: instruction data.
    Arg(Name, u32),
    ProgramId,
    Lit(Lit),
    /// A constant, a static or a unit variant.
    Path(Vec<Name>),
    Bin(BinOp, V, V),
    Not(V),
    Neg(V),
    Cast(V, Name),
    /// A call that was not followed: the last two names of its path, and its arguments.
    Call(Name, Vec<V>),
    /// An address derived from seeds; with a bump that was given, or the canonical one.
    Pda(Vec<V>, Option<V>),
    /// The canonical bump of a derived address.
    Bump(V),
    Tuple(Vec<V>),
    Array(Vec<V>),
    Struct(Vec<Name>, Vec<(Name, V)>),
    /// A value that is there only if these facts hold.
    Res(V, Vec<Fact>),
    Phi(Vec<V>),
    /// A `CpiContext`: program, accounts, signer seeds.
    Cpi(V, V, Option<V>),
    /// The failing side of a result or option.
    Failed,
    Unit,
}

/// All values of a run.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    nodes: Vec<Node>,
    known: HashMap<Node, V, Quick>,
    fresh: u32,
}

impl Arena {
    pub(crate) fn add(&mut self, node: Node) -> V {
        if let Some(v) = self.known.get(&node) {
            return *v;
        }
        let v = V(self.nodes.len() as u32);
        self.nodes.push(node.clone());
        self.known.insert(node, v);
        v
    }

    pub(crate) fn unknown(&mut self) -> V {
        self.fresh += 1;
        self.add(Node::Unknown(self.fresh))
    }

    pub(crate) fn get(&self, v: V) -> &Node {
        // Every V was made by `add` of this arena, and nodes are never removed.
        &self.nodes[v.0 as usize]
    }

    /// All values.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub(crate) fn prop(&mut self, prop: Prop, account: u32) -> V {
        self.add(Node::Prop(prop, account))
    }

    /// `a == b`, the smaller number first.
    pub(crate) fn eq(&mut self, a: V, b: V) -> V {
        let (a, b) = (a.min(b), a.max(b));
        self.add(Node::Bin(BinOp::Eq, a, b))
    }

    pub(crate) fn children(&self, v: V) -> Vec<V> {
        match self.get(v) {
            Node::Field(a, _) | Node::Elem(a) | Node::Not(a) | Node::Neg(a) | Node::Cast(a, _) | Node::Bump(a) => {
                vec![*a]
            }
            Node::Index(a, b) | Node::Bin(_, a, b) => vec![*a, *b],
            Node::Call(_, args) | Node::Tuple(args) | Node::Array(args) | Node::Phi(args) => args.clone(),
            Node::Pda(seeds, bump) => seeds.iter().copied().chain(*bump).collect(),
            Node::Struct(_, fields) => fields.iter().map(|(_, v)| *v).collect(),
            Node::Res(ok, _) => vec![*ok],
            Node::Cpi(program, accounts, seeds) => [*program, *accounts].into_iter().chain(*seeds).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether some part of a value, itself included, is so. Looks at a bounded number of parts.
    pub(crate) fn any(&self, v: V, test: &dyn Fn(&Node) -> bool) -> bool {
        let mut open = vec![v];
        let mut seen = std::collections::HashSet::new();
        while let Some(v) = open.pop() {
            if !seen.insert(v) || seen.len() > 400 {
                continue;
            }
            if test(self.get(v)) {
                return true;
            }
            open.extend(self.children(v));
        }
        false
    }

    /// The account that a value is, is of, or was read from.
    pub(crate) fn account(&self, v: V) -> Option<u32> {
        match self.get(v) {
            Node::Account(a) | Node::Info(a) | Node::Prop(_, a) | Node::State(a, _) => Some(*a),
            Node::Field(inner, _)
            | Node::Index(inner, _)
            | Node::Elem(inner)
            | Node::Res(inner, _)
            | Node::Cast(inner, _) => self.account(*inner),
            Node::Call(_, args) => args.first().and_then(|first| self.account(*first)),
            _ => None,
        }
    }

    /// The account whose bytes a value is or points into.
    pub(crate) fn data_of(&self, v: V) -> Option<u32> {
        match self.get(v) {
            Node::Prop(Prop::Data, a) => Some(*a),
            Node::Index(inner, _) | Node::Elem(inner) | Node::Res(inner, _) | Node::Cast(inner, _) => {
                self.data_of(*inner)
            }
            Node::Call(_, args) | Node::Phi(args) | Node::Tuple(args) => args.iter().find_map(|arg| self.data_of(*arg)),
            Node::Field(inner, _) => self.data_of(*inner),
            _ => None,
        }
    }

    /// The account whose typed content a field belongs to, and the outermost field's name.
    pub(crate) fn state_field(&self, v: V) -> Option<(u32, Name, Name)> {
        match self.get(v) {
            Node::Field(inner, name) => match self.get(*inner) {
                Node::State(a, ty) => Some((*a, ty.clone(), name.clone())),
                _ => self.state_field(*inner),
            },
            Node::Index(inner, _) | Node::Elem(inner) | Node::Res(inner, _) | Node::Cast(inner, _) => {
                self.state_field(*inner)
            }
            Node::Call(_, args) => args.first().and_then(|first| self.state_field(*first)),
            _ => None,
        }
    }
}
