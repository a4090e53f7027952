//! TOML with the places of its keys and values.

use std::ops::Range;

use osvm_audit::{Location, Span};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::sources::Text;

/// A value in a table, with where it stands.
pub(crate) type Value<'a> = Spanned<DeValue<'a>>;

/// A parsed file.
pub(crate) fn parse(text: &str) -> Result<DeTable<'_>, String> {
    DeTable::parse(text).map(Spanned::into_inner).map_err(|error| format!("no TOML: {}", error.message()))
}

/// A value by its path of keys.
pub(crate) fn get<'t, 'a>(table: &'t DeTable<'a>, path: &[&str]) -> Option<&'t Value<'a>> {
    let (first, rest) = path.split_first()?;
    let value = table.get(*first)?;
    if rest.is_empty() { Some(value) } else { get(value.get_ref().as_table()?, rest) }
}

/// A table by its path of keys.
pub(crate) fn table<'t, 'a>(within: &'t DeTable<'a>, path: &[&str]) -> Option<&'t DeTable<'a>> {
    get(within, path)?.get_ref().as_table()
}

/// A text by its path of keys.
pub(crate) fn text<'t>(within: &'t DeTable<'_>, path: &[&str]) -> Option<&'t str> {
    get(within, path)?.get_ref().as_str()
}

/// Bytes of a file as a place in it.
pub(crate) fn location(file: &str, text: &str, range: Range<usize>) -> Location {
    location_in(file, &Text::new(text.to_owned()), range)
}

/// The same, for many places in one file.
pub(crate) fn location_in(file: &str, text: &Text, range: Range<usize>) -> Location {
    let ((line, column), (end_line, end_column)) = (text.place(range.start), text.place(range.end));
    Location { file: file.to_owned(), span: Span { line, column, end_line, end_column } }
}

/// The end of a text, for an edit that appends.
pub(crate) fn end(file: &str, text: &str) -> Location {
    let whole = Text::new(text.to_owned());
    let line = whole.len();
    let column = whole.line(line).map_or(1, |last| last.chars().count() + 1);
    let column = u32::try_from(column).unwrap_or(u32::MAX);
    Location { file: file.to_owned(), span: Span { line, column, end_line: line, end_column: column } }
}
