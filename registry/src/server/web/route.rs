//! The pages' paths: taken apart and put together here alone.
//!
//! ```text
//! /                            repositories; `q` searches, `last` pages
//! /usage                       who has how much
//! /login, /logout
//! /device                      lets a program without a browser in
//! /assets/NAME                 what pages look like
//! /r/NAME                      tags
//! /r/NAME/_image/REFERENCE     an image, an index or an artifact
//! /r/NAME/_files/REFERENCE     files of the image, of one layer with `layer`
//! /r/NAME/_compare             `from` and `to`
//! /r/NAME/_history             moves of tags, of one with `tag`
//! /r/NAME/_trash               what was deleted; `_undelete` takes it out
//! ```
//!
//! No component of a repository's name begins with `_`, so that no name can be taken for a page.

use slipway_oci::{Digest, reference::is_repository_name, reference::is_tag};

/// What a path asks for. Names and references are valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum Page {
    Repositories,
    Usage,
    Login,
    Logout,
    Device,
    Asset(String),
    Tags(String),
    Image(String, String),
    Files(String, String),
    Compare(String),
    History(String),
    Trash(String),
    Undelete(String),
    /// Within `/r/` or `/assets/`, and nothing.
    Nothing,
}

impl Page {
    /// What a percent-encoded path asks for; `None` where it is none of the pages'.
    pub(in crate::server) fn of(path: &str) -> Option<Page> {
        match path {
            "/" => return Some(Page::Repositories),
            "/usage" => return Some(Page::Usage),
            "/login" => return Some(Page::Login),
            "/logout" => return Some(Page::Logout),
            "/device" => return Some(Page::Device),
            _ => {}
        }
        if let Some(name) = path.strip_prefix("/assets/") {
            return Some(Page::Asset(name.to_owned()));
        }
        let rest = path.strip_prefix("/r/")?;
        let Ok(rest) = percent_encoding::percent_decode_str(rest).decode_utf8() else {
            return Some(Page::Nothing);
        };
        Some(Page::within(rest.trim_end_matches('/')).unwrap_or(Page::Nothing))
    }

    fn within(rest: &str) -> Option<Page> {
        let (name, page) = match rest.split_once("/_") {
            Some((name, page)) => (name, Some(page)),
            None => (rest, None),
        };
        if !is_repository_name(name) {
            return None;
        }
        let name = name.to_owned();
        let reference = |text: &str| is_reference(text).then(|| text.to_owned());
        match page {
            None => Some(Page::Tags(name)),
            Some("compare") => Some(Page::Compare(name)),
            Some("history") => Some(Page::History(name)),
            Some("trash") => Some(Page::Trash(name)),
            Some("undelete") => Some(Page::Undelete(name)),
            Some(page) => match page.split_once('/')? {
                ("image", text) => Some(Page::Image(name, reference(text)?)),
                ("files", text) => Some(Page::Files(name, reference(text)?)),
                _ => None,
            },
        }
    }

    /// The repository that it is about.
    pub(in crate::server) fn repository(&self) -> Option<&str> {
        match self {
            Page::Tags(name)
            | Page::Image(name, _)
            | Page::Files(name, _)
            | Page::Compare(name)
            | Page::History(name)
            | Page::Trash(name)
            | Page::Undelete(name) => Some(name),
            _ => None,
        }
    }

    /// The methods that it takes.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Page::Login | Page::Device => "GET, HEAD, POST",
            Page::Logout | Page::Undelete(_) => "POST",
            _ => "GET, HEAD",
        }
    }
}

/// Whether a text is a tag or a digest.
pub(super) fn is_reference(text: &str) -> bool {
    if text.contains(':') { text.parse::<Digest>().is_ok() } else { is_tag(text) }
}

/// A page of this registry that a text asks to go on to, for who logs in: nothing else can be meant by it.
pub(super) fn onward(text: &str) -> String {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let page = match Page::of(path) {
        Some(page @ (Page::Repositories | Page::Usage | Page::Device)) => page,
        Some(page) if page.repository().is_some() && page.methods().starts_with("GET") => page,
        _ => return "/".to_owned(),
    };
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let pairs: Vec<(&str, &str)> =
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    with_query(&page.to_string(), &pairs)
}

/// The path, of characters that need no encoding.
impl std::fmt::Display for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Page::Repositories | Page::Nothing => f.write_str("/"),
            Page::Usage => f.write_str("/usage"),
            Page::Login => f.write_str("/login"),
            Page::Logout => f.write_str("/logout"),
            Page::Device => f.write_str("/device"),
            Page::Asset(name) => write!(f, "/assets/{name}"),
            Page::Tags(name) => write!(f, "/r/{name}"),
            Page::Image(name, reference) => write!(f, "/r/{name}/_image/{reference}"),
            Page::Files(name, reference) => write!(f, "/r/{name}/_files/{reference}"),
            Page::Compare(name) => write!(f, "/r/{name}/_compare"),
            Page::History(name) => write!(f, "/r/{name}/_history"),
            Page::Trash(name) => write!(f, "/r/{name}/_trash"),
            Page::Undelete(name) => write!(f, "/r/{name}/_undelete"),
        }
    }
}

/// A path with what is asked for there; empty values are left out.
pub(super) fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = pairs.iter().filter(|(_, value)| !value.is_empty()).collect();
    if pairs.is_empty() {
        return path.to_owned();
    }
    let query =
        form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs.into_iter().copied()).finish();
    format!("{path}?{query}")
}

/// The page of a repository.
pub(super) fn tags(name: &str) -> String {
    Page::Tags(name.to_owned()).to_string()
}

/// The page of an image.
pub(super) fn image(name: &str, reference: &str) -> String {
    Page::Image(name.to_owned(), reference.to_owned()).to_string()
}

/// The page of an image's files.
pub(super) fn files(name: &str, reference: &str) -> String {
    Page::Files(name.to_owned(), reference.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_pages_of_valid_names_alone() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let name = || "a/b".to_owned();
        for (path, page) in [
            ("/".to_owned(), Some(Page::Repositories)),
            ("/r/a/b".to_owned(), Some(Page::Tags(name()))),
            ("/r/a/b/".to_owned(), Some(Page::Tags(name()))),
            ("/r/a/b/_image/v1".to_owned(), Some(Page::Image(name(), "v1".to_owned()))),
            ("/r/a/b/_image/_v1".to_owned(), Some(Page::Image(name(), "_v1".to_owned()))),
            (format!("/r/a%2Fb/_files/{digest}"), Some(Page::Files(name(), digest.clone()))),
            ("/r/a/b/_compare".to_owned(), Some(Page::Compare(name()))),
            ("/r/a/b/_image/../../x".to_owned(), Some(Page::Nothing)),
            ("/r/a/b/_image/".to_owned(), Some(Page::Nothing)),
            ("/r/a/b/_image/sha256:12".to_owned(), Some(Page::Nothing)),
            ("/r/a/b/_other".to_owned(), Some(Page::Nothing)),
            ("/r/".to_owned(), Some(Page::Nothing)),
            ("/r/A".to_owned(), Some(Page::Nothing)),
            ("/r/%ff".to_owned(), Some(Page::Nothing)),
            ("/r/../etc".to_owned(), Some(Page::Nothing)),
            ("/v2/".to_owned(), None),
            ("/v2/r/tags/list".to_owned(), None),
            ("/token".to_owned(), None),
            ("/device".to_owned(), Some(Page::Device)),
            ("/token/device".to_owned(), None),
            ("/favicon.ico".to_owned(), None),
            ("/rr".to_owned(), None),
            (String::new(), None),
            ("*".to_owned(), None),
        ] {
            assert_eq!(Page::of(&path), page, "{path}");
        }
    }

    #[test]
    fn who_logs_in_goes_on_within_the_registry() {
        for (text, expected) in [
            ("/r/a/b", "/r/a/b"),
            ("/?q=x y", "/?q=x+y"),
            ("/device?user_code=A%26b", "/device?user_code=A%26b"),
            ("/devices", "/"),
            (
                "/r/a/_files/v?path=a%2Fb&evil=%0d%0aset-cookie",
                "/r/a/_files/v?path=a%2Fb&evil=%0D%0Aset-cookie",
            ),
            ("", "/"),
            ("//evil.example/", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example/", "/"),
            ("/r/a/../../\\evil", "/"),
            ("/r//evil.example", "/"),
            ("javascript:alert(1)", "/"),
            ("/login", "/"),
            ("/logout", "/"),
            ("/r/a/_undelete", "/"),
            ("/assets/style.css", "/"),
            ("/v2/_catalog", "/"),
            ("/r/a\r\nx: y", "/"),
        ] {
            assert_eq!(onward(text), expected, "{text}");
        }
    }
}
