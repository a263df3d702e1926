//! The token endpoint, and every kind of token that is none.

use super::access::{access, basic};
use super::*;
use crate::limits;
use crate::server::access::{Access, Mode};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use std::sync::Arc;

fn rules() -> Arc<Access> {
    let rules = ["ann may all in team/**", "bob may pull in team/**", "anyone may pull in public/**"];
    access(&rules, &["ann", "bob"], |_| {})
}

fn start() -> Registry {
    Registry::start_with(|config| config.access = rules())
}

impl Registry {
    fn token(&self, name: &str, query: &str) -> Value {
        let reply = self.ask(name, "GET", &format!("/token?{query}"), &[], b"");
        assert_eq!(reply.status, 200, "{name} {query}: {}", reply.text());
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        reply.json()
    }

    fn form(&self, form: &str) -> Reply {
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        self.call("POST", "/token", &kind, form.as_bytes())
    }

    fn bearer(&self, token: &str, method: &str, path: &str) -> Reply {
        self.call(method, path, &[("authorization", &format!("Bearer {token}"))], b"")
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

/// The claims of a token, unverified.
fn access_of(token: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("claims")).expect("base64");
    serde_json::from_slice::<Value>(&claims).expect("JSON")["access"].clone()
}

#[test]
fn the_challenge_leads_to_a_token_that_works() {
    let registry = start();
    let host = "host: test";
    let reply = registry.get("/v2/team/a/tags/list");
    let challenge = reply.header("www-authenticate").expect("a challenge").to_owned();
    let expected = "Bearer realm=\"http://test/token\",service=\"slipway\",scope=\"repository:team/a:pull\"";
    assert_eq!(challenge, expected, "{host}");
    let made =
        registry.token("ann", "service=slipway&scope=repository:team/a:pull&account=ann&client_id=docker");
    assert_eq!(made["token"], made["access_token"]);
    assert!(made["expires_in"].as_i64().expect("seconds") >= 60 && made["issued_at"].is_string());
    assert_eq!(made.get("refresh_token"), None);
    let token = text(&made, "token");
    // in a repository that is not there yet
    assert_eq!(registry.bearer(&token, "GET", "/v2/team/a/tags/list").status, 404);
    assert_eq!(registry.bearer(&token, "GET", "/v2/").status, 200);
    for (method, path) in [
        ("POST", "/v2/team/a/blobs/uploads/"),
        ("GET", "/v2/team/b/tags/list"),
        ("DELETE", "/v2/team/a/manifests/x"),
        ("GET", "/v2/_catalog"),
    ] {
        let reply = registry.bearer(&token, method, path);
        assert_eq!(reply.status, 401, "{method} {path}");
        let challenge = reply.header("www-authenticate").expect("a challenge");
        assert!(challenge.ends_with("error=\"insufficient_scope\""), "{challenge}");
    }
    // what the rules refuse is refused for good, whatever the token says
    let reply = registry.bearer(&token, "GET", "/v2/other/tags/list");
    assert_eq!(reply.refusal(), (403, "DENIED".to_owned()));
    assert!(reply.header("www-authenticate").expect("a challenge").ends_with("error=\"insufficient_scope\""));
    // docker looks for a detail, or tries for a minute
    assert_eq!(reply.json()["errors"][0]["detail"][0]["Name"], "other");
    assert!(registry.get("/v2/").json()["errors"][0]["detail"].is_array());
}

/// A client without a special path for mounts does what the challenge says: OCI's conformance program, for one.
#[test]
fn the_challenge_of_a_mount_leads_to_a_token_that_mounts() {
    let registry = start();
    let digest = Digest::sha256(b"layer");
    let pushed =
        registry.ask("ann", "POST", &format!("/v2/team/a/blobs/uploads/?digest={digest}"), &[], b"layer");
    assert_eq!(pushed.status, 201);
    let path = format!("/v2/team/b/blobs/uploads/?mount={digest}&from=team/a");
    let reply = registry.call("POST", &path, &[], b"");
    assert_eq!(reply.status, 401);
    let challenge = reply.header("www-authenticate").expect("a challenge").to_owned();
    let scope = "repository:team/b:pull,push repository:team/a:pull";
    assert_eq!(
        challenge,
        format!("Bearer realm=\"http://test/token\",service=\"slipway\",scope=\"{scope}\"")
    );
    // as one parameter, as the challenge has it, and as docker cuts it up
    for query in [scope.replace(' ', "%20"), scope.replace(' ', "&scope=")] {
        let token = text(&registry.token("ann", &format!("service=slipway&scope={query}")), "token");
        assert_eq!(registry.bearer(&token, "POST", &path).status, 201, "{query}");
    }
    // a token for the push alone is not enough, as it could be
    let token = text(&registry.token("ann", "service=slipway&scope=repository:team/b:pull,push"), "token");
    let reply = registry.bearer(&token, "POST", &path);
    let expected = format!(
        "Bearer realm=\"http://test/token\",service=\"slipway\",scope=\"{scope}\",error=\"insufficient_scope\""
    );
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some(expected.as_str())));
    // a right that is not had costs the mount, not the push
    let hidden = "/v2/team/b/blobs/uploads/?mount=sha256:0&from=secret/a";
    let reply = registry.call("POST", hidden, &[], b"");
    assert!(reply.header("www-authenticate").expect("a challenge").contains("repository:secret/a:pull"));
    let token =
        registry.token("ann", "service=slipway&scope=repository:team/b:pull,push%20repository:secret/a:pull");
    let token = text(&token, "token");
    assert_eq!(access_of(&token).as_array().map(Vec::len), Some(1));
    let path = format!("/v2/team/b/blobs/uploads/?mount={digest}&from=secret/a");
    assert_eq!(registry.bearer(&token, "POST", &path).status, 202);
}

#[test]
fn what_is_granted_is_what_is_asked_and_allowed() {
    let registry = start();
    let granted = |name: &str, query: &str| {
        let scopes = access_of(&text(&registry.token(name, query), "token"));
        let scopes = scopes.as_array().expect("a list").iter().map(|scope| {
            let actions: Vec<&str> =
                scope["actions"].as_array().expect("actions").iter().filter_map(Value::as_str).collect();
            format!("{}:{}", scope["name"].as_str().expect("a name"), actions.join(","))
        });
        scopes.collect::<Vec<_>>().join(" ")
    };
    for (name, query, expected) in [
        ("ann", "scope=repository:team/a:pull,push", "team/a:pull,push"),
        ("ann", "scope=repository:team/a:*", "team/a:pull,push,delete"),
        ("bob", "scope=repository:team/a:pull,push", "team/a:pull"),
        ("bob", "scope=repository:team/a:push", ""),
        ("ann", "scope=repository:other:pull", ""),
        ("", "scope=repository:team/a:pull", ""),
        ("", "scope=repository:public/a:pull,push", "public/a:pull"),
        ("ann", "scope=repository:team/a:pull&scope=repository:team/b:push", "team/a:pull team/b:push"),
        ("ann", "scope=repository:team/a:pull%20repository:team/b:push", "team/a:pull team/b:push"),
        ("ann", "scope=registry:catalog:*", "catalog:*"),
        ("ann", "scope=repository:team/A:pull", ""),
        ("ann", "scope=garbage&scope=:::&scope=repository:..:pull", ""),
        ("ann", "", ""),
    ] {
        assert_eq!(granted(name, query), expected, "{name} {query}");
    }
    let many = vec!["scope=repository:team/a:pull"; limits::SCOPES + 1].join("&");
    for (query, status) in [(many.as_str(), 400), ("service=other", 400), ("service=slipway", 200)] {
        assert_eq!(
            registry.ask("ann", "GET", &format!("/token?{query}"), &[], b"").status,
            status,
            "{query}"
        );
    }
    for value in [basic("ann", "wrong"), "Basic x".into(), "Bearer x".into(), basic("eve", "x")] {
        let reply = registry.call("GET", "/token", &[("authorization", &value)], b"");
        assert_eq!(reply.status, 401, "{value}");
        assert!(reply.header("www-authenticate").expect("a challenge").starts_with("Basic "));
    }
}

#[test]
fn refresh_tokens_are_traded() {
    let registry = start();
    let password = "secret of ann".replace(' ', "+");
    let made = registry.form(&format!(
        "grant_type=password&service=slipway&client_id=docker&access_type=offline&username=ann&password={password}"
    ));
    assert_eq!(made.status, 200, "{}", made.text());
    let refresh = text(&made.json(), "refresh_token");
    assert_eq!(
        registry.token("ann", "offline_token=true").get("refresh_token").map(Value::is_string),
        Some(true)
    );
    assert_eq!(
        registry.token("", "offline_token=true").get("refresh_token"),
        None,
        "nobody has nothing to keep"
    );
    let traded = registry.form(&format!(
        "grant_type=refresh_token&refresh_token={refresh}&service=slipway&client_id=x&scope=repository:team/a:pull,push"
    ));
    let token = text(&traded.json(), "access_token");
    assert_eq!(text(&traded.json(), "scope"), "repository:team/a:pull,push");
    assert_eq!(registry.bearer(&token, "POST", "/v2/team/a/blobs/uploads/").status, 202);
    // one kind of token is never the other
    assert_eq!(registry.bearer(&refresh, "GET", "/v2/").status, 401);
    let large = format!("grant_type=refresh_token&refresh_token={}", "a".repeat(1 << 20));
    for (form, status) in [
        (format!("grant_type=refresh_token&refresh_token={token}"), 401),
        ("grant_type=refresh_token&refresh_token=".to_owned(), 401),
        ("grant_type=refresh_token".to_owned(), 401),
        ("grant_type=password&username=ann&password=wrong".to_owned(), 401),
        ("grant_type=password".to_owned(), 401),
        ("grant_type=authorization_code".to_owned(), 400),
        (String::new(), 400),
        ("%ff=%ff&grant_type=%00".to_owned(), 400),
        (large, 400),
    ] {
        let reply = registry.form(&form);
        let shown: String = form.chars().take(80).collect();
        assert_eq!(reply.status, status, "{shown}");
        assert!(reply.json()["errors"][0]["code"].is_string(), "{shown}");
    }
    for method in ["PUT", "PATCH", "DELETE", "OPTIONS"] {
        assert_eq!(registry.ask("ann", method, "/token", &[], b"").status, 405);
    }
}

#[test]
fn a_token_holds_no_longer_than_what_it_stands_on() {
    let mut registry = start();
    let both = registry.token("ann", "offline_token=true&scope=repository:team/a:pull,push");
    let (token, refresh) = (text(&both, "token"), text(&both, "refresh_token"));
    let upload = |registry: &Registry| registry.bearer(&token, "POST", "/v2/team/a/blobs/uploads/").status;
    let trade = |registry: &Registry| {
        registry.form(&format!("grant_type=refresh_token&refresh_token={refresh}")).status
    };
    assert_eq!((upload(&registry), trade(&registry)), (202, 200));
    // the key is in the storage
    registry.restart_with(|config| config.access = rules());
    assert_eq!((upload(&registry), trade(&registry)), (202, 200));
    let control = registry.server.as_ref().expect("a server").control().clone();
    // fewer rights count at once
    control.replace_access(access(&["ann may pull in team/**"], &["ann"], |_| {}));
    assert_eq!((upload(&registry), trade(&registry)), (403, 200));
    // another password, or nobody of that name
    let other = |config: &mut crate::server::access::AccessConfig| {
        config.tokens.insert("ann".into(), crate::server::access::SecretHash::of("other"));
    };
    control.replace_access(access(&["ann may all in **"], &[], other));
    assert_eq!((upload(&registry), trade(&registry)), (401, 401));
    control.replace_access(access(&["users may all in **"], &["bob"], |_| {}));
    assert_eq!((upload(&registry), trade(&registry)), (401, 401));
    // another audience
    control.replace_access(access(&["ann may all in **"], &["ann"], |config| {
        config.url = Some("https://other.example".into());
    }));
    assert_eq!((upload(&registry), trade(&registry)), (401, 401));
    // another registry
    let stranger = start();
    assert_eq!((upload(&stranger), trade(&stranger)), (401, 401));
    // no tokens are made any more
    control.replace_access(access(&["ann may all in **"], &["ann"], |config| config.token_endpoint = false));
    assert_eq!((upload(&registry), trade(&registry)), (401, 404));
    let challenge = registry.get("/v2/");
    assert!(challenge.header("www-authenticate").expect("a challenge").starts_with("Basic "));
    assert_eq!(registry.ask("ann", "POST", "/v2/team/a/blobs/uploads/", &[], b"").status, 202);
}

#[test]
fn no_forged_token_opens_anything() {
    let registry = start();
    let good = text(&registry.token("ann", "scope=repository:team/a:pull,push"), "token");
    let parts: Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { panic!("three parts: {good}") };
    let coded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let decoded =
        |text: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("text");
    let (own_header, own_claims) = (decoded(header), decoded(claims));
    let with_header =
        |change: &str, to: &str| format!("{}.{claims}.{signature}", coded(&own_header.replace(change, to)));
    let with_claims =
        |change: &str, to: &str| format!("{header}.{}.{signature}", coded(&own_claims.replace(change, to)));
    for (what, token) in [
        ("unsigned", format!("{header}.{claims}.")),
        ("alg none", format!("{}.{claims}.", coded(&own_header.replace("EdDSA", "none")))),
        ("alg swapped", with_header("EdDSA", "HS256")),
        ("own key", with_header("{", "{\"jwk\":{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AA\"},")),
        ("key elsewhere", with_header("{", "{\"jku\":\"http://127.0.0.1:1/\",")),
        ("unknown key", with_header("\"kid\":\"", "\"kid\":\"x")),
        ("no key", with_header("kid", "kit")),
        ("another user", with_claims("\"ann\"", "\"bob\"")),
        ("another repository", with_claims("team/a", "team/b")),
        ("longer", with_claims("\"exp\":1", "\"exp\":9")),
        ("another audience", with_claims("\"aud\":\"slipway\"", "\"aud\":\"other\"")),
        ("another signature", format!("{header}.{claims}.{}", coded(&"x".repeat(64)))),
        ("dots", ".".repeat(2000)),
        ("nothing", "..".to_owned()),
        ("long", format!("{header}.{}.{signature}", "a".repeat(20 << 10))),
    ] {
        for (method, path) in
            [("GET", "/v2/"), ("POST", "/v2/team/a/blobs/uploads/"), ("GET", "/v2/public/a/tags/list")]
        {
            let reply = registry.bearer(&token, method, path);
            assert_eq!(reply.refusal(), (401, "UNAUTHORIZED".to_owned()), "{what} {path}");
            let challenge = reply.header("www-authenticate").expect("a challenge");
            assert!(challenge.ends_with("error=\"invalid_token\""), "{what}: {challenge}");
        }
    }
    // a megabyte: more than a head may be
    let mut stream = registry.connect();
    let head =
        format!("GET /v2/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", "a".repeat(1 << 20));
    let _ = stream.write_all(head.as_bytes());
    let mut answer = [0; 64];
    let count = stream.read(&mut answer).unwrap_or(0);
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(
        registry.bearer(&good, "POST", "/v2/team/a/blobs/uploads/").status,
        202,
        "the good one still does"
    );
}

#[test]
fn nobody_s_token_reads_what_anyone_may() {
    let registry = start();
    let token = text(&registry.token("", "scope=repository:public/a:pull"), "token");
    assert_eq!(registry.bearer(&token, "GET", "/v2/public/a/tags/list").status, 404);
    assert_eq!(registry.bearer(&token, "GET", "/v2/").status, 200);
    for path in ["/v2/team/a/tags/list", "/v2/public/b/tags/list"] {
        assert_eq!(registry.bearer(&token, "GET", path).status, 401, "{path}");
    }
    let private = Registry::start_with(|config| {
        config.access = access(&[], &["ann"], |config| config.mode = Some(Mode::Private));
    });
    let token = text(&private.token("", "scope=repository:a:pull"), "token");
    assert_eq!(access_of(&token), serde_json::json!([]));
    for path in ["/v2/", "/v2/a/tags/list", "/v2/_catalog"] {
        assert_eq!(private.bearer(&token, "GET", path).status, 401, "{path}");
    }
}
