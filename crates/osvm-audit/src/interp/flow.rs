//! Facts: what is learnt from conditions, and what is left where paths meet.

use super::{Fact, Node, Prop, Run, State, V};
use crate::{Span, syntax::BinOp};

/// More facts than this at one point are not kept.
const MOST: usize = 400;
/// Facts of one side of a join that are combined with those of the other side.
const JOINED: usize = 8;

/// Facts are kept sorted, so that they are found and met quickly.
pub(super) fn insert(facts: &mut Vec<Fact>, fact: Fact) {
    if let Err(place) = facts.binary_search(&fact)
        && facts.len() < MOST
    {
        facts.insert(place, fact);
    }
}

impl Run<'_> {
    pub(super) fn learn(&mut self, fact: Fact, span: Span) {
        insert(&mut self.st.facts, fact);
        let file = self.file();
        self.learnt.entry(fact).or_insert((file, span));
    }

    fn learn_all(&mut self, facts: &[Fact], span: Span) {
        for fact in facts {
            self.learn(*fact, span);
        }
    }

    /// What follows from a value being true or false.
    pub(super) fn assume(&mut self, v: V, truth: bool, span: Span) {
        match self.arena.get(v).clone() {
            Node::Not(inner) => self.assume(inner, !truth, span),
            Node::Bin(BinOp::And, a, b) if truth => {
                self.assume(a, true, span);
                self.assume(b, true, span);
            }
            Node::Bin(BinOp::Or, a, b) if !truth => {
                self.assume(a, false, span);
                self.assume(b, false, span);
            }
            Node::Bin(BinOp::Ne, a, b) => {
                let eq = self.arena.eq(a, b);
                self.assume(eq, !truth, span);
            }
            // `flag == true` and `flag == false`
            Node::Bin(BinOp::Eq, a, b) => {
                let as_bool = |run: &Self, v: V| match run.arena.get(v) {
                    Node::Lit(crate::syntax::Lit::Bool(value)) => Some(*value),
                    _ => None,
                };
                match (as_bool(self, a), as_bool(self, b)) {
                    (Some(value), None) => self.assume(b, truth == value, span),
                    (None, Some(value)) => self.assume(a, truth == value, span),
                    _ => self.learn((v, truth), span),
                }
            }
            Node::Res(ok, facts) if truth => {
                self.learn_all(&facts, span);
                self.assume(ok, true, span);
            }
            Node::Call(name, args) => {
                let first = args.first().copied();
                match (&*name, truth, first) {
                    ("is_ok" | "is_some" | "let:Ok" | "let:Some", true, Some(first))
                    | ("is_err" | "is_none" | "let:Err" | "let:None", false, Some(first)) => {
                        self.force(first, span);
                        if let Node::Account(account) | Node::Info(account) = *self.arena.get(self.inner(first))
                            && self.accounts[account as usize].optional
                        {
                            self.learn((v, truth), span);
                        }
                    }
                    ("eq" | "pubkey_eq" | "address_eq" | "sol_memcmp_eq", _, _) if args.len() == 2 => {
                        let (a, b) = (self.as_key(args[0]), self.as_key(args[1]));
                        let eq = self.arena.eq(a, b);
                        self.assume(eq, truth, span);
                    }
                    ("ne", _, _) if args.len() == 2 => {
                        let eq = self.arena.eq(args[0], args[1]);
                        self.assume(eq, !truth, span);
                    }
                    _ => self.learn((v, truth), span),
                }
            }
            Node::Lit(_) | Node::Unit | Node::Unknown(_) => {}
            _ => self.learn((v, truth), span),
        }
    }

    /// The value inside a result that has to be there from here on.
    pub(super) fn force(&mut self, v: V, span: Span) -> V {
        match self.arena.get(v).clone() {
            Node::Res(ok, facts) => {
                self.learn_all(&facts, span);
                self.force(ok, span)
            }
            Node::Failed => {
                self.st.dead = true;
                v
            }
            // A check that gives a result, as steel's `account.is_signer()?`.
            Node::Prop(Prop::Signer | Prop::Writable | Prop::Executable | Prop::Empty, account) => {
                self.learn((v, true), span);
                self.arena.add(Node::Info(account))
            }
            Node::Bin(op, ..) if super::account::compares(op) || matches!(op, BinOp::And | BinOp::Or) => {
                self.assume(v, true, span);
                v
            }
            Node::Call(..) => {
                self.learn((v, true), span);
                v
            }
            _ => v,
        }
    }

    /// Runs `then` on a path of its own and gives the state it ends in. Its events get the facts of its end.
    pub(super) fn branch<T>(&mut self, then: impl FnOnce(&mut Self) -> T) -> (T, State) {
        let before = self.st.clone();
        let first = self.events.len();
        let outer = self.frames.last_mut().map(|frame| std::mem::replace(&mut frame.branch, first));
        let made = then(self);
        if let (Some(frame), Some(outer)) = (self.frames.last_mut(), outer) {
            frame.branch = outer;
        }
        if !self.st.dead {
            let facts = self.st.facts.clone();
            self.spread(first, &facts, false);
        }
        let after = std::mem::replace(&mut self.st, before);
        (made, after)
    }

    /// Gives facts to the events from `first` on.
    pub(super) fn spread(&mut self, first: usize, facts: &[Fact], seal: bool) {
        for event in self.events.iter_mut().skip(first).filter(|event| !event.sealed) {
            for fact in facts {
                insert(&mut event.facts, *fact);
            }
            event.sealed |= seal;
        }
    }

    /// Goes on where these paths meet.
    pub(super) fn meet(&mut self, paths: Vec<State>) {
        let mut alive: Vec<State> = paths.into_iter().filter(|path| !path.dead).collect();
        let Some(mut met) = alive.pop() else {
            self.st.dead = true;
            return;
        };
        for other in alive {
            met = self.meet_two(met, other);
        }
        let vars = self.st.vars.len();
        met.vars.truncate(vars);
        self.st = met;
    }

    fn meet_two(&mut self, a: State, b: State) -> State {
        let vars = a
            .vars
            .iter()
            .zip(&b.vars)
            .map(|((name, left), (_, right))| {
                if left == right {
                    return (name.clone(), *left);
                }
                let mut parts = Vec::new();
                for side in [*left, *right] {
                    match self.arena.get(side) {
                        Node::Phi(inner) => parts.extend(inner.iter().copied()),
                        _ => parts.push(side),
                    }
                }
                parts.sort_unstable();
                parts.dedup();
                parts.truncate(6);
                (name.clone(), self.arena.add(Node::Phi(parts)))
            })
            .collect();
        let facts = self.meet_facts(&a.facts, &b.facts);
        let mut iters = a.iters;
        for (iter, place) in &b.iters {
            match iters.iter_mut().find(|(have, _)| have == iter) {
                Some((_, have)) => *have = (*have).max(*place),
                None => iters.push((*iter, *place)),
            }
        }
        State { vars, facts, iters, dead: false }
    }

    /// What holds on both sides, and that one of the two rests holds.
    pub(super) fn meet_facts(&mut self, a: &[Fact], b: &[Fact]) -> Vec<Fact> {
        let mut both: Vec<Fact> = a.iter().filter(|fact| b.binary_search(fact).is_ok()).copied().collect();
        let rest = |side: &[Fact]| -> Vec<Fact> {
            side.iter().filter(|fact| both.binary_search(fact).is_err()).take(JOINED).copied().collect()
        };
        let (mut left, mut right) = (rest(a), rest(b));
        // That a condition was true here and false there says nothing where the paths meet.
        let opposite = |side: &[Fact], (v, truth): &Fact| side.contains(&(*v, !truth));
        let (one, other) = (left.clone(), right.clone());
        if one.iter().all(|fact| opposite(&other, fact)) || other.iter().all(|fact| opposite(&one, fact)) {
            let (mut bare, mut more) = (one, other);
            if bare.len() > more.len() {
                std::mem::swap(&mut bare, &mut more);
            }
            // `if a {} else if b {} else { fail }` leaves: a or b.
            more.retain(|fact| !opposite(&bare, fact));
            let positive = bare.iter().any(|(_, truth)| *truth);
            (left, right) = if positive { (bare, more) } else { (Vec::new(), more) };
        }
        if !left.is_empty() && !right.is_empty() {
            let left = self.conjunction(&left);
            let right = self.conjunction(&right);
            let either = self.arena.add(Node::Bin(BinOp::Or, left, right));
            let file = self.file();
            let span = self.span;
            self.learnt.entry((either, true)).or_insert((file, span));
            insert(&mut both, (either, true));
        }
        both
    }

    fn conjunction(&mut self, facts: &[Fact]) -> V {
        let mut all = None;
        for (v, truth) in facts {
            let v = if *truth { *v } else { self.arena.add(Node::Not(*v)) };
            all = Some(match all {
                None => v,
                Some(before) => self.arena.add(Node::Bin(BinOp::And, before, v)),
            });
        }
        all.unwrap_or_else(|| self.arena.add(Node::Unit))
    }
}
