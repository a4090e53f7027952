//! What was found in each text, kept by what the text holds: an audit after one edit reads one file anew.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
};

use osvm_audit::{Span, Stamp};

use super::{code, secrets};

/// What the checks ask of a text by itself.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Lines with a secret, and what it is.
    pub(crate) secrets: Vec<(usize, &'static str)>,
    /// How often `unsafe` stands there, and where first; of Rust alone.
    pub(crate) unsafe_places: Option<(usize, Span)>,
}

/// Facts by file, with the number of the text that they are of.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    files: RefCell<HashMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    stamp: Option<Stamp>,
    number: u64,
    facts: Rc<Facts>,
}

impl Seen {
    /// What is known of a file, if nothing was written to it since.
    pub(crate) fn unchanged(&self, file: &str, stamp: Option<Stamp>) -> Option<Rc<Facts>> {
        let files = self.files.borrow();
        let known = files.get(file)?;
        (stamp.is_some() && known.stamp == stamp).then(|| known.facts.clone())
    }

    /// What is known of this text.
    pub(crate) fn facts(&self, file: &str, stamp: Option<Stamp>, text: &str) -> Rc<Facts> {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let number = hasher.finish();
        if let Some(known) = self.files.borrow_mut().get_mut(file)
            && known.number == number
        {
            known.stamp = stamp;
            return known.facts.clone();
        }
        let line = |at: usize| text[..at].matches('\n').count() + 1;
        let secrets = if secrets::may_hold(file) {
            secrets::secrets(text).into_iter().map(|(range, what)| (line(range.start), what)).collect()
        } else {
            Vec::new()
        };
        let unsafe_places = file.ends_with(".rs").then(|| code::unsafe_places(text)).flatten();
        let facts = Rc::new(Facts { secrets, unsafe_places });
        self.files.borrow_mut().insert(file.to_owned(), Known { stamp, number, facts: facts.clone() });
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_looked_at_again_only_when_it_changed() {
        let seen = Seen::default();
        let first = seen.facts("a.rs", None, "fn f() { unsafe { g() } }");
        assert_eq!(first.unsafe_places.map(|(count, _)| count), Some(1));
        assert!(Rc::ptr_eq(&first, &seen.facts("a.rs", None, "fn f() { unsafe { g() } }")));
        assert!(seen.facts("a.rs", None, "fn f() { g() }").unsafe_places.is_none());
        assert!(seen.facts("a.txt", None, "unsafe").unsafe_places.is_none());
    }
}
