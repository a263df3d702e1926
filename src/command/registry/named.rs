//! What a command is about: a repository, a tag or a digest of it, without a host.

use slipway_oci::{
    Digest,
    reference::{is_repository_name, is_tag},
};
use slipway_registry::server::storage::{Author, ManifestKey};

/// `REPOSITORY:TAG` or `REPOSITORY@DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) repository: String,
    pub(super) key: ManifestKey,
}

/// `REPOSITORY:TAG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TagName {
    pub(super) repository: String,
    pub(super) tag: String,
}

pub(super) fn repository(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is no name of a repository; the registry's host is left out");
    if is_repository_name(text) { Ok(text.to_owned()) } else { Err(wrong()) }
}

pub(super) fn tag(text: &str) -> Result<String, String> {
    if is_tag(text) { Ok(text.to_owned()) } else { Err(format!("`{text}` is no tag")) }
}

pub(super) fn tag_name(text: &str) -> Result<TagName, String> {
    let parts = text.split_once(':').ok_or_else(|| format!("`{text}` is not REPOSITORY:TAG"))?;
    Ok(TagName { repository: repository(parts.0)?, tag: tag(parts.1)? })
}

pub(super) fn named(text: &str) -> Result<Named, String> {
    if let Some((name, digest)) = text.split_once('@') {
        let digest: Digest = digest.parse().map_err(|error| format!("`{digest}` is no digest: {error}"))?;
        return Ok(Named { repository: repository(name)?, key: ManifestKey::Digest(digest) });
    }
    let wrong = || format!("`{text}` is neither REPOSITORY:TAG nor REPOSITORY@DIGEST");
    let TagName { repository, tag } = if text.contains(':') { tag_name(text)? } else { return Err(wrong()) };
    Ok(Named { repository, key: ManifestKey::Tag(tag) })
}

/// Who changes something by this command, for what remembers it.
pub(super) fn author(command: &str) -> Author {
    let user = ["SUDO_USER", "LOGNAME", "USER"].iter().find_map(|name| std::env::var(name).ok());
    Author { who: user, origin: Some(format!("slipway registry {command}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_digests_of_repositories() {
        let digest = Digest::sha256(b"x");
        let at = |key| Ok(Named { repository: "a/b".to_owned(), key });
        assert_eq!(named("a/b:t"), at(ManifestKey::Tag("t".to_owned())));
        assert_eq!(named(&format!("a/b@{digest}")), at(ManifestKey::Digest(digest)));
        for text in ["", "a/b", "a/b:", ":t", "A:t", "a@sha256:1", "localhost:5000/a:t", "a:-x"] {
            assert!(named(text).is_err(), "{text}");
        }
    }
}
