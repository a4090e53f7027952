//! The rules, one file each. A rule looks at one handler at a time through [`View`].

mod access;
mod amounts;
mod arbitrary_cpi;
mod arithmetic;
mod bump;
mod chance;
mod clock;
mod close;
mod cpi_result;
mod data_matching;
mod declared;
mod duplicate;
mod edits;
mod has_one;
mod init_if_needed;
mod introspection;
mod lifecycle;
mod mint;
mod missing_mut;
mod missing_owner;
mod missing_signer;
mod moves;
mod mutual;
mod numeric;
mod open_call;
mod oracle;
mod pda;
mod pda_sharing;
mod precreation;
mod program_alias;
mod rates;
mod reinit;
mod remaining;
mod seeds;
mod shape;
mod signer_seeds;
mod single_step;
mod space;
mod stale;
mod sysvar;
mod token;
mod token_owner;
mod type_cosplay;
mod unwraps;

use crate::{Finding, Rule, model::View};

/// A rule with what applies it.
pub(crate) struct Detector {
    pub(crate) rule: &'static Rule,
    pub(crate) check: fn(&View<'_, '_>, &mut Vec<Finding>),
}

/// Sorted by id.
pub(crate) const ALL: [Detector; 67] = [
    Detector { rule: &missing_signer::RULE, check: missing_signer::check },
    Detector { rule: &missing_owner::RULE, check: missing_owner::check },
    Detector { rule: &data_matching::RULE, check: data_matching::check },
    Detector { rule: &type_cosplay::RULE, check: type_cosplay::check },
    Detector { rule: &mutual::RULE, check: mutual::check },
    Detector { rule: &mint::RULE, check: mint::check },
    Detector { rule: &token_owner::RULE, check: token_owner::check },
    Detector { rule: &sysvar::RULE, check: sysvar::check },
    Detector { rule: &introspection::RULE, check: introspection::check },
    Detector { rule: &duplicate::RULE, check: duplicate::check },
    Detector { rule: &remaining::RULE, check: remaining::check },
    Detector { rule: &missing_mut::CHECK_DOC, check: missing_mut::check_doc },
    Detector { rule: &missing_mut::RULE, check: missing_mut::check },
    Detector { rule: &declared::WRITABLE, check: declared::check_writable },
    Detector { rule: &declared::SEED_ONLY, check: declared::check_seed_only },
    Detector { rule: &access::RULE, check: access::check },
    Detector { rule: &program_alias::RULE, check: program_alias::check },
    Detector { rule: &unwraps::OPTIONAL, check: unwraps::check_optional },
    Detector { rule: &bump::RULE, check: bump::check },
    Detector { rule: &pda_sharing::RULE, check: pda_sharing::check },
    Detector { rule: &pda::RULE, check: pda::check },
    Detector { rule: &seeds::RULE, check: seeds::check },
    Detector { rule: &signer_seeds::DIFFER, check: signer_seeds::check_differ },
    Detector { rule: &signer_seeds::FORWARDED, check: signer_seeds::check_forwarded },
    Detector { rule: &signer_seeds::NOBODY, check: signer_seeds::check_nobody },
    Detector { rule: &reinit::RULE, check: reinit::check },
    Detector { rule: &init_if_needed::RULE, check: init_if_needed::check },
    Detector { rule: &init_if_needed::FRONTRUN, check: init_if_needed::check_frontrun },
    Detector { rule: &close::RULE, check: close::check },
    Detector { rule: &close::DESTINATION, check: close::check_destination },
    Detector { rule: &space::REALLOC, check: space::check_realloc },
    Detector { rule: &space::SPACE, check: space::check_space },
    Detector { rule: &lifecycle::UNSET, check: lifecycle::check_unset },
    Detector { rule: &precreation::RULE, check: precreation::check },
    Detector { rule: &space::RENT, check: space::check_rent },
    Detector { rule: &lifecycle::REVIVED, check: lifecycle::check_revived },
    Detector { rule: &arbitrary_cpi::RULE, check: arbitrary_cpi::check },
    Detector { rule: &cpi_result::RULE, check: cpi_result::check },
    Detector { rule: &stale::RULE, check: stale::check },
    Detector { rule: &open_call::ORDER, check: open_call::check_order },
    Detector { rule: &open_call::ITSELF, check: open_call::check_itself },
    Detector { rule: &open_call::FORWARDED, check: open_call::check_forwarded },
    Detector { rule: &token::UNBALANCED, check: token::check_unbalanced },
    Detector { rule: &token::UNCHECKED, check: token::check_unchecked },
    Detector { rule: &token::CREDITED, check: token::check_credited },
    Detector { rule: &arithmetic::RULE, check: arithmetic::check },
    Detector { rule: &numeric::SATURATING, check: numeric::check_saturating },
    Detector { rule: &numeric::CAST, check: numeric::check_cast },
    Detector { rule: &numeric::DIVISION_FIRST, check: numeric::check_division_first },
    Detector { rule: &amounts::ROUNDED, check: amounts::check_rounded },
    Detector { rule: &numeric::DIVISOR, check: numeric::check_divisor },
    Detector { rule: &unwraps::CHECKED, check: unwraps::check_checked },
    Detector { rule: &chance::ENTROPY, check: chance::check_entropy },
    Detector { rule: &oracle::RULE, check: oracle::check },
    Detector { rule: &oracle::CONFIDENCE, check: oracle::check_confidence },
    Detector { rule: &amounts::SLIPPAGE, check: amounts::check_slippage },
    Detector { rule: &rates::SPOT, check: rates::check_spot },
    Detector { rule: &rates::UNBOUNDED, check: rates::check_unbounded },
    Detector { rule: &single_step::RULE, check: single_step::check },
    Detector { rule: &chance::REPLAY, check: chance::check_replay },
    Detector { rule: &amounts::ZERO, check: amounts::check_zero },
    Detector { rule: &unwraps::PANIC, check: unwraps::check_panic },
    Detector { rule: &numeric::LOOP, check: numeric::check_loop },
    Detector { rule: &shape::CAST, check: shape::check_cast },
    Detector { rule: &shape::ARGUMENTS, check: shape::check_arguments },
    Detector { rule: &shape::DEFAULT, check: shape::check_default },
    Detector { rule: &shape::FRAME, check: shape::check_frame },
];
