//! Durations as Go writes them: `1h30m`, `1.5s`, `300ms`, `-2us`, `0`.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while};
use nom::character::complete::one_of;
use nom::combinator::{eof, map, opt, value, verify};
use nom::multi::many1;
use nom::{IResult, Parser};
use std::time::Duration;

/// A duration with its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedDuration {
    /// Whether it is below zero.
    pub is_negative: bool,
    /// How long it is.
    pub length: Duration,
}

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// A number without a unit, such as `30`.
    #[error("the unit is missing")]
    MissingUnit,
    /// Not of the form number, unit, number, unit ….
    #[error("not a duration")]
    Malformed,
    /// More than about 292 years.
    #[error("too long")]
    TooLong,
}

/// Longest duration that Go can hold, in nanoseconds.
const MAX_NANOSECONDS: u128 = i64::MAX as u128;

/// Parses a duration by the rules of Go's `time.ParseDuration`.
///
/// ```
/// use slipway_dockerfile::duration::parse;
/// assert_eq!(parse("1m30s").unwrap().length.as_secs(), 90);
/// assert!(parse("30").is_err());
/// ```
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<SignedDuration, DurationError> {
    let (unsigned, is_negative) = sign(text).map_err(|_| DurationError::Malformed)?;
    if unsigned == "0" {
        return Ok(SignedDuration { is_negative: false, length: Duration::ZERO });
    }
    let Ok((_, parts)) = parts(unsigned) else {
        let numeric = !unsigned.is_empty() && unsigned.chars().all(|ch| ch.is_ascii_digit() || ch == '.');
        return Err(if numeric { DurationError::MissingUnit } else { DurationError::Malformed });
    };
    let mut total: u128 = 0;
    for (whole, fraction, unit) in parts {
        total = total.saturating_add(nanoseconds(whole, fraction, unit).ok_or(DurationError::TooLong)?);
    }
    if total > MAX_NANOSECONDS {
        return Err(DurationError::TooLong);
    }
    let length = Duration::from_nanos(u64::try_from(total).map_err(|_| DurationError::TooLong)?);
    Ok(SignedDuration { is_negative: is_negative && total > 0, length })
}

fn sign(input: &str) -> IResult<&str, bool> {
    map(opt(one_of("+-")), |sign| sign == Some('-')).parse(input)
}

type Part<'a> = (&'a str, &'a str, u128);

fn parts(input: &str) -> IResult<&str, Vec<Part<'_>>> {
    let (rest, parts) = many1(part).parse(input)?;
    let (rest, _) = eof(rest)?;
    Ok((rest, parts))
}

fn part(input: &str) -> IResult<&str, Part<'_>> {
    let digits = || take_while(|ch: char| ch.is_ascii_digit());
    let fraction =
        map(opt((tag("."), digits())), |found: Option<(&str, &str)>| found.map_or("", |(_, digits)| digits));
    verify((digits(), fraction, unit), |(whole, fraction, _): &Part<'_>| {
        !whole.is_empty() || !fraction.is_empty()
    })
    .parse(input)
}

fn unit(input: &str) -> IResult<&str, u128> {
    alt((
        value(1, tag("ns")),
        value(1_000, alt((tag("us"), tag("µs"), tag("μs")))),
        value(1_000_000, tag("ms")),
        value(1_000_000_000, tag("s")),
        value(60_000_000_000, tag("m")),
        value(3_600_000_000_000, tag("h")),
    ))
    .parse(input)
}

fn nanoseconds(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Digits past the eighteenth are below a nanosecond for every unit.
    let shown = &fraction[..fraction.len().min(18)];
    let part: u128 = if shown.is_empty() { 0 } else { shown.parse().ok()? };
    let scale = 10_u128.pow(u32::try_from(shown.len()).ok()?);
    whole.checked_mul(unit)?.checked_add(part * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1us1µs1μs", 3_000),
            ("300ms", 300_000_000),
            ("7ns", 7),
        ] {
            assert_eq!(parse(text).unwrap().length.as_nanos(), nanoseconds, "{text}");
        }
        assert!(parse("-1s").unwrap().is_negative);
        assert!(!parse("-0s").unwrap().is_negative);
    }

    #[test]
    fn what_is_none() {
        for (text, error) in [
            ("", DurationError::Malformed),
            ("30", DurationError::MissingUnit),
            ("s", DurationError::Malformed),
            (".s", DurationError::Malformed),
            ("5 s", DurationError::Malformed),
            ("5d", DurationError::Malformed),
            ("5s!", DurationError::Malformed),
            ("9999999h", DurationError::TooLong),
            ("99999999999999999999999999999999999999999h", DurationError::TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
