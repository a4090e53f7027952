//! Build scripts that reach out, and how much `unsafe` there is. Tokens are read, not text: strings and comments do not count.

use std::{collections::BTreeMap, str::FromStr};

use osvm_audit::{Confidence, Location, Rule, Severity, Span};
use proc_macro2::{TokenStream, TokenTree};

use super::{
    Host, finding,
    manifest::Manifest,
    table,
    tree::{Tree, file_name},
};

/// A build script that starts programs or opens connections.
pub(crate) const BUILD_SCRIPT: Rule = Rule {
    id: "OSVM-096",
    class: "build-script",
    title: "build script starts programs or opens connections",
    severity: Severity::Medium,
    cwe: 506,
    explanation: "A build script runs on the machine of everybody who builds the program, with their rights. One that starts \
        programs or opens connections can do there whatever it likes, and makes a build that nobody can repeat.",
    limits: "Looks for `Command::new`, `TcpStream`, `UdpSocket` and the names of HTTP clients in the scripts of this tree, not \
        in those of dependencies. Many scripts have good reasons to start a compiler.",
    fix: "Do it without another program, or check in what the script makes.",
};

/// `unsafe` in the tree.
pub(crate) const UNSAFE: Rule = Rule {
    id: "OSVM-098",
    class: "unsafe-code",
    title: "unsafe code",
    severity: Severity::Info,
    cwe: 119,
    explanation: "Counts the `unsafe` blocks, functions, traits and implementations of each crate: where a reader has to check \
        by hand what the compiler does not.",
    limits: "Counts; does not judge. Macros' and dependencies' own `unsafe` is not counted.",
    fix: "Forbid it where none is needed: #![forbid(unsafe_code)].",
};

/// Names of HTTP clients and sockets.
const NETWORK: [&str; 6] = ["TcpStream", "UdpSocket", "reqwest", "ureq", "curl", "isahc"];

/// Looks at `build.rs`, or at what the manifest names instead.
pub(crate) fn build_scripts(tree: &Tree<'_>, manifests: &[Manifest], host: &mut Host) {
    for manifest in manifests {
        let parsed = manifest.table();
        let script = table::text(&parsed, &["package", "build"]).unwrap_or("build.rs");
        let file = format!("{}{script}", manifest.folder());
        if !tree.files.contains(&file) {
            continue;
        }
        // What is no Rust is told by the engine, which reads the same files.
        let Some(tokens) = tokens(tree, &file) else { continue };
        let mut found: Vec<(String, Span)> = Vec::new();
        let mut words: [String; 2] = Default::default();
        visit(tokens, &mut |name, span| {
            if name == "new" && words[1] == "Command" {
                found.push(("starts a program".to_owned(), span));
            } else if NETWORK.contains(&name) {
                found.push((format!("uses `{name}`"), span));
            }
            words.swap(0, 1);
            name.clone_into(&mut words[1]);
        });
        found.dedup_by(|a, b| a.0 == b.0);
        for (what, span) in found {
            let message = format!("the build script {what}");
            let help = "do without, or check in what the script makes".to_owned();
            let location = Location { file: file.clone(), span };
            host.findings.push(finding::build(&BUILD_SCRIPT, Confidence::Medium, location, message, help));
        }
    }
}

/// One finding a crate that has any.
pub(crate) fn unsafe_code(tree: &Tree<'_>, manifests: &[Manifest], host: &mut Host) {
    let mut by_crate: BTreeMap<&str, (usize, Location)> = BTreeMap::new();
    for file in tree.files.iter().filter(|file| file.ends_with(".rs")) {
        let owner = manifests.iter().filter(|manifest| file.starts_with(manifest.folder()));
        let owner = owner.max_by_key(|manifest| manifest.folder().len()).map_or("", |manifest| manifest.file.as_str());
        let Some((count, span)) = tree.facts(file).and_then(|facts| facts.unsafe_places) else { continue };
        by_crate.entry(owner).or_insert((0, Location { file: file.clone(), span })).0 += count;
    }
    for (owner, (count, location)) in by_crate {
        let of = if owner.is_empty() { "the tree".to_owned() } else { format!("the crate of `{owner}`") };
        let message =
            format!("{of} has {count} unsafe {}, the first here", if count == 1 { "place" } else { "places" });
        let help = "check each by hand, and forbid it where none is needed".to_owned();
        host.findings.push(finding::build(&UNSAFE, Confidence::High, location, message, help));
    }
}

/// How often the word stands in a text, and where first.
pub(super) fn unsafe_places(text: &str) -> Option<(usize, Span)> {
    // Most files have none, and looking for the word is much cheaper than reading tokens.
    if !text.contains("unsafe") {
        return None;
    }
    let tokens = TokenStream::from_str(text).ok()?;
    let mut found: Option<(usize, Span)> = None;
    visit(tokens, &mut |name, span| {
        if name == "unsafe" {
            found.get_or_insert((0, span)).0 += 1;
        }
    });
    // Each thread keeps every text that it took apart, for its spans; ours are copied out.
    proc_macro2::extra::invalidate_current_thread_spans();
    found
}

fn tokens(tree: &Tree<'_>, file: &str) -> Option<TokenStream> {
    debug_assert!(file_name(file).ends_with(".rs"));
    TokenStream::from_str(&tree.text(file).ok()?).ok()
}

/// Calls `see` with each identifier. Without recursion, so that no nesting is too deep.
fn visit(tokens: TokenStream, see: &mut impl FnMut(&str, Span)) {
    let mut stack = vec![tokens.into_iter()];
    while let Some(iterator) = stack.last_mut() {
        match iterator.next() {
            Some(TokenTree::Ident(ident)) => see(&ident.to_string(), span(ident.span())),
            Some(TokenTree::Group(group)) => stack.push(group.stream().into_iter()),
            Some(_) => {}
            None => {
                stack.pop();
            }
        }
    }
}

fn span(span: proc_macro2::Span) -> Span {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let (start, end) = (span.start(), span.end());
    Span {
        line: number(start.line),
        column: number(start.column + 1),
        end_line: number(end.line),
        end_column: number(end.column + 1),
    }
}
