//! One CSV record, by the rules of Go's `encoding/csv`.

use super::MountError;
use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_while};
use nom::character::complete::char;
use nom::combinator::{eof, map, value};
use nom::multi::{fold_many0, separated_list1};
use nom::sequence::{delimited, terminated};
use nom::{IResult, Parser};

/// The fields of `text`. A quote may only open a field, or stand doubled in a quoted one.
pub(super) fn record(text: &str) -> Result<Vec<String>, MountError> {
    if text.is_empty() {
        return Err(MountError::Empty);
    }
    terminated(separated_list1(char(','), field), eof)
        .parse(text)
        .map(|(_, fields)| fields)
        .map_err(|_: nom::Err<nom::error::Error<&str>>| MountError::Quotes)
}

fn field(input: &str) -> IResult<&str, String> {
    let piece = alt((value("\"", tag("\"\"")), is_not("\"")));
    let body = fold_many0(piece, String::new, |text, piece: &str| text + piece);
    let plain = map(take_while(|ch| ch != ',' && ch != '"'), str::to_owned);
    alt((delimited(char('"'), body, char('"')), plain)).parse(input)
}
