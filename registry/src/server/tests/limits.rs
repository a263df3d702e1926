//! Rates, sizes and wrong passwords, over the wire.

use super::{access::access, access::basic, *};
use crate::server::{
    Limits, Policy,
    access::{Htpasswd, SecretHash},
};
use std::collections::BTreeSet;

fn policy(limits: &[&str]) -> Policy {
    let mut all = Limits::default();
    limits.iter().for_each(|text| all.add(&text.parse().expect(text)));
    Policy { limits: all, ..Policy::default() }
}

fn start(limits: &[&str]) -> Registry {
    Registry::start_with(|config| {
        config.policy = policy(limits);
        config.access = access(&["users may all in **", "anyone may pull in **"], &["ann", "bob"], |_| {});
    })
}

/// That a reply says when to come back, with the specification's code.
fn later(reply: &Reply) -> u64 {
    assert_eq!(reply.refusal(), (429, "TOOMANYREQUESTS".to_owned()));
    let retry = reply.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=3600).contains(&retry), "{retry}");
    retry
}

#[test]
fn requests_are_limited_by_user_and_by_address() {
    let registry = start(&["user: 5 requests/h"]);
    let status = |name: &str| registry.ask(name, "GET", "/v2/_catalog", &[], b"").status;
    assert_eq!((0..5).map(|_| status("ann")).collect::<BTreeSet<_>>(), [200].into());
    later(&registry.ask("ann", "GET", "/v2/_catalog", &[], b""));
    assert_eq!(status("bob"), 200, "others go on");
    assert_eq!(registry.get("/v2/a/tags/list").status, 404, "and who is nobody");
    let registry = start(&["address: 5 requests/h"]);
    for _ in 0..5 {
        assert_eq!(registry.get("/v2/a/tags/list").status, 404);
    }
    later(&registry.get("/v2/a/tags/list"));
    later(&registry.ask("bob", "GET", "/v2/_catalog", &[], b""));
    // other limits take their place while it runs
    registry.server.as_ref().expect("a server").control().replace_policy(policy(&[]));
    assert_eq!(registry.ask("bob", "GET", "/v2/_catalog", &[], b"").status, 200);
}

#[test]
fn upload_sessions_and_bytes_are_limited() {
    let registry = start(&["user: 3 uploads/h"]);
    let begin = |name: &str| registry.ask(name, "POST", "/v2/a/blobs/uploads/", &[], b"");
    assert_eq!((0..3).map(|_| begin("ann").status).collect::<Vec<_>>(), [202; 3]);
    later(&begin("ann"));
    assert_eq!(begin("bob").status, 202);
    assert_eq!(registry.ask("ann", "GET", "/v2/", &[], b"").status, 200, "nothing but uploads");

    let registry = start(&["user: 100KiB/h"]);
    let bytes = vec![7; 200 << 10];
    let path = |bytes: &[u8]| format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(bytes));
    let chunked = [("transfer-encoding", "chunked")];
    // what is under way ends, however its length is said
    let body = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n0\r\n\r\n"].concat();
    assert_eq!(registry.ask("ann", "POST", &path(&bytes), &chunked, &body).status, 201);
    assert!(later(&registry.ask("ann", "GET", "/v2/", &[], b"")) <= 60);
    let blob = format!("/v2/a/blobs/{}", Digest::sha256(&bytes));
    for (name, again) in [("bob", 429), ("", 200)] {
        assert_eq!(registry.ask(name, "GET", &blob, &[], b"").body.len(), bytes.len());
        assert_eq!(registry.ask(name, "GET", &blob, &[], b"").status, again, "`{name}`");
    }
}

#[test]
fn blobs_have_a_size() {
    let registry = Registry::start_with(|config| config.policy.max_blob = Some(1000));
    assert_eq!(registry.push_blob("a", &[1; 1000]), Digest::sha256(&[1; 1000]));
    let large = vec![2; 1001];
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(&large));
    let too_large = (413, "SIZE_INVALID".to_owned());
    assert_eq!(registry.call("POST", &path, &[], &large).refusal(), too_large);
    let chunked = [format!("{:x}\r\n", large.len()).as_bytes(), &large, b"\r\n0\r\n\r\n"].concat();
    let encoded = [("transfer-encoding", "chunked")];
    assert_eq!(registry.call("POST", &path, &encoded, &chunked).refusal(), too_large);
    // a session stays as it was, and takes what fits
    let session = registry.session("a");
    assert_eq!(registry.call("PATCH", &session, &[], &large[..600]).status, 202);
    assert_eq!(registry.call("PATCH", &session, &encoded, &chunked).refusal(), too_large);
    assert_eq!(registry.call("PATCH", &session, &[], &large[..401]).refusal(), too_large);
    assert_eq!(registry.call("GET", &session, &[], b"").header("range"), Some("0-599"));
    let digest = Digest::sha256(&large[..1000]);
    assert_eq!(registry.call("PUT", &format!("{session}?digest={digest}"), &[], &large[..400]).status, 201);
}

#[test]
fn wrong_passwords_are_counted_and_right_ones_are_not() {
    let hash = crate::server::access::htpasswd_line("ann", "right").expect("a line");
    let registry = Registry::start_with(|config| {
        config.policy = policy(&["address: 4 failed logins/h"]);
        config.access = access(&["users may all in **"], &["ci"], |config| {
            config.htpasswd = Some(Htpasswd::parse(&hash).expect("users"));
        });
    });
    let login = |name: &str, password: &str, path: &str| {
        registry.call("GET", path, &[("authorization", &basic(name, password))], b"")
    };
    assert_eq!(login("ann", "right", "/v2/").status, 200);
    for number in 0..4 {
        assert_eq!(login("eve", &format!("wrong {number}"), "/v2/").status, 401, "{number}");
    }
    later(&login("eve", "another", "/v2/"));
    later(&login("eve", "another", "/token"));
    later(&login("mallory", "one", "/token"));
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let form = b"grant_type=password&username=eve&password=more";
    later(&registry.call("POST", "/token", &kind, form));
    // neither who is known here, nor who has a token, nor who shows nothing
    assert_eq!(login("ann", "right", "/token").status, 200);
    assert_eq!(login("ci", "secret of ci", "/v2/").status, 200);
    assert_eq!(registry.get("/token").status, 200);
    // ann's own mistakes have a count of their own
    for number in 0..4 {
        assert_eq!(login("ann", &format!("typo {number}"), "/v2/").status, 401, "{number}");
    }
    later(&login("ann", "typo", "/v2/"));
    assert_eq!(login("ann", "right", "/v2/").status, 200, "it was right a moment ago");
}

#[test]
fn tokens_end_when_they_say() {
    let token = |until: &str| -> SecretHash {
        format!("{} until {until}", SecretHash::of("secret")).parse().expect("a token")
    };
    let registry = Registry::start_with(|config| {
        config.access = access(&["users may all in **"], &["ann"], |config| {
            config.tokens.insert("old".into(), token("2020-01-01"));
            config.tokens.insert("new".into(), token("2999-01-01T12:00:00Z"));
        });
    });
    for (name, status) in [("old", 401), ("new", 200)] {
        for path in ["/v2/", "/token"] {
            let value = basic(name, "secret");
            let reply = registry.call("GET", path, &[("authorization", &value)], b"");
            assert_eq!(reply.status, status, "{name} {path}");
        }
    }
}
