//! Sizes as people write them.

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
    fn a_size_has_a_unit_of_1024_or_none() {
        assert_eq!(parse_size("256M"), Ok(256 << 20));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert_eq!(parse_size("256X"), Err(NoSize::Unit("x".to_owned())));
        assert_eq!(parse_size("M"), Err(NoSize::Number));
        assert_eq!(parse_size("99999999999G"), Err(NoSize::TooLarge));
    }
}
