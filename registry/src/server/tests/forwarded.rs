//! Proxies in front: whose word about a client is taken, over the wire.

use super::{
    access::{access, basic},
    *,
};
use crate::server::{Event, Limits, Policy};
use std::sync::{Arc, Mutex};

type Seen = Arc<Mutex<Vec<String>>>;

/// A server with `limits` that trusts these, and the clients that its log has.
fn start(trusted: &[&str], limits: &[&str]) -> (Registry, Seen) {
    let seen = Seen::default();
    let told = Arc::clone(&seen);
    let registry = Registry::start_with(|config| {
        let mut all = Limits::default();
        limits.iter().for_each(|text| all.add(&text.parse().expect(text)));
        let trusted_proxies = trusted.iter().map(|text| text.parse().expect(text)).collect();
        config.policy = Policy { limits: all, trusted_proxies, ..Policy::default() };
        config.access = access(&["anyone may pull in **", "users may all in **"], &["ann"], |_| {});
        config.observer = Some(Arc::new(move |event| {
            if let Event::Request(handled) = event {
                let client = handled.client.map_or("nowhere".to_owned(), |client| client.to_string());
                told.lock().expect("held").push(client);
            }
        }));
    });
    (registry, seen)
}

fn last(seen: &Seen) -> String {
    // told when the reply is complete
    for _ in 0..1000 {
        if let Some(last) = seen.lock().expect("held").pop() {
            return last;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("nothing was told")
}

#[test]
fn limits_and_logs_are_of_the_client_that_a_trusted_proxy_names() {
    let (registry, seen) = start(&["127.0.0.0/8"], &["address: 3 requests/h"]);
    let ask = |from: &str| registry.call("GET", "/v2/a/tags/list", &[("x-forwarded-for", from)], b"").status;
    for _ in 0..3 {
        assert_eq!(ask("1.1.1.1, 198.51.100.9"), 404);
        assert_eq!(last(&seen), "198.51.100.9");
    }
    // another invention at the left is the same client
    assert_eq!(ask("2.2.2.2, 198.51.100.9"), 429);
    assert_eq!(ask("198.51.100.9, 127.0.0.5"), 429);
    assert_eq!(ask("198.51.100.10"), 404);
    assert_eq!(ask("2001:db8:1:2::1"), 404);
    let _ = (0..2).map(|_| ask("2001:db8:1:2::2")).collect::<Vec<_>>();
    assert_eq!(ask("[2001:db8:1:2::3]:99"), 429, "64 bits of IPv6 are one client");
    assert_eq!(ask("2001:db8:1:3::1"), 404);
    // moves of tags remember it
    let shown = basic("ann", "secret of ann");
    let put = |path: &str, kind: &str, bytes: &[u8]| {
        let headers =
            [("authorization", shown.as_str()), ("forwarded", "for=203.0.113.5"), ("content-type", kind)];
        let method = if path.contains("/manifests/") { "PUT" } else { "POST" };
        assert_eq!(registry.call(method, path, &headers, bytes).status, 201);
    };
    for bytes in [b"{}".as_slice(), b"layer"] {
        put(&format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(bytes)), "", bytes);
    }
    put("/v2/a/manifests/v", media_type::OCI_MANIFEST, &image(b"layer", ""));
    let storage = Arc::clone(&registry.server.as_ref().expect("a server").control().0.storage);
    let moved = storage.tag_history("a", Some("v"), i64::MAX, 1).expect("moves").remove(0);
    assert_eq!(moved.change.origin.as_deref(), Some("203.0.113.5"));
}

#[test]
fn nobody_invents_an_address() {
    let spoofed = [
        ("x-forwarded-for", "198.51.100.9"),
        ("forwarded", "for=198.51.100.9"),
        ("x-real-ip", "198.51.100.9"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
    ];
    for trusted in [&["10.0.0.0/8", "unix", "::ffff:127.0.0.2"][..], &[]] {
        let (registry, seen) = start(trusted, &["address: 3 requests/h"]);
        let realm = |reply: &Reply| reply.header("www-authenticate").expect("a challenge").to_owned();
        let asked = realm(&registry.call("GET", "/v2/", &spoofed, b""));
        assert_eq!(last(&seen), "127.0.0.1");
        let scheme = if trusted.is_empty() { "https" } else { "http" };
        assert!(asked.contains(&format!("realm=\"{scheme}://test/token\"")), "{asked}");
        for number in 0..2 {
            let from = format!("198.51.100.{number}");
            registry.call("GET", "/v2/", &[("x-forwarded-for", &from)], b"");
        }
        assert_eq!(registry.call("GET", "/v2/", &[("x-forwarded-for", "1.2.3.4")], b"").status, 429);
    }
}

#[test]
fn addresses_of_the_registry_are_those_that_clients_know() {
    let (registry, _) = start(&["127.0.0.1"], &[]);
    let realm = |headers: &[(&str, &str)]| {
        let reply = registry.call("GET", "/v2/", headers, b"");
        let challenge = reply.header("www-authenticate").expect("a challenge").to_owned();
        challenge.split('"').nth(1).expect("a realm").to_owned()
    };
    let (proto, host) = (("x-forwarded-proto", "https"), ("x-forwarded-host", "r.example:8443"));
    assert_eq!(realm(&[proto, host]), "https://r.example:8443/token");
    assert_eq!(realm(&[host]), "http://r.example:8443/token");
    assert_eq!(realm(&[proto]), "https://test/token");
    assert_eq!(
        realm(&[("forwarded", "for=1.1.1.1;proto=https;host=\"r.example:8443\"")]),
        "https://r.example:8443/token"
    );
    // what would end the quoted string, or is no host
    for wrong in ["a\",x=\"y", "a b", "a/b", "", "\u{e4}", &"h".repeat(300)] {
        assert_eq!(realm(&[("x-forwarded-host", wrong)]), "http://test/token", "{wrong}");
    }
}

#[test]
fn a_megabyte_of_headers_is_refused_and_garbage_is_nobody_s_address() {
    let (registry, seen) = start(&["127.0.0.0/8"], &[]);
    let mut stream = registry.connect();
    stream.write_all(b"GET /v2/a/tags/list HTTP/1.1\r\nhost: test\r\n").expect("a head");
    for _ in 0..2000 {
        // it is cut off before its end
        if stream.write_all(format!("x-forwarded-for: {}\r\n", "1.1.1.1,".repeat(64)).as_bytes()).is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"\r\n");
    let mut answer = [0; 12];
    // the reply, or a connection that is closed over it
    if stream.read_exact(&mut answer).is_ok() {
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
    for garbage in ["'; DROP TABLE tags; --", "<script>", "127.0.0.1\t127.0.0.2", "::::", "\u{202e}1.1.1.1"] {
        let reply = registry.call("GET", "/v2/a/tags/list", &[("x-forwarded-for", garbage)], b"");
        if reply.status == 404 {
            assert_eq!(last(&seen), "127.0.0.1", "{garbage:?}");
        } else {
            assert_eq!(reply.status, 400, "{garbage:?}");
        }
    }
    assert_eq!(registry.get("/v2/a/tags/list").status, 404);
}
