//! Logins by a code, at registries that lie.

use super::*;
use crate::client::DevicePrompt;
use std::sync::Mutex;

const METADATA: &str = "/.well-known/oauth-authorization-server";

/// A registry with these places, whose answers to a device are `answers`, one after the other.
fn registry(places: &'static str, codes: &'static str, answers: &'static [(u16, &'static str)]) -> Fake {
    let asked = Mutex::new(0);
    Fake::start(move |one, _| {
        let host = one.header("host").unwrap_or_default();
        match one.path.as_str() {
            METADATA => reply(200, &[], places.replace("HOST", host).as_bytes()),
            "/begin" => reply(200, &[], codes.replace("HOST", host).as_bytes()),
            "/grant" => {
                let mut number = asked.lock().expect("held");
                let (status, body) = answers[(*number).min(answers.len() - 1)];
                *number += 1;
                reply(status, &[], body.as_bytes())
            }
            "/v2/" => reply(200, &[], b"{}"),
            _ => reply(404, &[], b""),
        }
    })
}

const PLACES: &str = r#"{"issuer":"http://HOST","token_endpoint":"http://HOST/grant","device_authorization_endpoint":"/begin"}"#;
const CODES: &str = r#"{"device_code":"d","user_code":"BCDF-GHJK","verification_uri":"http://HOST/device","expires_in":600,"interval":0}"#;

fn log_in(fake: &Fake) -> (Result<Credential, ClientError>, Vec<DevicePrompt>) {
    let shown = Mutex::new(Vec::new());
    let prompt = |one: &DevicePrompt| shown.lock().expect("held").push(one.clone());
    let done = client().device_log_in(fake.reference("a").registry(), &prompt);
    (done, shown.into_inner().expect("held"))
}

#[test]
fn a_code_is_shown_and_waited_for() {
    let fake = registry(
        PLACES,
        CODES,
        &[
            (400, r#"{"error":"authorization_pending"}"#),
            (503, ""),
            (200, r#"{"access_token":"a","refresh_token":"kept"}"#),
        ],
    );
    let (done, shown) = log_in(&fake);
    assert_eq!(done.expect("a login"), Credential::IdentityToken("kept".into()));
    let [shown] = shown.as_slice() else { panic!("shown once: {shown:?}") };
    assert_eq!((shown.code.as_str(), shown.life), ("BCDF-GHJK", std::time::Duration::from_secs(600)));
    assert!(shown.page.ends_with("/device") && shown.page_with_code.is_none(), "{shown:?}");
    assert!(fake.asked().iter().all(|one| one.header("authorization").is_none()));
}

#[test]
fn what_a_person_says_no_to_is_said() {
    for (answer, words) in [
        ((400, r#"{"error":"access_denied"}"#), "it was refused there"),
        ((400, r#"{"error":"expired_token"}"#), "nobody typed the code in time"),
        ((400, r#"{"error":"invalid_grant"}"#), "invalid_grant"),
        ((401, "<html>"), "for no reason"),
        ((200, r#"{"access_token":"a"}"#), "nothing that could be kept"),
    ] {
        let answers: &'static [(u16, &'static str)] = Box::leak(vec![answer].into());
        let (done, _) = log_in(&registry(PLACES, CODES, answers));
        let error = done.expect_err(words);
        assert!(matches!(error, ClientError::DeviceRefused { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    // it is over before the first question
    let over: &str =
        r#"{"device_code":"d","user_code":"B","verification_uri":"http://HOST/d","expires_in":0}"#;
    let (done, _) = log_in(&registry(PLACES, over, &[(200, "{}")]));
    assert!(done.expect_err("it is over").to_string().contains("in time"));
}

#[test]
fn places_of_others_are_not_asked() {
    for places in [
        r#"{"token_endpoint":"/grant","device_authorization_endpoint":"http://127.0.0.2:1/begin"}"#,
        r#"{"token_endpoint":"http://127.0.0.2:1/grant","device_authorization_endpoint":"/begin"}"#,
        r#"{"token_endpoint":"https://HOST/grant","device_authorization_endpoint":"/begin"}"#,
        r#"{"token_endpoint":"http://a:b@HOST/grant","device_authorization_endpoint":"/begin"}"#,
        r#"{"token_endpoint":"http://HOST:1/grant","device_authorization_endpoint":"/begin"}"#,
        r#"{"token_endpoint":"file:///etc/passwd","device_authorization_endpoint":"/begin"}"#,
        r#"{"token_endpoint":"//evil.example/grant","device_authorization_endpoint":"/begin"}"#,
    ] {
        let fake = registry(places, CODES, &[(200, r#"{"refresh_token":"x"}"#)]);
        let (done, shown) = log_in(&fake);
        assert!(matches!(done, Err(ClientError::ForeignRealm { .. })), "{places}: {done:?}");
        assert!(shown.is_empty() && !fake.asked().iter().any(|one| one.path == "/begin"), "{places}");
    }
}

#[test]
fn registries_without_it_say_so_in_many_ways() {
    for places in ["", "<html>", "{}", "[]", r#"{"token_endpoint":"/grant"}"#, r#"{"token_endpoint":1}"#] {
        let (done, _) = log_in(&registry(places, CODES, &[(200, "{}")]));
        assert!(matches!(done, Err(ClientError::NoDevices { .. })), "{places}: {done:?}");
    }
    for (status, headers) in [(404, &[][..]), (401, &[]), (302, &[("location", "http://127.0.0.2:1/")])] {
        let fake = Fake::start(move |one, _| match one.path.as_str() {
            "/v2/" => reply(200, &[], b"{}"),
            _ => reply(status, headers, b""),
        });
        assert!(matches!(log_in(&fake).0, Err(ClientError::NoDevices { .. })), "{status}");
    }
    // what cannot be shown is not shown
    for codes in [
        "{}",
        "\u{0}",
        r#"{"device_code":"d","user_code":"\u001b[2J","verification_uri":"http://HOST/d","expires_in":600}"#,
        r#"{"device_code":"d","user_code":"","verification_uri":"http://HOST/d","expires_in":600}"#,
        r#"{"device_code":"d","user_code":"B","verification_uri":"javascript:alert(1)","expires_in":600}"#,
        r#"{"device_code":"d","user_code":"B","verification_uri":"file:///etc/passwd","expires_in":600}"#,
        r#"{"device_code":"d","user_code":"B","verification_uri":"http://HOST/d","expires_in":-1}"#,
    ] {
        let (done, shown) = log_in(&registry(PLACES, codes, &[(200, "{}")]));
        assert!(matches!(done, Err(ClientError::Protocol { .. })), "{codes}: {done:?}");
        assert!(shown.is_empty());
    }
    let escaped = r#"{"device_code":"d","user_code":"B","verification_uri":"http://HOST/\u001b[2J\u202e","expires_in":0}"#;
    let (_, shown) = log_in(&registry(PLACES, escaped, &[(200, "{}")]));
    assert!(shown[0].page.is_ascii() && !shown[0].page.contains('\u{1b}'), "{shown:?}");
    let endless: &'static str = Box::leak("x".repeat(17 << 20).into());
    assert!(log_in(&registry(endless, CODES, &[(200, "{}")])).0.is_err());
}
