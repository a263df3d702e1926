//! What an identity token claims, flat, and patterns of claims.
//!
//! Kubernetes claims in depth (`kubernetes.io` with `serviceaccount` with `name`), so a claim's name is the way to it with
//! slashes. A list has several values.

use crate::limits;
use serde_json::Value;
use std::{collections::BTreeMap, fmt, str::FromStr};

/// Claims by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims(BTreeMap<String, Vec<String>>);

impl Claims {
    /// Flattens a token's claims; `None` where they are no object, too many, or two of one name.
    pub(super) fn of(value: &Value) -> Option<Claims> {
        let mut claims = Claims::default();
        let Value::Object(members) = value else { return None };
        members.iter().try_for_each(|(name, value)| claims.add(name, value))?;
        Some(claims)
    }

    fn add(&mut self, name: &str, value: &Value) -> Option<()> {
        let texts = match value {
            Value::Object(members) => {
                return members.iter().try_for_each(|(own, value)| self.add(&format!("{name}/{own}"), value));
            }
            Value::Array(values) => values.iter().filter_map(text).collect(),
            one => text(one).into_iter().collect::<Vec<_>>(),
        };
        let fresh = self.0.len() < limits::CLAIMS && self.0.insert(name.to_owned(), texts).is_none();
        fresh.then_some(())
    }

    /// Adds one that somebody says.
    pub fn say(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_owned()).or_default().push(value.to_owned());
    }

    /// The values of a claim.
    pub(super) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The value of a claim that has one.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        match self.all(name) {
            [one] => Some(one),
            _ => None,
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(on) => Some(on.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Longest name of a claim, in bytes.
const NAME_BYTES: usize = 128;

/// Whether a text can name a claim: visible ASCII without what separates names in rules and settings.
pub(in crate::server::access) fn is_claim(text: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_graphic()
            && !matches!(byte, b',' | b';' | b'=' | b'{' | b'}' | b'$' | b'"' | b'\'' | b'`')
    };
    (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    One(char),
    /// `*`
    Within,
    /// `**`
    Anything,
}

/// A pattern of a claim's value: `*` stands for any characters but `/` and `:`, `**` for any at all. So `repo:acme/*:**` is
/// about acme's, and not about those of acme-evil or acme/x:y.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPattern {
    text: String,
    pieces: Vec<Piece>,
}

impl ClaimPattern {
    /// Whether it means this value.
    pub fn matches(&self, value: &str) -> bool {
        if value.len() > limits::CLAIM_BYTES {
            return false;
        }
        // the places of the pattern that the value so far can have led to
        let mut places = vec![false; self.pieces.len() + 1];
        places[0] = true;
        self.skip(&mut places);
        for c in value.chars() {
            let mut next = vec![false; places.len()];
            for (at, piece) in self.pieces.iter().enumerate().filter(|(at, _)| places[*at]) {
                match piece {
                    Piece::One(own) if *own == c => next[at + 1] = true,
                    Piece::Within if !matches!(c, '/' | ':') => next[at] = true,
                    Piece::Anything => next[at] = true,
                    _ => {}
                }
            }
            places = next;
            self.skip(&mut places);
        }
        places[self.pieces.len()]
    }

    /// Stars may stand for nothing.
    fn skip(&self, places: &mut [bool]) {
        for (at, piece) in self.pieces.iter().enumerate() {
            if places[at] && !matches!(piece, Piece::One(_)) {
                places[at + 1] = true;
            }
        }
    }
}

impl fmt::Display for ClaimPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ClaimPattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<ClaimPattern, &'static str> {
        let fits = (1..=limits::CLAIM_BYTES).contains(&text.len());
        if !fits || text.contains(|c: char| c.is_control() || c.is_whitespace()) || text.contains("***") {
            return Err("a pattern of a claim has characters that are seen, `*` and `**`");
        }
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some(c) = rest.chars().next() {
            let (piece, length) = match c {
                '*' if rest.starts_with("**") => (Piece::Anything, 2),
                '*' => (Piece::Within, 1),
                c => (Piece::One(c), c.len_utf8()),
            };
            pieces.push(piece);
            rest = &rest[length..];
        }
        Ok(ClaimPattern { text: text.to_owned(), pieces })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stay_within_their_parts() {
        for (pattern, yes, no) in [
            ("acme", vec!["acme"], vec!["", "acm", "acme/x", "Acme", "acme "]),
            ("acme/*", vec!["acme/app", "acme/"], vec!["acme", "acme-evil/app", "acme/a/b", "acme/a:b"]),
            ("refs/heads/*", vec!["refs/heads/main"], vec!["refs/heads/a/b", "refs/tags/main"]),
            ("refs/heads/**", vec!["refs/heads/a/b"], vec!["refs/tags/a"]),
            (
                "repo:acme/*:ref:**",
                vec!["repo:acme/x:ref:refs/heads/a"],
                vec![
                    "repo:acme/x:pull_request",
                    "repo:evil/x:ref:acme/x:ref:y",
                    "repo:acme/x:environment:a:ref:y",
                ],
            ),
            ("**", vec!["", "a/b:c"], vec![]),
            ("*", vec!["", "abc", "ä"], vec!["a/b", "a:b"]),
            ("*a*b*", vec!["ab", "xaxbx"], vec!["ba", "a/b"]),
            ("a.b", vec!["a.b"], vec!["axb"]),
            ("[a]", vec!["[a]"], vec!["a"]),
        ] {
            let parsed: ClaimPattern = pattern.parse().expect(pattern);
            assert_eq!(parsed.to_string(), pattern);
            for value in yes {
                assert!(parsed.matches(value), "{pattern} means {value}");
            }
            for value in no {
                assert!(!parsed.matches(value), "{pattern} does not mean {value}");
            }
        }
        for text in ["", "a b", "a\n", "***", "\u{7f}", &"a".repeat(limits::CLAIM_BYTES + 1)] {
            assert!(text.parse::<ClaimPattern>().is_err(), "{text:?}");
        }
        let everything: ClaimPattern = "**".parse().expect("a pattern");
        assert!(!everything.matches(&"a".repeat(limits::CLAIM_BYTES + 1)));
    }

    #[test]
    fn claims_are_flat() {
        let of = |text: &str| Claims::of(&serde_json::from_str(text).expect("JSON"));
        let claims = of(r#"{"sub":"a","ok":true,"run":7,"aud":["x","y"],"none":null,
            "kubernetes.io":{"namespace":"n","serviceaccount":{"name":"s"}}}"#)
        .expect("claims");
        assert_eq!(claims.one("kubernetes.io/serviceaccount/name"), Some("s"));
        assert_eq!((claims.one("ok"), claims.one("run")), (Some("true"), Some("7")));
        assert_eq!(
            (claims.all("aud"), claims.one("aud")),
            (["x".to_owned(), "y".to_owned()].as_slice(), None)
        );
        assert!(claims.all("none").is_empty() && claims.all("missing").is_empty());
        // two ways to one name
        assert_eq!(of(r#"{"a":{"b":"x"},"a/b":"y"}"#), None);
        assert_eq!(of("[1]"), None);
        let many: Vec<String> = (0..=limits::CLAIMS).map(|number| format!("\"c{number}\":1")).collect();
        assert_eq!(of(&format!("{{{}}}", many.join(","))), None);
    }
}
