//! Where runs begin: Anchor's handlers, entry points that take a list of accounts, and what none of them calls.

use std::{collections::HashSet, sync::Arc};

use super::{
    Framework, Node, Run, V,
    account::is_raw,
    call::{is_account, takes_accounts},
};
use crate::{
    fingerprint::print,
    index::{At, Index},
    memo::{Entry, Memo},
    source::{Package, Sources},
    syntax::{Function, Kind, Name, Pat, expressions},
};

/// What a run begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root<'a> {
    at: At,
    function: &'a Function,
}

impl Root<'_> {
    /// What it is remembered by.
    pub(crate) fn id(&self, index: &Index<'_>, framework: Framework) -> u64 {
        print(&(index.id(self.at.0, self.function), framework.as_str()))
    }
}

/// Functions of one package that are run as plain roots, at most.
const MOST_PLAIN: usize = 4_000;

/// A root that was run, now or before.
pub(crate) enum Ran<'a> {
    Now(u64, Box<Run<'a>>),
    /// Nothing that its run asked for has changed since.
    Before(Root<'a>, Framework, Arc<Entry>),
}

/// Runs everything in a package that can be entered, but for what is remembered.
pub(crate) fn run_package<'a>(
    sources: &'a Sources,
    package: &'a Package,
    index: &'a Index<'a>,
    memo: &Memo,
) -> Vec<Ran<'a>> {
    let mut all: Vec<Root<'a>> = Vec::new();
    for file in &package.files {
        let Some(source) = sources.files.get(*file) else { continue };
        let Ok(unit) = &source.unit else { continue };
        all.extend(unit.functions.iter().enumerate().map(|(at, function)| Root { at: (*file, at), function }));
    }
    let mut done: HashSet<At> = HashSet::new();
    let mut runs = Vec::new();
    let start =
        |roots: &mut dyn Iterator<Item = (Root<'a>, Framework)>, done: &mut HashSet<At>, runs: &mut Vec<Ran<'a>>| {
            for (root, framework) in roots {
                if !done.insert(root.at) {
                    continue;
                }
                let id = root.id(index, framework);
                if let Some(entry) = memo.get(id) {
                    done.extend(entry.followed.iter().filter_map(|id| index.of_id(*id)));
                    runs.push(Ran::Before(root, framework, entry));
                } else {
                    let run = enter(index, root, framework);
                    done.extend(run.followed.iter().map(|(at, _)| *at));
                    runs.push(Ran::Now(id, Box::new(run)));
                }
            }
        };
    // Anchor's own handlers, then handlers without their module.
    let by_anchor = package.manifest.dependencies.iter().any(|dependency| dependency == "anchor-lang");
    let context = |root: &&Root<'a>| {
        let accounts =
            root.function.params.first().and_then(|(_, ty)| if &*ty.name == "Context" { ty.args.last() } else { None });
        accounts.is_some_and(|accounts| {
            let derived = index.structure(root.at.0, &accounts.name);
            root.function.in_program
                || by_anchor
                || derived.is_some_and(|item| item.derives.iter().any(|derive| &**derive == "Accounts"))
                || uses(sources, root.at.0, "anchor_lang")
        })
    };
    start(
        &mut all.iter().filter(context).filter(|root| root.function.in_program).map(|root| (*root, Framework::Anchor)),
        &mut done,
        &mut runs,
    );
    start(&mut all.iter().filter(context).map(|root| (*root, Framework::Anchor)), &mut done, &mut runs);
    // Entry points: functions that take a list of accounts and that no other such function calls.
    let lists: Vec<Root<'a>> =
        all.iter().filter(|root| root.function.params.iter().any(|(_, ty)| takes_accounts(ty))).copied().collect();
    let called = called_by(index, &lists);
    let framework = |root: &Root<'a>| {
        let pinocchio = root.function.params.iter().any(|(_, ty)| mentions(ty, "AccountView"))
            || package.manifest.dependencies.iter().any(|dependency| dependency.starts_with("pinocchio"))
            || uses(sources, root.at.0, "pinocchio");
        if pinocchio { Framework::Pinocchio } else { Framework::Native }
    };
    let entries = lists.iter().filter(|root| {
        !called.contains(&root.at)
            && root.function.self_ty.as_ref().is_none_or(|ty| !index.implements(&ty.name, "ProcessAccountInfos"))
            && root.function.trait_.is_none()
    });
    start(&mut entries.map(|root| (*root, framework(root))), &mut done, &mut runs);
    // Methods of structs of accounts.
    let of_accounts = |root: &&Root<'a>| {
        root.function.takes_self
            && root.function.self_ty.as_ref().is_some_and(|ty| {
                index
                    .structure(root.at.0, &ty.name)
                    .is_some_and(|item| item.derives.iter().any(|derive| &**derive == "Accounts"))
            })
    };
    let which = |root: &Root<'a>| {
        let item = root.function.self_ty.as_ref().and_then(|ty| index.structure(root.at.0, &ty.name));
        let view = item.is_some_and(|item| item.fields.iter().any(|field| &*field.ty.name == "AccountView"));
        if view { Framework::Pinocchio } else { Framework::Anchor }
    };
    start(&mut all.iter().filter(of_accounts).map(|root| (*root, which(root))), &mut done, &mut runs);
    // Methods of what is made from a list of accounts.
    let made = |root: &&Root<'a>| {
        root.function.takes_self
            && root.function.trait_.is_none()
            && root
                .function
                .self_ty
                .as_ref()
                .is_some_and(|ty| maker(&|file, path| index.function(file, path), root.at.0, &ty.name).is_some())
    };
    start(&mut all.iter().filter(made).map(|root| (*root, Framework::Pinocchio)), &mut done, &mut runs);
    // Lists and accounts that are taken where nothing above came along.
    start(&mut lists.iter().map(|root| (*root, framework(root))), &mut done, &mut runs);
    let on_chain = !runs.is_empty()
        || package.manifest.dependencies.iter().any(|dependency| {
            ["anchor-lang", "solana-program", "pinocchio"].iter().any(|known| dependency.starts_with(known))
        });
    if on_chain {
        let plain = all.iter().filter(|root| !is_glue(root.function)).take(MOST_PLAIN);
        start(&mut plain.map(|root| (*root, Framework::Plain)), &mut done, &mut runs);
    }
    runs
}

/// Impls of std's traits say nothing that a handler would not.
fn is_glue(function: &Function) -> bool {
    function.trait_.as_ref().is_some_and(|trait_| {
        matches!(
            &*trait_.name,
            "Debug" | "Display" | "Default" | "Clone" | "PartialEq" | "Hash" | "From" | "Ord" | "PartialOrd" | "Drop"
        )
    })
}

fn mentions(ty: &crate::syntax::Ty, name: &str) -> bool {
    &*ty.name == name || ty.args.iter().any(|arg| mentions(arg, name))
}

fn uses(sources: &Sources, file: usize, name: &str) -> bool {
    let unit = sources.files.get(file).and_then(|file| file.unit.as_ref().ok());
    unit.is_some_and(|unit| unit.uses.iter().any(|(_, path)| path.first().is_some_and(|first| first.starts_with(name))))
}

/// Finds a function by its path, seen from a file.
type Find<'f, 'a> = dyn Fn(usize, &[Name]) -> Option<(At, &'a Function)> + 'f;

/// A function that makes this type from a list of accounts.
fn maker<'a>(function: &Find<'_, 'a>, file: usize, ty: &str) -> Option<(At, &'a Function)> {
    ["try_from", "from", "new", "try_new", "from_accounts", "parse"].iter().find_map(|name| {
        let path: Vec<Name> = vec![ty.into(), (*name).into()];
        let (at, function) = function(file, &path)?;
        let right = !function.takes_self && function.params.iter().any(|(_, param)| takes_accounts(param));
        right.then_some((at, function))
    })
}

/// Functions out of a list that some other function out of it names in a call.
fn called_by<'a>(index: &Index<'a>, lists: &[Root<'a>]) -> HashSet<At> {
    let mut called = HashSet::new();
    for root in lists {
        let mut names = Vec::new();
        expressions(&root.function.body, &mut |expr| {
            if let Kind::Call(function, _) = &expr.kind
                && let Kind::Path(path, _) = &function.kind
            {
                names.push(path);
            }
        });
        for path in names {
            let path: Vec<Name> = match (path.split_first(), &root.function.self_ty) {
                (Some((first, rest)), Some(ty)) if &**first == "Self" => {
                    std::iter::once(ty.name.clone()).chain(rest.iter().cloned()).collect()
                }
                _ => path.to_vec(),
            };
            if let Some((at, _)) = index.function(root.at.0, &path)
                && at != root.at
            {
                called.insert(at);
            }
        }
    }
    called
}

/// Runs one root.
pub(crate) fn enter<'a>(index: &'a Index<'a>, root: Root<'a>, framework: Framework) -> Run<'a> {
    let function = root.function;
    let name = match &function.self_ty {
        Some(ty) => format!("{}::{}", ty.name, function.name),
        None => function.name.to_string(),
    };
    let mut run = Run::new(index, framework, root.at.0, name, function.span);
    run.index.enters(root.at.0, function);
    run.bodies.push((root.at.0, function));
    run.frames.push(super::Frame {
        file: root.at.0,
        at: None,
        self_ty: function.self_ty.as_ref().map(|ty| ty.name.clone()),
        base: 0,
        exits: Vec::new(),
        branch: 0,
        fallible: true,
    });
    let receiver = function.takes_self.then(|| run.receiver(root));
    let args: Vec<V> = function.params.iter().map(|(pat, ty)| run.argument(pat, ty, function)).collect();
    if let Some(made) = run.follow(root.at, function, receiver, &args, function.span) {
        run.force(made, function.span);
    }
    // What the declaration of the accounts does counts only if the handler succeeds.
    let facts = run.st.facts.clone();
    run.spread(0, &facts, false);
    run.frames.pop();
    run
}

impl<'a> Run<'a> {
    fn receiver(&mut self, root: Root<'a>) -> V {
        let Some(ty) = root.function.self_ty.as_ref() else { return self.unknown() };
        if self.is_accounts_struct(root.at.0, &ty.name) {
            self.groups[0].consumed = true;
            return self.instantiate(root.at.0, &ty.name.clone(), true);
        }
        if let Some((at, maker)) = maker(&|file, path| self.index.function(file, path), root.at.0, &ty.name)
            && self.framework == Framework::Pinocchio
        {
            let args: Vec<V> = maker.params.iter().map(|(pat, ty)| self.argument(pat, ty, maker)).collect();
            let made = self.follow(at, maker, None, &args, maker.span);
            if let Some(made) = made {
                self.st.dead = false;
                return self.force(made, maker.span);
            }
        }
        let v = self.unknown();
        self.arg_types.insert(v, ty.clone());
        v
    }

    fn argument(&mut self, pat: &Pat, ty: &crate::syntax::Ty, function: &Function) -> V {
        let name: Name = match pat {
            Pat::Bind(name, ..) => name.clone(),
            _ => "_".into(),
        };
        let file = self.file();
        if &*ty.name == "Context"
            && let Some(accounts) = ty.args.last()
        {
            self.groups[0].consumed = true;
            let v = self.instantiate(file, &accounts.name, true);
            let instance = match *self.arena.get(v) {
                Node::Accounts(instance) => instance,
                _ => 0,
            };
            return self.arena.add(Node::Ctx(instance));
        }
        if super::account::is_raw_list(ty) {
            // Beside a struct of accounts, a list is what remains.
            let remaining = self.is_anchor() || function.takes_self;
            return self.slice(remaining);
        }
        if &*ty.name == "()" && takes_accounts(ty) {
            let parts = ty.args.iter().map(|part| self.argument(&Pat::Wild, part, function)).collect();
            return self.arena.add(Node::Tuple(parts));
        }
        if (is_account(ty) || is_raw(&ty.name)) && !matches!(&*ty.name, "Account" if ty.args.is_empty()) {
            return self.lone_account(&name, ty, function.span);
        }
        if self.is_accounts_struct(file, &ty.name) {
            self.groups[0].consumed = true;
            return self.instantiate(file, &ty.name.clone(), true);
        }
        let lists = function.params.iter().any(|(_, ty)| takes_accounts(ty));
        if lists && matches!(&*ty.name, "Pubkey" | "Address") {
            return self.arena.add(Node::ProgramId);
        }
        self.arg(&name, ty)
    }
}
