//! What a registry takes, and what it says about it, whoever asks.

use super::{
    access::{PatternError, RepositoryPattern},
    forwarded::Trusted,
    life::{Collect, Trash},
    pace::Scrub,
    quota::Quota,
    retention::Retention,
    throttle::Limits,
};
use crate::limits;
use std::str::FromStr;

/// What the registry takes, whoever sends it. Another one takes its place while the server runs.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Refuse everything that would change something.
    pub read_only: bool,
    /// Show the web page.
    pub web: bool,
    /// Take manifests of which something is not here, as mirrors of a few platforms push them ("sparse", distribution
    /// specification, "Pushing Manifests").
    pub sparse: bool,
    /// The same, in these repositories.
    pub sparse_in: Vec<RepositoryPattern>,
    /// Whose word about clients is taken.
    pub trusted_proxies: Vec<Trusted>,
    /// What each address and each user may have.
    pub limits: Limits,
    /// Most bytes of a blob.
    pub max_blob: Option<u64>,
    /// What requests for some repositories are told.
    pub deprecated: Vec<Deprecation>,
    /// How much repositories and namespaces may have.
    pub quotas: Vec<Quota>,
    /// How everything that is stored is read again.
    pub scrub: Scrub,
    /// How long deleted things stay.
    pub trash: Trash,
    /// How what nothing holds goes.
    pub collect: Collect,
    /// What is kept of tags and untagged manifests.
    pub retention: Vec<Retention>,
}

impl Policy {
    /// Whether a manifest of a repository may need what is not there.
    pub(super) fn is_sparse(&self, repository: &str) -> bool {
        self.sparse || self.sparse_in.iter().any(|pattern| pattern.means(repository))
    }

    /// `Warning` headers' values for a repository (distribution specification, "Warnings"): code 299, no agent, no date, and
    /// no more bytes in all than it allows.
    pub(super) fn warnings(&self, repository: &str) -> Vec<String> {
        let meant = self.deprecated.iter().filter(|one| one.pattern.means(repository));
        let mut values = Vec::new();
        warn(&mut values, meant.map(|one| one.words.as_str()));
        values
    }
}

/// Adds values that say so many of `words` as fit.
pub(super) fn warn<'a>(values: &mut Vec<String>, words: impl Iterator<Item = &'a str>) {
    let mut bytes: usize = values.iter().map(String::len).sum();
    let new = words.map(|words| format!("299 - \"{}\"", quoted(words)));
    values.extend(new.take_while(|value| {
        bytes += value.len();
        bytes <= limits::WARNING_BYTES
    }));
}

/// What stands within a quoted string (RFC 9110, section 5.6.4).
fn quoted(words: &str) -> String {
    words.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Repositories that nobody should begin to use, and what is said about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deprecation {
    pattern: RepositoryPattern,
    words: String,
}

/// Why a deprecation is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeprecationError {
    /// No words.
    #[error("it is REPOSITORIES=WORDS, and the words are not empty")]
    Empty,
    /// What no header can carry.
    #[error("`{0}` cannot be sent: the words of a warning are printable ASCII")]
    Character(char),
    /// More than a reply may carry.
    #[error("the words of a warning have at most {} bytes", limits::DEPRECATION_BYTES)]
    Long,
    /// No pattern.
    #[error("`{0}` is no pattern of repositories: {1}")]
    Pattern(String, PatternError),
}

impl Deprecation {
    /// Says `words` about the repositories that `pattern` means.
    pub fn new(pattern: &str, words: &str) -> Result<Deprecation, DeprecationError> {
        let wrong = |error| DeprecationError::Pattern(pattern.to_owned(), error);
        let pattern = pattern.parse().map_err(wrong)?;
        match words.chars().find(|c| !matches!(c, ' '..='~')) {
            _ if words.trim().is_empty() => Err(DeprecationError::Empty),
            Some(c) => Err(DeprecationError::Character(c)),
            None if words.len() > limits::DEPRECATION_BYTES => Err(DeprecationError::Long),
            None => Ok(Deprecation { pattern, words: words.to_owned() }),
        }
    }
}

/// `REPOSITORIES=WORDS`.
impl FromStr for Deprecation {
    type Err = DeprecationError;

    fn from_str(text: &str) -> Result<Deprecation, DeprecationError> {
        let (pattern, words) = text.split_once('=').ok_or(DeprecationError::Empty)?;
        Deprecation::new(pattern, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_of_the_form_that_the_specification_has() {
        let policy = |all: &[(&str, &str)]| Policy {
            deprecated: all
                .iter()
                .map(|(pattern, words)| Deprecation::new(pattern, words).expect("a deprecation"))
                .collect(),
            ..Policy::default()
        };
        let one = policy(&[("old/**", "use new/")]);
        assert_eq!(one.warnings("old/app"), ["299 - \"use new/\""]);
        assert!(one.warnings("new/app").is_empty() && one.warnings("old").is_empty());
        let two = policy(&[("**", "a \"b\" \\c"), ("x", "second")]);
        assert_eq!(two.warnings("x"), [r#"299 - "a \"b\" \\c""#, "299 - \"second\""]);
        let long = "w".repeat(limits::DEPRECATION_BYTES);
        let many = policy(&[("**", &long), ("**", &long), ("**", &long), ("**", &long), ("**", &long)]);
        let bytes: usize = many.warnings("a").iter().map(String::len).sum();
        assert!(bytes > 0 && bytes <= 4096, "{bytes}");
    }

    #[test]
    fn what_no_header_can_carry_is_refused() {
        let of = |text: &str| text.parse::<Deprecation>().map(|_| ()).expect_err(text);
        for text in ["", "a", "a=", "a=  "] {
            assert_eq!(of(text), DeprecationError::Empty, "{text}");
        }
        for (text, c) in
            [("a=x\r\nset-cookie: y", '\r'), ("a=\u{1b}[2J", '\u{1b}'), ("a=ü", 'ü'), ("a=\0", '\0')]
        {
            assert_eq!(of(text), DeprecationError::Character(c), "{text:?}");
        }
        assert_eq!(of(&format!("a={}", "x".repeat(5000))), DeprecationError::Long);
        assert!(matches!(of("A*?=x"), DeprecationError::Pattern(..)));
    }

    #[test]
    fn sparse_is_by_repository_or_everywhere() {
        let by = Policy { sparse_in: vec!["mirror/**".parse().expect("a pattern")], ..Policy::default() };
        assert!(by.is_sparse("mirror/a") && !by.is_sparse("mirrors/a") && !by.is_sparse("a"));
        assert!(Policy { sparse: true, ..Policy::default() }.is_sparse("a"));
        assert!(!Policy::default().is_sparse("a"));
    }
}
