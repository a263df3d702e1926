//! Parser directives: `# syntax=`, `# escape=`, `# check=`, and where they count.

use crate::{CheckDirective, RuleSelection, Span};
use nom::bytes::complete::tag;
use nom::character::complete::{alpha1, alphanumeric0, char};
use nom::combinator::{recognize, rest, verify};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

/// The directives that exist; any other word makes the line an ordinary comment.
pub(super) const NAMES: [&str; 3] = ["syntax", "escape", "check"];

/// How far into the file directives count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    /// Only directives so far.
    Open,
    /// A `#!` line came first: `syntax` and `check` are found past it, `escape` is not.
    AfterShebang,
    /// A comment, blank line or instruction came.
    Closed,
}

fn white(input: &str) -> IResult<&str, &str> {
    nom::bytes::complete::take_while(char::is_whitespace).parse(input)
}

/// Name and value of `key = value`.
fn assignment(input: &str) -> IResult<&str, (&str, &str)> {
    let name = recognize((alpha1, alphanumeric0));
    let value = verify(rest.map(str::trim_end), |value: &str| !value.is_empty());
    (preceded(white, name), preceded(delimited(white, char('='), white), value)).parse(input)
}

/// The directive in `line`, which begins with `marker`; its name in lower case.
pub(super) fn directive<'a>(line: &'a str, marker: &str) -> Option<(&'static str, &'a str)> {
    let parsed: IResult<&str, (&str, &str)> = preceded(tag(marker), assignment).parse(line);
    let (_, (name, value)) = parsed.ok()?;
    let known = NAMES.into_iter().find(|known| known.eq_ignore_ascii_case(name))?;
    Some((known, value))
}

impl CheckDirective {
    /// Reads `skip=A,B;error=true;experimental=all`: up to three parts, each at most what it says.
    ///
    /// # Errors
    /// The part that cannot be read, as words for a message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut check = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(check);
        }
        for part in text.splitn(3, ';') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(format!("`{}` is not of the form key=value", part.trim()));
            };
            let value = value.trim();
            match key.trim() {
                "skip" => check.skip = selection(value),
                "experimental" => check.experimental = selection(value),
                "error" => {
                    check.error = crate::mount::parse_bool(value)
                        .ok_or_else(|| format!("`{value}` is neither true nor false"))?;
                }
                other => return Err(format!("`{other}` is not one of skip, error, experimental")),
            }
        }
        Ok(check)
    }

    pub(super) fn at(self, span: Span) -> Self {
        Self { span, ..self }
    }
}

fn selection(value: &str) -> RuleSelection {
    if value == "all" {
        return RuleSelection { all: true, names: Vec::new() };
    }
    RuleSelection { all: false, names: value.split(',').map(|name| name.trim().to_owned()).collect() }
}

/// The frontend that a file asks for, in any of the forms peers look for: `# syntax=`, `// syntax=`, or a JSON object
/// with the key `syntax`; a `#!` line at the top is skipped.
///
/// ```
/// assert_eq!(slipway_dockerfile::detect_syntax("// syntax=foo/bar\n").as_deref(), Some("foo/bar"));
/// ```
pub fn detect_syntax(source: &str) -> Option<String> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let body = match source.split_once('\n') {
        Some((first, rest)) if first.starts_with("#!") => rest,
        None if source.starts_with("#!") => "",
        _ => source,
    };
    let in_comments = ["#", "//"].into_iter().find_map(|marker| {
        body.lines()
            .map_while(|line| directive(line.trim_start(), marker))
            .find(|(name, _)| *name == "syntax")
            .map(|(_, value)| value.split(' ').next().unwrap_or_default().to_owned())
    });
    in_comments.or_else(|| {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).ok()?;
        Some(object.get("syntax")?.as_str()?.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directive_lines() {
        for (line, expected) in [
            ("# syntax=a/b:1", Some(("syntax", "a/b:1"))),
            ("#Escape = ` ", Some(("escape", "`"))),
            ("#check=skip=all;error=true", Some(("check", "skip=all;error=true"))),
            ("# syntax=", None),
            ("# unknown=x", None),
            ("# just words", None),
            ("syntax=a", None),
        ] {
            assert_eq!(directive(line, "#"), expected, "{line}");
        }
    }

    #[test]
    fn check_directives() {
        let check = CheckDirective::parse("skip=A, B;error=true;experimental=all").unwrap();
        assert_eq!(check.skip.names, ["A", "B"]);
        assert!(
            check.error && check.experimental.all && check.skip.contains("a") && !check.skip.contains("c")
        );
        assert!(CheckDirective::parse("skip=all").unwrap().skip.contains("anything"));
        for bad in ["skip", "error=maybe", "jump=all"] {
            assert!(CheckDirective::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn syntax_is_found_in_every_form() {
        for (source, expected) in [
            ("# syntax=a/b more\nFROM x", Some("a/b")),
            ("#!/usr/bin/env x\n# syntax = a/b\n", Some("a/b")),
            ("# escape=`\n# syntax=a/b\n", Some("a/b")),
            ("{\"syntax\": \"a/b\"}", Some("a/b")),
            ("# hello\n# syntax=a/b\n", None),
            ("FROM x\n# syntax=a/b\n", None),
            ("", None),
        ] {
            assert_eq!(detect_syntax(source).as_deref(), expected, "{source:?}");
        }
    }
}
