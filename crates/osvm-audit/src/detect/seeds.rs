//! OSVM-023: different seeds that make the same bytes.

use std::collections::HashSet;

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Node, V},
    model::{View, how},
    syntax::BinOp,
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-023",
    class: "seed-collision",
    title: "Seeds of varying length stand side by side",
    severity: Severity::Medium,
    cwe: 330,
    explanation: "Seeds are joined without a mark between them. Two texts of free length side by side give the same address for different \
                  pairs: \"ab\", \"c\" and \"a\", \"bc\".",
    limits: "Only seeds whose declared type has no fixed length count.",
    fix: "Hash each text, or put a seed of fixed length between them.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    let mut told = HashSet::new();
    for event in &view.events {
        for (v, truth) in &event.facts {
            let Node::Bin(BinOp::Eq, a, b) = view.node(*v) else { continue };
            for side in [*a, *b] {
                let Node::Pda(seeds, _) = view.node(side) else { continue };
                if !*truth || !told.insert(side) {
                    continue;
                }
                let free = |seed: V| {
                    let ty = view.run.ty(event.file, seed);
                    ty.is_some_and(|ty| matches!(&*ty.name, "String" | "str" | "Vec"))
                };
                if seeds.windows(2).any(|pair| free(pair[0]) && free(pair[1])) {
                    let message = "two seeds of free length stand side by side".to_owned();
                    let at = view.run.learnt.get(&(*v, true)).copied().unwrap_or((event.file, event.span));
                    let steps = vec![view.step(at.0, at.1, "the address is derived here")];
                    found.push(view.finding(
                        &RULE,
                        at.0,
                        at.1,
                        how(Severity::Medium, Confidence::High),
                        message,
                        steps,
                    ));
                }
            }
        }
    }
}
