//! The rules, one file each. A rule looks at one handler at a time through [`View`].

mod access;
mod arbitrary_cpi;
mod arithmetic;
mod bump;
mod close;
mod cpi_result;
mod data_matching;
mod duplicate;
mod init_if_needed;
mod introspection;
mod mint;
mod missing_mut;
mod missing_owner;
mod missing_signer;
mod numeric;
mod oracle;
mod pda;
mod pda_sharing;
mod precreation;
mod program_alias;
mod reinit;
mod remaining;
mod seeds;
mod single_step;
mod sysvar;
mod token_owner;
mod type_cosplay;

use crate::{Finding, Rule, model::View};

/// A rule with what applies it.
pub(crate) struct Detector {
    pub(crate) rule: &'static Rule,
    pub(crate) check: fn(&View<'_, '_>, &mut Vec<Finding>),
}

/// Sorted by id.
pub(crate) const ALL: [Detector; 35] = [
    Detector { rule: &missing_signer::RULE, check: missing_signer::check },
    Detector { rule: &missing_owner::RULE, check: missing_owner::check },
    Detector { rule: &data_matching::RULE, check: data_matching::check },
    Detector { rule: &type_cosplay::RULE, check: type_cosplay::check },
    Detector { rule: &mint::RULE, check: mint::check },
    Detector { rule: &token_owner::RULE, check: token_owner::check },
    Detector { rule: &sysvar::RULE, check: sysvar::check },
    Detector { rule: &introspection::RULE, check: introspection::check },
    Detector { rule: &duplicate::RULE, check: duplicate::check },
    Detector { rule: &remaining::RULE, check: remaining::check },
    Detector { rule: &missing_mut::CHECK_DOC, check: missing_mut::check_doc },
    Detector { rule: &missing_mut::RULE, check: missing_mut::check },
    Detector { rule: &access::RULE, check: access::check },
    Detector { rule: &program_alias::RULE, check: program_alias::check },
    Detector { rule: &bump::RULE, check: bump::check },
    Detector { rule: &pda_sharing::RULE, check: pda_sharing::check },
    Detector { rule: &pda::RULE, check: pda::check },
    Detector { rule: &seeds::RULE, check: seeds::check },
    Detector { rule: &reinit::RULE, check: reinit::check },
    Detector { rule: &init_if_needed::RULE, check: init_if_needed::check },
    Detector { rule: &init_if_needed::FRONTRUN, check: init_if_needed::check_frontrun },
    Detector { rule: &close::RULE, check: close::check },
    Detector { rule: &close::DESTINATION, check: close::check_destination },
    Detector { rule: &precreation::RULE, check: precreation::check },
    Detector { rule: &arbitrary_cpi::RULE, check: arbitrary_cpi::check },
    Detector { rule: &cpi_result::RULE, check: cpi_result::check },
    Detector { rule: &arithmetic::RULE, check: arithmetic::check },
    Detector { rule: &numeric::SATURATING, check: numeric::check_saturating },
    Detector { rule: &numeric::CAST, check: numeric::check_cast },
    Detector { rule: &numeric::DIVISION_FIRST, check: numeric::check_division_first },
    Detector { rule: &numeric::DIVISOR, check: numeric::check_divisor },
    Detector { rule: &oracle::RULE, check: oracle::check },
    Detector { rule: &oracle::CONFIDENCE, check: oracle::check_confidence },
    Detector { rule: &single_step::RULE, check: single_step::check },
    Detector { rule: &numeric::LOOP, check: numeric::check_loop },
];
