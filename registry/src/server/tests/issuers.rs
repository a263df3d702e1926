//! Jobs with identity tokens, against an issuer of our own: what opens, what does not, and issuers that are none.

use super::{
    access::{access, basic},
    issuer::{Signer, TestIssuer, honest, ok},
    *,
};
use crate::server::{
    access::{Access, AccessConfig, NamedIssuer},
    storage::now_seconds,
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

fn named(name: &str, words: &str) -> NamedIssuer {
    NamedIssuer { name: name.to_owned(), issuer: words.parse().expect(words), keys: None, authorities: None }
}

fn rules(issuers: Vec<NamedIssuer>) -> Arc<Access> {
    let rules = [
        "issuer:release may all in prod/**",
        "issuer:ci may pull, push in ci/${claim:repository}/**",
        "users may all in home/**",
        "ann may pull in ci/**",
    ];
    let names: Vec<String> = issuers.iter().map(|issuer| issuer.name.clone()).collect();
    let rules: Vec<&str> = rules
        .into_iter()
        .filter(|rule| !rule.contains("release") || names.contains(&"release".to_owned()))
        .collect();
    access(&rules, &["ann"], |config: &mut AccessConfig| config.issuers = issuers)
}

/// A registry with the issuers `ci` (acme's jobs) and `release` (those of its main branch).
fn start(issuer: &TestIssuer) -> Registry {
    let url = issuer.url();
    let issuers = vec![
        named("ci", &format!("{url} audience=r.example claim:repository_owner=acme")),
        named(
            "release",
            &format!("{url} audience=r.example claim:repository=acme/* claim:ref=refs/heads/main"),
        ),
    ];
    Registry::start_with(|config| config.access = rules(issuers))
}

fn claims(issuer: &TestIssuer) -> Value {
    let now = now_seconds();
    json!({
        "iss": issuer.url(), "sub": "repo:acme/App:ref:refs/heads/dev", "aud": "r.example",
        "iat": now, "nbf": now, "exp": now + 300, "jti": "1",
        "repository": "acme/App", "repository_owner": "acme", "ref": "refs/heads/dev",
    })
}

fn with(issuer: &TestIssuer, name: &str, value: Value) -> Value {
    let mut claims = claims(issuer);
    claims[name] = value;
    claims
}

impl Registry {
    fn exchange(&self, token: &str) -> Reply {
        let form = format!(
            "grant_type={EXCHANGE}&subject_token={token}&subject_token_type={ID_TOKEN}&service=slipway\
             &access_type=offline&scope=repository:ci/acme/app/x:pull,push+repository:prod/x:push"
        );
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        self.call("POST", "/token", &kind, form.as_bytes())
    }

    fn shows(&self, value: &str, method: &str, path: &str) -> u16 {
        self.call(method, path, &[("authorization", value)], b"").status
    }

    fn opens(&self, token: &str) -> bool {
        self.shows(&format!("Bearer {token}"), "POST", "/v2/ci/acme/app/x/blobs/uploads/") == 202
    }
}

#[test]
fn a_job_trades_its_token_for_what_the_rules_say() {
    let signer = Signer::new("");
    let issuer = TestIssuer::start(&signer);
    let registry = start(&issuer);
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
        let token = signer.sign(algorithm, &claims(&issuer));
        let reply = registry.exchange(&token);
        assert_eq!(reply.status, 200, "{algorithm}: {}", reply.text());
        let made = reply.json();
        assert_eq!(made["scope"], "repository:ci/acme/app/x:pull,push", "{algorithm}");
        assert_eq!(made["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
        assert_eq!(made["token_type"], "Bearer");
        let own = made["access_token"].as_str().expect("a token");
        assert!(registry.opens(own), "{algorithm}");
        assert_eq!(registry.shows(&format!("Bearer {own}"), "POST", "/v2/prod/x/blobs/uploads/"), 403);
        // what docker keeps after its login
        let refresh = made["refresh_token"].as_str().expect("a token");
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        let form =
            format!("grant_type=refresh_token&refresh_token={refresh}&scope=repository:ci/acme/app/x:push");
        let renewed = registry.call("POST", "/token", &kind, form.as_bytes());
        assert!(registry.opens(renewed.json()["access_token"].as_str().expect("a token")));
    }
    let token = signer.sign("RS256", &claims(&issuer));
    // as it is, and as a password under any name
    for value in [format!("Bearer {token}"), basic("oidc", &token), basic("ann", &token)] {
        assert_eq!(registry.shows(&value, "POST", "/v2/ci/acme/app/x/blobs/uploads/"), 202);
        assert_eq!(registry.shows(&value, "GET", "/v2/"), 200);
        // neither other repositories' places, nor those of users, nor what `ann` may
        for path in [
            "/v2/ci/acme/other/x/blobs/uploads/",
            "/v2/ci/acme/app/blobs/uploads/",
            "/v2/home/x/blobs/uploads/",
        ] {
            assert_eq!(registry.shows(&value, "POST", path), 403, "{path}");
        }
        assert_eq!(registry.shows(&value, "GET", "/v2/ci/other/tags/list"), 403);
    }
    let assertion = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion={token}&scope=repository:ci/acme/app/x:push"
    );
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let reply = registry.call("POST", "/token", &kind, assertion.as_bytes());
    assert!(registry.opens(reply.json()["token"].as_str().expect("a token")));
    // a job of two issuers has the rights of both
    let main = signer.sign("ES256", &with(&issuer, "ref", json!("refs/heads/main")));
    let made = registry.exchange(&main).json();
    assert_eq!(made["scope"], "repository:ci/acme/app/x:pull,push repository:prod/x:push");
    assert!(issuer.asked() <= 2, "the keys are kept: {}", issuer.asked());
}

#[test]
fn every_forgery_is_refused() {
    let (signer, stranger) = (Signer::new(""), Signer::new(""));
    let issuer = TestIssuer::start(&signer);
    let registry = start(&issuer);
    let good = claims(&issuer);
    let text = good.to_string();
    let now = now_seconds();
    assert!(registry.opens(&signer.sign("RS256", &good)));
    let kid = signer.id("RS256");
    let changed = |name: &str, value: Value| signer.sign("RS256", &with(&issuer, name, value));
    let header = |more: Value| {
        let mut header = json!({ "alg": "RS256", "kid": kid, "typ": "JWT" });
        more.as_object().expect("an object").iter().for_each(|(name, value)| header[name] = value.clone());
        signer.sign_with(&header, "RS256", &text)
    };
    assert!(registry.opens(&header(json!({ "x5t": "abc" }))), "GitHub says so");
    let swapped = |algorithm: &str, key: &str| {
        let header = json!({ "alg": algorithm, "kid": signer.id(key), "typ": "JWT" });
        signer.sign_with(&header, algorithm, &text)
    };
    let own = signer.keys()["keys"][1].clone();
    let mut cases = vec![
        ("none", signer.sign_with(&json!({ "alg": "none", "kid": kid }), "none", &text)),
        ("None", signer.sign_with(&json!({ "alg": "None", "kid": kid }), "none", &text)),
        ("HS256 with the public key", swapped("HS256", "RS256")),
        ("HS256 with the set's secret", swapped("HS256", "HS256")),
        ("PS256 by a key for RS256", swapped("PS256", "RS256")),
        ("ES256 by a key for RSA", swapped("ES256", "RS256")),
        ("RS256 by a key for ECDSA", swapped("RS256", "ES256")),
        ("EdDSA by a key for ECDSA", swapped("EdDSA", "ES256")),
        ("no algorithm", signer.sign_with(&json!({ "kid": kid }), "RS256", &text)),
        ("a list of algorithms", signer.sign_with(&json!({ "alg": ["RS256"], "kid": kid }), "RS256", &text)),
        ("foreign key", stranger.sign("ES256", &good)),
        ("foreign key, EdDSA", stranger.sign("EdDSA", &good)),
        ("jwk", header(json!({ "jwk": own }))),
        ("jku", header(json!({ "jku": format!("{}/keys", issuer.url()) }))),
        ("x5u", header(json!({ "x5u": format!("{}/keys", issuer.url()) }))),
        ("x5c", header(json!({ "x5c": ["AA"] }))),
        ("crit", header(json!({ "crit": ["exp"] }))),
        ("typ", header(json!({ "typ": "at+jwt" }))),
        ("no kid", signer.sign_with(&json!({ "alg": "RS256" }), "RS256", &text)),
        ("empty kid", header(json!({ "kid": "" }))),
        ("kid of a number", header(json!({ "kid": 1 }))),
        ("kid of a path", header(json!({ "kid": "../../keys" }))),
        ("kid of an address", header(json!({ "kid": "http://127.0.0.1:1/keys" }))),
        ("kid of SQL", header(json!({ "kid": "' or 1=1 --" }))),
        ("kid in another case", header(json!({ "kid": "Rs256" }))),
        ("kid for encryption", header(json!({ "kid": "encryption" }))),
        ("long kid", header(json!({ "kid": "a".repeat(10_000) }))),
        ("expired", changed("exp", json!(now - 120))),
        ("expired long ago", changed("exp", json!(i64::MIN))),
        ("endless", changed("exp", Value::Null)),
        ("expiry of a text", changed("exp", json!("9999999999"))),
        ("not yet", changed("nbf", json!(now + 120))),
        ("from tomorrow", changed("iat", json!(now + 86_400))),
        ("not yet of a text", changed("nbf", json!("0"))),
        ("audience", changed("aud", json!("other"))),
        ("audiences", changed("aud", json!(["other", "r.example.evil"]))),
        ("audience of an object", changed("aud", json!({ "r.example": true }))),
        ("no audience", changed("aud", Value::Null)),
        ("owner", changed("repository_owner", json!("evil"))),
        ("owner beside", changed("repository_owner", json!("acme-evil"))),
        ("repository", changed("repository", json!("acme/other"))),
        ("repository of dots", changed("repository", json!("../app"))),
        ("repository of stars", changed("repository", json!("**"))),
        ("repositories", changed("repository", json!(["acme/app", "acme/app"]))),
        ("issuer with a slash", changed("iss", json!(format!("{}/", issuer.url())))),
        ("issuer in capitals", changed("iss", json!(issuer.url().to_uppercase()))),
        ("issuers", changed("iss", json!([issuer.url()]))),
        ("no issuer", changed("iss", Value::Null)),
        ("subject with a line", changed("sub", json!("a\nGET /v2/ 200"))),
        ("subject with an escape", changed("sub", json!("a\u{1b}[2J"))),
        ("no subject", changed("sub", json!(""))),
        ("long subject", changed("sub", json!("a".repeat(256)))),
        ("claims of a list", signer.sign_with(&json!({ "alg": "RS256", "kid": kid }), "RS256", "[]")),
        ("a long token", changed("more", json!("a".repeat(20 << 10)))),
    ];
    let whole = signer.sign("RS256", &good);
    let (head, signature) = whole.rsplit_once('.').expect("parts");
    let (first, _) = head.split_once('.').expect("parts");
    let other = signer.sign("RS256", &with(&issuer, "repository", json!("acme/app")));
    let other = other.split('.').nth(1).expect("claims").to_owned();
    let middle = head.split_once('.').expect("parts").1;
    let owned = with(&issuer, "ref", json!("refs/heads/main")).to_string();
    let moved = {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(owned)
    };
    cases.extend([
        ("no signature", format!("{head}.")),
        ("no third part", head.to_owned()),
        ("a fourth part", format!("{whole}.{signature}")),
        ("dots", format!("eyJ{}", ".".repeat(5000))),
        ("padding", format!("{whole}=")),
        ("claims of another", format!("{first}.{moved}.{signature}")),
        ("signature of another", format!("{first}.{other}{middle}.{signature}")),
    ]);
    for (what, token) in cases {
        assert!(!registry.opens(&token), "{what}");
        let reply = registry.exchange(&token);
        // what is only too little for this place is a token all the same
        let narrow = what.starts_with("repositor");
        let refused = if narrow { reply.json()["scope"] == "" } else { reply.status == 401 };
        assert!(refused, "{what}: {} {}", reply.status, reply.text());
        if token.len() > crate::limits::TOKEN_BYTES {
            // with a name around it, it is more than a head may be
            continue;
        }
        let value = basic("ci", &token);
        let status = registry.shows(&value, "GET", "/v2/ci/acme/app/x/tags/list");
        assert!(matches!(status, 401 | 403), "{what}: {status}");
    }
    // clocks that differ a little
    for (name, value) in [("exp", now - 30), ("nbf", now + 30), ("iat", now + 30)] {
        assert!(registry.opens(&changed(name, json!(value))), "{name}");
    }
    assert!(registry.opens(&changed("aud", json!(["x", "r.example"]))));
}

#[test]
fn issuers_that_lie_or_dawdle_open_nothing() {
    let signer = Signer::new("");
    let other = TestIssuer::start(&signer);
    let elsewhere = other.url();
    let redirect = |to: String| {
        format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    };
    let keys = signer.keys().to_string();
    type Answer = Box<dyn Fn(&str, &str) -> Vec<u8> + Send>;
    let discovery = |issuer: &str, keys: &str| ok(&json!({ "issuer": issuer, "jwks_uri": keys }).to_string());
    let (far, far_keys, far_again, own) =
        (elsewhere.clone(), elsewhere.clone(), elsewhere.clone(), keys.clone());
    let many = json!({ "keys": vec![signer.keys()["keys"][1].clone(); 200] }).to_string();
    let cases: Vec<(&str, Answer)> = vec![
        ("another issuer", Box::new(move |_, url| discovery(&format!("{url}/"), &format!("{url}/keys")))),
        ("keys elsewhere", Box::new(move |_, url| discovery(url, &format!("{far_keys}/keys")))),
        ("keys of a file", Box::new(move |_, url| discovery(url, "file:///etc/passwd"))),
        ("keys inside", Box::new(move |_, url| discovery(url, "http://169.254.169.254/latest"))),
        ("a redirect", Box::new(move |path, _| redirect(format!("{far}{path}")))),
        (
            "keys by redirect",
            Box::new(move |path, url| match path {
                "/keys" => redirect(format!("{far_again}/keys")),
                _ => discovery(url, &format!("{url}/keys")),
            }),
        ),
        ("no JSON", Box::new(|_, _| ok("<html>"))),
        ("nothing", Box::new(|_, _| Vec::new())),
        ("an error", Box::new(|_, _| b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec())),
        (
            "no keys",
            Box::new(move |path, url| match path {
                "/keys" => ok("{\"keys\":[]}"),
                _ => discovery(url, &format!("{url}/keys")),
            }),
        ),
        (
            "too many keys",
            Box::new(move |path, url| match path {
                "/keys" => ok(&many),
                _ => discovery(url, &format!("{url}/keys")),
            }),
        ),
        (
            "endless keys",
            Box::new(move |path, url| match path {
                "/keys" => b"endless".to_vec(),
                _ => discovery(url, &format!("{url}/keys")),
            }),
        ),
        ("silence", Box::new(|_, _| b"silence".to_vec())),
    ];
    drop(own);
    for (what, answer) in cases {
        let issuer = TestIssuer::start(&signer);
        issuer.behave(answer);
        let failures = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&failures);
        let words = format!("{} audience=r.example", issuer.url());
        let registry = Registry::start_with(|config| {
            config.access = rules(vec![named("ci", &words)]);
            config.observer = Some(Arc::new(move |event| {
                if let crate::server::Event::Failure { .. } = event {
                    *seen.lock().expect("held") += 1;
                }
            }));
        });
        let token = signer.sign("RS256", &claims(&issuer));
        let begun = Instant::now();
        assert!(!registry.opens(&token), "{what}");
        assert!(begun.elapsed() < Duration::from_secs(14), "{what}: {:?}", begun.elapsed());
        assert_eq!(*failures.lock().expect("held"), 1, "{what} is said to the operator");
        // everybody else is not held up, and the issuer is not asked again at once
        let asked = issuer.asked();
        assert_eq!(registry.ask("ann", "GET", "/v2/", &[], b"").status, 200, "{what}");
        assert_eq!(registry.exchange(&token).refusal(), (401, "UNAUTHORIZED".to_owned()), "{what}");
        assert_eq!(issuer.asked(), asked, "{what}");
    }
    assert_eq!(other.asked(), 0, "nobody was led there");
}

#[test]
fn keys_roll_and_are_kept() {
    let (old, new) = (Signer::new("old-"), Signer::new("new-"));
    let issuer = TestIssuer::start(&old);
    let registry = start(&issuer);
    assert!(registry.opens(&old.sign("ES256", &claims(&issuer))));
    let asked = issuer.asked();
    // ids that somebody invents do not make the issuer asked
    for number in 0..20 {
        let header = json!({ "alg": "ES256", "kid": format!("invented-{number}") });
        assert!(!registry.opens(&old.sign_with(&header, "ES256", &claims(&issuer).to_string())));
    }
    assert_eq!(issuer.asked(), asked);
    // an issuer that is away stops nobody whose key is known
    issuer.behave(Box::new(|_, _| Vec::new()));
    assert!(registry.opens(&old.sign("EdDSA", &claims(&issuer))));
    // a new key is looked for when it is time, and the old ones go
    issuer.behave(honest(&new));
    let token = new.sign("ES256", &claims(&issuer));
    assert!(!registry.opens(&token), "too soon");
    std::thread::sleep(crate::limits::ISSUER_PAUSE + Duration::from_millis(200));
    assert!(registry.opens(&token));
    assert!(!registry.opens(&old.sign("ES256", &with(&issuer, "jti", json!("2")))));
}

#[test]
fn a_login_keeps_what_outlives_the_identity_token() {
    use crate::client::{Client, ClientConfig, Credential};
    let signer = Signer::new("");
    let issuer = TestIssuer::start(&signer);
    let registry = start(&issuer);
    let host = registry.address().to_string();
    let log_in = |credential: Credential| {
        let config = ClientConfig {
            credentials: Some(Arc::new(move |_, _| Ok(Some(credential.clone())))),
            ..ClientConfig::default()
        };
        Client::new(config).expect("a client").log_in(&host)
    };
    let basic = |password: String| Credential::Basic { username: "oidc".into(), password };
    let kept = log_in(basic(signer.sign("RS256", &claims(&issuer)))).expect("a login").expect("a trade");
    assert!(matches!(&kept, Credential::IdentityToken(_)));
    assert_eq!(log_in(kept).expect("a login"), None, "it opens the registry, and is not traded again");
    let ann = Credential::Basic { username: "ann".into(), password: "secret of ann".into() };
    assert_eq!(log_in(ann).expect("a login"), None, "a password is what it was");
    assert!(log_in(basic(signer.sign("RS256", &with(&issuer, "aud", json!("other"))))).is_err());
}

#[test]
fn what_a_job_keeps_ends_with_its_issuer() {
    let signer = Signer::new("");
    let issuer = TestIssuer::start(&signer);
    let registry = start(&issuer);
    let made = registry.exchange(&signer.sign("RS256", &claims(&issuer))).json();
    let (own, refresh) =
        (made["access_token"].as_str().expect("one"), made["refresh_token"].as_str().expect("one"));
    assert!(registry.opens(own));
    let control = registry.server.as_ref().expect("a server").control();
    let words =
        format!("{} audience=r.example claim:repository_owner=acme claim:environment=prod", issuer.url());
    control.replace_access(rules(vec![named("ci", &words)]));
    assert!(!registry.opens(own), "another claim is asked for now");
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let form = format!("grant_type=refresh_token&refresh_token={refresh}");
    assert_eq!(registry.call("POST", "/token", &kind, form.as_bytes()).status, 401);
    let foreign =
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=x&subject_token_type=urn:x";
    assert_eq!(registry.call("POST", "/token", &kind, foreign.as_bytes()).status, 400);
}

#[test]
fn keys_of_a_file_need_no_network() {
    let signer = Signer::new("");
    let issuer = TestIssuer::start(&signer);
    let of_file = |keys: Vec<u8>| NamedIssuer {
        keys: Some(keys),
        ..named("ci", &format!("{} audience=r.example jwks=keys.json", issuer.url()))
    };
    let registry = Registry::start_with(|config| {
        config.access = rules(vec![of_file(signer.keys().to_string().into_bytes())]);
    });
    assert!(registry.opens(&signer.sign("RS256", &claims(&issuer))));
    assert!(!registry.opens(&Signer::new("x").sign("ES256", &claims(&issuer))));
    assert_eq!(issuer.asked(), 0);
    for keys in ["", "{}", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"AA\"}]}"] {
        let config = AccessConfig { issuers: vec![of_file(keys.into())], ..AccessConfig::default() };
        let error = Access::new(config).expect_err(keys).to_string();
        assert!(error.contains("issuer `ci`"), "{error}");
    }
}
