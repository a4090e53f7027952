//! Runs handlers on symbolic values and records what they do under which conditions.
//!
//! Control flow of Rust is structured, so dominance needs no graph: a fact holds where the state carries it, states
//! meet by intersection, and a path that returns an error or panics drops out. A transaction is atomic: a check that
//! comes after a use, on every path on which the handler still succeeds, guards the use as well; so each event also
//! gets the facts of the ends of the blocks and functions that it stands in. Calls are followed by running the callee
//! in place; a callee's facts reach the caller only if the caller looks at its result (`?`, `unwrap`, a condition).
//!
//! Not done: loops run once, memory has no aliases, integers have no ranges.

mod account;
mod assign;
mod call;
mod control;
mod eval;
mod event;
mod flow;
mod method;
mod pattern;
mod roots;
mod value;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

pub(crate) use account::{Account, Wrapper};
pub(crate) use event::{Action, Event, Lamports, Read};
pub(crate) use value::{Arena, Fact, Node, Prop, V};

use crate::{
    Span,
    fingerprint::Quick,
    index::{At, Index},
    lookup::Lookup,
    syntax::{Function, Name, Ty},
};

pub(crate) use roots::{Ran, enter, run_package};

/// Expressions that one root may evaluate.
const STEPS: usize = 400_000;
/// Calls in calls that are followed.
const DEEPEST: usize = 14;
/// The same for functions that no handler calls.
const DEEPEST_PLAIN: usize = 4;
/// What one root may take.
const LIMIT: Duration = Duration::from_secs(2);
/// Events of one root.
const EVENTS: usize = 30_000;

/// The framework that a handler is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framework {
    Anchor,
    Native,
    Pinocchio,
    /// A function that no handler calls.
    Plain,
}

impl Framework {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Anchor => "anchor",
            Self::Native => "native",
            Self::Pinocchio => "pinocchio",
            Self::Plain => "plain",
        }
    }
}

/// A handler: a root, or an arm of a dispatcher.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) parent: Option<u32>,
    pub(crate) file: usize,
    pub(crate) span: Span,
    /// Accounts were taken while this group ran.
    pub(crate) consumed: bool,
}

/// An instance of a struct of accounts.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) struct_name: Name,
    pub(crate) fields: Vec<(Name, V)>,
    /// The struct is declared somewhere that was read.
    pub(crate) declared: bool,
}

#[derive(Clone, Debug, Default)]
struct Slice {
    accounts: HashMap<u32, u32, Quick>,
    remaining: bool,
    /// Elements are made by iterating, not by place.
    each: Option<u32>,
}

/// What is known at a point.
#[derive(Clone, Debug, Default)]
struct State {
    vars: Vec<(Name, V)>,
    facts: Vec<Fact>,
    /// Positions of iterators over accounts.
    iters: Vec<(u32, u32)>,
    dead: bool,
}

struct Frame {
    file: usize,
    at: Option<At>,
    self_ty: Option<Name>,
    /// Where the function's own variables begin.
    base: usize,
    exits: Vec<(V, Vec<Fact>)>,
    /// The first event of the innermost branch.
    branch: usize,
    /// The function gives a `Result` or an `Option`.
    fallible: bool,
}

/// One root's run with all that detectors ask of it.
pub(crate) struct Run<'a> {
    pub(crate) index: Lookup<'a>,
    pub(crate) framework: Framework,
    pub(crate) arena: Arena,
    pub(crate) accounts: Vec<Account>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) events: Vec<Event>,
    pub(crate) groups: Vec<Group>,
    pub(crate) arg_types: HashMap<V, Ty, Quick>,
    /// Where a fact was first learnt.
    pub(crate) learnt: HashMap<Fact, (usize, Span), Quick>,
    /// Functions that were run in place.
    pub(crate) followed: Vec<(At, u64)>,
    /// These functions with their files, the root first.
    pub(crate) bodies: Vec<(usize, &'a Function)>,
    /// Typed content that was read or loaded again, each with the number of events before it.
    pub(crate) reads: Vec<Read>,
    /// The run was cut short.
    pub(crate) exhausted: bool,
    slices: Vec<Slice>,
    closures: Vec<(&'a [crate::syntax::Pat], &'a crate::syntax::Expr)>,
    st: State,
    frames: Vec<Frame>,
    group: u32,
    steps: usize,
    deadline: Instant,
    args: u32,
    loops: u32,
    span: Span,
}

impl<'a> Run<'a> {
    fn new(index: &'a Index<'a>, framework: Framework, file: usize, name: String, span: Span) -> Self {
        let group = Group { name, parent: None, file, span, consumed: framework == Framework::Anchor };
        Self {
            index: Lookup::new(index),
            framework,
            arena: Arena::default(),
            accounts: Vec::new(),
            instances: Vec::new(),
            events: Vec::new(),
            groups: vec![group],
            arg_types: HashMap::default(),
            learnt: HashMap::default(),
            followed: Vec::new(),
            bodies: Vec::new(),
            reads: Vec::new(),
            exhausted: false,
            slices: Vec::new(),
            closures: Vec::new(),
            st: State::default(),
            frames: Vec::new(),
            group: 0,
            steps: 0,
            deadline: Instant::now() + LIMIT,
            args: 0,
            loops: 0,
            span: Span::default(),
        }
    }

    fn file(&self) -> usize {
        self.frames.last().map_or(0, |frame| frame.file)
    }

    fn emit(&mut self, action: Action, span: Span) {
        if self.st.dead {
            return;
        }
        if self.events.len() >= EVENTS {
            self.exhausted = true;
            return;
        }
        let (file, facts) = (self.file(), self.st.facts.clone());
        let event = Event { action, file, span, facts, group: self.group, sealed: false };
        self.events.push(event);
    }

    /// Content of an account is looked at, or loaded again.
    fn look(&mut self, account: u32, field: Option<&Name>, span: Span) {
        if self.reads.len() < EVENTS && !self.st.dead {
            let (file, group, after) = (self.file(), self.group, self.events.len());
            self.reads.push(Read { account, field: field.cloned(), file, span, group, after });
        }
    }

    fn arg(&mut self, name: &Name, ty: &Ty) -> V {
        self.args += 1;
        let v = self.arena.add(Node::Arg(name.clone(), self.args));
        self.arg_types.insert(v, ty.clone());
        v
    }

    fn unknown(&mut self) -> V {
        self.arena.unknown()
    }

    fn path(&mut self, names: &[&str]) -> V {
        self.arena.add(Node::Path(names.iter().map(|name| Name::from(*name)).collect()))
    }

    fn slice(&mut self, remaining: bool) -> V {
        self.slices.push(Slice { remaining, ..Slice::default() });
        self.arena.add(Node::Slice(self.slices.len() as u32 - 1, 0))
    }

    /// The account at a place of a list, made when first asked for.
    fn element(&mut self, slice: u32, place: u32, span: Span) -> V {
        let file = self.file();
        let group = self.group;
        let known = self.slices[slice as usize].accounts.get(&place).copied();
        let account = known.filter(|account| self.within(self.accounts[*account as usize].group, group));
        let account = account.unwrap_or_else(|| {
            let mut made = Account::raw(format!("accounts[{place}]").as_str().into(), file, span, group);
            made.remaining = self.slices[slice as usize].remaining;
            self.accounts.push(made);
            let account = self.accounts.len() as u32 - 1;
            self.slices[slice as usize].accounts.insert(place, account);
            account
        });
        self.groups[group as usize].consumed = true;
        self.arena.add(Node::Info(account))
    }

    /// Any account of a list.
    fn each(&mut self, slice: u32, span: Span) -> V {
        let (file, group) = (self.file(), self.group);
        let known = self.slices[slice as usize].each;
        let account = known.filter(|account| self.within(self.accounts[*account as usize].group, group));
        let account = account.unwrap_or_else(|| {
            let mut made = Account::raw("account".into(), file, span, group);
            made.remaining = self.slices[slice as usize].remaining;
            made.element = true;
            self.accounts.push(made);
            let account = self.accounts.len() as u32 - 1;
            self.slices[slice as usize].each = Some(account);
            account
        });
        self.groups[group as usize].consumed = true;
        self.arena.add(Node::Info(account))
    }

    /// Whether `inner` is `outer` or the other way round one of its arms' ancestors.
    fn within(&self, owner: u32, mut group: u32) -> bool {
        loop {
            if owner == group {
                return true;
            }
            match self.groups[group as usize].parent {
                Some(parent) => group = parent,
                None => return false,
            }
        }
    }

    /// A better name for an account that had only a place so far.
    fn name_account(&mut self, v: V, name: &Name, span: Span) {
        if let Node::Info(account) | Node::Account(account) = *self.arena.get(v)
            && let Some(account) = self.accounts.get_mut(account as usize)
            && !account.named
        {
            account.name = name.clone();
            account.span = span;
            account.named = true;
        }
    }

    /// The type of a value as far as declarations tell.
    pub(crate) fn ty(&self, file: usize, v: V) -> Option<Ty> {
        let simple = |name: &str| Ty { name: name.into(), path: Vec::new(), args: Vec::new(), by_mut: false };
        match self.arena.get(v) {
            Node::Prop(Prop::Lamports, _) => Some(simple("u64")),
            Node::Prop(Prop::Key | Prop::Owner, _) | Node::Pda(..) | Node::ProgramId => Some(simple("Pubkey")),
            Node::Prop(Prop::Len, _) => Some(simple("usize")),
            Node::Prop(Prop::Signer | Prop::Writable | Prop::Empty | Prop::Executable, _) => Some(simple("bool")),
            Node::State(_, name) => Some(simple(name)),
            Node::Field(inner, name) => {
                let outer = self.ty(file, *inner)?;
                let item = self.index.structure(file, &outer.name)?;
                item.fields.iter().find(|field| field.name == *name).map(|field| field.ty.clone())
            }
            Node::Index(inner, _) | Node::Elem(inner) => self.ty(file, *inner)?.args.first().cloned(),
            Node::Res(inner, _) | Node::Neg(inner) => self.ty(file, *inner),
            Node::Cast(_, name) => Some(simple(name)),
            Node::Lit(crate::syntax::Lit::Int(_, suffix)) if !suffix.is_empty() => Some(simple(suffix)),
            Node::Bin(op, left, right) => {
                use crate::syntax::BinOp as B;
                match op {
                    B::Add | B::Sub | B::Mul | B::Div | B::Rem | B::Bit => {
                        self.ty(file, *left).or_else(|| self.ty(file, *right))
                    }
                    B::Shift => self.ty(file, *left),
                    _ => Some(simple("bool")),
                }
            }
            Node::Struct(path, _) => path.last().map(|name| simple(name)),
            Node::Phi(parts) => parts.iter().find_map(|part| self.ty(file, *part)),
            Node::Call(name, args) => {
                let name = name.rsplit("::").next().unwrap_or(name);
                if ["checked_", "saturating_", "wrapping_"].iter().any(|start| name.starts_with(start))
                    || matches!(name, "min" | "max" | "abs" | "pow" | "get")
                {
                    return args.first().and_then(|first| self.ty(file, *first));
                }
                self.arg_types.get(&v).cloned()
            }
            _ => self.arg_types.get(&v).cloned(),
        }
    }
}
