//! OSVM-053, OSVM-054 and OSVM-055: what a call of a program of the caller's choice can do beyond being that call.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Node},
    model::{View, how},
    syntax::BinOp,
};

pub(super) static ORDER: Rule = Rule {
    id: "OSVM-053",
    class: "effects-after-call",
    title: "State that guards a call changes only after it",
    severity: Severity::Low,
    cwe: 841,
    explanation: "A program of the caller's choice is called while the state that let the call through still stands. It may call back, \
                  and finds the guard open.",
    limits: "The runtime lets a program be entered again by itself alone, so the way back is narrow.",
    fix: "Change the state first, and call last; and compare the program's address.",
};

pub(super) fn check_order(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for (at, event) in view.events.iter().enumerate() {
        let Action::Cpi { name, program: Some(program), .. } = &event.action else { continue };
        if super::arbitrary_cpi::chosen(view, *program, event).is_none() {
            continue;
        }
        let later = view.events[at + 1..].iter().find_map(|later| {
            let Action::WriteField { account, field, place, .. } = &later.action else { return None };
            let guards = event.facts.iter().any(|(v, _)| view.run.arena.any(*v, &|node| node == view.node(*place)));
            guards.then_some((later, *account, field))
        });
        let Some((later, account, field)) = later else { continue };
        let message = format!("`{name}` is called while `{field}` of `{}` still lets it through", view.name(account));
        let steps = vec![
            view.step(event.file, event.span, "the call"),
            view.step(later.file, later.span, "the guard changes only here"),
        ];
        found.push(view.at(&ORDER, event, how(Severity::Low, Confidence::Medium), message, steps));
    }
}

pub(super) static ITSELF: Rule = Rule {
    id: "OSVM-054",
    class: "self-invocation",
    title: "A stored instruction may call the program itself",
    severity: Severity::Low,
    cwe: 674,
    explanation: "The program calls what its own state or the caller names, with its signature, and does not exclude itself: its own handlers \
                  can be entered with that signature, past what guards them.",
    limits: "Programs whose proposals change the program's own settings do this on purpose.",
    fix: "Refuse the program's own id: `require_keys_neq!(program_id, crate::ID)`.",
};

pub(super) fn check_itself(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let Action::Cpi { name, program: Some(program), seeds: Some(_), .. } = &event.action else { continue };
        let stored = view.run.arena.state_field(*program).is_some();
        let chosen = super::arbitrary_cpi::chosen(view, *program, event).is_some();
        if !stored && !chosen {
            continue;
        }
        let excluded = view.entails(&event.facts, &|node, truth| match node {
            Node::Bin(BinOp::Eq, a, b) => {
                let sides = [*a, *b];
                let own = |node: &Node| matches!(node, Node::ProgramId)
                    || matches!(node, Node::Path(path) if path.last().is_some_and(|last| matches!(&**last, "ID" | "id")));
                // Compared with anything fixed, it is known which program it is.
                let fixed = |node: &Node| matches!(node, Node::Path(_) | Node::Lit(_) | Node::Call(..));
                sides.iter().any(|side| own(view.node(*side)) || (truth && fixed(view.node(*side))))
                    && sides.iter().any(|side| {
                        *side == *program || view.run.arena.account(*side) == view.run.arena.account(*program)
                    })
            }
            _ => false,
        });
        if excluded {
            continue;
        }
        let message = format!("`{name}` may be a call of this program, with its own signature");
        let steps = vec![view.step(event.file, event.span, "it is called here")];
        found.push(view.at(&ITSELF, event, how(Severity::Low, Confidence::Medium), message, steps));
    }
}

pub(super) static FORWARDED: Rule = Rule {
    id: "OSVM-055",
    class: "signer-forwarded",
    title: "The caller's signature goes to a program of unknown address",
    severity: Severity::Medium,
    cwe: 441,
    explanation: "An account that signed is passed into a call of a program whose address is not compared. A client that was talked into \
                  naming another program hands it the signature, and with it what the signer owns.",
    limits: "Whoever names the program usually signs as well; it takes a client that is led astray.",
    fix: "Compare the program's address before the call.",
};

pub(super) fn check_forwarded(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let Action::Cpi { name, program: Some(program), parts, .. } = &event.action else { continue };
        if super::arbitrary_cpi::chosen(view, *program, event).is_none() {
            continue;
        }
        let signer = parts
            .iter()
            .filter_map(|(_, v)| view.run.arena.account(*v))
            .find(|account| view.signs(*account, &event.facts));
        let Some(signer) = signer else { continue };
        let message = format!("`{name}` gets the signature of `{}`, whatever program it calls", view.name(signer));
        let steps = vec![view.origin(signer), view.step(event.file, event.span, "it goes along here")];
        found.push(view.at(&FORWARDED, event, how(Severity::Medium, Confidence::Medium), message, steps));
    }
}
