//! From a request's path to what it asks for: pure, and the only place that splits paths.
//!
//! Repository names may contain the protocol's own words (`a/manifests/b`, `x/blobs/uploads`), so a path is read from
//! its end: the last reserved word decides, and all before it is the name.

use super::error::ApiError;
use slipway_oci::reference::is_repository_name;

/// What a path asks for. Names are valid; digests, tags and session ids are still text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/token`
    Token,
    /// `/token/device`
    Device,
    /// `/.well-known/oauth-authorization-server`
    Metadata,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/N/blobs/D`
    Blob { name: String, digest: String },
    /// `/v2/N/blobs/uploads/`
    Uploads { name: String },
    /// `/v2/N/blobs/uploads/ID`
    Upload { name: String, id: String },
    /// `/v2/N/manifests/R`
    Manifest { name: String, reference: String },
    /// `/v2/N/tags/list`
    Tags { name: String },
    /// `/v2/N/referrers/D`
    Referrers { name: String, digest: String },
}

impl Route {
    /// Its class, for numbers.
    pub(super) fn class(&self) -> &'static str {
        match self {
            Route::Base => "base",
            Route::Token | Route::Device | Route::Metadata => "token",
            Route::Catalog => "catalog",
            Route::Blob { .. } => "blob",
            Route::Uploads { .. } | Route::Upload { .. } => "upload",
            Route::Manifest { .. } => "manifest",
            Route::Tags { .. } => "tags",
            Route::Referrers { .. } => "referrers",
        }
    }

    /// The same under another name of the repository.
    pub(super) fn renamed(self, to: String) -> Route {
        match self {
            Route::Base | Route::Token | Route::Device | Route::Metadata | Route::Catalog => self,
            Route::Blob { digest, .. } => Route::Blob { name: to, digest },
            Route::Uploads { .. } => Route::Uploads { name: to },
            Route::Upload { id, .. } => Route::Upload { name: to, id },
            Route::Manifest { reference, .. } => Route::Manifest { name: to, reference },
            Route::Tags { .. } => Route::Tags { name: to },
            Route::Referrers { digest, .. } => Route::Referrers { name: to, digest },
        }
    }

    /// The repository that it is about.
    pub(super) fn repository(&self) -> Option<&str> {
        match self {
            Route::Base | Route::Token | Route::Device | Route::Metadata | Route::Catalog => None,
            Route::Blob { name, .. }
            | Route::Uploads { name }
            | Route::Upload { name, .. }
            | Route::Manifest { name, .. }
            | Route::Tags { name }
            | Route::Referrers { name, .. } => Some(name),
        }
    }
}

/// Reads a percent-encoded path.
pub(super) fn parse(path: &str) -> Result<Route, ApiError> {
    let unknown = || ApiError::PathUnknown;
    let decoded =
        percent_encoding::percent_decode_str(path).decode_utf8().map_err(|_| ApiError::PathUnknown)?;
    let rest = match decoded.as_ref() {
        "/v2" | "/v2/" => return Ok(Route::Base),
        "/token" => return Ok(Route::Token),
        "/token/device" => return Ok(Route::Device),
        "/.well-known/oauth-authorization-server" => return Ok(Route::Metadata),
        "/v2/_catalog" | "/v2/_catalog/" => return Ok(Route::Catalog),
        other => other.strip_prefix("/v2/").ok_or_else(unknown)?,
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let name = |count: usize| {
        let name = parts[..parts.len() - count].join("/");
        if is_repository_name(&name) { Ok(name) } else { Err(ApiError::NameInvalid(name)) }
    };
    let text = |part: &str| part.to_owned();
    match parts.as_slice() {
        [_, .., "blobs", "uploads", ""] => Ok(Route::Uploads { name: name(3)? }),
        [_, .., "blobs", "uploads"] => Ok(Route::Uploads { name: name(2)? }),
        [_, .., "blobs", "uploads", id] => Ok(Route::Upload { name: name(3)?, id: text(id) }),
        [_, .., "blobs", digest] => Ok(Route::Blob { name: name(2)?, digest: text(digest) }),
        [_, .., "manifests", reference] => Ok(Route::Manifest { name: name(2)?, reference: text(reference) }),
        [_, .., "tags", "list"] => Ok(Route::Tags { name: name(2)? }),
        [_, .., "referrers", digest] => Ok(Route::Referrers { name: name(2)?, digest: text(digest) }),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reserved_word_decides() {
        let upload = |name: &str, id: &str| Route::Upload { name: name.into(), id: id.into() };
        let manifest =
            |name: &str, reference: &str| Route::Manifest { name: name.into(), reference: reference.into() };
        for (path, route) in [
            ("/v2/", Route::Base),
            ("/v2", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/token", Route::Token),
            ("/v2/a/blobs/uploads/", Route::Uploads { name: "a".into() }),
            ("/v2/a/blobs/uploads", Route::Uploads { name: "a".into() }),
            ("/v2/a/blobs/uploads/x", upload("a", "x")),
            ("/v2/blobs/uploads/blobs/uploads/x", upload("blobs/uploads", "x")),
            ("/v2/a/manifests/b/manifests/c", manifest("a/manifests/b", "c")),
            ("/v2/x/blobs/manifests/uploads", manifest("x/blobs", "uploads")),
            (
                "/v2/a/blobs/uploads/blobs/sha256:1",
                Route::Blob { name: "a/blobs/uploads".into(), digest: "sha256:1".into() },
            ),
            ("/v2/a/b/tags/list", Route::Tags { name: "a/b".into() }),
            ("/v2/tags/tags/list", Route::Tags { name: "tags".into() }),
            ("/v2/a/manifests/sha256%3A12", manifest("a", "sha256:12")),
        ] {
            assert_eq!(parse(path).ok(), Some(route), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn names_are_always_valid(path in "/v2/([a-z./%2A-F_-]|blobs|uploads|manifests|tags|list|referrers){0,12}") {
            let name = match parse(&path) {
                Ok(Route::Blob { name, .. } | Route::Uploads { name } | Route::Upload { name, .. }) => name,
                Ok(Route::Manifest { name, .. } | Route::Tags { name } | Route::Referrers { name, .. }) => name,
                Ok(Route::Base | Route::Catalog) | Err(_) => return Ok(()),
                Ok(Route::Token | Route::Device | Route::Metadata) => return Ok(()),
            };
            assert!(is_repository_name(&name), "{name}");
        }
    }

    #[test]
    fn wrong_paths_are_refused() {
        for path in [
            "/",
            "/v1/",
            "/v2/a",
            "/v2//manifests/x",
            "/v2/A/manifests/x",
            "/v2/a/../b/manifests/x",
            "/v2/manifests/x",
            "/v2/a%2f..%2fb/blobs/x",
            "/v2/a/tags",
            "/v2/a/tags/list/",
            "/v2/%ff/tags/list",
            "/v2/a//tags/list",
            "/v2/../../etc/passwd",
        ] {
            assert!(parse(path).is_err(), "{path}");
        }
    }
}
