//! All rules: the engine's, and those of this crate (host code, dependencies, deployed programs).

use osvm_audit::Rule;

use crate::{chain, host};

/// All of them, sorted by id. Where the engine has a rule of the same id, the engine's is told.
pub(crate) fn all() -> Vec<&'static Rule> {
    let mut all: Vec<&Rule> = osvm_audit::rules().iter().collect();
    let own = host::RULES.iter().chain(chain::RULES);
    all.extend(own.filter(|rule| osvm_audit::rule(rule.id).is_none()));
    all.sort_by_key(|rule| rule.id);
    all
}

/// The rule of this id, whatever the case of its letters.
pub(crate) fn find(id: &str) -> Option<&'static Rule> {
    all().into_iter().find(|rule| rule.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_an_id_of_its_own_and_says_what_it_is_about() {
        let all = all();
        for pair in all.windows(2) {
            assert!(pair[0].id < pair[1].id, "{} twice", pair[1].id);
        }
        for rule in all {
            assert!(rule.id.starts_with("OSVM-"), "{}", rule.id);
            for text in [rule.class, rule.title, rule.explanation, rule.limits, rule.fix] {
                assert!(!text.trim().is_empty(), "{}", rule.id);
            }
        }
    }
}
