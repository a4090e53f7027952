//! Where runs begin: Anchor's handlers, entry points that take a list of accounts, and what none of them calls.

use std::collections::HashSet;

use super::{
    Framework, Node, Run, V,
    account::is_raw,
    call::{is_account, takes_accounts},
};
use crate::{
    index::{At, Index},
    source::{Package, Sources},
    syntax::{Function, Name, Pat},
};

/// What a run begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root<'a> {
    at: At,
    function: &'a Function,
}

/// Functions of one package that are run as plain roots, at most.
const MOST_PLAIN: usize = 4_000;

/// Runs everything in a package that can be entered.
pub(crate) fn run_package<'a>(sources: &'a Sources, package: &'a Package, index: &'a Index<'a>) -> Vec<Run<'a>> {
    let mut all: Vec<Root<'a>> = Vec::new();
    for file in &package.files {
        let Some(source) = sources.files.get(*file) else { continue };
        let Ok(unit) = &source.unit else { continue };
        all.extend(unit.functions.iter().enumerate().map(|(at, function)| Root { at: (*file, at), function }));
    }
    let mut done: HashSet<At> = HashSet::new();
    let mut runs = Vec::new();
    let start =
        |roots: &mut dyn Iterator<Item = (Root<'a>, Framework)>, done: &mut HashSet<At>, runs: &mut Vec<Run<'a>>| {
            for (root, framework) in roots {
                if done.contains(&root.at) {
                    continue;
                }
                let run = enter(index, root, framework);
                done.insert(root.at);
                done.extend(run.followed.iter().copied());
                runs.push(run);
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
            && root.function.self_ty.as_ref().is_some_and(|ty| maker(index, root.at.0, &ty.name).is_some())
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

/// A function that makes this type from a list of accounts.
fn maker<'a>(index: &Index<'a>, file: usize, ty: &str) -> Option<(At, &'a Function)> {
    ["try_from", "from", "new", "try_new", "from_accounts", "parse"].iter().find_map(|name| {
        let path: Vec<Name> = vec![ty.into(), (*name).into()];
        let (at, function) = index.function(file, &path)?;
        let right = !function.takes_self && function.params.iter().any(|(_, param)| takes_accounts(param));
        right.then_some((at, function))
    })
}

/// Functions out of a list that some other function out of it names in a call.
fn called_by<'a>(index: &Index<'a>, lists: &[Root<'a>]) -> HashSet<At> {
    let mut called = HashSet::new();
    for root in lists {
        let mut names = Vec::new();
        super::roots::calls_in_block(&root.function.body, &mut names);
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

fn calls_in_block<'a>(block: &'a crate::syntax::Block, names: &mut Vec<&'a [Name]>) {
    use crate::syntax::Stmt;
    for stmt in &block.stmts {
        match stmt {
            Stmt::Let { init, otherwise, .. } => {
                if let Some(init) = init {
                    calls_in(init, names);
                }
                if let Some(otherwise) = otherwise {
                    calls_in_block(otherwise, names);
                }
            }
            Stmt::Expr(expr, _) => calls_in(expr, names),
        }
    }
}

fn calls_in<'a>(expr: &'a crate::syntax::Expr, names: &mut Vec<&'a [Name]>) {
    use crate::syntax::Kind as K;
    match &expr.kind {
        K::Call(function, args) => {
            match &function.kind {
                K::Path(path, _) => names.push(path),
                _ => calls_in(function, names),
            }
            args.iter().for_each(|arg| calls_in(arg, names));
        }
        K::Method(receiver, _, _, args) => {
            calls_in(receiver, names);
            args.iter().for_each(|arg| calls_in(arg, names));
        }
        K::Macro(_, args) | K::Tuple(args) | K::Array(args) => args.iter().for_each(|arg| calls_in(arg, names)),
        K::Field(inner, _)
        | K::Not(inner)
        | K::Neg(inner)
        | K::Deref(inner)
        | K::Ref(inner)
        | K::Try(inner)
        | K::Cast(inner, _)
        | K::Closure(_, inner)
        | K::Let(_, inner) => calls_in(inner, names),
        K::Index(a, b) | K::Binary(_, a, b) | K::Assign(a, b) | K::AssignOp(_, a, b) | K::Repeat(a, b) => {
            calls_in(a, names);
            calls_in(b, names);
        }
        K::If(cond, then, otherwise) => {
            calls_in(cond, names);
            calls_in_block(then, names);
            if let Some(otherwise) = otherwise {
                calls_in(otherwise, names);
            }
        }
        K::Match(on, arms) => {
            calls_in(on, names);
            for arm in arms {
                if let Some(guard) = &arm.guard {
                    calls_in(guard, names);
                }
                calls_in(&arm.body, names);
            }
        }
        K::Block(block) | K::Unsafe(block) => calls_in_block(block, names),
        K::While(cond, body) => {
            if let Some(cond) = cond {
                calls_in(cond, names);
            }
            calls_in_block(body, names);
        }
        K::For(_, over, body) => {
            calls_in(over, names);
            calls_in_block(body, names);
        }
        K::Return(Some(inner)) => calls_in(inner, names),
        K::Range(a, b) => [a, b].into_iter().flatten().for_each(|side| calls_in(side, names)),
        K::Struct(_, fields, rest) => {
            fields.iter().for_each(|(_, value)| calls_in(value, names));
            if let Some(rest) = rest {
                calls_in(rest, names);
            }
        }
        K::Path(..) | K::Lit(_) | K::Break | K::Continue | K::Return(None) | K::Other => {}
    }
}

fn enter<'a>(index: &'a Index<'a>, root: Root<'a>, framework: Framework) -> Run<'a> {
    let function = root.function;
    let name = match &function.self_ty {
        Some(ty) => format!("{}::{}", ty.name, function.name),
        None => function.name.to_string(),
    };
    let mut run = Run::new(index, framework, root.at.0, name, function.span);
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
        if let Some((at, maker)) = maker(self.index, root.at.0, &ty.name)
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
