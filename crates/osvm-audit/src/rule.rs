//! What a rule says of itself.

use schemars::JsonSchema;
use serde::Serialize;

use crate::Severity;

/// A rule: what it looks for, why that matters, what it cannot see, and what mends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Rule {
    /// As `OSVM-001`; never given to another rule.
    pub id: &'static str,
    /// The kind of mistake, as `missing-signer`; several rules may share one.
    pub class: &'static str,
    /// A few words.
    pub title: &'static str,
    /// The worst that a finding of this rule has.
    pub severity: Severity,
    /// The weakness's number in the Common Weakness Enumeration.
    pub cwe: u32,
    /// What the rule looks for, and why that is a mistake.
    pub explanation: &'static str,
    /// What the rule cannot see, and where it is wrong.
    pub limits: &'static str,
    /// What mends it.
    pub fix: &'static str,
}
