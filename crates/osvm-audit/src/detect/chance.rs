//! OSVM-067 and OSVM-076: the clock taken for chance, and signatures that are good for ever.

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Node},
    model::{View, how},
    syntax::BinOp,
};

use super::clock::tells_time;

/// Remainders by less than this draw lots; by more, they find the start of a period.
const SHORTEST_PERIOD: u128 = 60;

pub(super) static ENTROPY: Rule = Rule {
    id: "OSVM-067",
    class: "predictable-entropy",
    title: "The clock decides a draw",
    severity: Severity::Medium,
    cwe: 338,
    explanation: "A slot or a time is hashed, or its remainder by a small number is taken, to draw lots. Everybody knows it before, and who \
                  leads the slot chooses it; a caller wraps the call and goes through with it only when it wins.",
    limits: "A remainder by a constant of a minute and more is taken for the start of a period.",
    fix: "Commit and reveal, or use an oracle of verifiable randomness.",
};

pub(super) fn check_entropy(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    for event in &view.events {
        let drawn = match &event.action {
            Action::Arith { op: BinOp::Rem, left, right, .. } => {
                let period = view.literal(*right).is_some_and(|by| by >= SHORTEST_PERIOD)
                    || matches!(view.node(*right), Node::Path(_));
                // `time / step % n` is a place in a ring.
                let ring = matches!(view.node(view.strip(*left)), Node::Bin(BinOp::Div, ..));
                tells_time(view, *left) && !period && !ring
            }
            Action::Unfollowed { name, args } => {
                let hashes =
                    ["keccak", "sha256", "sha3", "blake3", "hasher", "hashv"].iter().any(|part| name.contains(part));
                hashes && args.iter().any(|arg| tells_time(view, *arg))
            }
            _ => false,
        };
        if !drawn {
            continue;
        }
        let message = "what is drawn here follows from the clock".to_owned();
        let steps = vec![view.step(event.file, event.span, "everybody knows the outcome before")];
        found.push(view.at(&ENTROPY, event, how(Severity::Medium, Confidence::Medium), message, steps));
    }
}

pub(super) static REPLAY: Rule = Rule {
    id: "OSVM-076",
    class: "signature-replay",
    title: "A signature can be shown again",
    severity: Severity::Medium,
    cwe: 294,
    explanation: "The handler acts on an instruction of the ed25519 or secp256k1 program, and neither marks what was signed as used nor asks \
                  how old it is: the same signature works a second time.",
    limits: "A stored number that is compared with what the caller gives, a new account or a look at the clock counts as a mark.",
    fix: "Put a number into what is signed, store it, and refuse it the next time; or let it end at a time.",
};

pub(super) fn check_replay(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() || !view.effects() {
        return;
    }
    let loads = view.events.iter().find(|event| {
        let Action::Unfollowed { name, .. } = &event.action else { return false };
        let last = name.rsplit("::").next().unwrap_or(name);
        last.starts_with("load_instruction_at") || last.starts_with("get_instruction_relative")
    });
    let Some(event) = loads else { return };
    let precompile = |node: &Node| match node {
        Node::Path(path) => path.iter().any(|part| part.contains("ed25519") || part.contains("secp256")),
        _ => false,
    };
    let signed = view.run.learnt.keys().any(|(v, _)| view.run.arena.any(*v, &precompile));
    let marked = view.accounts.iter().any(|account| view.created(*account) || view.account(*account).init_if_needed)
        || view.events.iter().any(|event| match &event.action {
            Action::Compare { left, right } => {
                let (left, right) = (*left, *right);
                tells_time(view, left)
                    || tells_time(view, right)
                    || (stored_number(view, left) && !stored_number(view, right))
                    || (stored_number(view, right) && !stored_number(view, left))
            }
            Action::WriteField { value, place, .. } => {
                // A number that goes up by one.
                matches!(view.node(view.strip(*value)), Node::Bin(BinOp::Add, a, b) if a == place && view.literal(*b) == Some(1))
            }
            _ => false,
        });
    if !signed || marked {
        return;
    }
    let message = "what was signed is acted on again as often as it is shown".to_owned();
    let steps = vec![view.step(event.file, event.span, "the signature is looked at here, and never marked as used")];
    found.push(view.at(&REPLAY, event, how(Severity::Medium, Confidence::Low), message, steps));
}

/// A field of an account that is no address.
fn stored_number(view: &View<'_, '_>, v: crate::interp::V) -> bool {
    view.run.arena.state_field(v).is_some()
        && !view.run.ty(view.place().0, v).is_some_and(|ty| matches!(&*ty.name, "Pubkey" | "Address"))
}
