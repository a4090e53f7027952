//! Changes of the text that mend a finding mechanically.

use crate::{
    Edit, Span,
    model::View,
    syntax::{AccountAttr, Constraint},
};

/// Puts a text before a place.
pub(super) fn insert(view: &View<'_, '_>, file: usize, at: Span, text: &str) -> Edit {
    let span = Span { end_line: at.line, end_column: at.column, ..at };
    Edit { location: view.location(file, span), replacement: text.to_owned() }
}

/// Marks an account of Anchor's `mut`.
pub(super) fn mark_mut(view: &View<'_, '_>, account: u32) -> Edit {
    let entry = view.account(account);
    match entry.attr.constraints.first() {
        Some(first) => insert(view, entry.file, first.span, "mut, "),
        None => {
            let indent = " ".repeat(entry.start.column.saturating_sub(1) as usize);
            insert(view, entry.file, entry.start, &format!("#[account(mut)]\n{indent}"))
        }
    }
}

/// Leaves a constraint's name and takes its value away.
pub(super) fn bare(view: &View<'_, '_>, file: usize, mark: &Constraint) -> Option<Edit> {
    let value = mark.value.as_ref()?.span;
    let span = Span { end_line: value.end_line, end_column: value.end_column, ..mark.span };
    Some(Edit { location: view.location(file, span), replacement: mark.key.to_string() })
}

/// Takes a constraint out of `#[account(..)]`; None where it is not clear what its comma goes with.
pub(super) fn without(view: &View<'_, '_>, file: usize, attr: &AccountAttr, mark: &Constraint) -> Option<Edit> {
    // The first one goes with the comma behind it, up to where the next one begins.
    let next = attr
        .constraints
        .iter()
        .find(|other| (other.span.line, other.span.column) > (mark.span.line, mark.span.column))?;
    let span = Span { end_line: next.span.line, end_column: next.span.column, ..mark.span };
    Some(Edit { location: view.location(file, span), replacement: String::new() })
}
