//! `Anchor.toml` against `declare_id!`: a program that is deployed where its own checks do not expect it refuses everything.

use std::str::FromStr;

use osvm_audit::{Confidence, Rule, Severity, Step};
use proc_macro2::{TokenStream, TokenTree};

use super::{
    Host, finding,
    manifest::Manifest,
    table,
    tree::{Tree, folder},
};

/// The id in Anchor.toml is not the one in the source.
pub(crate) const PROGRAM_ID: Rule = Rule {
    id: "OSVM-097",
    class: "program-id-mismatch",
    title: "Anchor.toml and declare_id! name different programs",
    severity: Severity::Low,
    cwe: 1188,
    explanation: "Anchor checks at run time that a program runs under the id of its `declare_id!`. Deployed under the id of \
        Anchor.toml, a program with another one refuses every call.",
    limits: "Compares the [programs.localnet], [programs.devnet] and [programs.mainnet] tables with the one `declare_id!` of the \
        crate of that name. A source that declares several, by features, is not compared.",
    fix: "anchor keys sync, or set both to the id of the key that the program is deployed with.",
};

/// Compares each program that an `Anchor.toml` names.
pub(crate) fn program_ids(tree: &Tree<'_>, manifests: &[Manifest], host: &mut Host) {
    for file in tree.named("Anchor.toml") {
        let text = match tree.text(file).and_then(|text| table::parse(&text).map(|_| ()).map(|()| text)) {
            Ok(text) => text,
            Err(reason) => {
                host.skip(file, reason);
                continue;
            }
        };
        let parsed = table::parse(&text).unwrap_or_default();
        let Some(clusters) = table::table(&parsed, &["programs"]) else { continue };
        for (name, value) in clusters.values().filter_map(|cluster| cluster.get_ref().as_table()).flatten() {
            let Some(id) = value.get_ref().as_str() else { continue };
            let Some((source, span, declared)) = declared(tree, manifests, folder(file), name.get_ref()) else {
                continue;
            };
            if declared == id {
                continue;
            }
            let location = table::location(file, &text, value.span());
            let message = format!("`{}` is {id} here and {declared} in {source}", name.get_ref());
            let help = "set both to the id of the key that the program is deployed with".to_owned();
            let mut found = finding::build(&PROGRAM_ID, Confidence::High, location, message, help);
            found.evidence.push(Step { file: source, span, note: format!("declares {declared}") });
            host.findings.push(found);
        }
    }
}

/// The one id that the sources of the crate `name` declare.
fn declared(
    tree: &Tree<'_>,
    manifests: &[Manifest],
    below: &str,
    name: &str,
) -> Option<(String, osvm_audit::Span, String)> {
    let named = |manifest: &&Manifest| {
        let parsed = manifest.table();
        let own = table::text(&parsed, &["lib", "name"]).or_else(|| table::text(&parsed, &["package", "name"]));
        own.is_some_and(|own| own.replace('-', "_") == name.replace('-', "_"))
    };
    let manifest = manifests.iter().filter(|manifest| manifest.folder().starts_with(below)).find(named)?;
    let sources = format!("{}src/", manifest.folder());
    let mut all = Vec::new();
    for file in tree.files.iter().filter(|file| file.starts_with(&sources) && file.ends_with(".rs")) {
        let Ok(text) = tree.text(file) else { continue };
        if !text.contains("declare_id") {
            continue;
        }
        let tokens = TokenStream::from_str(&text).ok()?;
        let mut stack = vec![tokens.into_iter()];
        let mut last = String::new();
        while let Some(iterator) = stack.last_mut() {
            match iterator.next() {
                Some(TokenTree::Group(group)) => {
                    if last == "declare_id!" {
                        let id = group.stream().to_string();
                        let span = table::location(file, &text, group.span().byte_range()).span;
                        all.push((file.clone(), span, id.trim_matches('"').to_owned()));
                    }
                    last.clear();
                    stack.push(group.stream().into_iter());
                }
                Some(TokenTree::Ident(ident)) => last = ident.to_string(),
                Some(TokenTree::Punct(punct)) if punct.as_char() == '!' => last.push('!'),
                Some(_) => last.clear(),
                None => {
                    stack.pop();
                }
            }
        }
    }
    (all.len() == 1).then(|| all.remove(0))
}
