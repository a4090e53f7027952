//! A static auditor for Solana programs: Anchor, native and Pinocchio.
//!
//! It works on facts, not on names: for each instruction handler, what is known of each account before each use.
//! It runs nothing, builds nothing and opens no connection.

#![forbid(unsafe_code)]

mod analyse;
mod detect;
mod error;
mod fingerprint;
mod index;
mod interp;
mod lookup;
mod memo;
mod model;
mod report;
mod rule;
mod source;
mod syntax;
mod whole;

pub use analyse::{Session, analyse_text};
pub use error::Error;
pub use report::{
    Confidence, Edit, Finding, Location, NotAnalysed, Options, Program, Report, Severity, Span, Step, Suppressed,
};
pub use rule::Rule;
pub use source::Stamp;

/// All rules, sorted by id.
#[must_use]
pub fn rules() -> &'static [Rule] {
    static RULES: std::sync::LazyLock<Vec<Rule>> =
        std::sync::LazyLock::new(|| detect::ALL.iter().map(|detector| *detector.rule).collect());
    &RULES
}

/// The rule of this id, whatever the case of its letters.
#[must_use]
pub fn rule(id: &str) -> Option<&'static Rule> {
    rules().iter().find(|rule| rule.id.eq_ignore_ascii_case(id))
}

/// Audits what lies under the root.
///
/// # Errors
/// [`Error::Root`] if the root can't be read, [`Error::NoSuchRule`] if an unknown rule is asked for.
pub fn analyse(options: &Options) -> Result<Report, Error> {
    Session::new().analyse(options)
}
