//! Sizes as docker's flags take them.

use crate::error::Failure;

/// A size with docker's units: `64m`, `1.5g`, `1024`.
pub(crate) fn bytes(text: &str) -> Result<u64, Failure> {
    let bad = || Failure::usage(format!("`{text}` is not a size, such as 512m or 2g"));
    let lower = text.to_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(bad()),
    };
    let number: f64 = digits.parse().map_err(|_| bad())?;
    let bytes = number * factor as f64;
    if number.is_finite() && (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(bad()) }
}

/// The same for clap, where nothing at all is a size too.
pub(crate) fn from_nothing(text: &str) -> Result<u64, String> {
    if text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()) == "0" {
        Ok(0)
    } else {
        argument(text)
    }
}

/// The same for clap.
pub(crate) fn argument(text: &str) -> Result<u64, String> {
    bytes(text).map_err(|failure| failure.words())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("64m").ok(), Some(64 << 20));
        assert_eq!(bytes("1.5g").ok(), Some(3 << 29));
        for text in ["", "m", "-1m", "1x", "inf", "0"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
