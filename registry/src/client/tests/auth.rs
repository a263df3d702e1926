//! Challenges, tokens, and where credentials do not go.

use super::*;

const SECRET: &str = "dXNlcjpodW50ZXIy"; // user:hunter2

fn logged_in() -> Client {
    client_with(|config| {
        let credential = Credential::Basic { username: "user".into(), password: "hunter2".into() };
        config.credentials = Some(Arc::new(move |_, _| Ok(Some(credential.clone()))));
    })
}

fn leaked(asked: &[Asked]) -> bool {
    asked.iter().any(|asked| asked.headers.values().any(|value| value.contains(SECRET)))
}

#[test]
fn basic_credentials_are_sent_when_asked_for() {
    let fake = Fake::start(|asked, _| match asked.header("authorization") {
        Some(value) if value == format!("Basic {SECRET}") => reply(200, &[], b"{\"tags\":[\"x\"]}"),
        _ => reply(401, &[("www-authenticate", "Basic realm=\"r\"")], b""),
    });
    let client = logged_in();
    assert_eq!(client.tags(&fake.reference("a")).expect("tags"), ["x"]);
    assert_eq!(client.tags(&fake.reference("a")).expect("tags"), ["x"]);
    // once refused, then known
    assert_eq!(fake.asked().len(), 3);
    let error = super::client().tags(&fake.reference("a")).expect_err("refusal");
    assert!(matches!(error, ClientError::Denied { credentials: false, .. }), "{error:?}");
}

#[test]
fn wrong_credentials_are_said_to_be_wrong() {
    let fake = Fake::start(|_, _| reply(401, &[("www-authenticate", "Basic realm=\"r\"")], b""));
    let error = logged_in().tags(&fake.reference("a")).expect_err("refusal");
    assert!(matches!(error, ClientError::Denied { credentials: true, .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}

/// A registry with a token service of its own; answers how often a token was asked for.
fn token_registry() -> Fake {
    Fake::start(|asked, _| {
        if asked.path.starts_with("/token?") {
            let good = asked.header("authorization") == Some(&format!("Basic {SECRET}"));
            return if good {
                reply(200, &[], b"{\"token\":\"t0ken\",\"expires_in\":300}")
            } else {
                reply(401, &[], b"")
            };
        }
        if asked.header("authorization") != Some("Bearer t0ken") {
            return reply(
                401,
                &[("www-authenticate", "Bearer realm=\"/token\",service=\"s\",scope=\"x\"")],
                b"",
            );
        }
        match asked.path.as_str() {
            "/v2/a/tags/list?n=1000" => reply(200, &[], b"{\"tags\":[\"x\"]}"),
            _ => reply(200, &[("content-length", "1")], b"0"),
        }
    })
}

#[test]
fn tokens_are_fetched_once_and_kept() {
    let fake = token_registry();
    let client = logged_in();
    for _ in 0..3 {
        assert_eq!(client.tags(&fake.reference("a")).expect("tags"), ["x"]);
    }
    let there = Local::new();
    let blobs: Vec<Descriptor> = (0..8).map(|n| Descriptor::of("x", format!("{n}").as_bytes())).collect();
    // eight at once meet the same challenge; what they fetch is wrong, which is another matter
    client.fetch_blobs(&fake.reference("b"), &blobs, &there.blobs, &()).expect_err("wrong bytes");
    let tokens: Vec<String> =
        fake.asked().into_iter().map(|asked| asked.path).filter(|path| path.starts_with("/token")).collect();
    assert_eq!(
        tokens,
        ["/token?service=s&scope=repository%3Aa%3Apull", "/token?service=s&scope=repository%3Ab%3Apull"]
    );
}

#[test]
fn a_foreign_token_service_gets_no_credentials() {
    let foreign = Fake::start(|_, _| reply(200, &[], b"{\"token\":\"t\"}"));
    // the same machine under another name is somebody else
    let realm = format!("http://localhost:{}/token", foreign.address.port());
    let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
    let fake = Fake::start(move |_, _| reply(401, &[("www-authenticate", &challenge)], b""));
    for client in [logged_in(), super::client()] {
        let error = client.tags(&fake.reference("a")).expect_err("refusal");
        assert!(matches!(error, ClientError::ForeignRealm { .. }), "{error:?}");
    }
    assert!(foreign.asked().is_empty() && !leaked(&fake.asked()));
}

#[test]
fn credentials_do_not_follow_redirects() {
    let elsewhere = Fake::start(|_, _| reply(200, &[], b"0123456789"));
    let target = format!("http://{}/signed?x=1", elsewhere.address);
    let fake = Fake::start(move |asked, _| match asked.header("authorization") {
        Some(_) => reply(307, &[("location", &target)], b""),
        None => reply(401, &[("www-authenticate", "Basic realm=\"r\"")], b""),
    });
    let (there, blob) = (Local::new(), Descriptor::of("x", b"0123456789"));
    logged_in().fetch_blob(&fake.reference("a"), &blob, &there.blobs, &()).expect("fetch");
    let asked = elsewhere.asked();
    assert_eq!((asked.len(), asked[0].header("authorization")), (1, None));
    // nor does anybody else's challenge get an answer
    let greedy = Fake::start(|_, _| reply(401, &[("www-authenticate", "Basic realm=\"r\"")], b""));
    let target = format!("http://{}/", greedy.address);
    let fake = Fake::start(move |asked, _| match asked.path.as_str() {
        "/v2/" => reply(200, &[], b"{}"),
        _ => reply(302, &[("location", &target)], b""),
    });
    logged_in().fetch_blob(&fake.reference("a"), &blob, &Local::new().blobs, &()).expect_err("refusal");
    assert!(!leaked(&greedy.asked()));
}

#[test]
fn an_upload_elsewhere_gets_no_credentials() {
    let elsewhere = Fake::start(|_, _| reply(201, &[], b""));
    let location = format!("http://{}/upload", elsewhere.address);
    let fake = Fake::start(move |asked, _| match (asked.method.as_str(), asked.header("authorization")) {
        (_, None) => reply(401, &[("www-authenticate", "Basic realm=\"r\"")], b""),
        ("HEAD", _) => head(404, &[]),
        _ => reply(202, &[("location", &location)], b""),
    });
    let (here, client) = (Local::new(), logged_in());
    let blob = here.put("x", b"content");
    let target = fake.reference("a");
    client.runtime.block_on(client.inner.push_blob(&target, &blob, &here.blobs, &())).expect("push");
    let asked = elsewhere.asked();
    assert_eq!(
        (asked.len(), asked[0].header("authorization"), &asked[0].body[..]),
        (1, None, &b"content"[..])
    );
}

#[test]
fn an_identity_token_is_exchanged() {
    let fake = Fake::start(|asked, _| match (asked.method.as_str(), asked.header("authorization")) {
        ("POST", _) => {
            let form = String::from_utf8_lossy(&asked.body).into_owned();
            assert!(form.contains("grant_type=refresh_token&refresh_token=r3fresh"), "{form}");
            reply(200, &[], b"{\"access_token\":\"t\"}")
        }
        (_, Some("Bearer t")) => reply(200, &[], b"{\"tags\":[]}"),
        _ => reply(401, &[("www-authenticate", "Bearer realm=\"/token\"")], b""),
    });
    let client = client_with(|config| {
        config.credentials = Some(Arc::new(|_, _| Ok(Some(Credential::IdentityToken("r3fresh".into())))));
    });
    assert!(client.tags(&fake.reference("a")).expect("tags").is_empty());
}
