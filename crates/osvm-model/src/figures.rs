//! Figures as people read and write them.

use std::{fmt::Write, time::Duration};

/// Bytes as small hexadecimal digits, two each.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSize {
    /// The number.
    #[error("a size is a whole number, as in 256M")]
    Number,
    /// The letters behind it.
    #[error("{0:?} is no unit: use K, M or G")]
    Unit(String),
    /// More than 64 bits.
    #[error("too large")]
    TooLarge,
}

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDuration {
    /// The number.
    #[error("write it as 500ms, 60s, 5m or 1h")]
    Number,
    /// No letters behind it.
    #[error("which unit? Write {0}s for seconds")]
    NoUnit(String),
    /// The letters behind it.
    #[error("{0:?} is no unit; use ms, s, m or h")]
    Unit(String),
    /// More milliseconds than 64 bits hold.
    #[error("that is too long")]
    TooLong,
}

/// A length of time from `500ms`, `60s`, `5m`, `1h`.
pub fn parse_duration(text: &str) -> Result<Duration, NoDuration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| NoDuration::Number)?;
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err(NoDuration::NoUnit(text.to_owned())),
        unit => return Err(NoDuration::Unit(unit.to_owned())),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or(NoDuration::TooLong)
}

/// `18,204`
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes from `256M`, `1GiB`, `4096`; units are powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, NoSize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        unit => return Err(NoSize::Unit(unit.to_owned())),
    };
    let number: u64 = digits.parse().map_err(|_| NoSize::Number)?;
    number.checked_mul(factor).ok_or(NoSize::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_two_small_digits_each() {
        assert_eq!(hex(&[0, 0x0a, 0xff]), "000aff");
    }

    #[test]
    fn a_length_of_time_has_a_unit_and_an_end() {
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("30"), Err(NoDuration::NoUnit("30".to_owned())));
        assert_eq!(parse_duration("18446744073709551615h"), Err(NoDuration::TooLong));
    }

    #[test]
    fn a_size_has_a_unit_of_1024_or_none() {
        assert_eq!(parse_size("256M"), Ok(256 << 20));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert_eq!(parse_size("256X"), Err(NoSize::Unit("x".to_owned())));
        assert_eq!(parse_size("M"), Err(NoSize::Number));
        assert_eq!(parse_size("99999999999G"), Err(NoSize::TooLarge));
    }

    #[test]
    fn a_number_has_a_comma_before_each_three_digits() {
        assert_eq!(number(18_204), "18,204");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_000_000), "1,000,000");
    }

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("60s").unwrap(), Duration::from_secs(60));
        assert_eq!(parse_duration("2m").unwrap(), Duration::from_secs(120));
        for bad in ["", "60", "s", "-1s", "1.5s", "1d", "1 s", "99999999999999999999s", "9999999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad:?} was taken");
        }
    }
}
