//! Who may do what, over every route: the table of routes against principals and rules.

use super::*;
use crate::server::{
    access::{Access, AccessConfig, Action, Demand, Htpasswd, Mode, Principal, Rule, SecretHash, demand},
    query::Query,
    route::{self, Route},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{collections::BTreeMap, sync::Arc};

/// Users are tokens here: nothing has to be hashed slowly.
pub(super) fn access(rules: &[&str], users: &[&str], change: impl FnOnce(&mut AccessConfig)) -> Arc<Access> {
    let rules = rules.iter().map(|text| text.parse::<Rule>().expect(text)).collect();
    let tokens: BTreeMap<String, SecretHash> =
        users.iter().map(|name| ((*name).to_owned(), SecretHash::of(&secret(name)))).collect();
    let mut config = AccessConfig { rules, tokens, token_endpoint: true, ..AccessConfig::default() };
    change(&mut config);
    Arc::new(Access::new(config).expect("a configuration"))
}

fn secret(name: &str) -> String {
    format!("secret of {name}")
}

pub(super) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

impl Registry {
    /// A request of somebody; nobody with an empty name.
    pub(super) fn ask(
        &self,
        name: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let shown = basic(name, &secret(name));
        let mut all = headers.to_vec();
        if !name.is_empty() {
            all.push(("authorization", &shown));
        }
        self.call(method, path, &all, body)
    }
}

/// Every route once. Whoever adds a route is stopped here by the compiler, and then by the test below.
const ROUTES: usize = 11;
fn number(route: &Route) -> usize {
    match route {
        Route::Base => 0,
        Route::Token => 1,
        Route::Catalog => 2,
        Route::Blob { .. } => 3,
        Route::Uploads { .. } => 4,
        Route::Upload { .. } => 5,
        Route::Manifest { .. } => 6,
        Route::Tags { .. } => 7,
        Route::Referrers { .. } => 8,
        Route::Device => 9,
        Route::Metadata => 10,
    }
}

/// Paths of every route in a repository, with what is there and what is not.
fn paths(name: &str, digest: &Digest, session: &str) -> Vec<String> {
    let paths = vec![
        "/v2/".to_owned(),
        "/token".to_owned(),
        "/token/device".to_owned(),
        "/.well-known/oauth-authorization-server".to_owned(),
        "/v2/_catalog".to_owned(),
        format!("/v2/{name}/blobs/{digest}"),
        format!("/v2/{name}/blobs/uploads/"),
        format!("/v2/{name}/blobs/uploads/?mount={digest}&from={name}"),
        format!("/v2/{name}/blobs/uploads/?mount={digest}&from=public/app"),
        format!("/v2/{name}/blobs/uploads/?digest={digest}"),
        format!("/v2/{name}/blobs/uploads/{session}"),
        format!("/v2/{name}/blobs/uploads/{session}?digest={digest}"),
        format!("/v2/{name}/manifests/latest"),
        format!("/v2/{name}/manifests/{digest}"),
        format!("/v2/{name}/manifests/{digest}?tag=a"),
        format!("/v2/{name}/tags/list"),
        format!("/v2/{name}/referrers/{digest}"),
    ];
    let mut seen = [false; ROUTES];
    for path in &paths {
        let plain = path.split('?').next().expect("a path");
        seen[number(&route::parse(plain).expect("a route"))] = true;
    }
    assert_eq!(seen, [true; ROUTES], "every route has a path here");
    paths
}

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

#[test]
fn every_route_method_and_principal_is_decided_by_the_rules() {
    const USERS: [&str; 6] = ["puller", "pusher", "mover", "remover", "lister", "stranger"];
    let rules = [
        "puller may pull in team/**",
        "pusher may pull, push in team/**",
        "mover may pull, push, overwrite in team/**",
        "remover may pull, delete in team/**",
        "lister may catalog in team/**",
        "anyone may pull in public/**",
        "users may not all in none/**",
    ];
    let access = access(&rules, &USERS, |_| {});
    let registry = Registry::start_with(|config| config.access = Arc::clone(&access));
    let digest = Digest::sha256(b"{}");
    let nowhere = "00000000-0000-4000-8000-000000000000";
    for repository in ["team/app", "public/app", "other", "team"] {
        for path in paths(repository, &digest, nowhere) {
            let (plain, query) = path.split_once('?').unwrap_or((&path, ""));
            let route = route::parse(plain).expect("a route");
            let query = Query::parse(Some(query)).expect("a query");
            for method in METHODS {
                let demand = demand(&route, &query, &method.parse().expect("a method"));
                for name in [""].into_iter().chain(USERS) {
                    let own = Some(name.to_owned()).filter(|name| !name.is_empty());
                    let caller = Principal { name: own, job: None };
                    let anywhere = || {
                        ["team/app", "public/app"]
                            .iter()
                            .any(|one| access.decide(&caller, Action::Catalog, one).allowed)
                    };
                    let allowed = match demand {
                        Some(Demand::Nothing) => true,
                        None | Some(Demand::Entry) => !name.is_empty(),
                        Some(Demand::Catalog) => anywhere(),
                        Some(Demand::In(repository, action)) => {
                            access.decide(&caller, action, repository).allowed
                        }
                        Some(Demand::Mount(repository, _)) => {
                            access.decide(&caller, Action::Push, repository).allowed
                        }
                    };
                    let reply = registry.ask(name, method, &path, &[], b"");
                    let shown = format!("`{name}` {method} {path}: {}", reply.status);
                    assert!(reply.status < 500, "{shown}");
                    let expected = match (allowed, name) {
                        (true, _) => None,
                        (false, "") => Some(401),
                        (false, _) => Some(403),
                    };
                    match expected {
                        // the token endpoint has credentials of its own kind, and refuses what is none of its forms
                        _ if demand == Some(Demand::Nothing) => {}
                        None => assert!(!matches!(reply.status, 401 | 403), "{shown}"),
                        Some(status) => {
                            assert_eq!(reply.status, status, "{shown}");
                            assert_eq!(reply.header("www-authenticate").is_some(), status == 401, "{shown}");
                            if method != "HEAD" {
                                let code = if status == 401 { "UNAUTHORIZED" } else { "DENIED" };
                                assert_eq!(reply.refusal().1, code, "{shown}");
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn what_may_not_be_read_looks_the_same_whether_it_is_there_or_not() {
    let users = ["owner", "stranger", "pusher"];
    let rules = ["owner may all in **", "pusher may push in secret/**", "stranger may pull in mine"];
    let registry = Registry::start_with(|config| config.access = access(&rules, &users, |_| {}));
    let (layer, config) = (b"layer".as_slice(), b"{}".as_slice());
    for bytes in [layer, config] {
        let path = format!("/v2/secret/there/blobs/uploads/?digest={}", Digest::sha256(bytes));
        assert_eq!(registry.ask("owner", "POST", &path, &[], bytes).status, 201);
    }
    let bytes = image(layer, "");
    let kind = [("content-type", media_type::OCI_MANIFEST)];
    let put = registry.ask("owner", "PUT", "/v2/secret/there/manifests/latest", &kind, &bytes);
    assert_eq!(put.status, 201);
    let digest = Digest::sha256(&bytes);
    let session = registry.ask("owner", "POST", "/v2/secret/there/blobs/uploads/", &[], b"");
    let session = session.header("location").expect("location").rsplit('/').next().expect("an id").to_owned();
    for digest in [&digest, &Digest::sha256(layer), &Digest::sha256(b"none")] {
        let (there, missing) =
            (paths("secret/there", digest, &session), paths("secret/not", digest, &session));
        for (there, missing) in there.iter().zip(&missing) {
            for method in METHODS {
                for name in ["", "stranger"] {
                    let strip = |path: &str| {
                        let reply = registry.ask(
                            name,
                            method,
                            path,
                            &[("content-type", media_type::OCI_MANIFEST)],
                            b"{}",
                        );
                        let challenge = reply.header("www-authenticate").unwrap_or_default();
                        let nameless =
                            |text: &str| text.replace("secret/there", "N").replace("secret/not", "N");
                        let challenge = nameless(challenge);
                        let own =
                            if there.contains("secret") { nameless(&reply.text()) } else { String::new() };
                        (reply.status, challenge, own)
                    };
                    assert_eq!(strip(there), strip(missing), "`{name}` {method} {there}");
                }
            }
        }
    }
    // whoever may push and not pull reads nothing back
    for (method, path) in [
        ("GET", "/v2/secret/there/manifests/latest".to_owned()),
        ("GET", "/v2/secret/there/tags/list".to_owned()),
        ("HEAD", format!("/v2/secret/there/blobs/{}", Digest::sha256(layer))),
        ("GET", format!("/v2/secret/there/referrers/{digest}")),
    ] {
        assert_eq!(registry.ask("pusher", method, &path, &[], b"").status, 403, "{path}");
    }
    // nor by a condition that does not hold
    let wrong = format!("\"{}\"", Digest::sha256(b"none"));
    for condition in [("if-match", wrong.as_str()), ("if-none-match", "*")] {
        let path = "/v2/secret/there/manifests/latest";
        let other = image(layer, r#","annotations":{"a":"b"}"#);
        let reply = registry.ask("pusher", "PUT", path, &[kind[0], condition], &other);
        assert_eq!((reply.status, reply.header("etag")), (412, None), "{condition:?}");
        assert_eq!(reply.header("docker-content-digest"), None, "{condition:?}");
        assert!(!reply.text().contains(&digest.to_string()), "{}", reply.text());
        let seen = registry.ask("owner", "PUT", path, &[kind[0], condition], &other);
        assert_eq!(seen.header("docker-content-digest"), Some(digest.to_string().as_str()));
    }
    // nothing was changed by any of it
    assert_eq!(registry.ask("owner", "GET", "/v2/secret/there/manifests/latest", &[], b"").body, bytes);
    let tags = registry.ask("owner", "GET", "/v2/secret/there/tags/list", &[], b"").json();
    assert_eq!(tags["tags"], serde_json::json!(["latest"]));
}

#[test]
fn mounts_take_only_what_may_be_read() {
    let users = ["owner", "ann"];
    let rules = ["owner may all in **", "ann may pull, push in home/**", "ann may pull in shared/**"];
    let registry = Registry::start_with(|config| config.access = access(&rules, &users, |_| {}));
    let push = |name: &str, bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        assert_eq!(registry.ask("owner", "POST", &path, &[], bytes).status, 201);
        digest
    };
    let (hidden, shared) = (push("secret/a", b"hidden"), push("shared/a", b"shared"));
    push("aaa/first", b"shared");
    let missing = Digest::sha256(b"missing");
    for (digest, from, status) in [
        (&hidden, Some("secret/a"), 202),
        (&missing, Some("secret/a"), 202),
        (&hidden, Some("shared/a"), 202),
        (&hidden, Some("nowhere"), 202),
        (&hidden, None, 202),
        (&missing, None, 202),
        (&shared, Some("aaa/first"), 202),
        (&shared, Some("shared/a"), 201),
        (&shared, None, 201),
    ] {
        let target = format!("/v2/home/{status}");
        let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
        let path = format!("{target}/blobs/uploads/?mount={digest}{from}");
        let reply = registry.ask("ann", "POST", &path, &[], b"");
        assert_eq!(reply.status, status, "{path}");
        let read = registry.ask("ann", "HEAD", &format!("{target}/blobs/{digest}"), &[], b"");
        assert_eq!(read.status, if status == 201 { 200 } else { 404 }, "{path}");
    }
}

#[test]
fn the_catalog_shows_what_may_be_read_in_whole_pages() {
    let users = ["owner", "ann", "bob", "eve"];
    let rules = [
        "owner may all in **",
        "anyone may not catalog in b/hidden",
        "ann may pull in a/**, b/**",
        "bob may catalog in a/**",
        "anyone may pull in z/**",
    ];
    let registry = Registry::start_with(|config| config.access = access(&rules, &users, |_| {}));
    for name in ["a/1", "a/2", "b/1", "b/hidden", "c/1", "d/1", "z/1"] {
        for bytes in [b"{}".as_slice(), b"layer"] {
            let path = format!("/v2/{name}/blobs/uploads/?digest={}", Digest::sha256(bytes));
            assert_eq!(registry.ask("owner", "POST", &path, &[], bytes).status, 201);
        }
        let kind = [("content-type", media_type::OCI_MANIFEST)];
        let put =
            registry.ask("owner", "PUT", &format!("/v2/{name}/manifests/1"), &kind, &image(b"layer", ""));
        assert_eq!(put.status, 201);
    }
    for (who, expected) in [
        ("owner", vec!["a/1", "a/2", "b/1", "b/hidden", "c/1", "d/1", "z/1"]),
        ("ann", vec!["a/1", "a/2", "b/1", "z/1"]),
        ("bob", vec!["a/1", "a/2", "z/1"]),
        ("eve", vec!["z/1"]),
        ("", vec!["z/1"]),
    ] {
        for count in [1, 2, 3, 100] {
            let (mut names, mut path) = (Vec::new(), format!("/v2/_catalog?n={count}"));
            loop {
                let reply = registry.ask(who, "GET", &path, &[], b"");
                assert_eq!(reply.status, 200, "{who} {path}");
                let page = reply.json();
                let page: Vec<String> = serde_json::from_value(page["repositories"].clone()).expect("names");
                names.extend(page);
                let Some(link) = reply.header("link") else { break };
                path = link.trim_start_matches('<').split('>').next().expect("a link").to_owned();
                let last = path.rsplit("last=").next().expect("last").replace("%2F", "/");
                assert!(expected.contains(&last.as_str()), "a link tells nothing else: {path}");
            }
            assert_eq!(names, expected, "{who} {count}");
        }
    }
}

#[test]
fn tags_stay_where_they_are_for_those_who_may_only_add() {
    let users = ["adder", "mover"];
    let rules = ["adder may pull, push, delete in **", "mover may all in **"];
    let immutable =
        |config: &mut AccessConfig| config.immutable_tags = vec!["**:v*".parse().expect("a pattern")];
    let registry = Registry::start_with(|config| config.access = access(&rules, &users, immutable));
    let images: Vec<Vec<u8>> = (0..10).map(|number| image(b"layer", &format!(",\"n\":{number}"))).collect();
    for bytes in [b"{}".as_slice(), b"layer"] {
        let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(bytes));
        assert_eq!(registry.ask("adder", "POST", &path, &[], bytes).status, 201);
    }
    let kind = [("content-type", media_type::OCI_MANIFEST)];
    let put = |who: &str, reference: &str, bytes: &[u8]| {
        let reply = registry.ask(who, "PUT", &format!("/v2/a/manifests/{reference}"), &kind, bytes);
        if reply.status == 201 { (201, String::new()) } else { reply.refusal() }
    };
    let (fine, denied) = ((201, String::new()), (403, "DENIED".to_owned()));
    let digest = |number: usize| Digest::sha256(&images[number]);
    for (who, reference, number, expected) in [
        ("adder", "x".to_owned(), 0, &fine),
        ("adder", "x".to_owned(), 0, &fine),
        ("adder", "x".to_owned(), 1, &denied),
        ("mover", "x".to_owned(), 1, &fine),
        ("adder", "v1".to_owned(), 0, &fine),
        ("adder", "v1".to_owned(), 0, &fine),
        ("mover", "v1".to_owned(), 1, &denied),
        // `?tag=` is no way round it, and one that stays keeps the others (zot#4266)
        ("adder", format!("{}?tag=new&tag=x", digest(2)), 2, &denied),
        ("mover", format!("{}?tag=new&tag=v1", digest(2)), 2, &denied),
        ("adder", format!("{}?tag=y&tag=z", digest(2)), 2, &fine),
    ] {
        assert_eq!(put(who, &reference, &images[number]), *expected, "{who} {reference} {number}");
    }
    let tags = registry.ask("mover", "GET", "/v2/a/tags/list", &[], b"").json();
    assert_eq!(tags["tags"], serde_json::json!(["v1", "x", "y", "z"]), "a refused push adds nothing");
    // taken away: a tag that may go, one that may not, and what it stands on
    for (who, reference, status) in [
        ("mover", "v1".to_owned(), 403),
        ("adder", "v1".to_owned(), 403),
        ("mover", digest(0).to_string(), 403),
        ("adder", "y".to_owned(), 202),
        ("adder", digest(2).to_string(), 202),
    ] {
        let reply = registry.ask(who, "DELETE", &format!("/v2/a/manifests/{reference}"), &[], b"");
        assert_eq!(reply.status, status, "{who} {reference}");
    }
    // of many at once who add the same tag, one does
    let won: usize = std::thread::scope(|scope| {
        let threads: Vec<_> =
            images.iter().map(|bytes| scope.spawn(|| put("adder", "race", bytes).0 == 201)).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().expect("a thread"))).sum()
    });
    assert_eq!(won, 1);
}

/// docker takes any answer but 401 for a login that worked.
#[test]
fn the_door_says_whether_a_password_is_right() {
    let with = |mode, users: &[&str]| access(&[], users, |config| config.mode = mode);
    for (access, nothing, wrong) in [
        (with(None, &[]), 200, 200),
        (with(Some(Mode::Open), &["ann"]), 401, 401),
        (with(Some(Mode::Public), &["ann"]), 401, 401),
        (with(Some(Mode::Private), &["ann"]), 401, 401),
        (with(None, &["ann"]), 401, 401),
        (super::access::access(&["anyone may pull in **"], &[], |_| {}), 200, 200),
    ] {
        let has_users = nothing == 401;
        let registry = Registry::start_with(|config| config.access = access);
        for path in ["/v2/", "/v2"] {
            assert_eq!(registry.get(path).status, nothing);
            let shown = [("authorization", basic("ann", "wrong"))];
            let shown: Vec<(&str, &str)> =
                shown.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(registry.call("GET", path, &shown, b"").status, wrong);
            if has_users {
                assert_eq!(registry.ask("ann", "GET", path, &[], b"").status, 200);
            }
        }
    }
    // where anyone may pull, a wrong password is refused all the same
    let registry = Registry::start_with(|config| config.access = with(Some(Mode::Public), &["ann"]));
    for (value, status) in [
        (basic("ann", "wrong"), 401),
        (basic("eve", "wrong"), 401),
        (basic("", ""), 200),
        (basic("", "x"), 401),
        ("Basic !!!".to_owned(), 401),
        ("Basic".to_owned(), 401),
        ("Basic YW5u".to_owned(), 401),
        ("Digest x".to_owned(), 401),
        ("Bearer ".to_owned(), 401),
        ("bearer slipway_x".to_owned(), 401),
        (String::new(), 401),
        ("\u{e9}".to_owned(), 401),
        (basic("ann", &secret("ann")).replacen("Basic", "bAsIc", 1), 200),
        (format!("Bearer {}", secret("ann").replace(' ', "%20")), 401),
    ] {
        let reply = registry.call("GET", "/v2/_catalog", &[("authorization", &value)], b"");
        assert_eq!(reply.status, status, "{value}");
    }
    let good = basic("ann", &secret("ann"));
    let twice = registry.call("GET", "/v2/", &[("authorization", &good), ("authorization", &good)], b"");
    assert_eq!(twice.status, 401);
    assert_eq!(registry.get("/v2/_catalog").status, 200);
}

#[test]
fn passwords_cost_the_same_for_everybody_and_once() {
    let line = crate::server::access::htpasswd_line("ann", "right").expect("a line");
    let users = |config: &mut AccessConfig| config.htpasswd = Some(Htpasswd::parse(&line).expect("users"));
    let access = access(&["users may pull in **"], &["ci"], users);
    let registry = Registry::start_with(|config| config.access = Arc::clone(&access));
    let ask = |name: &str, password: &str| {
        registry.call("GET", "/v2/", &[("authorization", &basic(name, password))], b"").status
    };
    for (name, password, status, cost) in [
        ("ann", "wrong", 401, 1),
        ("eve", "wrong", 401, 1),
        // the name of a token is no other name
        ("ci", "wrong", 401, 1),
        ("ann", "right", 200, 1),
        ("ann", "right", 200, 0),
        ("ann", "wrong", 401, 0),
        ("eve", "right", 401, 1),
        ("", "right", 401, 0),
    ] {
        let before = access.hashed();
        assert_eq!(ask(name, password), status, "{name} {password}");
        assert_eq!(access.hashed() - before, cost, "{name} {password}");
    }
    // parallel requests of one client wait for the first of them
    let before = access.hashed();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(ask("bob", "wrong"), 401));
        }
    });
    let cost = access.hashed() - before;
    assert!(cost <= std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64, "{cost}");
}

#[test]
fn names_write_nothing_into_a_log() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let registry = Registry::start_with(|config| {
        config.access = access(&["users may pull in **"], &["ann"], |_| {});
        config.observer = Some(Arc::new(move |event| {
            if let crate::server::Event::Request(crate::server::Handled { user, .. }) = event {
                log.lock().expect("no panic").push(user.map(str::to_owned));
            }
        }));
    });
    for name in ["ann\n200 GET /v2/ forged", "\u{1b}[2Jann", "ann", "eve"] {
        registry.ask(name, "GET", "/v2/", &[], b"");
    }
    let seen = seen.lock().expect("no panic").clone();
    assert_eq!(seen, [None, None, Some("ann".to_owned()), None], "who is not known has no name");
}

#[test]
fn other_rules_take_over_while_it_runs() {
    let registry =
        Registry::start_with(|config| config.access = access(&["ann may all in **"], &["ann"], |_| {}));
    assert_eq!(registry.ask("ann", "GET", "/v2/", &[], b"").status, 200);
    let server = registry.server.as_ref().expect("a server");
    server.control().replace_access(access(&["users may all in **"], &["bob"], |_| {}));
    assert_eq!(registry.ask("ann", "GET", "/v2/", &[], b"").status, 401);
    assert_eq!(registry.ask("bob", "GET", "/v2/", &[], b"").status, 200);
}
