//! What a request needs to be allowed, found out before anything of its endpoint runs. (CVE-2026-41888: a check that every
//! endpoint makes for itself is one that some endpoint forgets.)

use super::Action;
use crate::server::{error::Wanted, query::Query, route::Route};
use axum::http::Method;
use slipway_oci::reference::is_repository_name;

/// What a request needs to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Demand<'a> {
    /// Nothing: whoever logs in has not done so yet.
    Nothing,
    /// To be somebody the registry lets in.
    Entry,
    /// To see some repository; which ones is the endpoint's.
    Catalog,
    /// An action in a repository.
    In(&'a str, Action),
    /// To push into the first repository. What is pushed may be the second one's already, for who may pull there; so a
    /// client is told to ask for both rights at once, as distribution does.
    Mount(&'a str, &'a str),
}

impl Demand<'_> {
    /// For the reply that refuses it.
    pub(in crate::server) fn wanted(&self) -> Wanted {
        Wanted(match self {
            Demand::In(name, action) => Some(((*name).to_owned(), action.name())),
            Demand::Mount(name, _) => Some(((*name).to_owned(), Action::Push.name())),
            Demand::Nothing | Demand::Entry | Demand::Catalog => None,
        })
    }
}

/// What `method` on `route` demands; `None` for methods that no endpoint takes.
pub(in crate::server) fn demand<'a>(
    route: &'a Route,
    query: &'a Query,
    method: &Method,
) -> Option<Demand<'a>> {
    let reads = matches!(method.as_str(), "GET" | "HEAD");
    let writes = matches!(method.as_str(), "POST" | "PUT" | "PATCH");
    let deletes = method == Method::DELETE;
    if !reads && !writes && !deletes {
        return None;
    }
    Some(match route {
        Route::Token | Route::Device | Route::Metadata => Demand::Nothing,
        Route::Base => Demand::Entry,
        Route::Catalog => Demand::Catalog,
        // sessions belong to a push from start to end
        Route::Uploads { name } | Route::Upload { name, .. } => match mounted(route, query) {
            Some(from) if from != name => Demand::Mount(name, from),
            _ => Demand::In(name, Action::Push),
        },
        Route::Blob { name, .. }
        | Route::Manifest { name, .. }
        | Route::Tags { name }
        | Route::Referrers { name, .. } => {
            let action = match (reads, deletes) {
                (true, _) => Action::Pull,
                (_, true) => Action::Delete,
                _ => Action::Push,
            };
            Demand::In(name, action)
        }
    })
}

/// The repository that a mount names.
fn mounted<'a>(route: &Route, query: &'a Query) -> Option<&'a str> {
    let from = query.get("from").filter(|from| is_repository_name(from))?;
    (matches!(route, Route::Uploads { .. }) && query.get("mount").is_some()).then_some(from)
}

/// Whether a request would change something.
pub(in crate::server) fn changes(route: &Route, method: &Method) -> bool {
    !matches!(route, Route::Token | Route::Device | Route::Metadata)
        && matches!(method.as_str(), "POST" | "PUT" | "PATCH" | "DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::route;

    #[test]
    fn every_mutation_is_seen_as_one() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let blob = format!("/v2/a/b/blobs/{digest}");
        let of = |action| Some(Demand::In("a/b", action));
        for (method, path, expected) in [
            ("GET", "/v2/", Some(Demand::Entry)),
            ("GET", "/token", Some(Demand::Nothing)),
            ("POST", "/token", Some(Demand::Nothing)),
            ("POST", "/token/device", Some(Demand::Nothing)),
            ("GET", "/.well-known/oauth-authorization-server", Some(Demand::Nothing)),
            ("GET", "/v2/_catalog", Some(Demand::Catalog)),
            ("HEAD", &blob, of(Action::Pull)),
            ("DELETE", &blob, of(Action::Delete)),
            ("POST", "/v2/a/b/blobs/uploads/", of(Action::Push)),
            ("GET", "/v2/a/b/blobs/uploads/x", of(Action::Push)),
            ("PATCH", "/v2/a/b/blobs/uploads/x", of(Action::Push)),
            ("PUT", "/v2/a/b/blobs/uploads/x", of(Action::Push)),
            ("DELETE", "/v2/a/b/blobs/uploads/x", of(Action::Push)),
            ("PUT", "/v2/a/b/manifests/x", of(Action::Push)),
            ("DELETE", "/v2/a/b/manifests/x", of(Action::Delete)),
            ("GET", "/v2/a/b/tags/list", of(Action::Pull)),
            ("GET", "/v2/a/b/referrers/x", of(Action::Pull)),
            ("OPTIONS", "/v2/a/b/tags/list", None),
            ("CONNECT", "/v2/", None),
        ] {
            let route = route::parse(path).expect("a route");
            let method: Method = method.parse().expect("a method");
            let query = Query::parse(None).expect("a query");
            assert_eq!(demand(&route, &query, &method), expected, "{method} {path}");
            let changing = !matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "CONNECT");
            let changing = changing && !path.starts_with("/token");
            assert_eq!(changes(&route, &method), changing, "{method} {path}");
        }
    }
    #[test]
    fn a_mount_tells_where_from() {
        for (path, query, expected) in [
            ("/v2/a/b/blobs/uploads/", "mount=sha256:0&from=c/d", Demand::Mount("a/b", "c/d")),
            ("/v2/a/b/blobs/uploads/", "from=c/d&mount=", Demand::Mount("a/b", "c/d")),
            ("/v2/a/b/blobs/uploads/", "mount=sha256:0", Demand::In("a/b", Action::Push)),
            ("/v2/a/b/blobs/uploads/", "mount=sha256:0&from=a/b", Demand::In("a/b", Action::Push)),
            // what would end the quoted string, or ask for more
            ("/v2/a/b/blobs/uploads/", "mount=sha256:0&from=c/d\"", Demand::In("a/b", Action::Push)),
            (
                "/v2/a/b/blobs/uploads/",
                "mount=sha256:0&from=c+repository:e:*",
                Demand::In("a/b", Action::Push),
            ),
            ("/v2/a/b/blobs/uploads/", "mount=sha256:0&from=", Demand::In("a/b", Action::Push)),
            ("/v2/a/b/blobs/uploads/", "from=c/d", Demand::In("a/b", Action::Push)),
            ("/v2/a/b/blobs/uploads/x", "mount=sha256:0&from=c/d", Demand::In("a/b", Action::Push)),
        ] {
            let route = route::parse(path).expect("a route");
            let query = Query::parse(Some(query)).unwrap_or_else(|_| panic!("{query}"));
            assert_eq!(demand(&route, &query, &Method::POST), Some(expected), "{path}");
        }
    }
}
