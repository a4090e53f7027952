//! What is known over all handlers of a package: what one of them does may excuse or accuse another.

use std::collections::HashSet;

use crate::{
    interp::{Action, Node, Prop, Run},
    syntax::{BinOp, Name},
};

/// A field of a type that is stored in accounts.
type Field = (Name, Name);

/// What a rule asks about the whole package. What a handler was told stays true of it as long as the answers do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ask {
    /// Some handler fills the field with a canonical bump.
    Canonical(Field),
    /// Some handler compares the field with an account's address.
    Gate(Field),
    /// Some handler multiplies or divides by the field.
    Rate(Field),
    /// Some handler looks for the mark of a closed account.
    ClosedChecked,
    /// More than one type is stored in accounts.
    SeveralTypes,
    /// Sums that do not fit panic.
    OverflowChecks,
}

/// What is known over all handlers of a package.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    /// Fields that some handler fills with a canonical bump: (type, field).
    pub(crate) canonical: HashSet<Field>,
    /// Fields that some handler compares with an account's address: who may.
    pub(crate) gates: HashSet<Field>,
    /// Fields that some handler multiplies or divides by.
    pub(crate) rates: HashSet<Field>,
    /// Some handler looks for the mark of a closed account.
    pub(crate) closed_checked: bool,
    /// Types that are stored in accounts.
    pub(crate) stored: HashSet<Name>,
    pub(crate) overflow_checks: bool,
}

impl Whole {
    /// What another part learnt is known here as well.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.canonical.extend(other.canonical.iter().cloned());
        self.gates.extend(other.gates.iter().cloned());
        self.rates.extend(other.rates.iter().cloned());
        self.stored.extend(other.stored.iter().cloned());
        self.closed_checked |= other.closed_checked;
        self.overflow_checks |= other.overflow_checks;
    }

    /// The answer to a question about the package.
    pub(crate) fn answer(&self, ask: &Ask) -> bool {
        match ask {
            Ask::Canonical(field) => self.canonical.contains(field),
            Ask::Gate(field) => self.gates.contains(field),
            Ask::Rate(field) => self.rates.contains(field),
            Ask::ClosedChecked => self.closed_checked,
            Ask::SeveralTypes => self.stored.len() > 1,
            Ask::OverflowChecks => self.overflow_checks,
        }
    }

    pub(crate) fn learn(&mut self, run: &Run<'_>) {
        for event in &run.events {
            match &event.action {
                Action::WriteField { ty, field, value, .. }
                    if run.arena.any(*value, &|node| matches!(node, Node::Bump(_))) =>
                {
                    self.canonical.insert((ty.clone(), field.clone()));
                }
                Action::WriteData { value: Some(value), .. } => {
                    if let Node::Struct(path, fields) = run.arena.get(*value) {
                        let Some(ty) = path.last() else { continue };
                        self.stored.insert(ty.clone());
                        for (field, value) in fields {
                            if run.arena.any(*value, &|node| matches!(node, Node::Bump(_))) {
                                self.canonical.insert((ty.clone(), field.clone()));
                            }
                        }
                    }
                }
                Action::Deserialize { ty, .. } => {
                    self.stored.insert(ty.clone());
                }
                _ => {}
            }
        }
        for (v, truth) in run.learnt.keys() {
            self.closed_checked |= run.arena.any(*v, &is_closed_mark);
            let Node::Bin(BinOp::Eq, a, b) = run.arena.get(*v) else { continue };
            for (this, that) in [(*a, *b), (*b, *a)] {
                if *truth
                    && matches!(run.arena.get(that), Node::Prop(Prop::Key, _))
                    && let Some((_, ty, field)) = run.arena.state_field(this)
                {
                    self.gates.insert((ty, field));
                }
            }
        }
        for node in run.arena.nodes() {
            let sides = match node {
                Node::Bin(BinOp::Mul | BinOp::Div, a, b) => vec![*a, *b],
                Node::Call(name, args) if scales(name) => args.clone(),
                _ => continue,
            };
            let fields = sides.into_iter().filter_map(|side| run.arena.state_field(side));
            self.rates.extend(fields.map(|(_, ty, field)| (ty, field)));
        }
    }
}

/// Methods that multiply or divide.
fn scales(name: &str) -> bool {
    let bare =
        ["checked_", "saturating_", "wrapping_", "overflowing_", "try_"].iter().find_map(|way| name.strip_prefix(way));
    matches!(
        bare.unwrap_or(name),
        "mul" | "div" | "mul_div" | "mul_div_floor" | "mul_div_ceil" | "div_ceil" | "ceil_div"
    )
}

/// Anchor's mark of a closed account.
pub(crate) fn is_closed_mark(node: &Node) -> bool {
    matches!(node, Node::Path(path) if path.last().is_some_and(|last| &**last == "CLOSED_ACCOUNT_DISCRIMINATOR"))
}
