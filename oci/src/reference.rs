//! Image references: `[host[:port]/]path[:tag][@digest]`, normalised as docker does.
//!
//! Grammar: distribution's `reference` package, which every client follows. A first component that has a dot, a
//! colon or is `localhost` names a registry; anything else is a path on the default registry, and a single component
//! there means `library/`.

use crate::{Digest, limits};
use std::{fmt, str::FromStr};

/// The registry that an unqualified name belongs to.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library";

/// Why a text is not a reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("the image reference is empty")]
    Empty,
    /// The repository part breaks the grammar.
    #[error(
        "`{0}` is not an image name: use lower-case letters and digits, separated by `.`, `_`, `__`, `-` or `/`"
    )]
    Name(String),
    /// The tag breaks the grammar.
    #[error(
        "`{0}` is not a tag: use up to 128 letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`"
    )]
    Tag(String),
    /// The digest breaks the grammar.
    #[error(transparent)]
    Digest(#[from] crate::digest::DigestError),
    /// Longer than the distribution specification allows.
    #[error("the image name is longer than {} bytes", limits::REPOSITORY_NAME_BYTES)]
    Long,
}

/// A valid, fully qualified image reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
    short: Short,
}

/// Whether a name was written without a registry: how it came to be, and no part of what it is.
#[derive(Clone, Copy, Debug, Default)]
struct Short(bool);

impl PartialEq for Short {
    fn eq(&self, _: &Short) -> bool {
        true
    }
}

impl Eq for Short {}

impl PartialOrd for Short {
    fn partial_cmp(&self, other: &Short) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Short {
    fn cmp(&self, _: &Short) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl std::hash::Hash for Short {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Reference {
    /// A reference from parts that are checked as if they were written out.
    pub fn new(
        registry: &str,
        repository: &str,
        tag: Option<&str>,
        digest: Option<Digest>,
    ) -> Result<Reference, ReferenceError> {
        if !is_repository_name(repository) || !is_host(registry) {
            return Err(ReferenceError::Name(format!("{registry}/{repository}")));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        if registry.len() + 1 + repository.len() > limits::REPOSITORY_NAME_BYTES {
            return Err(ReferenceError::Long);
        }
        Ok(Reference {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
            short: Short::default(),
        })
    }

    /// Whether it was written without a registry, so that the default one is a guess. References that differ in this
    /// alone are equal.
    pub fn is_short(&self) -> bool {
        self.short.0
    }

    /// Host and port of the registry; `docker.io` where none was written.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's path within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What identifies the manifest in the registry's protocol: the digest, else the tag, else `latest`.
    pub fn manifest_reference(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The reference with `latest` filled in where neither tag nor digest was written.
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The same repository, by digest.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Registry and repository without tag or digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The repository as people write it: without the default registry and namespace.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        let path = self.repository.strip_prefix(DEFAULT_NAMESPACE).and_then(|rest| rest.strip_prefix('/'));
        path.filter(|rest| !rest.contains('/')).unwrap_or(&self.repository).to_owned()
    }

    /// The whole reference as people write it.
    pub fn familiar(&self) -> String {
        self.write_out(self.familiar_name())
    }

    fn write_out(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // a colon before the last slash belongs to the port
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        let (registry, path, short) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
                (host, path.to_owned(), false)
            }
            _ => (DEFAULT_REGISTRY, name.to_owned(), true),
        };
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let repository = match registry {
            DEFAULT_REGISTRY if !path.contains('/') => format!("{DEFAULT_NAMESPACE}/{path}"),
            _ => path,
        };
        let made = Reference::new(registry, &repository, tag, digest).map_err(|error| match error {
            ReferenceError::Name(_) => ReferenceError::Name(name.to_owned()),
            other => other,
        })?;
        Ok(Reference { short: Short(short), ..made })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.write_out(self.name()))
    }
}

/// Whether `name` is a repository name (distribution specification, "Pulling manifests"):
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` joined by `/`.
pub fn is_repository_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= limits::REPOSITORY_NAME_BYTES && name.split('/').all(is_path_component)
}

fn is_path_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes.chunk_by(|a, b| alphanumeric(*a) == alphanumeric(*b)).all(|run| {
        alphanumeric(run[0]) || matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-')
    })
}

/// Whether `tag` is a tag: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
pub fn is_tag(tag: &str) -> bool {
    let bytes = tag.as_bytes();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !bytes.is_empty()
        && bytes.len() <= 128
        && word(bytes[0])
        && bytes.iter().all(|byte| word(*byte) || matches!(byte, b'.' | b'-'))
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let port_valid =
        port.is_none_or(|port| port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit()));
    let name_valid = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        }),
    };
    port_valid && name_valid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalisation_follows_docker() {
        for (text, full, familiar) in [
            ("debian", "docker.io/library/debian", "debian"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("me/app", "docker.io/me/app", "me/app"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            ("index.docker.io/library/x", "docker.io/library/x", "x"),
        ] {
            let reference: Reference = text.parse().expect(text);
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
        }
    }

    #[test]
    fn a_name_without_a_registry_is_known_as_such_and_equal_all_the_same() {
        let [short, whole]: [Reference; 2] =
            ["app:1", "docker.io/library/app:1"].map(|text| text.parse().expect(text));
        assert!(short.is_short() && !whole.is_short() && short == whole);
        assert!(short.clone().or_latest().is_short());
        assert_eq!([short, whole].into_iter().collect::<std::collections::HashSet<_>>().len(), 1);
        for text in ["a.test/app", "localhost/app", "h:1/app", "index.docker.io/library/app"] {
            assert!(!text.parse::<Reference>().expect(text).is_short(), "{text}");
        }
    }

    #[test]
    fn wrong_references_are_refused() {
        for text in [
            "",
            "Debian",
            "a b",
            "-a",
            "a-",
            "a..b",
            "a//b",
            "/a",
            "a:",
            "a:-x",
            "a@sha256:12",
            "h.x:99999/a",
            "a/../b",
            "a___b",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        assert!(format!("a:{}", "x".repeat(129)).parse::<Reference>().is_err());
        assert!("a/".repeat(200).trim_end_matches('/').parse::<Reference>().is_err());
    }
}
