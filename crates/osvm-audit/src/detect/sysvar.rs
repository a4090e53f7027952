//! OSVM-009: an account passes for a sysvar.

use std::collections::BTreeSet;

use crate::{
    Confidence, Finding, Rule, Severity,
    interp::{Action, Node, Prop},
    model::{View, how},
};

pub(super) static RULE: Rule = Rule {
    id: "OSVM-009",
    class: "sysvar-spoof",
    title: "Sysvar address is not checked",
    severity: Severity::Critical,
    cwe: 290,
    explanation: "The handler believes the content of an account to be the clock, the rent, the instructions or another sysvar \
                  without comparing its address. A caller passes an account with content of their choice.",
    limits: "`Sysvar::from_account_info` of the SDK compares the address and is fine. An account that is only named as Anchor and \
             the SDK name a sysvar is a weaker sign; the finding is medium then.",
    fix: "Use `Sysvar<'info, T>` or `T::get()`, the `_checked` functions, or compare the key with the sysvar's id.",
};

/// Types of sysvars.
pub(super) fn is_sysvar(ty: &str) -> bool {
    matches!(
        ty,
        "Rent"
            | "Clock"
            | "EpochSchedule"
            | "EpochRewards"
            | "Fees"
            | "SlotHashes"
            | "SlotHistory"
            | "StakeHistory"
            | "RecentBlockhashes"
            | "LastRestartSlot"
            | "Instructions"
    )
}

/// The names under which Anchor and the SDK resolve sysvar accounts.
pub(super) fn is_sysvar_name(name: &str) -> bool {
    matches!(
        name,
        "rent" | "clock" | "instructions" | "recent_blockhashes" | "slot_hashes" | "stake_history" | "epoch_schedule"
    ) || name.ends_with("_sysvar")
        || name.starts_with("sysvar_")
        || name.ends_with("_sysvar_info")
        || name.ends_with("_sysvar_account")
}

pub(super) fn check(view: &View<'_, '_>, found: &mut Vec<Finding>) {
    if view.is_plain() {
        return;
    }
    let mut told = BTreeSet::new();
    for event in &view.events {
        let (account, what, severity, confidence) = match &event.action {
            Action::Deserialize { account, ty, how } if is_sysvar(ty) => {
                // Pinocchio's `_unchecked` variants leave out the borrow, not the address.
                let checks = how.starts_with("from_account");
                if checks {
                    continue;
                }
                (*account, format!("read as the `{ty}` sysvar"), Severity::Critical, Confidence::High)
            }
            Action::Unfollowed { name, args } => {
                let last = name.rsplit("::").next().unwrap_or(name);
                if !matches!(last, "load_instruction_at" | "load_current_index" | "get_instruction_relative_unchecked")
                {
                    continue;
                }
                let Some(account) = args.iter().find_map(|arg| view.run.arena.account(*arg)) else { continue };
                (account, format!("read by `{last}`, which checks nothing"), Severity::Critical, Confidence::High)
            }
            Action::ReadData { account } if is_sysvar_name(view.name(*account)) => {
                (*account, "read as a sysvar".to_owned(), Severity::Medium, Confidence::Medium)
            }
            Action::Use { value, .. } => match view.node(view.strip(*value)) {
                Node::Prop(Prop::Key, account) if is_sysvar_name(view.name(*account)) => {
                    (*account, "taken for a sysvar".to_owned(), Severity::Medium, Confidence::Low)
                }
                Node::Call(_, args) => match args.first().map(|first| view.node(*first)) {
                    Some(Node::Prop(Prop::Key, account)) if is_sysvar_name(view.name(*account)) => {
                        (*account, "taken for a sysvar".to_owned(), Severity::Medium, Confidence::Low)
                    }
                    _ => continue,
                },
                _ => continue,
            },
            _ => continue,
        };
        if !view.raw(account) || view.pinned(account, &event.facts) || !told.insert(account) {
            continue;
        }
        let message = format!("`{}` is {what}, but its address is not compared", view.name(account));
        let steps = vec![view.origin(account), view.step(event.file, event.span, "it is believed here")];
        found.push(view.at(&RULE, event, how(severity, confidence), message, steps));
    }
}
