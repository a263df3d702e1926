//! Devices that are let in by a code (RFC 8628): who may, how often, and what nobody can bring about.

use super::super::access::{access, basic};
use super::rights::{FORM, form, log_in, ruled, token};
use super::*;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

struct Codes {
    device: String,
    user: String,
}

impl Registry {
    fn device(&self, client: &str) -> Codes {
        let reply = self.call("POST", "/token/device", &[FORM], &form(&[("client_id", client)]));
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let codes = reply.json();
        let text = |name: &str| codes[name].as_str().expect(name).to_owned();
        assert_eq!(text("verification_uri"), "http://test/device");
        assert_eq!(
            text("verification_uri_complete"),
            format!("http://test/device?user_code={}", text("user_code"))
        );
        assert_eq!((&codes["expires_in"], &codes["interval"]), (&600.into(), &5.into()));
        Codes { device: text("device_code"), user: text("user_code") }
    }

    fn poll(&self, device: &str, client: &str) -> Reply {
        let fields = [("grant_type", GRANT), ("device_code", device), ("client_id", client)];
        self.call("POST", "/token", &[FORM], &form(&fields))
    }

    /// OAuth's code of a refusal.
    fn refused(&self, device: &str, client: &str) -> String {
        let reply = self.poll(device, client);
        assert_eq!(reply.refusal(), (400, "UNAUTHORIZED".to_owned()));
        reply.json()["error"].as_str().expect("a code").to_owned()
    }

    /// What a form of the page answers, sent by a browser that has it open.
    fn send(&self, cookie: &str, fields: &[(&str, &str)]) -> Reply {
        let page = self.call("GET", "/device", &[("cookie", cookie)], b"");
        let mut all = fields.to_vec();
        let token = token(&page.page(200));
        all.push(("token", &token));
        self.call("POST", "/device", &[FORM, ("cookie", cookie)], &form(&all))
    }
}

#[test]
fn clients_find_out_where_devices_are_let_in() {
    const PLACE: &str = "/.well-known/oauth-authorization-server";
    let registry = ruled();
    let found = registry.get(PLACE).json();
    assert_eq!(found["issuer"], "http://test");
    assert_eq!(found["token_endpoint"], "http://test/token");
    assert_eq!(found["device_authorization_endpoint"], "http://test/token/device");
    assert!(found["grant_types_supported"].as_array().expect("a list").contains(&GRANT.into()));
    assert_eq!(registry.call("HEAD", PLACE, &[], b"").status, 200);
    assert_eq!(registry.call("POST", PLACE, &[], b"").status, 405);
    assert_eq!(registry.get("/token/device").status, 405);
    // by nobody, at no page, for no token
    let none = |change: &dyn Fn(&mut ServerConfig)| {
        let registry = start(|config| change(config));
        for (method, path) in [("GET", PLACE), ("POST", "/token/device")] {
            assert_eq!(registry.call(method, path, &[FORM], b"client_id=x").status, 404, "{path}");
        }
        let reply = registry.poll("x", "x");
        assert!([400, 404].contains(&reply.status), "{}", reply.text());
    };
    none(&|_| {});
    let users = |change: fn(&mut crate::server::access::AccessConfig)| {
        access(&["users may all in **"], &["ann"], change)
    };
    none(&|config| {
        config.policy.web = false;
        config.access = users(|_| {});
    });
    none(&|config| config.access = users(|access| access.token_endpoint = false));
}

#[test]
fn a_device_acts_as_who_let_it_in() {
    let registry = ruled();
    let codes = registry.device("slipway");
    assert_eq!(registry.refused(&codes.device, "slipway"), "authorization_pending");
    assert_eq!(registry.refused(&codes.device, "slipway"), "slow_down");
    // who is not logged in comes back with the code
    let path = format!("/device?user_code={}", codes.user);
    let led = registry.get(&path);
    assert_eq!(led.status, 303);
    assert_eq!(
        led.header("location"),
        Some(format!("/login?next=%2Fdevice%3Fuser_code%3D{}", codes.user).as_str())
    );
    let cookie = log_in(&registry, "ann");
    let page = registry.call("GET", &path, &[("cookie", &cookie)], b"");
    page.guarded();
    assert!(page.page(200).contains(&format!("value=\"{}\"", codes.user)));
    let asked = registry.send(&cookie, &[("code", &codes.user.to_lowercase())]);
    let text = asked.page(200);
    assert!(text.contains("<strong>slipway</strong> at <strong>127.0.0.1</strong>"), "{text}");
    assert_eq!(registry.refused(&codes.device, "slipway"), "slow_down", "to look is not to allow");
    let allowed = registry.send(&cookie, &[("code", &codes.user), ("decision", "allow")]);
    assert!(allowed.page(200).contains("It is logged in"));
    assert_eq!(registry.refused(&codes.device, "other"), "invalid_grant");
    // what asks for another registry is refused, and uses nothing up
    let fields = [
        ("grant_type", GRANT),
        ("device_code", &codes.device),
        ("client_id", "slipway"),
        ("service", "other"),
    ];
    let elsewhere = registry.call("POST", "/token", &[FORM], &form(&fields));
    assert_eq!(elsewhere.status, 400, "{}", elsewhere.text());
    let granted = registry.poll(&codes.device, "slipway");
    assert_eq!(granted.status, 200, "{}", granted.text());
    let refresh = granted.json()["refresh_token"].as_str().expect("something to keep").to_owned();
    assert_eq!(registry.refused(&codes.device, "slipway"), "invalid_grant", "once");
    let traded = registry.call(
        "POST",
        "/token",
        &[FORM],
        &form(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", &refresh),
            ("scope", "repository:team/a:pull,push repository:secret/a:pull"),
        ]),
    );
    let bearer = format!("Bearer {}", traded.json()["token"].as_str().expect("a token"));
    let status = |path: &str| registry.call("GET", path, &[("authorization", bearer.as_str())], b"").status;
    assert_eq!((status("/v2/team/a/manifests/v"), status("/v2/secret/a/manifests/v")), (200, 403));
    // refused, by another user than the one who was shown it
    let codes = registry.device("slipway");
    registry.send(&cookie, &[("code", &codes.user)]).page(200);
    let bob = log_in(&registry, "bob");
    let refused = registry.send(&bob, &[("code", &codes.user), ("decision", "refuse")]);
    assert!(refused.page(200).contains("It was refused"));
    assert_eq!(
        registry.send(&cookie, &[("code", &codes.user), ("decision", "allow")]).status,
        403,
        "it is decided"
    );
    assert_eq!(registry.refused(&codes.device, "slipway"), "access_denied");
}

#[test]
fn a_device_asks_at_one_replica_and_is_let_in_at_another() {
    let found = super::super::replicas::two(|config| {
        config.policy.web = true;
        config.access = access(&["ann may all in team/**"], &["ann", "eve"], |_| {});
    });
    let Some([first, second]) = found else { return };
    let codes = first.device("slipway");
    assert_eq!(second.refused(&codes.device, "slipway"), "authorization_pending");
    assert_eq!(first.refused(&codes.device, "slipway"), "slow_down");
    let log_in = |registry: &Registry, name: &str| {
        let page = registry.get("/login").page(200);
        let fields =
            [("token", token(&page)), ("name", name.to_owned()), ("password", format!("secret of {name}"))];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let reply = registry.call("POST", "/login", &[FORM], &form(&fields));
        let cookie = reply.header("set-cookie").unwrap_or_else(|| panic!("{}", reply.text()));
        cookie.split(';').next().expect("a cookie").to_owned()
    };
    // guesses count at both
    let eve = [&first, &second].map(|registry| log_in(registry, "eve"));
    let guess = |turn: usize, code: &str| {
        let registry = [&first, &second][turn % 2];
        registry.send(&eve[turn % 2], &[("code", code)]).status
    };
    for turn in 0..crate::limits::DEVICE_GUESSES as usize {
        assert_eq!(guess(turn, "BCDF-GHJK"), 403);
    }
    assert_eq!((guess(0, &codes.user), guess(1, &codes.user)), (429, 429));
    let cookie = log_in(&second, "ann");
    let asked = second.send(&cookie, &[("code", &codes.user.to_lowercase())]).page(200);
    assert!(asked.contains("<strong>slipway</strong> at <strong>127.0.0.1</strong>"), "{asked}");
    let allowed = second.send(&cookie, &[("code", &codes.user), ("decision", "allow")]);
    assert!(allowed.page(200).contains("It is logged in"));
    assert_eq!(second.send(&cookie, &[("code", &codes.user), ("decision", "refuse")]).status, 403, "decided");
    assert_eq!(second.refused(&codes.device, "other"), "invalid_grant");
    let granted = first.poll(&codes.device, "slipway");
    assert_eq!(granted.status, 200, "{}", granted.text());
    assert_eq!(second.refused(&codes.device, "slipway"), "invalid_grant", "once");
    let codes = second.device("slipway");
    second.send(&cookie, &[("code", &codes.user), ("decision", "refuse")]).page(200);
    assert_eq!(first.refused(&codes.device, "slipway"), "access_denied");
    // no more wait of one address than may, wherever they asked
    let begin = |turn: usize| {
        [&first, &second][turn % 2].call("POST", "/token/device", &[FORM], b"client_id=x").status
    };
    let begun = (0..crate::limits::DEVICES_OF_ADDRESS + 1).map(begin).filter(|status| *status == 200).count();
    assert_eq!(begun, crate::limits::DEVICES_OF_ADDRESS);
}

#[test]
fn no_other_site_and_no_guess_lets_a_device_in() {
    let registry = ruled();
    let cookie = log_in(&registry, "ann");
    let codes = registry.device("<script>alert(1)</script>");
    let page = registry.call("GET", "/device", &[("cookie", &cookie)], b"").page(200);
    let own = token(&page);
    let fields = |token: &str| form(&[("code", &codes.user), ("decision", "allow"), ("token", token)]);
    let session = ("cookie", cookie.as_str());
    // another site's form, one without its token, with another user's, and a link
    for headers in [
        &[FORM, session, ("origin", "https://evil.example")][..],
        &[FORM, session, ("sec-fetch-site", "cross-site")],
        &[FORM, session, ("sec-fetch-site", "same-site")],
    ] {
        assert_eq!(registry.call("POST", "/device", headers, &fields(&own)).status, 400, "{headers:?}");
    }
    let foreign =
        token(&registry.call("GET", "/device", &[("cookie", &log_in(&registry, "bob"))], b"").page(200));
    for wrong in ["", "x", &foreign] {
        assert_eq!(registry.call("POST", "/device", &[FORM, session], &fields(wrong)).status, 400);
    }
    let link = format!("/device?user_code={}&decision=allow", codes.user);
    registry.call("GET", &link, &[session], b"").page(200);
    assert_eq!(registry.call("POST", "/device", &[FORM], &fields(&own)).status, 400, "nobody");
    assert_eq!(registry.refused(&codes.device, "<script>alert(1)</script>"), "authorization_pending");
    // what it calls itself is a text
    let shown = registry.send(&cookie, &[("code", &codes.user)]).page(200);
    assert!(
        shown.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !shown.contains("<script>alert"),
        "{shown}"
    );
    assert_eq!(registry.send(&cookie, &[("code", &codes.user), ("decision", "perhaps")]).status, 400);
    for number in 0..10 {
        let typed = format!("BCDF-GHJ{}", number % 10);
        assert_eq!(registry.send(&cookie, &[("code", &typed)]).status, 403, "{number}");
    }
    let often = registry.send(&cookie, &[("code", &codes.user)]);
    assert_eq!(often.status, 429);
    assert!(often.header("retry-after").is_some());
    registry.send(&log_in(&registry, "bob"), &[("code", &codes.user)]).page(200);
}

#[test]
fn what_devices_send_is_bounded_and_what_they_are_given_ends_with_the_user() {
    let mut registry = ruled();
    let long = "x".repeat(61);
    for client in ["", "a b", "a\r\nset-cookie: x", "\u{1b}[2J", "ü", &long] {
        let reply = registry.call("POST", "/token/device", &[FORM], &form(&[("client_id", client)]));
        assert_eq!(reply.status, 400, "{client:?}");
    }
    let huge = vec![b'a'; 1 << 20];
    assert_eq!(registry.call("POST", "/token/device", &[FORM], &huge).status, 400);
    let device = "A".repeat(4000);
    for wrong in ["", "x", "../../etc/passwd", "' OR 1=1", &device] {
        assert_eq!(registry.refused(wrong, "slipway"), "invalid_grant", "{wrong}");
    }
    // gone between yes and the token
    let codes = registry.device("slipway");
    let cookie = log_in(&registry, "ann");
    registry.send(&cookie, &[("code", &codes.user), ("decision", "allow")]).page(200);
    let others = access(&["users may all in **"], &["bob"], |_| {});
    registry.server.as_ref().expect("a server").control().replace_access(others);
    assert_eq!(registry.refused(&codes.device, "slipway"), "access_denied");
    // another password since then: whoever said yes by the former one said it too late
    let codes = registry.device("slipway");
    let cookie = log_in(&registry, "bob");
    registry.send(&cookie, &[("code", &codes.user), ("decision", "allow")]).page(200);
    let others = access(&["users may all in **"], &["bob"], |config| {
        config.tokens.insert("bob".into(), crate::server::access::SecretHash::of("another"));
    });
    registry.server.as_ref().expect("a server").control().replace_access(others);
    assert_eq!(registry.refused(&codes.device, "slipway"), "access_denied");
    let others = access(&["users may all in **"], &["bob"], |_| {});
    registry.server.as_ref().expect("a server").control().replace_access(others);
    // who shows a password may say yes as well, only with a form of the page
    let shown = basic("bob", "secret of bob");
    let codes = registry.device("slipway");
    let body = form(&[("code", &codes.user), ("decision", "allow")]);
    let reply = registry.call("POST", "/device", &[FORM, ("authorization", &shown)], &body);
    assert_eq!(reply.status, 400);
    let mut given = 1;
    let refused = loop {
        let reply = registry.call("POST", "/token/device", &[FORM], b"client_id=slipway");
        if reply.status != 200 {
            break reply;
        }
        given += 1;
        assert!(given <= 20, "an address has so many");
    };
    assert_eq!(refused.refusal(), (429, "TOOMANYREQUESTS".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("60"));
    // a server that starts anew has forgotten them
    registry.restart_with(|config| {
        config.policy.web = true;
        config.access = access(&["users may all in **"], &["bob"], |_| {});
    });
    assert_eq!(registry.refused(&codes.device, "slipway"), "invalid_grant");
}
