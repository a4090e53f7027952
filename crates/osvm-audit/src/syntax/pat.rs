//! Patterns and types.

use syn::{GenericArgument, PathArguments, Type};

use super::{
    Lit, Pat, Ty,
    parse::{Lower, at},
};

impl Lower {
    pub(super) fn pat(&mut self, pat: &syn::Pat) -> Pat {
        self.deeper(0, |lower| lower.pat_inner(pat)).unwrap_or(Pat::Wild)
    }

    fn pat_inner(&mut self, pat: &syn::Pat) -> Pat {
        match pat {
            syn::Pat::Ident(bind) => {
                let name = self.ident(&bind.ident);
                let sub = bind.subpat.as_ref().map(|(_, sub)| Box::new(self.pat(sub)));
                let unbound = sub.is_none() && bind.by_ref.is_none() && bind.mutability.is_none();
                if unbound && name.chars().next().is_some_and(char::is_uppercase) {
                    return Pat::Path(vec![name]);
                }
                Pat::Bind(name, at(bind.ident.span()), sub)
            }
            syn::Pat::Wild(_) => Pat::Wild,
            syn::Pat::Rest(_) => Pat::Rest,
            syn::Pat::Tuple(tuple) => Pat::Tuple(tuple.elems.iter().map(|elem| self.pat(elem)).collect()),
            syn::Pat::Slice(slice) => Pat::Slice(slice.elems.iter().map(|elem| self.pat(elem)).collect()),
            syn::Pat::TupleStruct(tuple) => {
                let path = self.path(&tuple.path);
                Pat::TupleStruct(path, tuple.elems.iter().map(|elem| self.pat(elem)).collect())
            }
            syn::Pat::Struct(pattern) => {
                let path = self.path(&pattern.path);
                let fields =
                    pattern.fields.iter().map(|field| (self.member(&field.member), self.pat(&field.pat))).collect();
                Pat::Struct(path, fields)
            }
            syn::Pat::Path(path) => Pat::Path(self.path(&path.path)),
            syn::Pat::Reference(reference) => self.pat(&reference.pat),
            syn::Pat::Paren(paren) => self.pat(&paren.pat),
            syn::Pat::Type(typed) => self.pat(&typed.pat),
            syn::Pat::Or(or) => Pat::Or(or.cases.iter().map(|case| self.pat(case)).collect()),
            syn::Pat::Lit(lit) => Pat::Lit(self.lit(&lit.lit)),
            syn::Pat::Range(_) => Pat::Lit(Lit::Other),
            _ => Pat::Wild,
        }
    }

    pub(super) fn ty(&mut self, ty: &Type) -> Ty {
        self.deeper(0, |lower| lower.ty_inner(ty)).unwrap_or_else(|| self.named("_", Vec::new()))
    }

    pub(super) fn named(&mut self, name: &str, args: Vec<Ty>) -> Ty {
        Ty { name: self.name(name), path: Vec::new(), args, by_mut: false }
    }

    fn ty_inner(&mut self, ty: &Type) -> Ty {
        match ty {
            Type::Path(path) => self.path_ty(&path.path),
            Type::Reference(reference) => {
                let mut inner = self.ty(&reference.elem);
                inner.by_mut |= reference.mutability.is_some();
                inner
            }
            Type::Ptr(pointer) => self.ty(&pointer.elem),
            Type::Paren(paren) => self.ty(&paren.elem),
            Type::Group(group) => self.ty(&group.elem),
            Type::Slice(slice) => {
                let elem = self.ty(&slice.elem);
                self.named("[]", vec![elem])
            }
            Type::Array(array) => {
                let elem = self.ty(&array.elem);
                self.named("[]", vec![elem])
            }
            Type::Tuple(tuple) => {
                let elems = tuple.elems.iter().map(|elem| self.ty(elem)).collect();
                self.named("()", elems)
            }
            Type::ImplTrait(bounds) => self.bounds(&bounds.bounds),
            Type::TraitObject(bounds) => self.bounds(&bounds.bounds),
            _ => self.named("_", Vec::new()),
        }
    }

    fn bounds(&mut self, bounds: &syn::punctuated::Punctuated<syn::TypeParamBound, syn::Token![+]>) -> Ty {
        let first = bounds.iter().find_map(|bound| match bound {
            syn::TypeParamBound::Trait(bound) => Some(self.path_ty(&bound.path)),
            _ => None,
        });
        first.unwrap_or_else(|| self.named("_", Vec::new()))
    }

    pub(super) fn path_ty(&mut self, path: &syn::Path) -> Ty {
        let mut names = self.path(path);
        let args = path.segments.last().map_or_else(Vec::new, |last| self.generics(&last.arguments));
        let name = names.pop().unwrap_or_else(|| self.name("_"));
        Ty { name, path: names, args, by_mut: false }
    }

    pub(super) fn generics(&mut self, arguments: &PathArguments) -> Vec<Ty> {
        match arguments {
            PathArguments::AngleBracketed(angle) => self.angle(angle),
            _ => Vec::new(),
        }
    }

    pub(super) fn angle(&mut self, angle: &syn::AngleBracketedGenericArguments) -> Vec<Ty> {
        angle
            .args
            .iter()
            .filter_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(self.ty(ty)),
                _ => None,
            })
            .collect()
    }
}
