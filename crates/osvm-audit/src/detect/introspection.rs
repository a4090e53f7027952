//! OSVM-010: another instruction of the transaction is looked up at a fixed place.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::Action,
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-010",
    class: "instruction-introspection",
    title: "Instruction is looked up at a fixed place",
    severity: Severity::Medium,
    cwe: 345,
    explanation: "The handler looks at the instruction at a fixed index of the transaction. One instruction at that place then serves \
                  any number of calls of this handler in the same transaction.",
    limits: "Whether one such instruction may serve several calls is for the author to say.",
    fix: "Look up relative to the current instruction: `get_instruction_relative(-1, ..)`, or compute the index from \
          `load_current_index_checked`.",
};

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    for event in &view.events {
        let Action::Unfollowed { name, args } = &event.action else { continue };
        let last = name.rsplit("::").next().unwrap_or(name);
        if !last.starts_with("load_instruction_at") || args.first().and_then(|first| view.literal(*first)).is_none() {
            continue;
        }
        let message = "the instruction at a fixed index of the transaction is looked up".to_owned();
        let steps = vec![view.step(event.file, event.span, "the index is a constant")];
        found.push(view.at(&RULE, event, how(Severity::Medium, Confidence::Medium), message, steps));
    }
}
