//! What is declared where, over all packages: functions, types and constants by name.
//!
//! Names resolve as a reader would guess: same file, then the module or type that the path names, then the only
//! one in the package, then the only one in the workspace. What stays ambiguous is not resolved.

use std::collections::HashMap;

use crate::{
    fingerprint::{Quick, Ready, print},
    source::Sources,
    syntax::{Enum, Expr, Function, Name, Struct},
};

/// A declaration: file and place in its list.
pub(crate) type At = (usize, usize);

/// Item macros that declare functions, as `entrypoint!(process)` does for none of ours.
#[derive(Debug, Default)]
pub(crate) struct Index<'a> {
    pub(crate) functions: HashMap<&'a str, Vec<(At, &'a Function)>, Quick>,
    structs: HashMap<&'a str, Vec<(usize, &'a Struct)>, Quick>,
    enums: HashMap<&'a str, Vec<(usize, &'a Enum)>, Quick>,
    consts: HashMap<&'a str, Vec<(usize, &'a Expr)>, Quick>,
    impls: HashMap<&'a str, Vec<&'a Name>, Quick>,
    package_of: HashMap<usize, usize, Quick>,
    pub(crate) names: Vec<&'a str>,
    uses: HashMap<(usize, &'a str), &'a [Name], Quick>,
    /// Functions by what tells them from all others.
    at: HashMap<u64, At, Ready>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(sources: &'a Sources) -> Self {
        let mut index = Self::default();
        for (at, package) in sources.packages.iter().enumerate() {
            for file in &package.files {
                index.package_of.insert(*file, at);
            }
        }
        for (file, source) in sources.files.iter().enumerate() {
            index.names.push(&source.name);
            let Ok(unit) = &source.unit else { continue };
            if !index.package_of.contains_key(&file) {
                continue;
            }
            for (at, function) in unit.functions.iter().enumerate() {
                index.functions.entry(&function.name).or_default().push(((file, at), function));
                index.at.insert(print(&(&source.name, function.print)), (file, at));
            }
            for (name, path) in &unit.uses {
                index.uses.insert((file, name), path);
            }
            for item in &unit.structs {
                index.structs.entry(&item.name).or_default().push((file, item));
            }
            for item in &unit.enums {
                index.enums.entry(&item.name).or_default().push((file, item));
            }
            for item in &unit.consts {
                index.consts.entry(&item.name).or_default().push((file, &item.value));
            }
            for (trait_, ty) in &unit.impls {
                index.impls.entry(ty).or_default().push(trait_);
            }
        }
        index
    }

    /// What tells a function from all others.
    pub(crate) fn id(&self, file: usize, function: &Function) -> u64 {
        print(&(self.names.get(file).copied().unwrap_or(""), function.print))
    }

    /// Where the function with this id is now.
    pub(crate) fn of_id(&self, id: u64) -> Option<At> {
        self.at.get(&id).copied()
    }

    fn pick<T: Copy>(&self, from: usize, found: &[(usize, T)]) -> Option<T> {
        if let [(_, only)] = found {
            return Some(*only);
        }
        let near = |keep: &dyn Fn(usize) -> bool| {
            let mut near = found.iter().filter(|(file, _)| keep(*file));
            near.next().map(|(_, first)| *first)
        };
        let package = self.package_of.get(&from);
        near(&|file| file == from)
            .or_else(|| near(&|file| self.package_of.get(&file) == package))
            .or_else(|| found.first().map(|(_, first)| *first))
    }

    pub(crate) fn structure(&self, from: usize, name: &str) -> Option<&'a Struct> {
        self.pick(from, self.structs.get(name)?)
    }

    /// With the file that it is declared in.
    pub(crate) fn structure_at(&self, from: usize, name: &str) -> Option<(usize, &'a Struct)> {
        let found = self.structs.get(name)?;
        let chosen = self.pick(from, found)?;
        found.iter().find(|(_, item)| std::ptr::eq(*item, chosen)).copied()
    }

    pub(crate) fn enumeration(&self, from: usize, name: &str) -> Option<&'a Enum> {
        self.pick(from, self.enums.get(name)?)
    }

    pub(crate) fn constant(&self, from: usize, name: &str) -> Option<&'a Expr> {
        self.pick(from, self.consts.get(name)?)
    }

    pub(crate) fn implements(&self, ty: &str, trait_: &str) -> bool {
        self.impls.get(ty).is_some_and(|traits| traits.iter().any(|have| &***have == trait_))
    }

    /// A function by its path, `Self` already replaced.
    pub(crate) fn function(&self, from: usize, path: &[Name]) -> Option<(At, &'a Function)> {
        let (name, before) = path.split_last()?;
        let found = self.functions.get(&**name)?;
        let qualifier = before.last().map(|qualifier| &**qualifier);
        let fits = |function: &Function| match qualifier {
            None | Some("crate" | "super" | "self") => function.self_ty.is_none(),
            Some(qualifier) => match &function.self_ty {
                Some(ty) => &*ty.name == qualifier,
                None => {
                    function.module.last().is_some_and(|module| &**module == qualifier)
                        || (function.module.is_empty() && !qualifier.starts_with(char::is_uppercase))
                }
            },
        };
        let mut fitting: Vec<(usize, (At, &'a Function))> = found
            .iter()
            .filter(|(_, function)| fits(function))
            .map(|(at, function)| (at.0, (*at, *function)))
            .collect();
        // A file is a module too: `transfer::process` is `process` in transfer.rs or transfer/mod.rs.
        if let Some(qualifier) = qualifier
            && fitting.len() > 1
        {
            let stem = |file: usize| {
                let name = self.names.get(file).copied().unwrap_or("").trim_end_matches(".rs").trim_end_matches("/mod");
                name.rsplit('/').next().unwrap_or("").to_owned()
            };
            let named: Vec<_> = fitting
                .iter()
                .filter(|(file, (_, function))| {
                    function.self_ty.is_some()
                        || stem(*file) == qualifier
                        || function.module.last().is_some_and(|module| &**module == qualifier)
                })
                .copied()
                .collect();
            if !named.is_empty() {
                fitting = named;
            }
        }
        if fitting.is_empty() || (fitting.len() > 1 && qualifier.is_some() && fitting.len() > 8) {
            return None;
        }
        self.pick(from, &fitting)
    }

    /// A method of a type; of any type, if only one in the package has it and the type is not known.
    pub(crate) fn method(&self, from: usize, ty: Option<&str>, name: &str) -> Option<(At, &'a Function)> {
        let found = self.functions.get(name)?;
        let fitting: Vec<(usize, (At, &'a Function))> = found
            .iter()
            .filter(|(_, function)| {
                function.takes_self
                    && ty.is_none_or(|ty| function.self_ty.as_ref().is_some_and(|have| &*have.name == ty))
            })
            .map(|(at, function)| (at.0, (*at, *function)))
            .collect();
        if ty.is_none() && fitting.len() != 1 {
            return None;
        }
        self.pick(from, &fitting)
    }
}

impl Index<'_> {
    /// A path with its first name replaced by what was imported under it.
    pub(crate) fn full_path(&self, file: usize, path: &[Name]) -> Vec<Name> {
        let imported = path.first().and_then(|first| self.uses.get(&(file, &**first)));
        match imported {
            Some(whole) => whole.iter().chain(path.iter().skip(1)).cloned().collect(),
            None => path.to_vec(),
        }
    }
}
