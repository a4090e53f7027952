//! Items: functions, structs, enums, impls, constants and inline modules.

use syn::{Fields, ImplItem, Item, UseTree};

use super::{
    Const, Enum, Expr, Field, Function, Name, Struct, Ty,
    attr::{has_check_doc, only_for_tests},
    parse::{Lower, at, join},
};
use crate::fingerprint::print;

impl Lower {
    pub(super) fn items(&mut self, items: &[Item]) {
        for item in items {
            let line = 0;
            self.deeper(line, |lower| lower.item(item));
        }
    }

    pub(super) fn item(&mut self, item: &Item) {
        match item {
            Item::Fn(function) if !only_for_tests(&function.attrs) => {
                self.function(&function.sig, &function.block, None, None);
            }
            Item::Mod(module) if !only_for_tests(&module.attrs) => {
                let Some((_, items)) = &module.content else { return };
                let (attrs, _) = self.attrs(&module.attrs);
                let name = self.ident(&module.ident);
                let outer = std::mem::replace(&mut self.in_program, attrs.iter().any(|attr| &**attr == "program"));
                self.module.push(name);
                self.items(items);
                self.module.pop();
                self.in_program = outer;
            }
            Item::Struct(item) if !only_for_tests(&item.attrs) => self.strukt(item),
            Item::Enum(item) if !only_for_tests(&item.attrs) => self.enumeration(item),
            Item::Impl(item) if !only_for_tests(&item.attrs) => self.implementation(item),
            Item::Trait(item) if !only_for_tests(&item.attrs) => {
                let name = self.ident(&item.ident);
                let self_ty = self.named(&name, Vec::new());
                for member in &item.items {
                    if let syn::TraitItem::Fn(function) = member
                        && let Some(body) = &function.default
                    {
                        self.function(&function.sig, body, Some(self_ty.clone()), None);
                    }
                }
            }
            Item::Const(item) => {
                let (name, value) = (self.ident(&item.ident), self.expr(&item.expr));
                self.constant(name, value);
            }
            Item::Static(item) => {
                let (name, value) = (self.ident(&item.ident), self.expr(&item.expr));
                self.constant(name, value);
            }
            Item::Use(item) => {
                let mut prefix = Vec::new();
                self.import(&item.tree, &mut prefix);
            }
            Item::Macro(item) => {
                if let Some(last) = item.mac.path.segments.last() {
                    let name = self.ident(&last.ident);
                    self.unit.macros.push(name);
                }
                // Tables of items, as cfg_if! has them, are read if they are nothing but items.
                if item.ident.is_none()
                    && let Ok(file) = syn::parse2::<syn::File>(item.mac.tokens.clone())
                {
                    self.items(&file.items);
                }
            }
            _ => {}
        }
    }

    fn import(&mut self, tree: &UseTree, prefix: &mut Vec<Name>) {
        match tree {
            UseTree::Path(path) => {
                let name = self.ident(&path.ident);
                prefix.push(name);
                self.deeper(0, |lower| lower.import(&path.tree, prefix));
                prefix.pop();
            }
            UseTree::Name(name) => {
                let last = self.ident(&name.ident);
                let mut path = prefix.clone();
                if &*last != "self" {
                    path.push(last);
                }
                if let Some(last) = path.last().cloned() {
                    self.unit.uses.push((last, path));
                }
            }
            UseTree::Rename(rename) => {
                let mut path = prefix.clone();
                path.push(self.ident(&rename.ident));
                let name = self.ident(&rename.rename);
                self.unit.uses.push((name, path));
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.deeper(0, |lower| lower.import(tree, prefix));
                }
            }
            UseTree::Glob(_) => {
                let name = self.name("*");
                self.unit.uses.push((name, prefix.clone()));
            }
        }
    }

    fn strukt(&mut self, item: &syn::ItemStruct) {
        let (attrs, derives) = self.attrs(&item.attrs);
        let instruction = self.instruction_attr(&item.attrs);
        let fields = self.fields(&item.fields);
        let name = self.ident(&item.ident);
        let mut made = Struct { print: 0, name, fields, derives, attrs, instruction };
        made.print = print(&made);
        self.unit.structs.push(made);
    }

    fn fields(&mut self, fields: &Fields) -> Vec<Field> {
        fields
            .iter()
            .enumerate()
            .map(|(index, field)| {
                let name = match &field.ident {
                    Some(ident) => self.ident(ident),
                    None => self.name(&index.to_string()),
                };
                let span = field.ident.as_ref().map_or_else(Default::default, |ident| at(ident.span()));
                let account = self.account_attr(&field.attrs);
                let start = match &field.vis {
                    syn::Visibility::Inherited => span,
                    syn::Visibility::Public(word) => at(word.span),
                    syn::Visibility::Restricted(vis) => at(vis.pub_token.span),
                };
                Field { name, start, ty: self.ty(&field.ty), span, account, check_doc: has_check_doc(&field.attrs) }
            })
            .collect()
    }

    fn constant(&mut self, name: Name, value: Expr) {
        let mut made = Const { print: 0, name, value };
        made.print = print(&made);
        self.unit.consts.push(made);
    }

    fn enumeration(&mut self, item: &syn::ItemEnum) {
        let name = self.ident(&item.ident);
        let variants = item
            .variants
            .iter()
            .map(|variant| {
                let fields = self.fields(&variant.fields).into_iter().map(|field| (field.name, field.ty)).collect();
                (self.ident(&variant.ident), fields)
            })
            .collect();
        let mut made = Enum { print: 0, name, variants };
        made.print = print(&made);
        self.unit.enums.push(made);
    }

    fn implementation(&mut self, item: &syn::ItemImpl) {
        let self_ty = self.ty(&item.self_ty);
        let trait_ = item.trait_.as_ref().map(|(_, path, _)| self.path_ty(path));
        if let Some(trait_) = &trait_ {
            self.unit.impls.push((trait_.name.clone(), self_ty.name.clone()));
        }
        for member in &item.items {
            match member {
                ImplItem::Fn(function) if !only_for_tests(&function.attrs) => {
                    let (ty, of) = (Some(self_ty.clone()), trait_.clone());
                    self.function(&function.sig, &function.block, ty, of);
                }
                ImplItem::Const(item) => {
                    let (name, value) = (self.ident(&item.ident), self.expr(&item.expr));
                    self.constant(name, value);
                }
                _ => {}
            }
        }
    }

    fn function(&mut self, sig: &syn::Signature, block: &syn::Block, self_ty: Option<Ty>, trait_: Option<Ty>) {
        let mut params = Vec::new();
        let mut takes_self = false;
        for input in &sig.inputs {
            match input {
                syn::FnArg::Receiver(_) => takes_self = true,
                syn::FnArg::Typed(typed) => {
                    let pat = self.pat(&typed.pat);
                    let ty = self.ty(&typed.ty);
                    params.push((pat, self.bound(sig, ty)));
                }
            }
        }
        let ret = match &sig.output {
            syn::ReturnType::Default => None,
            syn::ReturnType::Type(_, ty) => Some(self.ty(ty)),
        };
        let body = self.block(block);
        let name = self.ident(&sig.ident);
        let span = join(at(sig.fn_token.span), at(sig.ident.span()));
        let mut made = Function {
            print: 0,
            name,
            module: self.module.clone(),
            self_ty,
            trait_,
            takes_self,
            params,
            ret,
            body,
            in_program: self.in_program,
            span,
        };
        made.print = print(&made);
        self.unit.functions.push(made);
    }

    /// A type parameter stands for its first bound.
    fn bound(&mut self, sig: &syn::Signature, ty: Ty) -> Ty {
        if !ty.path.is_empty() || !ty.args.is_empty() {
            return ty;
        }
        for param in sig.generics.type_params() {
            if param.ident == *ty.name {
                let bound = param.bounds.iter().find_map(|bound| match bound {
                    syn::TypeParamBound::Trait(bound) => Some(self.path_ty(&bound.path)),
                    _ => None,
                });
                return bound.unwrap_or(ty);
            }
        }
        ty
    }
}
