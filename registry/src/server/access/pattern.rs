//! Patterns of repository names and tags.
//!
//! `*` stands for any characters within one component of a name, `**` as a whole component for any number of them,
//! `${user}` for the caller's name, `${claim:NAME}` for what a job's identity token claims: as a whole component for several, as
//! `acme/app`, beside other characters for one. Everything else has to be a character that a name can have: what looks like a pattern of
//! another program (`?`, `[a-z]`, `{a,b}`, `.*`) is refused rather than understood as something else.

use super::{oidc::is_claim, rule::Principal};
use std::{fmt, str::FromStr};

/// Longest pattern, in bytes: that of a name.
const PATTERN_BYTES: usize = 255;

/// Why a text is no pattern.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PatternError {
    /// Nothing at all.
    #[error("a pattern is not empty")]
    Empty,
    /// Longer than any name.
    #[error("a pattern has at most {PATTERN_BYTES} bytes")]
    Long,
    /// A character that no name has.
    #[error("`{0}` is in no name: patterns have `*`, `**` and variables beside the characters of names")]
    Character(char),
    /// Two slashes in a row, or one at an end.
    #[error("a pattern has no empty component: no `/` at its ends, no `//`")]
    Component,
    /// `**` beside other characters.
    #[error("`**` stands alone between slashes")]
    Anything,
    /// A variable that is not known.
    #[error("`${{{0}}}` is not known: there are `${{user}}` and `${{claim:NAME}}`")]
    Variable(String),
    /// A `$` without its braces.
    #[error("`$` begins a variable: `${{user}}` or `${{claim:NAME}}`")]
    Dollar,
}

/// A part of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `*`
    Any,
    /// `${user}`
    User,
    /// `${claim:NAME}`
    Claim(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Component {
    /// `**`
    Anything,
    Pieces(Vec<Piece>),
}

/// A pattern of repository names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryPattern {
    text: String,
    components: Vec<Component>,
}

impl RepositoryPattern {
    /// Whether it means this repository, whoever asks.
    pub fn means(&self, repository: &str) -> bool {
        self.matches(repository, &Principal::anonymous())
    }

    /// Whether it means this repository, for a caller; a pattern with a variable means none for who does not have it, or has
    /// one that is no part of a name.
    pub fn matches(&self, repository: &str, caller: &Principal) -> bool {
        if let [Component::Anything] = self.components.as_slice() {
            return true;
        }
        let values = Values::of(caller);
        let names: Vec<&str> = repository.split('/').collect();
        // one place to come back to is enough: the last `**` can take whatever an earlier one could
        let (mut at, mut name, mut back) = (0, 0, None);
        while name < names.len() {
            match self.components.get(at) {
                Some(Component::Anything) => {
                    back = Some((at + 1, name));
                    at += 1;
                }
                Some(Component::Pieces(pieces))
                    if let Some(count) = components(pieces, &names[name..], &values) =>
                {
                    at += 1;
                    name += count;
                }
                _ => {
                    let Some((after, from)) = back else { return false };
                    back = Some((after, from + 1));
                    (at, name) = (after, from + 1);
                }
            }
        }
        // `team/**` is what lies within `team`, not `team` itself
        at == self.components.len()
    }
}

/// What variables stand for.
#[derive(Default)]
struct Values<'a> {
    user: Option<&'a str>,
    job: Option<&'a super::oidc::Job>,
}

impl<'a> Values<'a> {
    fn of(caller: &'a Principal) -> Values<'a> {
        let user = caller.name.as_deref();
        let user =
            user.filter(|user| !user.contains('/') && slipway_oci::reference::is_repository_name(user));
        Values { user, job: caller.job.as_deref() }
    }

    /// Of a job's claim, which is a name of a repository.
    fn claim(&self, name: &str) -> Option<&'a str> {
        self.job?.claims.get(name).map(String::as_str)
    }
}

/// How many of the first names the pieces are.
fn components(pieces: &[Piece], names: &[&str], values: &Values<'_>) -> Option<usize> {
    let [Piece::Claim(claim)] = pieces else {
        return component(pieces, names.first()?, values).then_some(1);
    };
    let count = values.claim(claim)?.split('/').count();
    let same = names.get(..count)?.iter().copied().eq(values.claim(claim)?.split('/'));
    same.then_some(count)
}

/// Whether the pieces, in order, are the whole name.
fn component(pieces: &[Piece], name: &str, values: &Values<'_>) -> bool {
    let bytes = name.as_bytes();
    let (mut at, mut place, mut back) = (0, 0, None);
    loop {
        match pieces.get(at) {
            None if place == bytes.len() => return true,
            Some(Piece::Any) => {
                back = Some((at + 1, place));
                at += 1;
                continue;
            }
            Some(piece) => {
                let text = match piece {
                    Piece::Text(text) => Some(text.as_str()),
                    Piece::Claim(name) => values.claim(name),
                    _ => values.user,
                };
                let Some(text) = text else { return false };
                if bytes[place..].starts_with(text.as_bytes()) {
                    at += 1;
                    place += text.len();
                    continue;
                }
            }
            None => {}
        }
        match back {
            Some((after, from)) if from < bytes.len() => {
                back = Some((after, from + 1));
                (at, place) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

impl RepositoryPattern {
    /// The claims that it has as variables.
    pub(super) fn claims(&self) -> impl Iterator<Item = &str> {
        let pieces = self.components.iter().filter_map(|component| match component {
            Component::Anything => None,
            Component::Pieces(pieces) => Some(pieces),
        });
        pieces.flatten().filter_map(|piece| match piece {
            Piece::Claim(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for RepositoryPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<RepositoryPattern, PatternError> {
        let in_name =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '/');
        let components = parse(text, in_name)?;
        Ok(RepositoryPattern { text: text.to_owned(), components })
    }
}

fn parse(text: &str, allowed: impl Fn(char) -> bool) -> Result<Vec<Component>, PatternError> {
    if text.is_empty() {
        return Err(PatternError::Empty);
    }
    if text.len() > PATTERN_BYTES {
        return Err(PatternError::Long);
    }
    parts(text).into_iter().map(|part| parse_component(part, &allowed)).collect()
}

/// What lies between slashes; those in the names of claims separate nothing.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => inside = true,
            b'}' => inside = false,
            b'/' if !inside => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_component(text: &str, allowed: &impl Fn(char) -> bool) -> Result<Component, PatternError> {
    match text {
        "" => return Err(PatternError::Component),
        "**" => return Ok(Component::Anything),
        _ if text.contains("**") => return Err(PatternError::Anything),
        _ => {}
    }
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("${") {
            let (name, after) = after.split_once('}').ok_or(PatternError::Dollar)?;
            pieces.push(match name.strip_prefix("claim:") {
                _ if name == "user" => Piece::User,
                Some(claim) if is_claim(claim) => Piece::Claim(claim.to_owned()),
                _ => return Err(PatternError::Variable(name.to_owned())),
            });
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match (c, pieces.last_mut()) {
            ('$', _) => return Err(PatternError::Dollar),
            ('*', _) => pieces.push(Piece::Any),
            (c, _) if !allowed(c) => return Err(PatternError::Character(c)),
            (c, Some(Piece::Text(text))) => text.push(c),
            (c, _) => pieces.push(Piece::Text(c.to_string())),
        }
    }
    Ok(Component::Pieces(pieces))
}

/// A pattern of tags in repositories: `REPOSITORIES:TAGS`, or `TAGS` for those of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPattern {
    text: String,
    repositories: RepositoryPattern,
    tags: Vec<Piece>,
}

impl TagPattern {
    /// Whether it means this tag of this repository.
    pub fn matches(&self, repository: &str, tag: &str) -> bool {
        self.repositories.means(repository) && component(&self.tags, tag, &Values::default())
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for TagPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<TagPattern, PatternError> {
        let (repositories, tags) = text.split_once(':').unwrap_or(("**", text));
        let repositories: RepositoryPattern = repositories.parse()?;
        let in_tag = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let parsed = parse(tags, in_tag)?;
        let of_user =
            |pieces: &[Piece]| pieces.iter().any(|one| matches!(one, Piece::User | Piece::Claim(_)));
        let tags = match parsed.as_slice() {
            [Component::Anything] => vec![Piece::Any],
            [Component::Pieces(pieces)] if !of_user(pieces) => pieces.clone(),
            [Component::Pieces(_)] => return Err(PatternError::Character('$')),
            _ => return Err(PatternError::Character('/')),
        };
        let variable = |one: &Component| matches!(one, Component::Pieces(pieces) if of_user(pieces));
        if repositories.components.iter().any(variable) {
            // what may not change may not be changed by anybody
            return Err(PatternError::Character('$'));
        }
        Ok(TagPattern { text: text.to_owned(), repositories, tags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_meant_component_by_component() {
        for (pattern, user, yes, no) in [
            ("**", None, vec!["a", "a/b/c"], vec![]),
            ("*", None, vec!["a", "a-b"], vec!["a/b"]),
            ("a", None, vec!["a"], vec!["b", "a/b", "aa"]),
            ("a/*", None, vec!["a/b"], vec!["a", "a/b/c"]),
            ("a/**", None, vec!["a/b", "a/b/c"], vec!["a", "ab/c"]),
            ("**/b", None, vec!["b", "a/b", "a/a/b"], vec!["b/a", "ab"]),
            ("a/**/b", None, vec!["a/b", "a/x/b", "a/b/b"], vec!["a", "b", "a/b/c"]),
            ("**/x/**/y", None, vec!["x/y", "a/x/b/y", "x/x/y/y"], vec!["x", "y/x"]),
            ("team-*", None, vec!["team-a", "team-"], vec!["team", "team-a/b"]),
            ("*-x-*", None, vec!["a-x-b", "a-x-x-b"], vec!["a-x", "x-b"]),
            ("a.b", None, vec!["a.b"], vec!["axb", "ab"]),
            ("u/${user}/**", Some("ann"), vec!["u/ann/x"], vec!["u/ann", "u/bob/x", "u/anna/x"]),
            ("u-${user}", Some("ann"), vec!["u-ann"], vec!["u-", "u-bob"]),
            ("u/${user}/**", None, vec![], vec!["u//x", "u/x/y", "u/${user}/x"]),
            // a name that would be more than one component, or a pattern, is none
            ("u/${user}/**", Some("a/b"), vec![], vec!["u/a/b/c", "u/a/b"]),
            ("u/${user}/**", Some("*"), vec![], vec!["u/x/y", "u/*/y"]),
            ("u/${user}/**", Some("**"), vec![], vec!["u/x/y"]),
            ("u/${user}/**", Some(""), vec![], vec!["u/x", "u/x/y"]),
            ("u/${user}/**", Some("${user}"), vec![], vec!["u/x/y"]),
            ("u/${user}/x", Some(".."), vec![], vec!["u/../x", "u/a/x"]),
        ] {
            let parsed: RepositoryPattern = pattern.parse().expect(pattern);
            assert_eq!(parsed.to_string(), pattern);
            let caller = Principal { name: user.map(str::to_owned), job: None };
            for name in yes {
                assert!(parsed.matches(name, &caller), "{pattern} {user:?} means {name}");
            }
            for name in no {
                assert!(!parsed.matches(name, &caller), "{pattern} {user:?} does not mean {name}");
            }
        }
    }

    #[test]
    fn claims_are_parts_of_names() {
        let job = |claims: &[(&str, &str)]| {
            let claims =
                claims.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let job = super::super::oidc::Job { issuers: ["ci".to_owned()].into(), claims, until: 0 };
            Principal { name: Some("ci:x".to_owned()), job: Some(std::sync::Arc::new(job)) }
        };
        let github = job(&[("repository", "acme/app"), ("k.io/ns", "prod")]);
        for (pattern, caller, yes, no) in [
            (
                "ci/${claim:repository}",
                &github,
                vec!["ci/acme/app"],
                vec!["ci/acme", "ci/acme/app/x", "ci/x"],
            ),
            ("ci/${claim:repository}/**", &github, vec!["ci/acme/app/x"], vec!["ci/acme/app", "ci/acme/b/x"]),
            ("**/${claim:repository}/x", &github, vec!["a/b/acme/app/x", "acme/app/x"], vec!["a/acme/x"]),
            ("ns-${claim:k.io/ns}/*", &github, vec!["ns-prod/x"], vec!["ns-dev/x", "ns-prod/x/y"]),
            // beside other characters it is one component
            ("ci-${claim:repository}", &github, vec![], vec!["ci-acme/app", "ci-acme"]),
            ("ci/${claim:other}/**", &github, vec![], vec!["ci/acme/app", "ci//x", "ci/${claim:other}/x"]),
            ("ci/${user}", &github, vec![], vec!["ci/ci:x", "ci/x"]),
            ("ci/${claim:repository}", &Principal::named("ann"), vec![], vec!["ci/acme/app"]),
        ] {
            let parsed: RepositoryPattern = pattern.parse().expect(pattern);
            assert_eq!(parsed.to_string(), pattern);
            for name in yes {
                assert!(parsed.matches(name, caller), "{pattern} means {name}");
            }
            for name in no {
                assert!(!parsed.matches(name, caller), "{pattern} does not mean {name}");
            }
        }
        for text in
            ["${claim:}", "${claim}", "${claim:a,b}", "${claim:a", "a/${claim:x y}", "${claim:${user}}"]
        {
            assert!(text.parse::<RepositoryPattern>().is_err(), "{text}");
        }
        assert!("${claim:a}:v*".parse::<TagPattern>().is_err());
        assert!("a:v${claim:a}".parse::<TagPattern>().is_err());
    }

    /// Every character that is none of a name, in every place of a pattern.
    #[test]
    fn every_special_character_is_refused() {
        let special = (0..=0x7f_u8).map(char::from).chain(['ä', '\u{202e}', '\u{2215}', '＊']);
        let in_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/*".contains(c);
        for c in special.filter(|c| !in_name(*c)) {
            for text in
                [format!("{c}"), format!("a{c}"), format!("{c}a"), format!("a/{c}/b"), format!("*{c}")]
            {
                assert!(text.parse::<RepositoryPattern>().is_err(), "{text:?}");
                if !c.is_ascii_uppercase() && c != ':' {
                    assert!(text.parse::<TagPattern>().is_err(), "{text:?}");
                }
            }
        }
        for text in [
            "", "/", "a/", "/a", "a//b", "a**", "**a", "a/b**/c", "***", "${use}", "${user", "$user", "${}",
            "a$",
        ] {
            assert!(text.parse::<RepositoryPattern>().is_err(), "{text:?}");
        }
        assert_eq!("a".repeat(256).parse::<RepositoryPattern>(), Err(PatternError::Long));
    }

    #[test]
    fn tags_are_meant_in_their_repositories() {
        for (pattern, yes, no) in [
            ("v*", vec![("a", "v1"), ("a/b", "v")], vec![("a", "1v"), ("a", "V1")]),
            ("**:v*", vec![("a/b", "v1.2")], vec![("a", "latest")]),
            ("prod/**:*", vec![("prod/a", "x")], vec![("prod", "x"), ("dev/a", "x")]),
            ("a:Release_*", vec![("a", "Release_1")], vec![("b", "Release_1")]),
            ("a:**", vec![("a", "x")], vec![("b", "x")]),
        ] {
            let parsed: TagPattern = pattern.parse().expect(pattern);
            for (repository, tag) in yes {
                assert!(parsed.matches(repository, tag), "{pattern} means {repository}:{tag}");
            }
            for (repository, tag) in no {
                assert!(!parsed.matches(repository, tag), "{pattern} does not mean {repository}:{tag}");
            }
        }
        for text in ["", ":", "a:", ":v", "a:b:c", "a:b/c", "${user}:v", "a:${user}", "A:v"] {
            assert!(text.parse::<TagPattern>().is_err(), "{text:?}");
        }
    }

    proptest::proptest! {
        /// Against a plain recursive reading of the same rules.
        #[test]
        fn patterns_agree_with_their_definition(
            pattern in proptest::collection::vec("a|b|\\*|\\*\\*|a\\*|\\*b", 1..5),
            name in proptest::collection::vec("a|b|ab|aab", 1..5),
        ) {
            fn plain(pattern: &[&str], name: &[&str]) -> bool {
                match (pattern, name) {
                    ([], []) => true,
                    (["**"], []) => false,
                    (["**", rest @ ..], name) => {
                        let ends = rest.is_empty() && !name.is_empty();
                        ends || (0..=name.len()).any(|skip| plain(rest, &name[skip..]))
                    }
                    ([first, pattern @ ..], [word, name @ ..]) => {
                        let fits = match *first {
                            "*" => true,
                            "a*" => word.starts_with('a'),
                            "*b" => word.ends_with('b'),
                            text => text == *word,
                        };
                        fits && plain(pattern, name)
                    }
                    _ => false,
                }
            }
            let words: Vec<&str> = pattern.iter().map(String::as_str).collect();
            let names: Vec<&str> = name.iter().map(String::as_str).collect();
            let parsed: RepositoryPattern = pattern.join("/").parse().expect("a pattern");
            assert_eq!(parsed.matches(&name.join("/"), &Principal::anonymous()), plain(&words, &names));
        }
    }
}
