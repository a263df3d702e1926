//! Who sees what, sessions, and forms.

use super::super::access::{access, basic};
use super::*;

/// A field of a page's forms.
pub(in crate::server::tests) fn token(page: &str) -> String {
    let rest = page.split("name=\"token\" value=\"").nth(1).expect("a form");
    rest.split_once('"').expect("its end").0.to_owned()
}

pub(super) fn form(fields: &[(&str, &str)]) -> Vec<u8> {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish().into_bytes()
}

pub(super) const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// A registry with rules, one image in each of three repositories.
pub(super) fn ruled() -> Registry {
    let mut registry = start(|_| {});
    for name in ["public/a", "team/a", "secret/a"] {
        registry.push_image(name, "v", b"x");
    }
    let rules = [
        "anyone may pull in public/**",
        "ann may all in team/**",
        "bob may pull in team/**",
        "cleo may pull, delete in team/**",
    ];
    registry.restart_with(|config| {
        config.policy.web = true;
        config.policy.trusted_proxies = vec!["127.0.0.1".parse().expect("an address")];
        config.access = access(&rules, &["ann", "bob", "cleo"], |_| {});
    });
    registry
}

/// Logs in by the form and answers the cookie.
pub(super) fn log_in(registry: &Registry, name: &str) -> String {
    let page = registry.get("/login?next=%2Fr%2Fteam%2Fa").page(200);
    let body = form(&[
        ("token", &token(&page)),
        ("name", name),
        ("password", &format!("secret of {name}")),
        ("next", "/r/team/a"),
    ]);
    let reply = registry.call("POST", "/login", &[FORM], &body);
    assert_eq!((reply.status, reply.header("location")), (303, Some("/r/team/a")), "{}", reply.text());
    reply.guarded();
    let cookie = reply.header("set-cookie").expect("a cookie");
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "there is no TLS here");
    cookie.split(';').next().expect("a pair").to_owned()
}

#[test]
fn the_rules_decide_what_is_seen() {
    let registry = ruled();
    let pages = |name: &str| {
        ["", "/_image/v", "/_files/v", "/_compare?from=v&to=v", "/_history"]
            .map(|page| format!("/r/{name}{page}"))
    };
    for name in ["public/a", "team/a", "secret/a", "none/a"] {
        for path in pages(name) {
            for user in ["", "ann", "bob", "cleo"] {
                let reply = registry.ask(user, "GET", &path, &[], b"");
                let sees = name == "public/a" || (name == "team/a" && !user.is_empty());
                match (sees, user) {
                    (true, _) => drop(reply.page(200)),
                    // the same for what is there and what is not
                    (false, "") => {
                        assert_eq!(reply.status, 303, "{path}");
                        assert!(
                            reply.header("location").expect("a place").starts_with("/login?next=%2Fr%2F")
                        );
                        assert!(reply.body.is_empty());
                    }
                    (false, _) => assert!(reply.page(404).contains("Nothing here")),
                }
            }
        }
    }
    let secret = registry.ask("ann", "GET", "/r/secret/a", &[], b"");
    assert_eq!(secret.body, registry.ask("ann", "GET", "/r/none/b", &[], b"").body, "not to be told apart");
    for (user, seen) in [("", &["public/a"][..]), ("bob", &["public/a", "team/a"])] {
        for path in ["/", "/usage", "/?q=a"] {
            let page = registry.ask(user, "GET", path, &[], b"").page(200);
            for name in ["public/a", "team/a", "secret/a"] {
                let link = format!("href=\"/r/{name}\"");
                assert_eq!(page.contains(&link), seen.contains(&name), "{user} {path} {name}");
            }
        }
    }
    let wrong = basic("ann", "wrong");
    let reply = registry.call("GET", "/r/team/a", &[("authorization", &wrong)], b"");
    reply.page(401);
    assert!(reply.header("www-authenticate").expect("a challenge").starts_with("Basic"));
}

#[test]
fn a_session_is_its_users_until_the_password_changes() {
    let mut registry = ruled();
    let cookie = log_in(&registry, "bob");
    let with = |registry: &Registry, path: &str, cookie: &str| {
        registry.call("GET", path, &[("cookie", cookie)], b"")
    };
    let page = with(&registry, "/r/team/a", &format!("other=1; {cookie}; slipway=more")).page(200);
    assert!(page.contains("Log out") && page.contains("bob"));
    // it opens the page alone
    assert_eq!(with(&registry, "/v2/team/a/tags/list", &cookie).status, 401);
    let bearer = format!("Bearer {}", cookie.split_once('=').expect("a value").1);
    assert_eq!(registry.call("GET", "/v2/team/a/tags/list", &[("authorization", &bearer)], b"").status, 401);
    // and no token of a client is one
    let token_reply =
        registry.ask("bob", "GET", "/token?service=slipway&scope=repository:team/a:pull", &[], b"");
    let access_token = token_reply.json()["token"].as_str().expect("a token").to_owned();
    assert_eq!(with(&registry, "/r/team/a", &format!("slipway={access_token}")).status, 303);
    for broken in ["slipway=", "slipway=x.y.z", &cookie[..cookie.len() - 3], &format!("__Host-{cookie}")] {
        assert_eq!(with(&registry, "/r/team/a", broken).status, 303, "{broken}");
    }
    // a form's token is no session
    assert_eq!(with(&registry, "/r/team/a", &format!("slipway={}", token(&page))).status, 303);
    let out =
        registry.call("POST", "/logout", &[FORM, ("cookie", &cookie)], &form(&[("token", &token(&page))]));
    assert_eq!(out.status, 303);
    assert!(out.header("set-cookie").expect("a cookie").contains("Max-Age=0"));
    registry.restart_with(|config| {
        config.policy.web = true;
        config.access = access(&["bob may pull in team/**"], &["ann"], |_| {});
    });
    assert_eq!(with(&registry, "/r/team/a", &cookie).status, 303, "the user is gone");
}

#[test]
fn wrong_logins_are_refused_and_counted() {
    let registry = start(|config| {
        config.access = access(&[], &["ann"], |_| {});
        config.policy.limits.add(&"address: 3 failed logins/h".parse().expect("a limit"));
    });
    let page = registry.get("/login").page(200);
    let own = token(&page);
    let try_it = |name: &str, password: &str, next: &str| {
        registry.call(
            "POST",
            "/login",
            &[FORM],
            &form(&[("token", &own), ("name", name), ("password", password), ("next", next)]),
        )
    };
    for next in ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:x"] {
        let reply = try_it("ann", "secret of ann", next);
        assert_eq!((reply.status, reply.header("location")), (303, Some("/")), "{next}");
    }
    assert_eq!(try_it("", "", "/").status, 403);
    for number in 0..3 {
        let page = try_it("ann", &format!("wrong {number}"), "/r/a").page(403);
        assert!(page.contains("wrong") && page.contains("value=\"/r/a\""), "{page}");
    }
    let reply = try_it("ann", "wrong again", "/");
    reply.page(429);
    assert!(reply.header("retry-after").is_some());
    let long = form(&[("token", &own), ("name", &"x".repeat(40_000)), ("password", "y")]);
    assert_eq!(registry.call("POST", "/login", &[FORM], &long).status, 400);
}

/// Deletes an image into the trash and answers its digest.
fn trashed(registry: &Registry, user: &str) -> Digest {
    let head = registry.ask(user, "HEAD", "/v2/team/a/manifests/v", &[], b"");
    let digest: Digest = head.header("docker-content-digest").expect("a digest").parse().expect("one");
    let reply = registry.ask(user, "DELETE", &format!("/v2/team/a/manifests/{digest}"), &[], b"");
    assert_eq!(reply.status, 202, "{}", reply.text());
    digest
}

#[test]
fn what_lies_in_the_trash_comes_back_for_who_may() {
    let registry = ruled();
    registry.server.as_ref().expect("a server").control().0.storage.keep_trash(Duration::from_secs(3600));
    let digest = trashed(&registry, "ann");
    let undelete = |user: &str, headers: &[(&str, &str)], token: &str| {
        let mut all = vec![FORM];
        all.extend(headers);
        registry.ask(
            user,
            "POST",
            "/r/team/a/_undelete",
            &all,
            &form(&[("token", token), ("digest", &digest.to_string())]),
        )
    };
    assert_eq!(registry.ask("ann", "GET", "/v2/team/a/manifests/v", &[], b"").status, 404);
    // who may not delete sees no trash, and who may not push takes nothing out
    registry.ask("bob", "GET", "/r/team/a/_trash", &[], b"").page(404);
    assert_eq!(registry.get("/r/team/a/_trash").status, 303);
    let page = registry.ask("cleo", "GET", "/r/team/a/_trash", &[], b"").page(200);
    assert!(page.contains(&digest.to_string()) && !page.contains("Undelete"), "{page}");
    assert_eq!(undelete("cleo", &[], &token(&registry.get("/login").page(200))).status, 400);
    let page = registry.ask("ann", "GET", "/r/team/a/_trash", &[], b"").page(200);
    assert!(page.contains("Undelete") && page.contains(">v</span>"), "{page}");
    let own = token(&page);
    let foreign = token(&registry.get("/login").page(200));
    let cookie = log_in(&registry, "bob");
    let others = token(&registry.call("GET", "/", &[("cookie", &cookie)], b"").page(200));
    for (headers, token) in [
        (&[][..], ""),
        (&[], "x"),
        (&[], foreign.as_str()),
        (&[], others.as_str()),
        (&[("origin", "https://evil.example")], own.as_str()),
        (&[("origin", "null")], own.as_str()),
        (&[("sec-fetch-site", "cross-site")], own.as_str()),
        (&[("sec-fetch-site", "same-site"), ("origin", "http://test")], own.as_str()),
    ] {
        assert_eq!(undelete("ann", headers, token).status, 400, "{headers:?}");
    }
    assert_eq!(registry.ask("ann", "GET", &format!("/v2/team/a/manifests/{digest}"), &[], b"").status, 404);
    let from = ("x-forwarded-for", "2001:db8:1:2:3:4:5:6");
    let reply = undelete("ann", &[("sec-fetch-site", "same-origin"), ("origin", "http://test"), from], &own);
    assert_eq!(
        (reply.status, reply.header("location")),
        (303, Some("/r/team/a/_trash?back=1")),
        "{}",
        reply.text()
    );
    assert_eq!(registry.ask("ann", "GET", &format!("/v2/team/a/manifests/{digest}"), &[], b"").status, 200);
    assert!(registry.ask("ann", "GET", "/r/team/a/_trash?back=1", &[], b"").page(200).contains("It is back"));
    // the whole address, as by the protocol, of which limits count 64 bits
    let storage = registry.server.as_ref().expect("a server").control().0.storage.clone();
    let moved = storage.tag_history("team/a", Some("v"), i64::MAX, 1).expect("moves").remove(0);
    assert_eq!(moved.change.origin.as_deref(), Some(from.1));
    undelete("ann", &[], &own).page(404);
}

#[test]
fn a_registry_that_only_reads_takes_nothing_out_of_the_trash() {
    let registry = start(|config| config.policy.read_only = true);
    let page = registry.get("/").page(200);
    assert!(!page.contains("Undelete"));
    // open to everybody, and still only by a form of its own
    let body = form(&[("digest", &Digest::sha256(b"x").to_string())]);
    assert_eq!(registry.call("POST", "/r/a/_undelete", &[FORM], &body).status, 400);
}

#[test]
fn who_only_pulls_is_told_nothing_of_others() {
    let registry = ruled();
    registry.ask(
        "ann",
        "PUT",
        "/v2/team/a/manifests/w",
        &[("content-type", media_type::OCI_MANIFEST)],
        &image(b"x", ""),
    );
    let page = |user: &str, path: &str| registry.ask(user, "GET", path, &[], b"").page(200);
    let (own, others) = (page("ann", "/r/team/a/_history"), page("bob", "/r/team/a/_history"));
    assert!(own.contains("127.0.0.1") && own.contains(">ann</td>"), "{own}");
    assert!(!others.contains("127.0.0.1") && !others.contains(">ann<"), "{others}");
    // the same blobs are in a repository that she does not see: what is hers alone would tell
    assert!(!page("ann", "/usage").contains("Its alone"));
    assert!(start(|_| {}).get("/usage").page(200).contains("Usage"));
}

#[test]
fn over_tls_cookies_are_of_this_host_by_tls_alone() {
    let registry = start(|config| config.access = access(&[], &["ann"], |_| {}));
    let by_tls = ("x-forwarded-proto", "https");
    let page = registry.call("GET", "/login", &[by_tls], b"").page(200);
    let body = form(&[("token", &token(&page)), ("name", "ann"), ("password", "secret of ann")]);
    let reply = registry.call("POST", "/login", &[FORM, by_tls], &body);
    let cookie = reply.header("set-cookie").expect("a cookie");
    assert!(
        cookie.starts_with("__Host-slipway=") && cookie.contains("; Secure") && cookie.contains("; Path=/;"),
        "{cookie}"
    );
}
