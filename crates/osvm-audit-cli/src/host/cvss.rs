//! The base score of a CVSS 3 vector (FIRST, specification 3.1, section 7.1), to rank advisories with.

use osvm_audit::Severity;

/// The severity of a vector, if it is one of version 3.
pub(crate) fn severity(vector: &str) -> Option<Severity> {
    let score = score(vector)?;
    Some(match score {
        score if score >= 9.0 => Severity::Critical,
        score if score >= 7.0 => Severity::High,
        score if score >= 4.0 => Severity::Medium,
        score if score > 0.0 => Severity::Low,
        _ => Severity::Info,
    })
}

fn score(vector: &str) -> Option<f64> {
    let metrics = vector.strip_prefix("CVSS:3.0/").or_else(|| vector.strip_prefix("CVSS:3.1/"))?;
    let metric = |name: &str| {
        metrics.split('/').find_map(|part| part.split_once(':').filter(|(key, _)| *key == name)).map(|(_, value)| value)
    };
    let pick = |name: &str, table: &[(&str, f64)]| {
        let value = metric(name)?;
        table.iter().find(|(key, _)| *key == value).map(|(_, weight)| *weight)
    };
    let changed = match metric("S")? {
        "C" => true,
        "U" => false,
        _ => return None,
    };
    let vector = pick("AV", &[("N", 0.85), ("A", 0.62), ("L", 0.55), ("P", 0.2)])?;
    let complexity = pick("AC", &[("L", 0.77), ("H", 0.44)])?;
    let privileges = if changed {
        pick("PR", &[("N", 0.85), ("L", 0.68), ("H", 0.5)])?
    } else {
        pick("PR", &[("N", 0.85), ("L", 0.62), ("H", 0.27)])?
    };
    let interaction = pick("UI", &[("N", 0.85), ("R", 0.62)])?;
    let impact = |name: &str| pick(name, &[("H", 0.56), ("L", 0.22), ("N", 0.0)]);
    let lost = 1.0 - (1.0 - impact("C")?) * (1.0 - impact("I")?) * (1.0 - impact("A")?);
    let impact = if changed { 7.52 * (lost - 0.029) - 3.25 * (lost - 0.02).powi(15) } else { 6.42 * lost };
    if impact <= 0.0 {
        return Some(0.0);
    }
    let exploitability = 8.22 * vector * complexity * privileges * interaction;
    let sum = if changed { 1.08 * (impact + exploitability) } else { impact + exploitability };
    Some(round_up(sum.min(10.0)))
}

/// One decimal, upwards, as Appendix A of the specification does it with whole numbers.
fn round_up(score: f64) -> f64 {
    let whole = (score * 100_000.0).round();
    if whole % 10_000.0 == 0.0 { whole / 100_000.0 } else { ((whole / 10_000.0).floor() + 1.0) / 10.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_specifications_examples() {
        for (vector, expected) in [
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", 7.5),
            ("CVSS:3.0/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4),
            ("CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N", 1.8),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
        ] {
            let score = score(vector).unwrap();
            assert!((score - expected).abs() < 1e-9, "{vector}: {score}");
        }
        assert_eq!(severity("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"), Some(Severity::Critical));
        assert_eq!(severity("CVSS:4.0/AV:N"), None);
        assert_eq!(severity("CVSS:3.1/AV:N"), None);
    }
}
