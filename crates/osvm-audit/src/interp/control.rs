//! Blocks, conditions, matches and loops: which side is gone, and what the sides leave behind where they meet.

use super::{Action, Node, Run, V, eval::called};
use crate::{
    Span,
    syntax::{BinOp, Block, Expr, Kind, Lit, Pat, Stmt},
};

impl<'a> Run<'a> {
    pub(super) fn eval_if(&mut self, cond: &'a Expr, then: &'a Block, otherwise: Option<&'a Expr>, span: Span) -> V {
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

    pub(super) fn eval_match(&mut self, on: &'a Expr, arms: &'a [crate::syntax::Arm], span: Span) -> V {
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

    pub(super) fn eval_while(&mut self, cond: Option<&'a Expr>, body: &'a Block, span: Span) {
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

    pub(super) fn eval_for(&mut self, pat: &'a Pat, over: &'a Expr, body: &'a Block, span: Span) {
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
