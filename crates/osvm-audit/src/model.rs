//! What detectors ask: which accounts a handler has, what it does with them, and what is known when it does.

use crate::{
    Confidence, Finding, Location, Rule, Severity, Span, Step,
    interp::{Account, Action, Event, Fact, Framework, Lamports, Node, Prop, Run, V, Wrapper},
    syntax::{BinOp, Lit, Name},
    whole::{Ask, Whole},
};

/// One handler as detectors see it.
pub(crate) struct View<'r, 'a> {
    pub(crate) run: &'r Run<'a>,
    whole: &'r Whole,
    pub(crate) group: u32,
    pub(crate) events: Vec<&'r Event>,
    pub(crate) accounts: Vec<u32>,
}

impl<'r, 'a> View<'r, 'a> {
    pub(crate) fn new(run: &'r Run<'a>, whole: &'r Whole, group: u32) -> Self {
        let mut line = vec![group];
        let mut at = group;
        while let Some(parent) = run.groups.get(at as usize).and_then(|group| group.parent) {
            line.push(parent);
            at = parent;
        }
        let events = run.events.iter().filter(|event| line.contains(&event.group)).collect();
        let accounts = (0..run.accounts.len() as u32)
            .filter(|account| run.accounts.get(*account as usize).is_some_and(|account| line.contains(&account.group)))
            .collect();
        Self { run, whole, group, events, accounts }
    }

    /// Asks about the whole package.
    pub(crate) fn knows(&self, ask: Ask) -> bool {
        let answer = self.whole.answer(&ask);
        self.run.index.hear(ask, answer);
        answer
    }

    pub(crate) fn handler(&self) -> &str {
        self.run.groups.get(self.group as usize).map_or("", |group| &group.name)
    }

    /// Where the handler begins.
    pub(crate) fn place(&self) -> (usize, Span) {
        self.run.groups.get(self.group as usize).map_or((0, Span::default()), |group| (group.file, group.span))
    }

    pub(crate) fn account(&self, account: u32) -> &'r Account {
        &self.run.accounts[account as usize]
    }

    pub(crate) fn name(&self, account: u32) -> &'r str {
        &self.account(account).name
    }

    pub(crate) fn node(&self, v: V) -> &'r Node {
        self.run.arena.get(v)
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.run.framework == Framework::Plain
    }

    pub(crate) fn raw(&self, account: u32) -> bool {
        self.account(account).wrapper == Wrapper::Raw
    }

    /// Owner and type are checked by the wrapper.
    pub(crate) fn typed(&self, account: u32) -> bool {
        self.account(account).wrapper == Wrapper::Typed
    }

    /// Some account's declaration is out of sight.
    pub(crate) fn unseen(&self) -> bool {
        self.accounts.iter().any(|account| self.account(*account).wrapper == Wrapper::Unseen)
    }

    /// Whether some fact, or each side of an alternative, passes the test.
    pub(crate) fn entails(&self, facts: &[Fact], test: &dyn Fn(&Node, bool) -> bool) -> bool {
        facts.iter().any(|(v, truth)| self.entailed(*v, *truth, test, 0))
    }

    fn entailed(&self, v: V, truth: bool, test: &dyn Fn(&Node, bool) -> bool, depth: u32) -> bool {
        if depth > 24 {
            return false;
        }
        let again = |v: V, truth: bool| self.entailed(v, truth, test, depth + 1);
        match (self.node(v), truth) {
            (Node::Not(inner), _) => again(*inner, !truth),
            (Node::Bin(BinOp::And, a, b), true) | (Node::Bin(BinOp::Or, a, b), false) => {
                again(*a, truth) || again(*b, truth)
            }
            (Node::Bin(BinOp::Or, a, b), true) | (Node::Bin(BinOp::And, a, b), false) => {
                again(*a, truth) && again(*b, truth)
            }
            (node, _) => test(node, truth),
        }
    }

    /// Whether a fact says that two values are equal of which one passes the test; the test gets the other one too.
    pub(crate) fn equal(&self, facts: &[Fact], test: &dyn Fn(V, V) -> bool) -> bool {
        self.entails(facts, &|node, truth| match node {
            Node::Bin(BinOp::Eq, a, b) if truth => test(*a, *b) || test(*b, *a),
            _ => false,
        })
    }

    fn is_prop(&self, v: V, prop: Prop, account: u32) -> bool {
        *self.node(v) == Node::Prop(prop, account)
    }

    pub(crate) fn signs(&self, account: u32, facts: &[Fact]) -> bool {
        self.account(account).wrapper == Wrapper::Signer
            || self.entails(facts, &|node, truth| truth && *node == Node::Prop(Prop::Signer, account))
            || self.equal(facts, &|a, b| {
                self.is_prop(a, Prop::Key, account)
                    && matches!(self.node(b), Node::Prop(Prop::Key, other)
                        if *other != account && self.account(*other).wrapper == Wrapper::Signer)
            })
    }

    /// Accounts that sign.
    pub(crate) fn signers(&self, facts: &[Fact]) -> Vec<u32> {
        self.accounts.iter().copied().filter(|account| self.signs(*account, facts)).collect()
    }

    /// Some fact speaks of signing, if only on one of several ways.
    pub(crate) fn mentions_signer(&self, facts: &[Fact]) -> bool {
        facts.iter().any(|(v, _)| self.run.arena.any(*v, &|node| matches!(node, Node::Prop(Prop::Signer, _))))
            || self.accounts.iter().any(|account| self.account(*account).wrapper == Wrapper::Signer)
    }

    /// The account belongs to a program that was compared.
    pub(crate) fn owned(&self, account: u32, facts: &[Fact]) -> bool {
        let entry = self.account(account);
        matches!(entry.wrapper, Wrapper::Typed | Wrapper::Program | Wrapper::Sysvar | Wrapper::SystemAccount)
            || entry.init
            || self.entails(facts, &|node, truth| match node {
                Node::Bin(BinOp::Eq, a, b) if truth => {
                    self.is_prop(*a, Prop::Owner, account) || self.is_prop(*b, Prop::Owner, account)
                }
                // A list of programs that the owner is in.
                Node::Call(_, args) => truth && args.iter().any(|arg| self.is_prop(*arg, Prop::Owner, account)),
                Node::Prop(Prop::Executable, have) => truth && *have == account,
                _ => false,
            })
    }

    /// The account's address is that of something the caller did not choose.
    pub(crate) fn pinned(&self, account: u32, facts: &[Fact]) -> bool {
        self.pinned_at(account, facts, 0)
    }

    fn pinned_at(&self, account: u32, facts: &[Fact], depth: u32) -> bool {
        if depth > 3 {
            return false;
        }
        let entry = self.account(account);
        matches!(entry.wrapper, Wrapper::Program | Wrapper::Sysvar)
            || self.equal(facts, &|a, b| self.is_prop(a, Prop::Key, account) && self.trusted(b, facts, depth))
            || self.entails(facts, &|node, truth| match node {
                Node::Call(name, args) => {
                    truth && name.contains("contains") && args.iter().any(|arg| self.is_prop(*arg, Prop::Key, account))
                }
                _ => false,
            })
    }

    /// A value that the caller of the program did not choose freely.
    fn trusted(&self, v: V, facts: &[Fact], depth: u32) -> bool {
        match self.node(v) {
            Node::Path(_) | Node::Lit(_) | Node::ProgramId | Node::Pda(..) => true,
            Node::Call(name, args) => {
                name.ends_with('!') || (!args.is_empty() && args.iter().all(|arg| self.trusted(*arg, facts, depth)))
            }
            Node::Prop(Prop::Key, other) => self.signs(*other, facts) || self.pinned_at(*other, facts, depth + 1),
            Node::Prop(Prop::Owner, other) => self.owned(*other, facts),
            Node::Field(inner, _)
            | Node::Index(inner, _)
            | Node::Elem(inner)
            | Node::Cast(inner, _)
            | Node::Res(inner, _) => match self.node(*inner) {
                // The runtime lets only the owner write.
                Node::State(other, _) => {
                    self.owned(*other, facts) || self.written(*other) || self.pinned_at(*other, facts, depth + 1)
                }
                _ => self.trusted(*inner, facts, depth),
            },
            Node::State(other, _) => self.owned(*other, facts),
            Node::Phi(parts) => parts.iter().all(|part| self.trusted(*part, facts, depth)),
            _ => false,
        }
    }

    /// The account is derived from seeds that were compared.
    pub(crate) fn derived(&self, account: u32, facts: &[Fact]) -> Option<(Vec<V>, Option<V>)> {
        facts.iter().find_map(|(v, truth)| match self.node(*v) {
            Node::Bin(BinOp::Eq, a, b) if *truth => {
                let other = if self.is_prop(*a, Prop::Key, account) {
                    *b
                } else if self.is_prop(*b, Prop::Key, account) {
                    *a
                } else {
                    return None;
                };
                match self.node(other) {
                    Node::Pda(seeds, bump) => Some((seeds.clone(), *bump)),
                    _ => None,
                }
            }
            _ => None,
        })
    }

    /// A stored field of one account was compared with something: (account, field, with what).
    pub(crate) fn relations(&self, facts: &[Fact]) -> Vec<(u32, Name, V)> {
        let mut found = Vec::new();
        let mut open: Vec<V> = facts.iter().filter(|(_, truth)| *truth).map(|(v, _)| *v).collect();
        let mut budget = 2_000;
        while let Some(v) = open.pop() {
            budget -= 1;
            if budget == 0 {
                break;
            }
            match self.node(v) {
                Node::Bin(BinOp::And | BinOp::Or, a, b) => open.extend([*a, *b]),
                Node::Bin(BinOp::Eq, a, b) => {
                    for (this, that) in [(*a, *b), (*b, *a)] {
                        if let Some((account, _, field)) = self.run.arena.state_field(this) {
                            found.push((account, field, that));
                        } else if let Some(account) = self.run.arena.data_of(this)
                            && !matches!(self.node(that), Node::Lit(_) | Node::Path(_))
                        {
                            found.push((account, "data".into(), that));
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// The account is tied to something else: a stored field was compared, or its seeds hold another account's key.
    pub(crate) fn linked(&self, account: u32, facts: &[Fact]) -> bool {
        if self
            .relations(facts)
            .iter()
            .any(|(have, _, other)| *have == account && self.run.arena.account(*other) != Some(account))
        {
            return true;
        }
        self.equal(facts, &|a, b| {
            self.is_prop(a, Prop::Key, account)
                && match self.node(b) {
                    Node::Pda(seeds, _) => {
                        seeds.iter().any(|seed| {
                            self.run.arena.any(*seed, &|node| match node {
                                Node::Prop(Prop::Key, other) => *other != account,
                                Node::State(other, _) => *other != account,
                                _ => false,
                            })
                        }) || seeds.iter().all(|seed| matches!(self.node(*seed), Node::Lit(_) | Node::Path(_)))
                    }
                    _ => self.trusted(b, facts, 0),
                }
        })
    }

    /// A signer whose key was compared with a stored or a fixed address, or names an account by its seeds.
    pub(crate) fn tied(&self, signer: u32, facts: &[Fact]) -> bool {
        let own = |v: V| *self.node(v) == Node::Prop(Prop::Key, signer);
        self.linked(signer, facts)
            || self.relations(facts).iter().any(|(_, _, other)| own(*other))
            || self.equal(facts, &|a, b| own(a) && !matches!(self.node(b), Node::Prop(..)))
            || self.accounts.iter().any(|account| {
                self.derived(*account, facts).is_some_and(|(seeds, _)| {
                    seeds.iter().any(|seed| self.run.arena.any(*seed, &|node| *node == Node::Prop(Prop::Key, signer)))
                })
            })
            || facts.iter().any(|(v, truth)| {
                // A list or a map of those who may.
                *truth
                    && matches!(self.node(*v), Node::Call(_, args)
                        if args.len() > 1 && args.iter().any(|arg| self.run.arena.any(*arg, &|node| *node == Node::Prop(Prop::Key, signer)))
                            && args.iter().any(|arg| self.read_of_state(*arg)))
            })
    }

    /// Instruction data, or a parameter of a plain function.
    pub(crate) fn given_by_caller(&self, v: V) -> bool {
        self.run.arena.any(v, &|node| matches!(node, Node::Arg(..)))
    }

    /// Content of an account.
    pub(crate) fn read_of_state(&self, v: V) -> bool {
        self.run.arena.any(v, &|node| matches!(node, Node::State(..) | Node::Prop(Prop::Lamports | Prop::Data, _)))
    }

    /// An address, by its declaration or by how it was made.
    pub(crate) fn is_address(&self, file: usize, place: V, value: V) -> bool {
        let declared = self.run.ty(file, place).map(|ty| ty.name);
        match declared.as_deref() {
            Some("Pubkey" | "Address") => true,
            Some("Option") | None => {
                let value = self.strip(value);
                matches!(self.node(value), Node::Prop(Prop::Key, _))
                    || self.run.ty(file, value).is_some_and(|ty| matches!(&*ty.name, "Pubkey" | "Address"))
            }
            Some(_) => false,
        }
    }

    pub(crate) fn strip(&self, v: V) -> V {
        match self.node(v) {
            Node::Res(inner, _) => self.strip(*inner),
            _ => v,
        }
    }

    /// Whether an account is made by a call in this handler.
    pub(crate) fn created(&self, account: u32) -> bool {
        self.account(account).init
            || self.events.iter().any(|event| match &event.action {
                Action::Cpi { name, parts, .. } => {
                    let name = name.to_lowercase();
                    let makes = (name.contains("create") && name.contains("account")) || name.contains("allocate");
                    makes
                        && name != "create_program_account"
                        && parts.iter().any(|(_, v)| {
                            self.run.arena.account(*v) == Some(account)
                                || self.run.arena.any(*v, &|node| matches!(node, Node::Pda(..)))
                                    && self.key_of(*v, &event.facts) == Some(account)
                        })
                }
                _ => false,
            })
    }

    /// The account that has this address.
    fn key_of(&self, v: V, facts: &[Fact]) -> Option<u32> {
        self.accounts
            .iter()
            .copied()
            .find(|account| self.equal(facts, &|a, b| self.is_prop(a, Prop::Key, *account) && b == v))
    }

    /// Whether the handler changes what only the owning program may change.
    pub(crate) fn written(&self, account: u32) -> bool {
        self.events.iter().any(|event| match &event.action {
            Action::WriteField { account: have, .. }
            | Action::WriteData { account: have, .. }
            | Action::Close { account: have, .. }
            | Action::Assign { account: have, .. }
            | Action::Realloc { account: have, .. } => *have == account,
            Action::Lamports { account: have, change, .. } => *have == account && *change != Lamports::Credited,
            Action::Deserialize { account: have, how, .. } => *have == account && how.contains("mut"),
            _ => false,
        })
    }

    /// Whether the handler changes anything at all.
    pub(crate) fn effects(&self) -> bool {
        self.events.iter().any(|event| {
            matches!(
                event.action,
                Action::WriteField { .. }
                    | Action::WriteData { .. }
                    | Action::Lamports { .. }
                    | Action::Close { .. }
                    | Action::Cpi { .. }
            )
        })
    }

    /// Whether the handler reads an account's bytes as something.
    pub(crate) fn read(&self, account: u32) -> bool {
        self.events.iter().any(|event| match &event.action {
            Action::Deserialize { account: have, .. } | Action::ReadData { account: have } => *have == account,
            _ => false,
        })
    }

    /// An account out of sight got into a call that could not be followed, which may have checked it.
    pub(crate) fn passed_out(&self, account: u32) -> bool {
        self.events.iter().any(|event| match &event.action {
            Action::Unfollowed { name, args } => {
                let quiet = ["sol_log", "size_of", "drop", "clone"].iter().any(|quiet| name.contains(quiet));
                !quiet
                    && args.iter().any(
                        |arg| matches!(self.node(*arg), Node::Info(have) | Node::Account(have) if *have == account),
                    )
            }
            _ => false,
        })
    }

    pub(crate) fn location(&self, file: usize, span: Span) -> Location {
        Location { file: self.run.index.name(file).to_owned(), span }
    }

    pub(crate) fn step(&self, file: usize, span: Span, note: impl Into<String>) -> Step {
        let Location { file, span } = self.location(file, span);
        Step { file, span, note: note.into() }
    }

    /// Where an account comes into the handler.
    pub(crate) fn origin(&self, account: u32) -> Step {
        let entry = self.account(account);
        let what = match entry.wrapper {
            Wrapper::Raw => "nothing is checked of it here",
            Wrapper::Signer => "it signs",
            Wrapper::Typed => "its owner and type are checked",
            Wrapper::SystemAccount => "the system program owns it",
            Wrapper::Program | Wrapper::Sysvar => "its address is checked",
            Wrapper::Unseen => "its declaration is not among the sources",
        };
        self.step(entry.file, entry.span, format!("`{}` comes in; {what}", entry.name))
    }

    /// Where a fact was learnt.
    pub(crate) fn learnt(&self, facts: &[Fact], note: &str, test: &dyn Fn(&Node) -> bool) -> Option<Step> {
        let fact = facts.iter().find(|(v, _)| test(self.node(*v)))?;
        let (file, span) = self.run.learnt.get(fact)?;
        Some(self.step(*file, *span, note))
    }

    /// A finding at an event.
    pub(crate) fn at(
        &self,
        rule: &'static Rule,
        event: &Event,
        how: How,
        message: String,
        evidence: Vec<Step>,
    ) -> Finding {
        self.finding(rule, event.file, event.span, how, message, evidence)
    }

    pub(crate) fn finding(
        &self,
        rule: &'static Rule,
        file: usize,
        span: Span,
        how: How,
        message: String,
        evidence: Vec<Step>,
    ) -> Finding {
        Finding {
            rule: rule.id,
            class: rule.class,
            title: rule.title,
            severity: how.severity,
            confidence: how.confidence,
            message,
            help: rule.fix.to_owned(),
            edit: None,
            location: self.location(file, span),
            evidence,
            handler: (!self.is_plain() && !self.handler().is_empty()).then(|| self.handler().to_owned()),
        }
    }

    /// A number that a literal is.
    pub(crate) fn literal(&self, v: V) -> Option<u128> {
        match self.node(v) {
            Node::Lit(Lit::Int(value, _)) => Some(*value),
            _ => None,
        }
    }
}

/// How bad and how sure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) severity: Severity,
    pub(crate) confidence: Confidence,
}

pub(crate) const fn how(severity: Severity, confidence: Confidence) -> How {
    How { severity, confidence }
}
