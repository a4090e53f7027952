//! Attributes: derives, `cfg(test)`, and Anchor's `#[account(..)]`.

use syn::{
    Attribute, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser},
};

use super::{
    Expr, Name, Ty,
    parse::{Lower, at},
};
use crate::Span;

/// One constraint of `#[account(..)]`.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Constraint {
    /// As `has_one` or `token::mint`.
    pub(crate) key: Name,
    pub(crate) value: Option<Expr>,
    pub(crate) span: Span,
}

/// All constraints of a field.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct AccountAttr {
    pub(crate) constraints: Vec<Constraint>,
}

impl AccountAttr {
    pub(crate) fn has(&self, key: &str) -> bool {
        self.constraints.iter().any(|constraint| &*constraint.key == key)
    }

    pub(crate) fn value<'a>(&'a self, key: &'a str) -> Option<&'a Expr> {
        self.all(key).find_map(|constraint| constraint.value.as_ref())
    }

    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Constraint> {
        self.constraints.iter().filter(move |constraint| &*constraint.key == key)
    }
}

impl Lower {
    /// Last path segments of the attributes; derives are in the second list.
    pub(super) fn attrs(&mut self, attrs: &[Attribute]) -> (Vec<Name>, Vec<Name>) {
        let (mut names, mut derives) = (Vec::new(), Vec::new());
        for attr in attrs {
            let Some(last) = attr.path().segments.last() else { continue };
            let name = self.ident(&last.ident);
            if &*name == "derive" {
                let parser = syn::punctuated::Punctuated::<syn::Path, Token![,]>::parse_terminated;
                if let Ok(paths) = attr.parse_args_with(parser) {
                    for path in paths {
                        if let Some(last) = path.segments.last() {
                            derives.push(self.ident(&last.ident));
                        }
                    }
                }
            } else {
                names.push(name);
            }
        }
        (names, derives)
    }

    pub(super) fn account_attr(&mut self, attrs: &[Attribute]) -> AccountAttr {
        let mut made = AccountAttr::default();
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("account")) {
            let syn::Meta::List(list) = &attr.meta else { continue };
            let parser = |input: ParseStream<'_>| constraints(input);
            // What comes after a constraint that can't be read is lost; the ones before it are kept.
            let read = parser.parse2(list.tokens.clone()).unwrap_or_default();
            for (key, span, value) in read {
                let value = value.map(|value| self.expr(&value));
                let key = self.name(&key);
                made.constraints.push(Constraint { key, value, span: at(span) });
            }
        }
        made
    }

    pub(super) fn instruction_attr(&mut self, attrs: &[Attribute]) -> Vec<(Name, Ty)> {
        let mut made = Vec::new();
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("instruction")) {
            let parser = |input: ParseStream<'_>| {
                let mut args = Vec::new();
                while !input.is_empty() {
                    let name: syn::Ident = input.parse()?;
                    input.parse::<Token![:]>()?;
                    args.push((name, input.parse::<syn::Type>()?));
                    if !input.is_empty() {
                        input.parse::<Token![,]>()?;
                    }
                }
                Ok(args)
            };
            for (name, ty) in attr.parse_args_with(parser).unwrap_or_default() {
                made.push((self.ident(&name), self.ty(&ty)));
            }
        }
        made
    }
}

type Raw = (String, proc_macro2::Span, Option<syn::Expr>);

fn constraints(input: ParseStream<'_>) -> syn::Result<Vec<Raw>> {
    let mut made = Vec::new();
    while !input.is_empty() {
        match constraint(input) {
            Ok(one) => made.push(one),
            Err(_) => {
                // Skip to the next comma.
                while !input.is_empty() && !input.peek(Token![,]) {
                    input.parse::<proc_macro2::TokenTree>()?;
                }
            }
        }
        if input.peek(Token![,]) {
            input.parse::<Token![,]>()?;
        } else if !input.is_empty() {
            input.parse::<proc_macro2::TokenTree>()?;
        }
    }
    Ok(made)
}

fn constraint(input: ParseStream<'_>) -> syn::Result<Raw> {
    let first = input.call(syn::Ident::parse_any)?;
    let span = first.span();
    let mut key = first.to_string();
    while input.peek(Token![::]) {
        input.parse::<Token![::]>()?;
        key = format!("{key}::{}", input.call(syn::Ident::parse_any)?);
    }
    let mut value = None;
    if input.peek(Token![=]) {
        input.parse::<Token![=]>()?;
        value = Some(input.parse::<syn::Expr>()?);
    }
    if input.peek(Token![@]) {
        input.parse::<Token![@]>()?;
        input.parse::<syn::Expr>()?;
    }
    Ok((key, span, value))
}

/// Whether an item is compiled for tests only.
pub(super) fn only_for_tests(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        if attr.path().is_ident("test") {
            return true;
        }
        let syn::Meta::List(list) = &attr.meta else { return false };
        if !list.path.is_ident("cfg") {
            return false;
        }
        let mut tokens = list.tokens.clone().into_iter();
        match tokens.next() {
            Some(proc_macro2::TokenTree::Ident(word)) if word == "test" => tokens.next().is_none(),
            Some(proc_macro2::TokenTree::Ident(word)) if word == "all" || word == "any" => tokens.any(|token| {
                matches!(token, proc_macro2::TokenTree::Group(group)
                    if group.stream().into_iter().next().is_some_and(|first| first.to_string() == "test"))
            }),
            _ => false,
        }
    })
}

/// Whether a `/// CHECK:` comment with something behind it stands among the attributes.
pub(super) fn has_check_doc(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        let syn::Meta::NameValue(pair) = &attr.meta else { return false };
        if !pair.path.is_ident("doc") {
            return false;
        }
        let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value else { return false };
        text.value().trim_start().starts_with("CHECK")
    })
}
