//! The index as one run asks it, and what it asked for: as long as the answers stay, so does what the run said.

use std::{cell::RefCell, collections::HashMap, collections::HashSet};

use crate::{
    fingerprint::{Ready, print},
    index::{At, Index},
    source::Sources,
    syntax::{Enum, Expr, Function, Name, Struct},
    whole::Ask,
};

/// What a run asked for, sorted.
pub(crate) type Asked = Box<[u64]>;

/// A question's number and that of its answer.
pub(crate) type Answers = HashMap<u64, u64, Ready>;

#[derive(Clone, Copy, Hash)]
enum Question<'a> {
    /// A function by its name and the type or module that it is in.
    Function(&'a str, &'a str),
    /// A function in no module of its file, for a path with a module before it.
    Free(&'a str),
    /// The only method of this name.
    Method(&'a str),
    Struct(&'a str),
    Enum(&'a str),
    Const(&'a str),
    /// A file's imports and package.
    File(&'a str),
}

/// What each question that something answers is answered with.
pub(crate) fn answers(sources: &Sources) -> Answers {
    let mut answers = Answers::default();
    let mut methods: HashMap<&str, (u64, u64)> = HashMap::new();
    for (at, package) in sources.packages.iter().enumerate() {
        let home = print(&(at, &package.manifest.dir, &package.manifest.dependencies));
        for file in &package.files {
            let Some(source) = sources.files.get(*file) else { continue };
            let Ok(unit) = &source.unit else { continue };
            let place = print(&(&source.name, home));
            let mut add = |question: &Question<'_>, answer: u64| {
                let slot = answers.entry(print(question)).or_default();
                *slot = print(&(*slot, place, answer));
            };
            add(&Question::File(&source.name), print(&unit.uses));
            for function in &unit.functions {
                let name: &str = &function.name;
                match (&function.self_ty, function.module.last()) {
                    (Some(ty), _) => add(&Question::Function(name, &ty.name), function.print),
                    (None, module) => {
                        add(&Question::Function(name, ""), function.print);
                        match module {
                            Some(module) => add(&Question::Function(name, module), function.print),
                            None => add(&Question::Free(name), function.print),
                        }
                    }
                }
                if function.takes_self {
                    let (count, whole) = methods.entry(name).or_default();
                    *count += 1;
                    *whole = print(&(place, function.print));
                }
            }
            unit.structs.iter().for_each(|item| add(&Question::Struct(&item.name), item.print));
            unit.enums.iter().for_each(|item| add(&Question::Enum(&item.name), item.print));
            unit.consts.iter().for_each(|item| add(&Question::Const(&item.name), item.print));
        }
    }
    for (name, (count, whole)) in methods {
        // Of several none is followed, whatever they do.
        answers.insert(print(&Question::Method(name)), if count == 1 { whole } else { 0 });
    }
    answers
}

/// Questions whose answers differ.
pub(crate) fn changed(before: &Answers, now: &Answers) -> Vec<u64> {
    let gone = before.keys().filter(|question| !now.contains_key(question));
    let other =
        now.iter().filter(|(question, answer)| before.get(question) != Some(answer)).map(|(question, _)| question);
    gone.chain(other).copied().collect()
}

/// The index, with a list of what was asked.
#[derive(Debug)]
pub(crate) struct Lookup<'a> {
    index: &'a Index<'a>,
    asked: RefCell<HashSet<u64, Ready>>,
    /// What rules asked about the package, and were told.
    heard: RefCell<HashMap<Ask, bool>>,
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(index: &'a Index<'a>) -> Self {
        Self { index, asked: RefCell::default(), heard: RefCell::default() }
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Asked {
        let mut asked: Vec<u64> = self.asked.borrow().iter().copied().collect();
        asked.sort_unstable();
        asked.into()
    }

    /// Notes what a rule asked about the package, and was told.
    pub(crate) fn hear(&self, ask: Ask, answer: bool) {
        self.heard.borrow_mut().insert(ask, answer);
    }

    /// All of that.
    pub(crate) fn heard(&self) -> Vec<(Ask, bool)> {
        self.heard.borrow().iter().map(|(ask, answer)| (ask.clone(), *answer)).collect()
    }

    fn ask(&self, from: usize, question: &Question<'_>) {
        let mut asked = self.asked.borrow_mut();
        asked.insert(print(question));
        asked.insert(print(&Question::File(self.name(from))));
    }

    /// A file's name.
    pub(crate) fn name(&self, file: usize) -> &'a str {
        self.index.names.get(file).copied().unwrap_or("")
    }

    /// What tells a function from all others.
    pub(crate) fn id(&self, file: usize, function: &Function) -> u64 {
        self.index.id(file, function)
    }

    /// A function that is entered without being looked for.
    pub(crate) fn enters(&self, file: usize, function: &Function) {
        let ty = function.self_ty.as_ref().map(|ty| &*ty.name);
        self.ask(file, &Question::Function(&function.name, ty.unwrap_or("")));
    }

    pub(crate) fn structure(&self, from: usize, name: &str) -> Option<&'a Struct> {
        self.ask(from, &Question::Struct(name));
        self.index.structure(from, name)
    }

    pub(crate) fn structure_at(&self, from: usize, name: &str) -> Option<(usize, &'a Struct)> {
        self.ask(from, &Question::Struct(name));
        self.index.structure_at(from, name)
    }

    pub(crate) fn enumeration(&self, from: usize, name: &str) -> Option<&'a Enum> {
        self.ask(from, &Question::Enum(name));
        self.index.enumeration(from, name)
    }

    pub(crate) fn constant(&self, from: usize, name: &str) -> Option<&'a Expr> {
        self.ask(from, &Question::Const(name));
        self.index.constant(from, name)
    }

    pub(crate) fn function(&self, from: usize, path: &[Name]) -> Option<(At, &'a Function)> {
        let (name, before) = path.split_last()?;
        match before.last().map(|qualifier| &**qualifier) {
            None | Some("crate" | "super" | "self") => self.ask(from, &Question::Function(name, "")),
            Some(qualifier) => {
                self.ask(from, &Question::Function(name, qualifier));
                self.ask(from, &Question::Free(name));
            }
        }
        self.index.function(from, path)
    }

    pub(crate) fn method(&self, from: usize, ty: Option<&str>, name: &str) -> Option<(At, &'a Function)> {
        match ty {
            Some(ty) => self.ask(from, &Question::Function(name, ty)),
            None => self.ask(from, &Question::Method(name)),
        }
        self.index.method(from, ty, name)
    }

    pub(crate) fn full_path(&self, file: usize, path: &[Name]) -> Vec<Name> {
        self.asked.borrow_mut().insert(print(&Question::File(self.name(file))));
        self.index.full_path(file, path)
    }
}
