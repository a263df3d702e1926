//! Mirrors: of another server of ours, and of upstreams that lie, dribble, break off and lead astray.

use super::{Registry, Reply, engines, image};
use crate::client::Proxies;
use crate::server::{Budgets, Mirrors, NamedMirror, PasswordSource};
use slipway_oci::{Digest, spec::media_type};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// Mirrors of these settings.
pub(super) fn mirrors(all: &[(&str, String)]) -> Arc<Mirrors> {
    let named = all.iter().map(|(name, text)| {
        let setting: crate::server::MirrorSetting = text.parse().expect(text);
        let password = match &setting.password {
            Some(PasswordSource::Text(text)) => Some(text.clone()),
            _ => None,
        };
        NamedMirror { name: (*name).to_owned(), setting, password, authorities: None }
    });
    Arc::new(Mirrors::new(named.collect(), &Proxies::default()).expect("mirrors"))
}

/// A mirror `up` of an upstream.
fn mirror(upstream: SocketAddr, words: &str) -> Registry {
    let text = format!("http://{upstream} {words}");
    Registry::start_with(|config| config.mirrors = mirrors(&[("up", text)]))
}

/// What an upstream does with a request: its head in lower case, and the connection.
type Behaviour = Arc<dyn Fn(&str, &mut TcpStream) + Send + Sync>;

/// An upstream that does what a test wants.
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl Fake {
    pub(super) fn start(behave: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let behaviour: Arc<Mutex<Behaviour>> = Arc::new(Mutex::new(Arc::new(behave)));
        let (all, own) = (Arc::clone(&seen), Arc::clone(&behaviour));
        // it ends with the test's process
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (all, own) = (Arc::clone(&all), Arc::clone(&own));
                thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0; 1];
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
                    if head.is_empty() {
                        return;
                    }
                    all.lock().expect("held").push(head.clone());
                    let behave = Arc::clone(&own.lock().expect("held"));
                    behave(&head, &mut stream);
                });
            }
        });
        Fake { address, seen, behaviour }
    }

    fn behave(&self, behave: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) {
        *self.behaviour.lock().expect("held") = Arc::new(behave);
    }

    /// Heads of its requests by now, in lower case.
    pub(super) fn heads(&self) -> Vec<String> {
        self.seen.lock().expect("held").clone()
    }

    /// Requests whose head has this in it.
    pub(super) fn asked(&self, what: &str) -> usize {
        self.seen.lock().expect("held").iter().filter(|head| head.contains(what)).count()
    }
}

pub(super) fn say(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let length = if headers.contains("content-length") {
        String::new()
    } else {
        format!("content-length: {}\r\n", body.len())
    };
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{length}{headers}\r\n");
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

/// An upstream with one image of one layer in every repository.
pub(super) fn honest(layer: Vec<u8>) -> impl Fn(&str, &mut TcpStream) + Send + Sync + 'static {
    let (manifest, digest) = (image(&layer, ""), Digest::sha256(&layer));
    let kind = format!(
        "content-type: {}\r\ndocker-content-digest: {}\r\n",
        media_type::OCI_MANIFEST,
        Digest::sha256(&manifest)
    );
    move |head, stream| {
        let bare = head.starts_with("head ");
        let body = |bytes: &[u8]| if bare { Vec::new() } else { bytes.to_vec() };
        let length = |bytes: &[u8]| format!("content-length: {}\r\n", bytes.len());
        if head.contains("/manifests/") {
            say(stream, "200 OK", &format!("{kind}{}", length(&manifest)), &body(&manifest));
        } else if head.contains(&digest.to_string()) {
            say(stream, "200 OK", &length(&layer), &body(&layer));
        } else if head.contains(&Digest::sha256(b"{}").to_string()) {
            say(stream, "200 OK", &length(b"{}"), &body(b"{}"));
        } else {
            say(stream, "404 Not Found", "", b"");
        }
    }
}

fn bytes(count: usize, seed: u8) -> Vec<u8> {
    (0..count).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed).collect()
}

/// What is stored here, without asking upstream.
fn is_stored(registry: &Registry, name: &str, digest: &Digest) -> bool {
    engines::has_blob(&registry.folder.path().join("registry"), name, digest)
}

#[test]
fn another_registry_s_image_comes_by_every_way_and_is_kept() {
    let upstream = Registry::start();
    let layer = bytes(3_000_000, 1);
    let (digest, manifest) = upstream.push_image("library/app", "1", &layer);
    let host = upstream.address();
    let mut own = mirror(host, "ns=up.example host=up.mirror:5000");
    let by = |own: &Registry, path: &str, headers: &[(&str, &str)]| own.call("GET", path, headers, b"");
    let layer_path = format!("blobs/{}", Digest::sha256(&layer));
    for (path, headers) in [
        ("/v2/mirror/up/library/app/{}", &[][..]),
        ("/v2/library/app/{}?ns=up.example", &[]),
        ("/v2/library/app/{}", &[("host", "up.mirror:5000")]),
        ("/v2/library/app/{}", &[("host", "UP.mirror:5000")]),
    ] {
        let found = by(&own, &path.replace("{}", "manifests/1"), headers);
        assert_eq!((found.status, found.body == manifest), (200, true), "{path}: {}", found.text());
        assert_eq!(found.header("docker-content-digest"), Some(digest.to_string().as_str()));
        let namespace = path.contains("ns=").then_some("up.example");
        assert_eq!(found.header("oci-namespace"), namespace, "{path}");
        let found = by(&own, &path.replace("{}", &layer_path), headers);
        assert_eq!((found.status, found.body == layer), (200, true), "{path}");
    }
    // closed: no other host is looked for, and no namesake is answered
    own.push_image("library/app", "1", b"local");
    for (path, status) in [
        ("/v2/library/app/manifests/1?ns=other.example", 404),
        (&format!("/v2/library/app/manifests/1?ns=http://{host}"), 404),
        ("/v2/library/app/manifests/1?ns=test", 200),
        ("/v2/library/app/manifests/1", 200),
    ] {
        assert_eq!(own.get(path).status, status, "{path}");
    }
    assert_eq!(own.get("/v2/library/app/manifests/1").header("oci-namespace"), None);
    // kept, also over a restart, and served while nobody answers
    drop(upstream);
    own.restart_with(|config| config.mirrors = mirrors(&[("up", format!("http://{host}"))]));
    let found = own.get(&format!("/v2/mirror/up/library/app/manifests/{digest}"));
    assert_eq!((found.status, found.header("warning")), (200, None));
    let found = own.get("/v2/mirror/up/library/app/manifests/1");
    assert_eq!((found.status, found.body == manifest), (200, true));
    let is_warned = found.header("warning").is_some_and(|text| text.starts_with("299 - \""));
    // what replicas have found out outlives each of them
    assert_eq!(is_warned, slipway_skip::engines::in_folders(), "{:?}", found.headers);
    assert_eq!(own.get(&format!("/v2/mirror/up/library/app/{layer_path}")).body, layer);
    assert_eq!(own.get("/v2/mirror/up/library/other/manifests/1").refusal(), (503, "UNKNOWN".to_owned()));
}

#[test]
fn what_upstream_lacks_is_not_there_and_nothing_is_pushed() {
    let upstream = Registry::start();
    upstream.push_image("a", "1", b"layer");
    let own = mirror(upstream.address(), "prefix=m");
    let none = Digest::sha256(b"nothing");
    for (method, path, expected) in [
        ("GET", "/v2/m/a/manifests/2".to_owned(), (404, "MANIFEST_UNKNOWN")),
        ("GET", format!("/v2/m/a/manifests/{none}"), (404, "MANIFEST_UNKNOWN")),
        ("GET", format!("/v2/m/a/blobs/{none}"), (404, "BLOB_UNKNOWN")),
        ("GET", "/v2/m/b/tags/list".to_owned(), (404, "NAME_UNKNOWN")),
        ("GET", "/v2/m/a/blobs/sha256:1".to_owned(), (400, "DIGEST_INVALID")),
        ("PUT", "/v2/m/a/manifests/1".to_owned(), (405, "UNSUPPORTED")),
        ("POST", "/v2/m/a/blobs/uploads/".to_owned(), (405, "UNSUPPORTED")),
        ("POST", format!("/v2/m/a/blobs/uploads/?mount={none}&from=b"), (405, "UNSUPPORTED")),
        (
            "PATCH",
            "/v2/m/a/blobs/uploads/00000000-0000-4000-8000-000000000000".to_owned(),
            (405, "UNSUPPORTED"),
        ),
    ] {
        let found = own.call(method, &path, &[], b"{}").refusal();
        assert_eq!((found.0, found.1.as_str()), expected, "{method} {path}");
    }
    assert_eq!(own.call("HEAD", &format!("/v2/m/a/blobs/{none}"), &[], b"").status, 404);
    // its neighbours are this registry's own
    own.push_image("m", "1", b"x");
    own.push_image("ma/b", "1", b"x");
    // a copy may go, and comes again
    assert_eq!(own.get("/v2/m/a/manifests/1").status, 200);
    assert_eq!(own.call("DELETE", "/v2/m/a/manifests/1", &[], b"").status, 202);
    assert_eq!(own.get("/v2/m/a/manifests/1").status, 200);
}

#[test]
fn an_index_is_fetched_as_far_as_it_is_asked_for() {
    let upstream = Registry::start();
    let (one, first) = upstream.push_image("a", "one", b"one");
    let (two, second) = upstream.push_image("a", "two", b"two");
    let entry = |digest: &Digest, bytes: &[u8]| {
        format!(
            r#"{{"mediaType":"{}","digest":"{digest}","size":{}}}"#,
            media_type::OCI_MANIFEST,
            bytes.len()
        )
    };
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{},{}]}}"#,
        media_type::OCI_INDEX,
        entry(&one, &first),
        entry(&two, &second)
    );
    assert_eq!(upstream.put_manifest("a", "all", media_type::OCI_INDEX, index.as_bytes()).status, 201);
    let own = mirror(upstream.address(), "");
    let found = own.get("/v2/mirror/up/a/manifests/all");
    assert_eq!((found.status, found.text()), (200, index));
    assert_eq!(found.header("content-type"), Some(media_type::OCI_INDEX));
    assert_eq!(own.get(&format!("/v2/mirror/up/a/manifests/{one}")).body, first);
    assert_eq!(own.get(&format!("/v2/mirror/up/a/blobs/{}", Digest::sha256(b"one"))).body, b"one");
    drop(upstream);
    assert_eq!(own.get(&format!("/v2/mirror/up/a/manifests/{two}")).status, 503, "nobody asked for it");
    assert!(!is_stored(&own, "mirror/up/a", &Digest::sha256(b"two")));
    assert!(is_stored(&own, "mirror/up/a", &Digest::sha256(b"one")));
}

#[test]
fn tags_are_believed_for_as_long_as_the_settings_say() {
    let upstream = Fake::start(honest(b"one".to_vec()));
    let own = mirror(upstream.address, "fresh=v*=24h fresh=**:pin=forever fresh=0s");
    let get = |tag: &str| own.get(&format!("/v2/mirror/up/a/manifests/{tag}"));
    let asked = || (upstream.asked("head /v2/a/manifests"), upstream.asked("get /v2/a/manifests"));
    for _ in 0..3 {
        assert_eq!((get("v1").status, get("pin").status, get("latest").status), (200, 200, 200));
    }
    assert_eq!(asked(), (2, 3), "what is not fresh is looked at by HEAD");
    let digest = Digest::sha256(&get("v1").body);
    assert_eq!(get(&digest.to_string()).status, 200);
    assert_eq!(asked(), (2, 3), "a digest is what it is");
    // it moves
    upstream.behave(honest(b"two".to_vec()));
    let other = image(b"two", "");
    assert!(get("v1").body != other && get("pin").body != other && get("latest").body == other);
    assert_eq!(asked(), (3, 4));
    // it goes
    upstream.behave(|_, stream| say(stream, "404 Not Found", "", b""));
    assert_eq!((get("v1").status, get("latest").status), (200, 404));
}

#[test]
fn one_fetch_serves_all_who_wait_whatever_becomes_of_some() {
    let layer = bytes(6_000_000, 2);
    let digest = Digest::sha256(&layer);
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let (own_gate, content) = (Arc::clone(&gate), layer.clone());
    let upstream = Fake::start(move |_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", content.len());
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&content[..3_000_000]);
        let mut open = own_gate.0.lock().expect("held");
        while !*open {
            open = own_gate.1.wait(open).expect("held");
        }
        let _ = stream.write_all(&content[3_000_000..]);
    });
    let own = mirror(upstream.address, "");
    let request =
        format!("GET /v2/mirror/up/a/blobs/{digest} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    // one that takes nothing, and stays
    let mut still = own.connect();
    still.write_all(request.as_bytes()).expect("a request");
    // those that leave when they have seen some of it, before upstream is done
    let leavers: Vec<TcpStream> = (0..5)
        .map(|_| {
            let mut stream = own.connect();
            stream.write_all(request.as_bytes()).expect("a request");
            let mut some = vec![0; 1_000_000];
            stream.read_exact(&mut some).expect("bytes while upstream has not sent them all");
            stream
        })
        .collect();
    drop(leavers);
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = own.connect();
            stream.write_all(request.as_bytes()).expect("a request");
            thread::spawn(move || Reply::read(stream, false))
        })
        .collect();
    let range = own.connect();
    (&range)
        .write_all(request.replace("host: test", "host: test\r\nrange: bytes=2999990-3000009").as_bytes())
        .expect("a request");
    *gate.0.lock().expect("held") = true;
    gate.1.notify_all();
    for one in waiting {
        let reply = one.join().expect("a client");
        assert_eq!((reply.status, reply.body == layer), (200, true));
    }
    let part = Reply::read(range, false);
    assert_eq!((part.status, part.body.as_slice()), (206, &layer[2_999_990..3_000_010]));
    assert_eq!(part.header("content-range"), Some("bytes 2999990-3000009/6000000"));
    assert_eq!(upstream.asked("get "), 1, "one fetch for all");
    assert!(is_stored(&own, "mirror/up/a", &digest));
    assert_eq!(Reply::read(still, false).body, layer);
    assert_eq!(own.get(&format!("/v2/mirror/up/a/blobs/{digest}")).body, layer);
    assert_eq!(upstream.asked("get "), 1);
}

#[test]
fn what_another_repository_has_comes_no_second_time_where_upstream_has_it_too() {
    let layer = bytes(100_000, 7);
    let digest = Digest::sha256(&layer);
    let upstream = Fake::start(honest(layer.clone()));
    let own = mirror(upstream.address, "");
    own.push_blob("private", &layer);
    for name in ["a", "b"] {
        let found = own.get(&format!("/v2/mirror/up/{name}/blobs/{digest}"));
        assert_eq!((found.status, found.body == layer), (200, true), "{name}");
    }
    assert_eq!((upstream.asked("head "), upstream.asked("get ")), (2, 0));
    // what is here is no answer where upstream has it not
    upstream.behave(|_, stream| say(stream, "404 Not Found", "", b""));
    assert_eq!(own.get(&format!("/v2/mirror/up/c/blobs/{digest}")).status, 404);
    upstream.behave(|_, stream| say(stream, "401 Unauthorized", "", b""));
    assert_eq!(own.get(&format!("/v2/mirror/up/d/blobs/{digest}")).status, 403);
}

#[test]
fn every_name_may_be_an_upstream_s_and_settings_change_while_it_runs() {
    let (one, two) = (Fake::start(honest(b"one".to_vec())), Fake::start(honest(b"two".to_vec())));
    let text = |upstream: &Fake, words: &str| format!("http://{} {words}", upstream.address);
    let all = vec![("one", text(&one, "host=*")), ("two", text(&two, "host=two.example"))];
    let own = Registry::start_with(|config| {
        config.mirrors = mirrors(&all);
        config.policy.read_only = true;
    });
    let get = |path: &str, host: &str| own.call("GET", path, &[("host", host)], b"").body;
    let (first, second) = (image(b"one", ""), image(b"two", ""));
    for (path, host, expected) in [
        ("/v2/library/app/manifests/1", "anything", &first),
        ("/v2/library/app/manifests/1", "two.example", &second),
        ("/v2/mirror/two/library/app/manifests/1", "anything", &second),
        ("/v2/mirror/one/library/app/manifests/1", "two.example", &first),
    ] {
        assert_eq!(get(path, host), *expected, "{path} {host}");
    }
    assert_eq!(own.call("PUT", "/v2/library/app/manifests/1", &[], b"{}").status, 405);
    let control = own.server.as_ref().expect("a server").control();
    control.replace_mirrors(mirrors(&[("two", text(&two, "host=*"))]));
    assert_eq!(get("/v2/library/other/manifests/1", "anything"), second);
    // what came stays, under its name
    assert!(!get("/v2/mirror/one/library/app/manifests/1", "anything").is_empty());
    control.replace_mirrors(mirrors(&[]));
    assert_eq!(own.get("/v2/library/other/manifests/1").status, 404);
    assert_eq!(get("/v2/mirror/one/library/app/manifests/1", "anything"), first);
}

/// A proxy that leads to one place, whatever it is asked for.
fn tunnel(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0; 1]);
                while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|read| read > 0) {
                    head.push(byte[0]);
                }
                let mut server = TcpStream::connect(to).expect("the upstream");
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("an answer");
                let (mut back, mut forth) =
                    (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
                thread::spawn(move || std::io::copy(&mut back, &mut forth));
                let _ = std::io::copy(&mut client, &mut server);
            });
        }
    });
    address
}

#[test]
fn upstreams_over_tls_are_believed_by_their_authority() {
    let part = |name: &str| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/client/tests/tls/");
        std::fs::read(format!("{folder}{name}")).expect("a file")
    };
    let upstream = Registry::start_with(|config| {
        let tls = crate::server::Tls::from_pem(&part("leaf.crt"), &part("server.key"), None);
        config.tls = Some(tls.expect("a certificate"));
    });
    let proxy = tunnel(upstream.address());
    let proxies =
        Proxies::from_environment(|name| (name == "HTTPS_PROXY").then(|| format!("http://{proxy}")));
    for (authority, status) in [(Some("root.crt"), 404), (Some("stranger.crt"), 503), (None, 503)] {
        let setting = "https://registry.test".parse().expect("a setting");
        let authorities = authority.map(|name| {
            crate::client::Authorities::from_pem(name.as_ref(), &part(name)).expect("authorities")
        });
        let named = NamedMirror { name: "up".to_owned(), setting, password: None, authorities };
        let all = Mirrors::new(vec![named], &proxies).expect("mirrors");
        let own = Registry::start_with(|config| config.mirrors = Arc::new(all));
        // whoever is believed says that there is none
        assert_eq!(own.get("/v2/mirror/up/a/manifests/1").status, status, "{authority:?}");
    }
}

#[test]
fn one_request_brings_a_manifest_to_all_who_ask() {
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let content = honest(b"x".to_vec());
    let upstream = Fake::start(move |head, stream| {
        // ends when the test says so
        let _ = gate.lock().expect("held").recv();
        content(head, stream);
    });
    let own = mirror(upstream.address, "");
    let request =
        "GET /v2/mirror/up/a/manifests/1 HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n".as_bytes();
    let ask = || {
        let mut stream = own.connect();
        stream.write_all(request).expect("a request");
        stream
    };
    let leaver = ask();
    let until = Instant::now() + Duration::from_secs(20);
    while upstream.asked("") == 0 {
        assert!(Instant::now() < until, "nobody is asked");
        thread::sleep(Duration::from_millis(10));
    }
    let waiting: Vec<TcpStream> = (0..50).map(|_| ask()).collect();
    // who began it goes away
    drop(leaver);
    // a HEAD joins them
    let head = thread::scope(|scope| {
        let head = scope.spawn(|| own.call("HEAD", "/v2/mirror/up/a/manifests/1", &[], b""));
        thread::sleep(Duration::from_millis(300));
        drop(open);
        head.join().expect("a client")
    });
    assert_eq!(head.status, 200);
    for stream in waiting {
        assert_eq!(Reply::read(stream, false).body, image(b"x", ""));
    }
    assert_eq!(upstream.asked(""), 1, "{:?}", upstream.seen);
}

#[test]
fn a_blob_that_breaks_off_is_taken_up_or_cut() {
    let layer = bytes(2_000_000, 3);
    let digest = Digest::sha256(&layer);
    for (ranges, whole) in [("yes", true), ("ignored", true), ("never", false)] {
        let content = layer.clone();
        let upstream = Fake::start(move |head, stream| {
            let from =
                head.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok());
            match from {
                None => {
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", content.len());
                    let _ = stream.write_all(head.as_bytes());
                    let _ = stream.write_all(&content[..700_000]);
                }
                Some(_) if ranges == "ignored" => say(stream, "200 OK", "", &content),
                Some(from) if ranges == "yes" => {
                    let from: usize = from;
                    let range =
                        format!("content-range: bytes {from}-{}/{}\r\n", content.len() - 1, content.len());
                    say(stream, "206 Partial Content", &range, &content[from..]);
                }
                Some(_) => say(stream, "404 Not Found", "", b""),
            }
        });
        let own = mirror(upstream.address, "");
        let reply = own.get(&format!("/v2/mirror/up/a/blobs/{digest}"));
        assert_eq!(reply.status, 200, "{ranges}");
        assert_eq!(reply.header("content-length"), Some("2000000"));
        assert_eq!(reply.body == layer, whole, "{ranges}");
        assert!(whole || reply.body.len() < layer.len() && layer.starts_with(&reply.body), "{ranges}");
        assert_eq!(is_stored(&own, "mirror/up/a", &digest), whole, "{ranges}");
    }
}

#[test]
fn wrong_blobs_never_look_whole_and_are_not_kept() {
    let layer = bytes(300_000, 4);
    let digest = Digest::sha256(&layer);
    let mut wrong = layer.clone();
    wrong[299_999] ^= 1;
    type Say = Box<dyn Fn(&mut TcpStream) + Send + Sync>;
    let (other, long, short) =
        (wrong.clone(), [layer.clone(), b"more".to_vec()].concat(), layer[..299_000].to_vec());
    let cases: Vec<(&str, Say)> = vec![
        ("another digest", Box::new(move |stream| say(stream, "200 OK", "", &other))),
        ("another digest, no length", {
            let wrong = wrong.clone();
            Box::new(move |stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(&wrong);
            })
        }),
        ("another digest, chunked", {
            Box::new(move |stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                let _ = stream.write_all(format!("{:x}\r\n", wrong.len()).as_bytes());
                let _ = stream.write_all(&wrong);
                let _ = stream.write_all(b"\r\n0\r\n\r\n");
            })
        }),
        ("longer", Box::new(move |stream| say(stream, "200 OK", "", &long))),
        ("shorter", Box::new(move |stream| say(stream, "200 OK", "", &short))),
        ("nothing", Box::new(|stream| say(stream, "200 OK", "", b""))),
        ("a part that nobody asked for", {
            let layer = layer.clone();
            Box::new(move |stream| {
                say(stream, "206 Partial Content", "content-range: bytes 5-299999/300000\r\n", &layer[5..]);
            })
        }),
        ("an error page", Box::new(|stream| say(stream, "200 OK", "content-type: text/html\r\n", b"<html>"))),
    ];
    for (what, behave) in cases {
        let upstream = Fake::start(move |_, stream| behave(stream));
        let own = mirror(upstream.address, "");
        let path = format!("/v2/mirror/up/a/blobs/{digest}");
        let mut stream = own.connect();
        let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("a request");
        let mut raw = Vec::new();
        let _ = stream.read_to_end(&mut raw);
        let text = String::from_utf8_lossy(&raw);
        let complete = match text.split("\r\n\r\n").next().unwrap_or_default() {
            // before its head had left
            "" => Some(false),
            head if !head.starts_with("HTTP/1.1 200") => head.starts_with("HTTP/1.1 50").then_some(false),
            head if head.contains("transfer-encoding: chunked") => Some(raw.ends_with(b"0\r\n\r\n")),
            head => {
                let end = head.len() + 4;
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
                let length: usize = length.and_then(|text| text.parse().ok()).expect("a length");
                Some(raw.len() - end >= length)
            }
        };
        assert_eq!(
            complete,
            Some(false),
            "{what}: {} bytes, {}",
            raw.len(),
            text.chars().take(300).collect::<String>()
        );
        assert!(!is_stored(&own, "mirror/up/a", &digest), "{what}");
        // and the next one is right
        let content = layer.clone();
        upstream.behave(move |_, stream| say(stream, "200 OK", "", &content));
        let until = Instant::now() + Duration::from_secs(20);
        while own.get(&path).body != layer {
            assert!(Instant::now() < until, "{what}: it does not heal");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn wrong_manifests_are_refused_and_not_kept() {
    let right = image(b"x", "");
    let digest = Digest::sha256(&right);
    let kind = format!("content-type: {}\r\n", media_type::OCI_MANIFEST);
    let lie = format!("{kind}docker-content-digest: {}\r\n", Digest::sha256(b"other"));
    let huge = [right.clone(), vec![b' '; 5 << 20]].concat();
    for (what, reference, headers, body) in [
        ("another digest", digest.to_string(), kind.clone(), image(b"y", "")),
        ("a header that lies", "latest".to_owned(), lie, right.clone()),
        ("a page", "latest".to_owned(), "content-type: text/html\r\n".to_owned(), b"<html></html>".to_vec()),
        ("JSON of another kind", "latest".to_owned(), kind.clone(), b"{\"a\":1}".to_vec()),
        ("nothing", "latest".to_owned(), kind.clone(), Vec::new()),
        ("too much", "latest".to_owned(), kind.clone(), huge),
    ] {
        let upstream = Fake::start(move |_, stream| say(stream, "200 OK", &headers, &body));
        let own = mirror(upstream.address, "");
        for _ in 0..2 {
            let reply = own.get(&format!("/v2/mirror/up/a/manifests/{reference}"));
            assert_eq!(reply.refusal(), (502, "UNKNOWN".to_owned()), "{what}: {}", reply.text());
            assert!(!reply.text().contains("127.0.0.1"), "{what}: {}", reply.text());
        }
        upstream.behave(honest(b"x".to_vec()));
        assert_eq!(own.get(&format!("/v2/mirror/up/a/manifests/{reference}")).body, right, "{what}");
    }
}

#[test]
fn bodies_without_an_end_and_without_haste_are_given_up() {
    let digest = Digest::sha256(b"x");
    let endless = Fake::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        while stream.write_all(&[0; 64 << 10]).is_ok() {}
    });
    let slow = Fake::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    for (what, upstream) in [("endless", &endless), ("slow", &slow)] {
        let text = format!("http://{}", upstream.address);
        let own = Registry::start_with(|config| {
            config.mirrors = mirrors(&[("up", text)]);
            config.policy.max_blob = Some(8 << 20);
            config.budgets =
                Budgets { pause: Duration::from_millis(400), rate_bytes: 1 << 20, ..Budgets::default() };
        });
        let begun = Instant::now();
        let mut stream = own.connect();
        let head = format!("GET /v2/mirror/up/a/blobs/{digest} HTTP/1.1\r\nhost: test\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("a request");
        let mut raw = Vec::new();
        let _ = stream.read_to_end(&mut raw);
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        assert!(raw.len() < 9 << 20 && !raw.ends_with(b"0\r\n\r\n"), "{what}");
        assert!(!is_stored(&own, "mirror/up/a", &digest), "{what}");
        assert!(upstream.asked("get ") <= 6, "{what}: {}", upstream.asked("get "));
        let left = || engines::uploads(&own.folder.path().join("registry"));
        let until = Instant::now() + Duration::from_secs(20);
        while left() > 0 {
            assert!(Instant::now() < until, "{what}: what came is dropped");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn an_upstream_that_has_had_enough_is_left_alone() {
    let upstream = Fake::start(honest(b"x".to_vec()));
    let own = mirror(upstream.address, "fresh=0s");
    let get = |tag: &str| own.get(&format!("/v2/mirror/up/a/manifests/{tag}"));
    assert_eq!(get("1").status, 200);
    upstream.behave(|_, stream| say(stream, "429 Too Many Requests", "retry-after: 60\r\n", b""));
    let before = upstream.asked("");
    for _ in 0..30 {
        let known = get("1");
        assert_eq!(known.status, 200, "what is here is served");
        assert!(known.header("warning").is_some_and(|text| text.contains("no more requests")));
        let unknown = get("2");
        assert_eq!(unknown.refusal(), (429, "TOOMANYREQUESTS".to_owned()));
        let wait: u64 = unknown.header("retry-after").and_then(|text| text.parse().ok()).expect("a time");
        assert!((30..=60).contains(&wait), "{wait}");
        let blob = own.get(&format!("/v2/mirror/up/a/blobs/{}", Digest::sha256(b"x")));
        assert_eq!(blob.status, 429);
    }
    assert_eq!(upstream.asked("") - before, 1, "one answer is enough");
    // an upstream that fails is asked less and less
    let upstream = Fake::start(|_, stream| say(stream, "503 Service Unavailable", "", b""));
    let own = mirror(upstream.address, "");
    for at in 0..40 {
        assert_eq!(own.get(&format!("/v2/mirror/up/a/manifests/{at}")).status, 503);
    }
    assert!(upstream.asked("") <= 4, "{}", upstream.asked(""));
}

#[test]
fn redirects_lead_nowhere_that_the_settings_do_not_name() {
    let layer = bytes(100_000, 6);
    let digest = Digest::sha256(&layer);
    let elsewhere = Fake::start(honest(layer.clone()));
    let target = elsewhere.address;
    let start = |location: String| {
        Fake::start(move |head, stream| match head.contains("authorization: basic") {
            true => say(stream, "307 Temporary Redirect", &format!("location: {location}\r\n"), b""),
            false => say(stream, "401 Unauthorized", "www-authenticate: Basic realm=\"r\"\r\n", b""),
        })
    };
    let path = format!("/v2/a/blobs/{digest}");
    for (words, location, allowed) in [
        ("", format!("http://{target}{path}"), false),
        ("redirect=*", format!("http://{target}{path}"), false),
        ("redirect=*", format!("http://localhost:{}{path}", target.port()), false),
        ("redirect=*", format!("http://[::ffff:127.0.0.1]:{}{path}", target.port()), false),
        ("redirect=127.0.0.1", format!("http://{target}{path}"), false),
        ("redirect=*.example", format!("http://{target}{path}"), false),
        ("redirect=*", "http://169.254.169.254/latest/meta-data/".to_owned(), false),
        ("redirect=*", "file:///etc/passwd".to_owned(), false),
        ("redirect=*", "gopher://127.0.0.1/".to_owned(), false),
        (&format!("redirect={target}"), format!("http://{target}{path}"), true),
    ] {
        let before = elsewhere.asked("");
        let upstream = start(location.clone());
        let own = mirror(upstream.address, &format!("user=u password=secret {words}"));
        let reply = own.get(&format!("/v2/mirror/up{}", path.trim_start_matches("/v2")));
        assert_eq!(
            reply.status == 200 && reply.body == layer,
            allowed,
            "{words} {location}: {}",
            reply.text()
        );
        assert!(allowed || matches!(reply.status, 403 | 502), "{words} {location}: {}", reply.status);
        assert_eq!(elsewhere.asked("") - before, usize::from(allowed), "{words} {location}");
    }
    assert_eq!(elsewhere.asked("authorization"), 0, "no password travels along");
}

#[test]
fn passwords_go_to_their_upstream_and_its_named_token_service_alone() {
    let thief = Fake::start(|_, stream| say(stream, "200 OK", "", b"{\"token\":\"t\"}"));
    let realm = thief.address;
    let upstream = Fake::start(move |head, stream| {
        if head.contains("authorization: bearer t") {
            return honest(b"x".to_vec())(head, stream);
        }
        let challenge = format!("www-authenticate: Bearer realm=\"http://{realm}/token\",service=\"s\"\r\n");
        say(stream, "401 Unauthorized", &challenge, b"");
    });
    for words in ["", "user=u password=secret", "user=u password=secret token=127.0.0.1", "token=localhost:1"]
    {
        let own = mirror(upstream.address, words);
        let reply = own.get("/v2/mirror/up/a/manifests/1");
        assert_eq!(reply.refusal(), (403, "DENIED".to_owned()), "{words}");
        assert_eq!(thief.asked(""), 0, "{words}: an address that nobody named is not even dialled");
    }
    let own = mirror(upstream.address, &format!("user=u password=secret token={realm}"));
    assert_eq!(own.get("/v2/mirror/up/a/manifests/1").status, 200);
    assert_eq!(thief.asked("authorization: basic"), 1);
    assert_eq!(thief.asked("scope=repository%3aa%3apull"), 1, "{:?}", thief.seen);
}

#[test]
fn local_rules_say_who_may_pull_through() {
    let upstream = Fake::start(honest(b"x".to_vec()));
    let text = format!("http://{} ns=up.example", upstream.address);
    let own = Registry::start_with(|config| {
        config.mirrors = mirrors(&[("up", text)]);
        let rules = ["anyone may pull in mirror/up/open/**", "anyone may pull in a"];
        config.access = Arc::new(
            crate::server::access::Access::new(crate::server::access::AccessConfig {
                rules: rules.iter().map(|rule| rule.parse().expect("a rule")).collect(),
                token_endpoint: true,
                ..Default::default()
            })
            .expect("access"),
        );
    });
    let blob = Digest::sha256(b"x");
    for (path, status) in [
        ("/v2/mirror/up/open/a/manifests/1".to_owned(), 200),
        ("/v2/open/a/manifests/1?ns=up.example".to_owned(), 200),
        (format!("/v2/mirror/up/open/a/blobs/{blob}"), 200),
        ("/v2/mirror/up/shut/manifests/1".to_owned(), 403),
        // the name that it has here counts
        ("/v2/a/manifests/1?ns=up.example".to_owned(), 403),
        (format!("/v2/mirror/up/shut/blobs/{blob}"), 403),
        ("/v2/mirror/up/shut/tags/list".to_owned(), 403),
        (format!("/v2/mirror/up/shut/referrers/{blob}"), 403),
    ] {
        assert_eq!(own.get(&path).status, status, "{path}");
    }
    assert_eq!(
        (upstream.asked("/shut/"), upstream.asked("/v2/a/")),
        (0, 0),
        "nothing was asked for who may not"
    );
}

/// Content of a mirror goes by the last pull, as content of one's own does: what clients ask for stays, however they ask.
#[test]
fn pulls_through_a_mirror_keep_what_is_pulled() {
    use crate::server::storage::{Author, IsImmutable, Keeping, Retired, TagFacts};
    let fake = Fake::start(honest(bytes(1000, 5)));
    let text = format!("http://{} fresh=1h", fake.address);
    let mut registry = Registry::start_with(|config| config.mirrors = mirrors(&[("up", text.clone())]));
    let manifest = image(&bytes(1000, 5), "");
    let own = "/v2/mirror/up/a/manifests/";
    for tag in ["by-tag", "by-digest", "by-ns", "looked-at", "never-again"] {
        // a manifest in the cache by another way than a client's pull
        assert_eq!(registry.call("HEAD", &format!("{own}{tag}"), &[], b"").status, 200, "{tag}");
    }
    let digest = Digest::sha256(&manifest);
    registry.restart_with(|config| config.mirrors = mirrors(&[("up", text.clone())]));
    let pulled = |registry: &Registry| -> Vec<(String, u64)> {
        let storage = engines::beside(&registry.folder.path().join("registry"));
        let facts = storage.tag_facts("mirror/up/a", "", 10).expect("facts");
        facts.into_iter().map(|one| (one.tag, one.pulls)).collect()
    };
    assert!(pulled(&registry).iter().all(|(_, pulls)| *pulls == 0), "to look is not to pull");
    let asked = fake.asked("get ");
    assert_eq!(registry.get(&format!("{own}by-tag")).status, 200);
    assert_eq!(registry.get("/v2/a/manifests/by-ns?ns=up.example").status, 404, "no such name is set");
    assert_eq!(registry.call("HEAD", &format!("{own}looked-at"), &[], b"").status, 200);
    registry.restart_with(|config| config.mirrors = mirrors(&[("up", text.clone())]));
    assert_eq!(fake.asked("get "), asked, "from what is here");
    let counts = pulled(&registry);
    let of = |tag: &str| counts.iter().find(|(own, _)| own == tag).expect(tag).1;
    assert_eq!((of("by-tag"), of("looked-at"), of("never-again")), (1, 0, 0));
    // retention by the last pull, as the setting has it, in a year
    let rules = ["keep pulled within 30d in mirror/**".parse().expect("a sentence")];
    let storage = engines::beside(&registry.folder.path().join("registry"));
    let year = 365 * 86_400;
    let pull = crate::server::storage::Pulls {
        repository: "mirror/up/a".to_owned(),
        key: crate::server::storage::ManifestKey::Tag("by-tag".to_owned()),
        at: storage.tag_facts("mirror/up/a", "by-n", 1).expect("facts")[0].updated + year,
        count: 1,
    };
    storage.record_pulls(&[pull]).expect("a pull");
    let expired = |name: &str, facts: &[TagFacts], now: i64| {
        crate::server::retention::expired(&rules, name, facts, now + year)
    };
    let immutable = |_: &str| -> IsImmutable { Arc::new(|_| false) };
    let author = Author::default();
    let keeping = Keeping { expired: &expired, untagged: &|_| None, immutable: &immutable, author: &author };
    let mut gone = Vec::new();
    let mut note = |one: &Retired| {
        gone.extend(one.tag.clone());
        true
    };
    storage.retire(&keeping, false, &mut note).expect("retired");
    assert_eq!(gone, ["by-digest", "by-ns", "looked-at", "never-again"]);
    // by digest, as containerd and podman pull after they looked: that counts for every tag on it
    registry.get(&format!("{own}{digest}"));
    registry.restart_with(|config| config.mirrors = mirrors(&[("up", text.clone())]));
    assert_eq!(pulled(&registry), [("by-tag".to_owned(), 3)]);
}

/// All upstreams together take no more descriptors than there are for that.
#[test]
fn fetches_of_all_upstreams_are_bounded_together() {
    // requests under way, and the most of them
    let open: Arc<Mutex<(usize, usize)>> = Arc::default();
    let layer = bytes(50_000, 9);
    let fakes: Vec<Fake> = (0..6)
        .map(|_| {
            let (counted, whole) = (Arc::clone(&open), honest(layer.clone()));
            Fake::start(move |head, stream| {
                let mut now = counted.lock().expect("held");
                now.0 += 1;
                now.1 = now.1.max(now.0);
                drop(now);
                thread::sleep(Duration::from_millis(150));
                counted.lock().expect("held").0 -= 1;
                whole(head, stream);
            })
        })
        .collect();
    let place = |(number, fake): (usize, &Fake)| (format!("up{number}"), format!("http://{}", fake.address));
    let all: Vec<(String, String)> = fakes.iter().enumerate().map(place).collect();
    let registry = Registry::start_with(|config| {
        let named: Vec<(&str, String)> =
            all.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
        config.mirrors = mirrors(&named);
    });
    let shared = Arc::clone(&registry.server.as_ref().expect("a server").control().0);
    let permits = shared.fetches.streams.available_permits();
    // as where descriptors are few
    let taken =
        Arc::clone(&shared.fetches.streams).try_acquire_many_owned(permits as u32 - 2).expect("permits");
    let digest = Digest::sha256(&layer);
    thread::scope(|scope| {
        for number in 0..6 {
            let (registry, layer, digest) = (&registry, &layer, &digest);
            scope.spawn(move || {
                let reply = registry.get(&format!("/v2/mirror/up{number}/a{number}/blobs/{digest}"));
                assert_eq!((reply.status, &reply.body == layer), (200, true), "{number}");
            });
        }
    });
    assert!(open.lock().expect("held").1 <= 2, "two at a time");
    drop(taken);
    assert_eq!(shared.fetches.streams.available_permits(), permits, "every turn came back");
}

#[test]
fn what_a_quota_leaves_no_room_for_is_handed_on_and_not_kept() {
    let layer = bytes(300_000, 3);
    let fake = Fake::start(honest(layer.clone()));
    let text = format!("http://{} fresh=1h", fake.address);
    let registry = Registry::start_with(|config| {
        config.mirrors = mirrors(&[("up", text)]);
        config.policy.quotas = vec!["100000 in all of mirror/up".parse().expect("a quota")];
    });
    let (digest, manifest) = (Digest::sha256(&layer), image(&layer, ""));
    assert_eq!(registry.get("/v2/mirror/up/a/manifests/v").body, manifest, "there is room for that");
    for time in 1..=2 {
        let whole = registry.get(&format!("/v2/mirror/up/a/blobs/{digest}"));
        assert_eq!((whole.status, whole.body == layer), (200, true), "{time}");
        assert!(!is_stored(&registry, "mirror/up/a", &digest));
        assert_eq!(fake.asked(&format!("get /v2/a/blobs/{digest}")), time);
    }
    assert_eq!(registry.push_blob("own", &layer), digest);
    let whole = registry.get(&format!("/v2/mirror/up/a/blobs/{digest}"));
    assert_eq!((whole.status, whole.body == layer), (200, true), "nor mounted");
    let quotas = vec!["1 in all of mirror/up".parse().expect("a quota")];
    let policy = crate::server::Policy { quotas, ..crate::server::Policy::default() };
    registry.server.as_ref().expect("a server").control().replace_policy(policy);
    for reference in ["v".to_owned(), Digest::sha256(&manifest).to_string()] {
        let path = format!("/v2/mirror/up/b/manifests/{reference}");
        let reply = registry.get(&path);
        assert_eq!((reply.status, &reply.body), (200, &manifest), "{reference}");
        assert_eq!(reply.header("content-type"), Some(media_type::OCI_MANIFEST));
        assert_eq!(registry.call("HEAD", &path, &[], b"").status, 200);
    }
    assert_eq!(registry.get("/v2/mirror/up/a/manifests/v").body, manifest, "what was kept stays");
}

#[test]
fn lists_are_upstream_s_and_what_is_here_while_it_is_away() {
    let upstream = Registry::start();
    for tag in ["a", "b", "c"] {
        upstream.push_image("app", tag, tag.as_bytes());
    }
    let (subject, _) = upstream.push_image("app", "a", b"a");
    let attached = image(
        b"a",
        &format!(
            r#","artifactType":"x/y","subject":{{"mediaType":"{}","digest":"{subject}","size":1}}"#,
            media_type::OCI_MANIFEST
        ),
    );
    let attached_digest = Digest::sha256(&attached);
    let put = upstream.put_manifest("app", &attached_digest.to_string(), media_type::OCI_MANIFEST, &attached);
    assert_eq!(put.status, 201);
    let own = mirror(upstream.address(), "");
    let page = own.get("/v2/mirror/up/app/tags/list?n=2");
    assert_eq!(page.json(), serde_json::json!({ "name": "mirror/up/app", "tags": ["a", "b"] }));
    let link = page.header("link").expect("a next page").to_owned();
    let next = link.trim_start_matches('<').split('>').next().expect("an address");
    assert!(next.starts_with("/v2/mirror/up/app/tags/list?"), "{link}");
    assert_eq!(own.get(next).json()["tags"], serde_json::json!(["c"]));
    let referrers = format!("/v2/mirror/up/app/referrers/{subject}");
    let found = own.get(&referrers).json();
    assert_eq!(found["manifests"][0]["digest"], attached_digest.to_string());
    assert_eq!(found["manifests"][0]["artifactType"], "x/y");
    let found = own.get(&format!("{referrers}?artifactType=z"));
    assert_eq!(found.json()["manifests"], serde_json::json!([]));
    assert_eq!(found.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(own.get("/v2/mirror/up/app/manifests/b").status, 200);
    assert_eq!(
        own.get("/v2/_catalog").json()["repositories"],
        serde_json::json!(["mirror/up/app"]),
        "what is here"
    );
    drop(upstream);
    let stale = own.get("/v2/mirror/up/app/tags/list");
    assert_eq!((stale.status, stale.json()["tags"].clone()), (200, serde_json::json!(["b"])));
    assert!(stale.header("warning").is_some());
    let stale = own.get(&referrers);
    assert_eq!((stale.status, stale.header("warning").is_some()), (200, true));
}

#[test]
fn settings_that_mean_one_request_twice_are_refused() {
    for (all, word) in [
        (vec![("a", "https://one.example"), ("a", "https://two.example")], "two mirrors"),
        (vec![("A", "https://one.example")], "no name of a mirror"),
        (vec![("a", "https://one.example prefix=x"), ("b", "https://two.example prefix=x")], "in common"),
        (vec![("a", "https://one.example prefix=x"), ("b", "https://two.example prefix=x/y")], "in common"),
        (vec![("a", "https://one.example"), ("b", "https://one.example")], "both for `one.example`"),
        (vec![("a", "https://one.example host=m"), ("b", "https://two.example host=m")], "both for `m`"),
        (vec![("a", "https://one.example host=*"), ("b", "https://two.example host=*")], "both for `*`"),
    ] {
        let named = all.iter().map(|(name, text)| NamedMirror {
            name: (*name).to_owned(),
            setting: text.parse().expect("a setting"),
            password: None,
            authorities: None,
        });
        let error = Mirrors::new(named.collect(), &Proxies::default()).expect_err(word).to_string();
        assert!(error.contains(word), "{all:?}: {error}");
    }
}
