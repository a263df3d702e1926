//! What is seen from outside: numbers, health, and what is told of requests and changes.

use super::*;
use crate::server::{Change, Event, Handled, Place};
use std::sync::{Arc, Mutex};

/// A server with sockets of its own for numbers, and their address.
fn shown(change: impl FnOnce(&mut ServerConfig)) -> (Registry, SocketAddr, Arc<Mutex<Vec<String>>>) {
    let folder = tempfile::tempdir().expect("folder");
    let mut config = ServerConfig::new(folder.path().join("registry"));
    config.listen = vec![Listen::Address(SocketAddr::from(([127, 0, 0, 1], 0)))];
    config.metrics_listen = config.listen.clone();
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = Arc::clone(&told);
    config.observer = Some(Arc::new(move |event| {
        let words = match event {
            Event::Request(Handled {
                method, repository, status, sent, received, complete, client, ..
            }) => {
                assert_eq!(client.map(|client| client.is_loopback()), Some(true));
                format!("{method} {} {status} {received}>{sent} {complete}", repository.unwrap_or("-"))
            }
            Event::Change(Change { action, repository, tags, digest, user, .. }) => {
                let digest = digest.map_or("-", |digest| &digest[..11]);
                format!("{action} {repository} [{}] {digest} {}", tags.join(","), user.unwrap_or("-"))
            }
            _ => return,
        };
        notes.lock().expect("notes").push(words);
    }));
    change(&mut config);
    let server = engines::bind(config).expect("bind");
    let [Place::Address(outside)] = server.outside_places() else { panic!("one address") };
    let outside = *outside;
    (Registry { server: Some(server.spawn()), folder }, outside, told)
}

/// GET from the sockets for numbers.
fn get(at: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).expect("connect");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").expect("head");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a reply");
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, text.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

#[test]
fn numbers_say_what_was_done_and_what_there_is() {
    let (registry, outside, _) = shown(|_| {});
    registry.push_image("team/secret", "t", b"layer");
    registry.get("/v2/team/secret/manifests/t");
    registry.get("/v2/team/secret/manifests/none");
    registry.call("BREW", "/v2/", &[], b"");
    let (status, text) = get(outside, "/metrics");
    assert_eq!(status, 200);
    for line in [
        "slipway_requests_total{route=\"manifest\",method=\"GET\",status=\"200\"} 1",
        "slipway_requests_total{route=\"manifest\",method=\"GET\",status=\"404\"} 1",
        "slipway_requests_total{route=\"manifest\",method=\"PUT\",status=\"201\"} 1",
        "slipway_requests_total{route=\"upload\",method=\"POST\",status=\"201\"} 2",
        "slipway_requests_total{route=\"base\",method=\"other\",status=\"405\"} 1",
        "slipway_request_seconds_count{route=\"manifest\"} 3",
        "slipway_received_bytes_total{route=\"upload\"} 7",
        "slipway_store_repositories 1",
        "slipway_store_blobs 2",
        "slipway_store_bytes 7",
        "slipway_store_tags 1",
        "slipway_uploads_open 0",
        "slipway_failures_total 0",
        "slipway_draining 0",
    ] {
        assert!(text.lines().any(|own| own == line), "{line} in\n{text}");
    }
    assert!(!text.contains("secret"), "no names: {text}");
    // every line is a comment, or a name with a number
    for line in text.lines() {
        let number = line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok());
        assert!(line.starts_with("# HELP ") || line.starts_with("# TYPE ") || number.is_some(), "{line}");
    }
    // numbers of what lies there are looked up now and then, those of requests always
    registry.get("/v2/team/secret/manifests/t");
    let again = get(outside, "/metrics").1;
    assert!(
        again.contains("slipway_requests_total{route=\"manifest\",method=\"GET\",status=\"200\"} 2"),
        "{again}"
    );
    for path in ["/", "/v2/", "/metrics/x", "/v2/team/secret/manifests/t"] {
        assert_eq!(get(outside, path).0, 404, "{path}");
    }
}

#[test]
fn a_private_registry_shows_its_health_and_no_numbers() {
    let hash = crate::server::access::SecretHash::of("secret");
    let (registry, outside, _) = shown(|config| {
        let config_of = crate::server::access::AccessConfig {
            tokens: [("ann".to_owned(), hash)].into_iter().collect(),
            ..Default::default()
        };
        config.access = Arc::new(crate::server::access::Access::new(config_of).expect("access"));
    });
    for path in ["/healthz", "/readyz"] {
        let reply = registry.get(path);
        assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")), "{path}");
        assert_eq!(registry.call("HEAD", path, &[], b"").status, 200);
        let refused = registry.call("POST", path, &[], b"");
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
        assert_eq!(get(outside, path).0, 200);
    }
    assert_eq!(registry.get("/metrics").status, 404);
    assert_eq!(get(outside, "/metrics").0, 200);
    // one that is anybody's shows them to anybody
    let open = Registry::start();
    assert!(open.get("/metrics").text().contains("slipway_info"));
}

#[test]
fn requests_are_told_when_their_replies_have_ended() {
    let (registry, _, told) = shown(|_| {});
    let large = vec![7; 8 << 20];
    let digest = registry.push_blob("a", &large);
    let path = format!("/v2/a/blobs/{digest}");
    registry.get(&path);
    registry.call("HEAD", &path, &[], b"");
    // a client that leaves in the midst
    let mut stream = registry.connect();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").expect("head");
    stream.read_exact(&mut [0; 100]).expect("a piece");
    drop(stream);
    let has =
        |what: &str| told.lock().expect("notes").iter().any(|line| line == what || line.ends_with(what));
    for _ in 0..500 {
        if has(" false") {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let bytes = large.len();
    assert!(has(&format!("POST a 201 {bytes}>0 true")), "{:?}", told.lock());
    assert!(has(&format!("GET a 200 0>{bytes} true")) && has("HEAD a 200 0>0 true"), "{:?}", told.lock());
    assert!(has(" false"), "{:?}", told.lock());
}

#[test]
fn every_change_is_told_and_what_fails_is_none() {
    let (registry, _, told) = shown(|_| {});
    let (digest, bytes) = registry.push_image("a", "t", b"layer");
    let layer = Digest::sha256(b"layer");
    let many = format!("{digest}?tag=x&tag=y");
    assert_eq!(registry.put_manifest("a", &many, media_type::OCI_MANIFEST, &bytes).status, 201);
    registry.call("POST", &format!("/v2/b/blobs/uploads/?mount={layer}&from=a"), &[], b"");
    registry.call("POST", &format!("/v2/b/blobs/uploads/?mount={layer}&from=none"), &[], b"");
    let session = registry.session("b");
    registry.call("PUT", &format!("{session}?digest={}", Digest::sha256(b"more")), &[], b"more");
    registry.call("DELETE", "/v2/a/manifests/t", &[], b"");
    registry.call("DELETE", "/v2/a/manifests/t", &[], b"");
    registry.call("DELETE", &format!("/v2/a/manifests/{digest}"), &[], b"");
    registry.call("DELETE", &format!("/v2/b/blobs/{layer}"), &[], b"");
    registry.get("/v2/a/tags/list");
    let told = told.lock().expect("notes");
    let changes: Vec<&str> =
        told.iter().map(String::as_str).filter(|line| line.starts_with(|c: char| c.is_lowercase())).collect();
    let short = |digest: &Digest| digest.to_string()[..11].to_owned();
    let (config, image, layer) = (short(&Digest::sha256(b"{}")), short(&digest), short(&layer));
    assert_eq!(
        changes,
        [
            format!("blob-push a [] {config} -"),
            format!("blob-push a [] {layer} -"),
            format!("push a [t] {image} -"),
            format!("push a [x,y] {image} -"),
            format!("blob-mount b [] {layer} -"),
            format!("blob-push b [] {} -", short(&Digest::sha256(b"more"))),
            "delete a [t] - -".to_owned(),
            format!("delete a [] {image} -"),
            format!("blob-delete b [] {layer} -"),
        ]
    );
}
