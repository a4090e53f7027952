//! Tokens that a call moves: what several rules ask of a call of a token program.

use crate::{
    interp::{Action, Event, V, Wrapper},
    model::View,
};

/// A transfer, as far as its arguments tell.
pub(super) struct Move {
    pub(super) from: Option<u32>,
    pub(super) to: Option<u32>,
    pub(super) amount: Option<V>,
    pub(super) signed: bool,
    /// The program may be Token-2022.
    pub(super) interface: bool,
    /// The mint and its decimals are passed along.
    pub(super) checked: bool,
}

/// The transfer of tokens that an event is.
pub(super) fn of(view: &View<'_, '_>, event: &Event) -> Option<Move> {
    let Action::Cpi { name, program, parts, data, seeds } = &event.action else { return None };
    let last = name.rsplit("::").next().unwrap_or(name);
    let checked = matches!(last, "transfer_checked" | "TransferChecked" | "transfer_checked_with_fee");
    if !checked && !matches!(last, "transfer" | "Transfer") {
        return None;
    }
    let part = |role: &str| parts.iter().find(|(have, _)| &**have == role).map(|(_, v)| *v);
    let account = |role: &str| part(role).and_then(|v| view.run.arena.account(v));
    // The system program's transfer has nobody who allows it beside the payer.
    part("authority").or_else(|| part("mint"))?;
    let called = program.and_then(|program| view.run.arena.account(program));
    let interface = called.is_some_and(|called| {
        view.account(called).wrapper == Wrapper::Program && view.account(called).ty.as_deref() == Some("TokenInterface")
    });
    // `transfer(ctx, amount)` and `transfer_checked(ctx, amount, decimals)`; builders have the amount behind the signers.
    let plain: Vec<V> =
        data.iter().copied().filter(|v| !matches!(view.node(*v), crate::interp::Node::Array(_))).collect();
    let amount = part("amount").or_else(|| plain.first().copied());
    Some(Move { from: account("from"), to: account("to"), amount, signed: seeds.is_some(), interface, checked })
}

/// Types of the token programs' accounts.
pub(super) fn is_token_state(ty: &str) -> bool {
    matches!(ty, "TokenAccount" | "Mint")
}
