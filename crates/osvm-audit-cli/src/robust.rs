//! Whatever a tree, a node or an editor sends: no reader of this crate panics, and no report is markup.

use osvm_audit::{Confidence, Finding, Location, Severity, Span, Step};
use proptest::{
    collection::vec,
    prelude::{Strategy, any},
    prop_assert, proptest,
    string::string_regex,
};

use crate::{
    audit::{Audit, Dependencies, Item, LeftOut, SCHEMA, Tool},
    chain,
    cli::Format,
    host, lsp, output, since,
    sources::Text,
};

fn text() -> impl Strategy<Value = String> {
    // Characters that mean something to some format, and some that are wide.
    string_regex("[a-z0-9 <>&\"'`|\\\\\\[\\]=#@{},.:;/+\\-\n\r\t\u{1b}äß→😀]{0,120}").unwrap()
}

fn span() -> impl Strategy<Value = Span> {
    let number = || proptest::prop_oneof![0_u32..12, any::<u32>()];
    (number(), number(), number(), number()).prop_map(|(line, column, end_line, end_column)| Span {
        line,
        column,
        end_line,
        end_column,
    })
}

fn audit(folder: &std::path::Path, words: &str, place: Span, step: Span) -> Audit {
    let finding = Finding {
        rule: "OSVM-094",
        class: "class",
        title: "title",
        severity: Severity::High,
        confidence: Confidence::Low,
        message: words.to_owned(),
        help: words.to_owned(),
        edit: None,
        location: Location { file: "a.rs".into(), span: place },
        evidence: vec![Step { file: words.to_owned(), span: step, note: words.to_owned() }],
        handler: Some(words.to_owned()),
    };
    Audit {
        schema: SCHEMA,
        tool: Tool { name: "osvm audit", version: "0" },
        root: words.to_owned(),
        findings: vec![Item { finding, fingerprint: String::new() }],
        suppressed: Vec::new(),
        known: Vec::new(),
        gone: 0,
        left_out: LeftOut::default(),
        not_analysed: Vec::new(),
        programs: Vec::new(),
        files: 1,
        lines: 1,
        dependencies: Dependencies::default(),
        deployed: None,
        ai: None,
        took: std::time::Duration::ZERO,
        folder: folder.to_owned(),
    }
}

proptest! {
    #[test]
    fn every_place_in_every_text_can_be_reported(source in text(), words in text(), place in span(), step in span()) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.rs"), &source).unwrap();
        let audit = audit(folder.path(), &words, place, step);
        for format in [Format::Text, Format::Sarif, Format::Json, Format::Markdown, Format::Html] {
            let report = output::render(&audit, format, false).unwrap();
            prop_assert!(!report.contains('\u{1b}'), "{format:?} lets an escape through");
        }
    }

    #[test]
    fn places_are_within_the_text(source in text(), place in span()) {
        let text = Text::new(source.clone());
        if let Some(range) = text.range(place) {
            prop_assert!(source.get(range).is_some());
        }
    }

    #[test]
    fn files_of_any_content_are_read_or_refused(source in text(), bytes in vec(any::<u8>(), 0..300)) {
        since::robust(&source);
        since::robust(&format!("--- a/x\n+++ b/x\n@@ -1 +1,{source}"));
        host::robust(&source);
        host::robust(&format!("[[package]]\nname = \"{source}"));
        chain::robust(&bytes);
        let _ = lsp::robust(&bytes);
        let _ = lsp::robust(source.as_bytes());
    }
}
