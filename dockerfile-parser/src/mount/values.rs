//! The values of mount keys.

use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::{char, one_of};
use nom::combinator::{eof, map, opt, recognize};
use nom::sequence::preceded;
use nom::{IResult, Parser};

/// A boolean by the rules of Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A user or group number.
pub(super) fn parse_id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

/// An octal mode.
pub(super) fn parse_mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && !text.starts_with('+'))
}

/// A size with a binary unit, as the Engine reads them: `64m`, `1.5GiB`, `100`.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (_, (number, _, unit, ..)) = size(text).ok()?;
    let power = unit.map_or(0, |unit| "kmgtp".find(unit.to_ascii_lowercase()).map_or(0, |at| at + 1));
    let bytes = number.parse::<f64>().ok()? * 1024_f64.powi(i32::try_from(power).ok()?);
    // The cast saturates; sizes beyond what a file may have are no sizes.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked")]
    (bytes >= 0.0 && bytes < i64::MAX as f64).then_some(bytes as u64)
}

type Size<'a> = (&'a str, Option<char>, Option<char>, Option<char>, Option<char>, &'a str);

fn size(input: &str) -> IResult<&str, Size<'_>> {
    let digits = || take_while1(|ch: char| ch.is_ascii_digit());
    let number = recognize((digits(), opt(preceded(tag("."), digits()))));
    let unit = one_of("kKmMgGtTpP");
    map((number, opt(char(' ')), opt(unit), opt(one_of("iI")), opt(one_of("bB")), eof), |found: Size<'_>| {
        found
    })
    .parse(input)
}
