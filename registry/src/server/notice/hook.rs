//! One webhook of the configuration.

use crate::server::access::{PatternError, Principal, RepositoryPattern};
use reqwest::Url;
use std::str::FromStr;

/// How a notice is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// distribution's notifications.
    Distribution,
    /// Harbor's webhooks.
    Harbor,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A manifest was pushed.
    Push,
    /// A manifest or tag was deleted.
    Delete,
    /// A manifest was fetched. Each is a write to the database, so who wants them has to say so.
    Pull,
}

/// Who is told, of what.
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    /// Its name, which its notices wait under.
    pub name: String,
    /// How notices are written.
    pub form: Form,
    /// Where they go; name and password in it are sent as such.
    pub url: Url,
    /// Of what.
    pub what: Vec<What>,
    /// In which repositories; all where none is named.
    pub repositories: Vec<RepositoryPattern>,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // the address may have a secret
        write!(f, "Hook({})", self.name)
    }
}

/// Why a hook is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HookError {
    /// Not the form.
    #[error("a hook is `[harbor|distribution] URL [for push, delete, pull] [in REPOSITORIES]`")]
    Form,
    /// No address.
    #[error("`{0}` is no http or https address")]
    Address(String),
    /// Nothing that is told.
    #[error("`{0}` is nothing that hooks are told of: there are push, delete and pull")]
    What(String),
    /// No pattern.
    #[error("`{0}` is no pattern of repositories: {1}")]
    Pattern(String, PatternError),
}

impl Hook {
    /// Reads what follows a hook's name.
    pub fn new(name: &str, text: &str) -> Result<Hook, HookError> {
        let (text, repositories) = match text.split_once(" in ") {
            Some((text, list)) => (text, list.split(',').map(pattern).collect::<Result<_, _>>()?),
            None => (text, Vec::new()),
        };
        let (text, what) = match text.split_once(" for ") {
            Some((text, list)) => (text, list.split(',').map(what).collect::<Result<_, _>>()?),
            None => (text, vec![What::Push, What::Delete]),
        };
        let mut words = text.split_whitespace();
        let (form, url) = match (words.next(), words.next(), words.next()) {
            (Some(url), None, _) => (Form::Distribution, url),
            (Some("distribution"), Some(url), None) => (Form::Distribution, url),
            (Some("harbor"), Some(url), None) => (Form::Harbor, url),
            _ => return Err(HookError::Form),
        };
        let parsed =
            Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = parsed.ok_or_else(|| HookError::Address(url.to_owned()))?;
        Ok(Hook { name: name.to_owned(), form, url, what, repositories })
    }

    /// Whether it is told of this.
    pub(super) fn wants(&self, what: What, repository: &str) -> bool {
        let nobody = Principal::anonymous();
        let meant = || self.repositories.iter().any(|pattern| pattern.matches(repository, &nobody));
        self.what.contains(&what) && (self.repositories.is_empty() || meant())
    }
}

/// `NAME=` and what [`Hook::new`] reads.
impl FromStr for Hook {
    type Err = HookError;

    fn from_str(text: &str) -> Result<Hook, HookError> {
        let (name, rest) = text.split_once('=').ok_or(HookError::Form)?;
        if !crate::server::access::is_name(name) {
            return Err(HookError::Form);
        }
        Hook::new(name, rest)
    }
}

fn what(text: &str) -> Result<What, HookError> {
    match text.trim() {
        "push" => Ok(What::Push),
        "delete" => Ok(What::Delete),
        "pull" => Ok(What::Pull),
        other => Err(HookError::What(other.to_owned())),
    }
}

fn pattern(text: &str) -> Result<RepositoryPattern, HookError> {
    let text = text.trim();
    text.parse().map_err(|error| HookError::Pattern(text.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_sentences() {
        let hook = |text: &str| text.parse::<Hook>().expect(text);
        let plain = hook("ci=https://ci.example/hook");
        assert_eq!((plain.form, plain.name.as_str()), (Form::Distribution, "ci"));
        assert!(
            plain.wants(What::Push, "a") && plain.wants(What::Delete, "a/b") && !plain.wants(What::Pull, "a")
        );
        let all = hook("x=harbor http://u:p@h:8080/x?y=z for push, pull in team/**, a");
        assert_eq!((all.form, all.url.as_str()), (Form::Harbor, "http://u:p@h:8080/x?y=z"));
        assert!(all.wants(What::Pull, "team/x") && all.wants(What::Push, "a"));
        assert!(!all.wants(What::Delete, "a") && !all.wants(What::Push, "b"));
        assert!(!format!("{all:?}").contains("p@h"), "no secret is shown");
        for (text, error) in [
            ("", HookError::Form),
            ("ci", HookError::Form),
            ("ci=", HookError::Form),
            ("a b=https://h", HookError::Form),
            ("ci=gitlab https://h", HookError::Form),
            ("ci=ftp://h", HookError::Address("ftp://h".into())),
            ("ci=file:///etc/passwd", HookError::Address("file:///etc/passwd".into())),
            ("ci=https://h for mount", HookError::What("mount".into())),
        ] {
            assert_eq!(text.parse::<Hook>().map(|_| ()), Err(error), "{text}");
        }
        assert!(matches!("ci=https://h in A".parse::<Hook>(), Err(HookError::Pattern(..))));
    }
}
