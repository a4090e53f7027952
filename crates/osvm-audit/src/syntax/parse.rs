//! From a file's text to its lowered form.

use std::collections::HashMap;

use super::{Name, Unit, shape};
use crate::{Span, fingerprint::Quick};

/// A file's declarations, or why there are none.
pub(crate) type Parsed = Result<Unit, (String, Option<u32>)>;

/// Longest text that is parsed.
const LONGEST_TEXT: usize = 8 << 20;
/// How deep expressions may nest before the rest is left out.
const DEEPEST_LOWERED: u32 = 150;

/// Parses and lowers one file. Needs a stack that holds [`shape`]'s bounds: see `source::pool`.
pub(crate) fn parse(text: &str) -> Parsed {
    if text.len() > LONGEST_TEXT {
        return Err((format!("longer than {} MiB", LONGEST_TEXT >> 20), None));
    }
    let parsed = (|| {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = if text.starts_with("#!") && !text.starts_with("#![") {
            text.split_once('\n').map_or("", |(_, rest)| rest)
        } else {
            text
        };
        shape::check(text).map_err(|(reason, line)| (reason, Some(line)))?;
        let stream: proc_macro2::TokenStream = text.parse().map_err(|error: proc_macro2::LexError| {
            ("not Rust: it has no tokens".to_owned(), Some(error.span().start().line as u32))
        })?;
        let file: syn::File = syn::parse2(stream)
            .map_err(|error: syn::Error| (format!("not Rust: {error}"), Some(error.span().start().line as u32)))?;
        let mut lower = Lower::default();
        lower.items(&file.items);
        Ok(lower.unit)
    })();
    // Each thread keeps every text it ever parsed for its spans; ours are copied out by now.
    proc_macro2::extra::invalidate_current_thread_spans();
    parsed
}

/// What lowering carries along.
#[derive(Default)]
pub(super) struct Lower {
    names: HashMap<Box<str>, Name, Quick>,
    pub(super) depth: u32,
    pub(super) unit: Unit,
    pub(super) module: Vec<Name>,
    pub(super) in_program: bool,
}

impl Lower {
    pub(super) fn name(&mut self, text: &str) -> Name {
        if let Some(name) = self.names.get(text) {
            return name.clone();
        }
        let name: Name = text.into();
        self.names.insert(text.into(), name.clone());
        name
    }

    pub(super) fn ident(&mut self, ident: &syn::Ident) -> Name {
        let text = ident.to_string();
        self.name(text.strip_prefix("r#").unwrap_or(&text))
    }

    /// The name of a field, or its place in a tuple.
    pub(super) fn member(&mut self, member: &syn::Member) -> Name {
        match member {
            syn::Member::Named(ident) => self.ident(ident),
            syn::Member::Unnamed(index) => self.name(&index.index.to_string()),
        }
    }

    pub(super) fn path(&mut self, path: &syn::Path) -> Vec<Name> {
        path.segments.iter().map(|segment| self.ident(&segment.ident)).collect()
    }

    /// Runs `then` one level deeper, unless that is too deep.
    pub(super) fn deeper<T>(&mut self, line: u32, then: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.depth >= DEEPEST_LOWERED {
            self.unit.truncated.get_or_insert(line);
            return None;
        }
        self.depth += 1;
        let made = then(self);
        self.depth -= 1;
        Some(made)
    }
}

pub(super) fn at(span: proc_macro2::Span) -> Span {
    let (start, end) = (span.start(), span.end());
    Span {
        line: start.line as u32,
        column: start.column as u32 + 1,
        end_line: end.line as u32,
        end_column: end.column as u32 + 1,
    }
}

/// From the start of one to the end of the other.
pub(super) fn join(from: Span, to: Span) -> Span {
    if (to.end_line, to.end_column) < (from.line, from.column) {
        return from;
    }
    Span { line: from.line, column: from.column, end_line: to.end_line, end_column: to.end_column }
}
