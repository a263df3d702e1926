//! The JSON array that makes an instruction's exec form.
//!
//! Which texts are arrays decides between two meanings, so this follows Go's decoder: it knows exactly when a string
//! is valid, and replaces a lone surrogate instead of failing.

use super::words::Found;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while_m_n, take_while1};
use nom::character::complete::{char, one_of};
use nom::combinator::{eof, map, map_opt, map_res, opt};
use nom::multi::{fold_many0, separated_list0};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};
use serde::de::IgnoredAny;

/// What a text is, taken as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Array {
    /// An array of strings, decoded, each with its range, quotes included.
    Strings(Vec<Found>),
    /// An array that holds something else.
    NotStrings,
    /// No valid array.
    Not,
}

/// Decides what `text` is.
pub(super) fn classify(text: &str) -> Array {
    if !text.trim_start().starts_with('[') {
        return Array::Not;
    }
    match string_array(text) {
        Ok((_, strings)) => {
            let range = |rest: usize, length: usize| text.len() - rest..text.len() - rest + length;
            Array::Strings(
                strings.into_iter().map(|(rest, length, value)| (value, range(rest, length))).collect(),
            )
        }
        Err(_) if serde_json::from_str::<Vec<IgnoredAny>>(text.trim()).is_ok() => Array::NotStrings,
        Err(_) => Array::Not,
    }
}

fn space(input: &str) -> IResult<&str, &str> {
    take_while(|ch| matches!(ch, ' ' | '\t' | '\r' | '\n')).parse(input)
}

/// Each string with the length of the text from its first quote on, and its own length.
fn string_array(input: &str) -> IResult<&str, Vec<(usize, usize, String)>> {
    let comma = delimited(space, char(','), space);
    let items = separated_list0(comma, located_string);
    delimited((space, char('['), space), items, (space, char(']'), space, eof)).parse(input)
}

fn located_string(input: &str) -> IResult<&str, (usize, usize, String)> {
    let (rest, value) = string(input)?;
    Ok((rest, (input.len(), input.len() - rest.len(), value)))
}

fn string(input: &str) -> IResult<&str, String> {
    let plain = map(take_while1(|ch: char| ch != '"' && ch != '\\' && ch >= ' '), str::to_owned);
    let piece = alt((plain, map(preceded(char('\\'), escape), String::from)));
    let body = fold_many0(piece, String::new, |text, piece| text + &piece);
    delimited(char('"'), body, char('"')).parse(input)
}

fn escape(input: &str) -> IResult<&str, char> {
    let simple = map_opt(one_of("\"\\/bfnrt"), |ch| {
        Some(match ch {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            other => other,
        })
    });
    alt((simple, preceded(char('u'), unicode))).parse(input)
}

fn code_unit(input: &str) -> IResult<&str, u32> {
    map_res(take_while_m_n(4, 4, |ch: char| ch.is_ascii_hexdigit()), |digits| u32::from_str_radix(digits, 16))
        .parse(input)
}

fn unicode(input: &str) -> IResult<&str, char> {
    let (rest, high) = code_unit(input)?;
    if !(0xd800..0xdc00).contains(&high) {
        return Ok((rest, char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)));
    }
    let (after, low) = opt(preceded(tag("\\u"), code_unit)).parse(rest)?;
    match low {
        Some(low) if (0xdc00..0xe000).contains(&low) => {
            let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            Ok((after, char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)))
        }
        // A high surrogate alone; what follows it is read again on its own.
        _ => Ok((rest, char::REPLACEMENT_CHARACTER)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str) -> Option<Vec<String>> {
        match classify(text) {
            Array::Strings(found) => Some(found.into_iter().map(|(value, _)| value).collect()),
            _ => None,
        }
    }

    #[test]
    fn arrays_of_strings() {
        for (text, expected) in [
            ("[]", vec![]),
            (" [ ] ", vec![]),
            (r#"["a", "b c"]"#, vec!["a", "b c"]),
            (r#"["\n\u00e9\ud83d\ude00"]"#, vec!["\né😀"]),
            (r#"["\ud83dx"]"#, vec!["\u{fffd}x"]),
            (r#"["a","b"] "#, vec!["a", "b"]),
        ] {
            assert_eq!(strings(text).as_deref(), Some(expected.map_to_owned().as_slice()), "{text}");
        }
    }

    trait MapToOwned {
        fn map_to_owned(self) -> Vec<String>;
    }

    impl MapToOwned for Vec<&str> {
        fn map_to_owned(self) -> Vec<String> {
            self.into_iter().map(str::to_owned).collect()
        }
    }

    #[test]
    fn what_is_no_array_of_strings() {
        for text in
            ["['a']", "[\"a\",]", "[\"a\"", "[a]", "[\"a\"] x", "\"a\"", "[\"\t\"]", "{}", "[\"\\x\"]"]
        {
            assert_eq!(classify(text), Array::Not, "{text}");
        }
        for text in ["[1]", "[\"a\", null]", "[[\"a\"]]", "[\"a\", {\"b\": 1}]", "[true]"] {
            assert_eq!(classify(text), Array::NotStrings, "{text}");
        }
    }

    #[test]
    fn strings_know_their_places() {
        let text = r#" [ "a" , "bc"]"#;
        let Array::Strings(found) = classify(text) else { panic!("not an array") };
        let written: Vec<_> = found.iter().map(|(_, range)| &text[range.clone()]).collect();
        assert_eq!(written, ["\"a\"", "\"bc\""]);
    }
}
