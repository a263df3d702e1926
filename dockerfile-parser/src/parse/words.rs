//! The grammars of an instruction's parts: keyword, flags, words. All are nom parsers over the joined text.
//!
//! A parser's position is `whole.len() - rest.len()`, which is how the callers find the span of what was read.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::{anychar, char, none_of};
use nom::combinator::{eof, map, opt, peek, recognize, value, verify};
use nom::multi::{fold_many0, fold_many1, many0_count, many1_count};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};
use std::ops::Range;

/// A word and its range in the text it was read from.
pub(super) type Found = (String, Range<usize>);

/// The white space that separates a keyword and whitespace-delimited words: BuildKit's `[\t\v\f\r ]`.
fn is_blank(ch: char) -> bool {
    matches!(ch, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// The keyword, and what follows the white space after it.
pub(super) fn keyword(input: &str) -> IResult<&str, &str> {
    terminated(take_while1(|ch| !is_blank(ch)), take_while(is_blank)).parse(input)
}

/// The flags before the arguments, quotes and escapes removed; stops at the first other word or after a lone `--`.
///
/// The escape here is always a backslash, whatever the `escape` directive says, as in BuildKit.
pub(super) fn flags(input: &str) -> (Vec<Found>, &str) {
    let mut found = Vec::new();
    let mut rest = input.trim_start();
    while let Ok((after, word)) = flag_word(rest) {
        let start = input.len() - rest.len();
        if word == "--" {
            return (found, after);
        }
        found.push((word, start..input.len() - after.len()));
        rest = after.trim_start();
    }
    (found, rest)
}

fn flag_word(input: &str) -> IResult<&str, String> {
    let word = fold_many1(
        alt((
            preceded(char('"'), |rest| flag_quoted('"', rest)),
            preceded(char('\''), |rest| flag_quoted('\'', rest)),
            map(backslash, |ch| ch.into_iter().collect()),
            map(
                take_while1(|ch: char| !ch.is_whitespace() && !matches!(ch, '"' | '\'' | '\\')),
                str::to_owned,
            ),
        )),
        String::new,
        |word, piece: String| word + &piece,
    );
    preceded(peek(tag("--")), word).parse(input)
}

/// The inside of a quoted part up to its quote, or to the end of the text if that is missing.
fn flag_quoted(quote: char, input: &str) -> IResult<&str, String> {
    let piece = alt((backslash, map(verify(anychar, move |ch| *ch != quote && *ch != '\\'), Some)));
    terminated(
        fold_many0(piece, String::new, |mut text, ch| {
            text.extend(ch);
            text
        }),
        opt(char(quote)),
    )
    .parse(input)
}

/// A backslash and the character it escapes; at the very end it escapes nothing and vanishes.
fn backslash(input: &str) -> IResult<&str, Option<char>> {
    preceded(char('\\'), alt((map(anychar, Some), value(None, eof)))).parse(input)
}

/// The words of `input`, quotes and escapes kept: BuildKit's `parseWords`.
///
/// White space inside quotes or after the escape character does not end a word; nothing is escaped inside single
/// quotes; an escape character at the very end is dropped.
pub(super) fn quoted_words(input: &str, escape: char) -> Vec<Found> {
    let mut found = Vec::new();
    let mut rest = input.trim_start();
    while !rest.is_empty() {
        let start = input.len() - rest.len();
        let Ok((after, word)) = quoted_word(escape, rest) else { break };
        if !word.is_empty() {
            found.push((word.to_owned(), start..start + word.len()));
        }
        rest = after.trim_start();
    }
    found
}

fn quoted_word(escape: char, input: &str) -> IResult<&str, &str> {
    let plain = take_while1(move |ch: char| !ch.is_whitespace() && ch != '"' && ch != '\'' && ch != escape);
    let piece = alt((
        recognize(plain),
        recognize((char(escape), anychar)),
        |rest| quoted_part(escape, '"', rest),
        |rest| quoted_part(escape, '\'', rest),
    ));
    terminated(recognize(many0_count(piece)), opt((char(escape), eof))).parse(input)
}

/// A quoted part with its quotes; a missing closing quote is left for expansion to complain about.
fn quoted_part(escape: char, quote: char, input: &str) -> IResult<&str, &str> {
    let escapes = quote != '\'';
    let inside = alt((
        verify(recognize((char(escape), anychar)), move |_: &str| escapes),
        recognize(verify(anychar, move |ch| *ch != quote && !(escapes && *ch == escape))),
    ));
    recognize((char(quote), many0_count(inside), opt(char(quote)))).parse(input)
}

/// The words between blanks, whatever quotes they hold: BuildKit's `parseStringsWhitespaceDelimited`.
pub(super) fn plain_words(input: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let mut rest = input;
    while let Ok((after, word)) = plain_word(rest) {
        let end = input.len() - after.len();
        found.push((word.to_owned(), end - word.len()..end));
        rest = after;
    }
    found
}

fn plain_word(input: &str) -> IResult<&str, &str> {
    preceded(take_while(is_blank), take_while1(|ch| !is_blank(ch))).parse(input)
}

/// The first blank-delimited word and the range of the rest: the old form of ENV and LABEL.
pub(super) fn first_word(input: &str) -> Option<(&str, &str)> {
    let (rest, word) = keyword(input).ok()?;
    // With nothing after the blanks there is no second argument; the caller has trimmed the text.
    if rest.is_empty() { None } else { Some((word, rest)) }
}

/// The digits, the dash and the delimiter of a heredoc word: `^(\d*)<<(-?)\s*([^<]*)$`.
pub(super) fn heredoc_word(input: &str) -> IResult<&str, (&str, bool, &str)> {
    let digits = take_while(|ch: char| ch.is_ascii_digit());
    let dash = map(opt(char('-')), |dash| dash.is_some());
    let space = take_while(char::is_whitespace);
    let delimiter = preceded(space, recognize(many1_count(none_of("<"))));
    terminated((digits, preceded(tag("<<"), dash), delimiter), eof).parse(input)
}
