//! The text of the audited files, read once, by their paths in the report.

use std::{cell::RefCell, collections::HashMap, fs, path::PathBuf, rc::Rc};

use osvm_audit::Span;

/// A file larger than this is not shown.
const LARGEST: u64 = 8 << 20;

/// Reads files under one folder.
#[derive(Debug)]
pub(crate) struct Sources {
    folder: PathBuf,
    texts: RefCell<HashMap<String, Option<Rc<Text>>>>,
}

/// One file's text and where its lines begin.
#[derive(Debug)]
pub(crate) struct Text {
    text: String,
    starts: Vec<usize>,
}

impl Sources {
    /// Paths are relative to `folder`.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, texts: RefCell::default() }
    }

    /// The text of `file`, or `None` where it cannot be read.
    pub(crate) fn get(&self, file: &str) -> Option<Rc<Text>> {
        if let Some(text) = self.texts.borrow().get(file) {
            return text.clone();
        }
        let path = self.folder.join(file);
        let small = fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
        let read = small.then(|| fs::read(&path).ok()).flatten();
        let text = read.map(|bytes| Rc::new(Text::new(String::from_utf8_lossy(&bytes).into_owned())));
        self.texts.borrow_mut().insert(file.to_owned(), text.clone());
        text
    }
}

impl Text {
    pub(crate) fn new(text: String) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// How many lines there are.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.starts.len()).unwrap_or(u32::MAX)
    }

    /// A line by its number from 1, without its end.
    pub(crate) fn line(&self, number: u32) -> Option<&str> {
        let index = (number as usize).checked_sub(1)?;
        let start = *self.starts.get(index)?;
        let end = self.starts.get(index + 1).map_or(self.text.len(), |next| next - 1);
        Some(self.text[start..end].trim_end_matches('\r'))
    }

    /// Where in the text a line and column (both from 1, in characters) are; past the end of a line is its end.
    pub(crate) fn offset(&self, line: u32, column: u32) -> Option<usize> {
        let text = self.line(line)?;
        let start = self.starts[line as usize - 1];
        let within = text.char_indices().nth((column as usize).saturating_sub(1)).map_or(text.len(), |(at, _)| at);
        Some(start + within)
    }

    /// Line and column, both from 1, of a byte.
    pub(crate) fn place(&self, offset: usize) -> (u32, u32) {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default();
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (number(line), number(before.chars().count() + 1))
    }

    /// The bytes of a span.
    pub(crate) fn range(&self, span: Span) -> Option<std::ops::Range<usize>> {
        let start = self.offset(span.line, span.column)?;
        let end = self.offset(span.end_line, span.end_column).unwrap_or(self.text.len());
        Some(start..end.max(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_never_split_one() {
        let text = Text::new("let ä = \"→\";\r\nlast".to_owned());
        assert_eq!(text.line(1), Some("let ä = \"→\";"));
        assert_eq!(text.line(2), Some("last"));
        assert_eq!(text.line(3), None);
        assert_eq!(text.line(0), None);
        for (line, column) in [(1, 1), (1, 6), (1, 11), (2, 1), (2, 4)] {
            assert_eq!(text.offset(line, column).map(|offset| text.place(offset)), Some((line, column)));
        }
        let span = Span { line: 1, column: 5, end_line: 1, end_column: 6 };
        assert_eq!(text.range(span).map(|range| &text.as_str()[range]), Some("ä"));
        let beyond = Span { line: 2, column: 90, end_line: 9, end_column: 1 };
        assert_eq!(text.range(beyond).map(|range| &text.as_str()[range]), Some(""));
    }
}
