//! Who may do what: asked once for every request, between [`super::route`] and its endpoint.
//!
//! A request is turned into a demand, the repository and the action that it needs there, before anything of the
//! endpoint runs. (CVE-2026-41888: a check that every endpoint makes for itself is one that some endpoint forgets.)

use super::{error::ApiError, route::Route};
use axum::http::Method;

/// What a request does to its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Reads.
    Pull,
    /// Adds content or moves tags; sessions belong to it from start to end.
    Push,
    /// Takes content or tags away.
    Delete,
}

/// What a request needs to be allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Demand<'a> {
    /// The repository; `None` where the registry as a whole is asked.
    pub(super) repository: Option<&'a str>,
    pub(super) action: Action,
}

/// What `method` on `route` demands; `None` for methods that no endpoint takes.
pub(super) fn demand<'a>(route: &'a Route, method: &Method) -> Option<Demand<'a>> {
    let action = match (method.as_str(), route) {
        ("GET" | "HEAD", _) => Action::Pull,
        ("POST" | "PUT" | "PATCH", _) | ("DELETE", Route::Upload { .. }) => Action::Push,
        ("DELETE", _) => Action::Delete,
        _ => return None,
    };
    Some(Demand { repository: route.repository(), action })
}

/// The rules.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policy {
    /// Whether anything may change.
    pub(super) read_only: bool,
    /// Whether an index may name manifests that are not here.
    pub(super) sparse: bool,
}

impl Policy {
    /// Refuses what no rule allows.
    pub(super) fn decide(self, demand: &Demand<'_>) -> Result<(), ApiError> {
        match demand.action {
            Action::Push | Action::Delete if self.read_only => Err(ApiError::ReadOnly),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::route;

    #[test]
    fn every_mutation_is_seen_as_one() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let blob = format!("/v2/a/b/blobs/{digest}");
        for (method, path, expected) in [
            ("GET", "/v2/", Some((None, Action::Pull))),
            ("GET", "/v2/_catalog", Some((None, Action::Pull))),
            ("HEAD", &blob, Some((Some("a/b"), Action::Pull))),
            ("DELETE", &blob, Some((Some("a/b"), Action::Delete))),
            ("POST", "/v2/a/b/blobs/uploads/", Some((Some("a/b"), Action::Push))),
            ("GET", "/v2/a/b/blobs/uploads/x", Some((Some("a/b"), Action::Pull))),
            ("PATCH", "/v2/a/b/blobs/uploads/x", Some((Some("a/b"), Action::Push))),
            ("PUT", "/v2/a/b/blobs/uploads/x", Some((Some("a/b"), Action::Push))),
            ("DELETE", "/v2/a/b/blobs/uploads/x", Some((Some("a/b"), Action::Push))),
            ("PUT", "/v2/a/b/manifests/x", Some((Some("a/b"), Action::Push))),
            ("DELETE", "/v2/a/b/manifests/x", Some((Some("a/b"), Action::Delete))),
            ("GET", "/v2/a/b/tags/list", Some((Some("a/b"), Action::Pull))),
            ("GET", "/v2/a/b/referrers/x", Some((Some("a/b"), Action::Pull))),
            ("OPTIONS", "/v2/a/b/tags/list", None),
            ("CONNECT", "/v2/", None),
        ] {
            let route = route::parse(path).expect("a route");
            let found = demand(&route, &method.parse().expect("a method"));
            let found = found.map(|demand| (demand.repository, demand.action));
            assert_eq!(found, expected, "{method} {path}");
        }
    }
}
