//! Connections that cost more than they should: each state ends by itself, and others are served meanwhile.

use super::*;
use crate::server::Budgets;
use std::time::Instant;

/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame (RFC 9113, section 6.5).
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// SETTINGS with SETTINGS_INITIAL_WINDOW_SIZE of 0.
const NO_WINDOW: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
/// Longest wait for something that takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(20);

fn short() -> Budgets {
    Budgets {
        idle: Duration::from_millis(400),
        pause: Duration::from_millis(400),
        rate_bytes: 1 << 20,
        shed: Duration::from_millis(100),
        connections: 64,
    }
}

/// HEADERS for a GET, with literals and no table (RFC 7541, section 6.2.2).
fn get_frame(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(&[0x01, 4]);
    block.extend_from_slice(b"test");
    let mut frame = (block.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[1, 5]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&block);
    frame
}

/// Reads until the server closes; fails where it does not.
fn closed(mut stream: TcpStream, state: &str) {
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut buffer = vec![0; 1 << 16];
    let started = Instant::now();
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => assert!(started.elapsed() < PATIENCE, "{state}: never ends"),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("{state}: stays open"),
            Err(_) => return,
        }
    }
}

fn silent(registry: &Registry, first: &[u8]) -> TcpStream {
    let mut stream = registry.connect();
    stream.write_all(first).expect("first bytes");
    stream
}

#[test]
fn who_sends_no_request_is_closed() {
    let registry = Registry::start_with(|config| config.budgets = short());
    let settled = [PREFACE, SETTINGS].concat();
    let states: [(&str, &[u8]); 7] = [
        ("nothing", b""),
        ("half a preface", b"PRI * HT"),
        ("a preface", PREFACE),
        ("a preface and settings", &settled),
        ("half a head", b"GET /v2/ HTTP/1.1\r\nhost: te"),
        ("a request before", b"GET /v2/ HTTP/1.1\r\nhost: test\r\n\r\n"),
        ("an empty line", b"\r\n"),
    ];
    let streams: Vec<_> = states
        .iter()
        .flat_map(|state| [*state; 3])
        .map(|(name, first)| (name, silent(&registry, first)))
        .collect();
    assert_eq!(registry.get("/v2/").status, 200);
    for (name, stream) in streams {
        closed(stream, name);
    }
}

#[test]
fn who_answers_pings_only_is_closed() {
    let registry = Registry::start_with(|config| config.budgets = short());
    let mut stream = silent(&registry, &[PREFACE, SETTINGS].concat());
    let started = Instant::now();
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    while stream.write_all(&ping).is_ok() {
        assert!(started.elapsed() < PATIENCE, "pings keep it open");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn idle_connections_give_their_places_up() {
    let patient = Budgets { idle: PATIENCE * 10, pause: PATIENCE * 10, connections: 6, ..short() };
    let registry = Registry::start_with(|config| config.budgets = patient);
    let blob = registry.push_blob("a", &vec![1; 24 << 20]);
    let reads = format!("GET /v2/a/blobs/{blob} HTTP/1.1\r\nhost: test\r\n\r\n");
    for first in [b"".as_slice(), PREFACE, reads.as_bytes()] {
        let held: Vec<_> = (0..20).map(|_| silent(&registry, first)).collect();
        let started = Instant::now();
        assert_eq!(registry.get("/v2/").status, 200);
        assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
        drop(held);
    }
}

#[test]
fn a_busy_connection_keeps_its_place() {
    let budgets = Budgets { connections: 2, shed: PATIENCE * 10, pause: PATIENCE * 10, ..short() };
    let registry = Registry::start_with(|config| config.budgets = budgets);
    let content = vec![3; 1 << 20];
    let session = registry.session("a");
    let head = format!("PATCH {session} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", content.len());
    let mut upload = silent(&registry, head.as_bytes());
    for piece in content.chunks(256 << 10) {
        // each needs a place of its own, and none may be that of the upload
        let idle: Vec<_> = (0..4).map(|_| silent(&registry, b"")).collect();
        assert_eq!(registry.get("/v2/").status, 200);
        upload.write_all(piece).expect("the upload goes on");
        drop(idle);
    }
    assert_eq!(Reply::read(upload, false).status, 202);
}

#[test]
fn a_window_of_nothing_ends() {
    let registry = Registry::start_with(|config| config.budgets = short());
    let blob = registry.push_blob("a", &vec![2; 4 << 20]);
    let path = format!("/v2/a/blobs/{blob}");
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut stream = silent(&registry, &[PREFACE, NO_WINDOW].concat());
        for number in 0..60 {
            stream.write_all(&get_frame(number * 2 + 1, &path)).expect("request");
        }
        held.push(stream);
    }
    // a store elsewhere has six hundred others to read for before
    let patience = if slipway_skip::engines::in_folders() { 1 } else { 20 };
    assert!((0..patience).any(|_| registry.get(&path).body.len() == 4 << 20));
    for stream in held {
        closed(stream, "a window of nothing");
    }
}

#[test]
fn readers_that_do_not_read_end() {
    let registry = Registry::start_with(|config| config.budgets = short());
    // more than the kernel takes for a peer
    let blob = registry.push_blob("a", &vec![2; 32 << 20]);
    let request = format!("GET /v2/a/blobs/{blob} HTTP/1.1\r\nhost: test\r\n\r\n");
    let held: Vec<_> = (0..8).map(|_| silent(&registry, request.as_bytes())).collect();
    assert_eq!(registry.get("/v2/").status, 200);
    std::thread::sleep(Duration::from_secs(3));
    for mut stream in held {
        let mut taken = Vec::new();
        // what the kernel had taken, and then the end before the whole
        let _ = stream.read_to_end(&mut taken);
        assert!(taken.len() < 32 << 20, "the connection was kept");
    }
}

#[test]
fn a_body_that_dribbles_ends() {
    let registry = Registry::start_with(|config| config.budgets = short());
    for (method, path, kind) in [
        ("PATCH", registry.session("a"), "application/octet-stream"),
        ("PUT", "/v2/a/manifests/x".to_owned(), media_type::OCI_MANIFEST),
    ] {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-type: {kind}\r\ncontent-length: 100000\r\n\r\n"
        );
        let mut stream = silent(&registry, head.as_bytes());
        let started = Instant::now();
        while stream.write_all(b" ").is_ok() {
            assert!(started.elapsed() < PATIENCE, "{method}: a byte now and then keeps it open");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_body_of_one_byte_pieces_arrives() {
    let registry = Registry::start();
    let session = registry.session("a");
    let content: Vec<u8> = (0..20_000_u32).map(|number| number as u8).collect();
    let head = format!(
        "PATCH {session} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    let mut stream = silent(&registry, head.as_bytes());
    stream.set_nodelay(true).expect("no delay");
    for byte in &content {
        stream.write_all(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']).expect("piece");
    }
    stream.write_all(b"0\r\n\r\n").expect("end");
    assert_eq!(Reply::read(stream, false).status, 202);
    let digest = Digest::sha256(&content);
    assert_eq!(registry.call("PUT", &format!("{session}?digest={digest}"), &[], b"").status, 201);
}

#[test]
fn who_is_refused_early_gets_to_the_reply() {
    let mut registry = Registry::start();
    let large = vec![b' '; 20 << 20];
    let kind = [("content-type", media_type::OCI_MANIFEST)];
    let digest = Digest::sha256(b"other");
    let gone = "/v2/a/blobs/uploads/00000000-0000-4000-8000-000000000000".to_owned();
    for (method, path, status) in [
        ("PUT", "/v2/a/manifests/x".to_owned(), 413),
        ("PUT", "/v2/A/manifests/x".to_owned(), 400),
        ("PUT", "/v2/a/manifests/.x".to_owned(), 400),
        ("POST", "/v2/".to_owned(), 405),
        ("PATCH", gone.clone(), 404),
        ("PUT", format!("{gone}?digest={digest}"), 404),
        ("PUT", format!("{gone}?digest=x"), 400),
    ] {
        assert_eq!(registry.call(method, &path, &kind, &large).status, status, "{method} {path}");
        let chunked = [b"1000000\r\n".as_slice(), &large[..16 << 20], b"\r\n0\r\n\r\n"].concat();
        let headers = [kind[0], ("transfer-encoding", "chunked")];
        assert_eq!(
            registry.call(method, &path, &headers, &chunked).status,
            status,
            "{method} {path}, chunked"
        );
    }
    registry.restart_with(|config| config.policy.read_only = true);
    assert_eq!(registry.call("POST", "/v2/a/blobs/uploads/", &[], &large).status, 405);
}

#[test]
fn who_expects_to_go_on_is_refused_without() {
    let registry = Registry::start();
    let head = "PUT /v2/a/manifests/x HTTP/1.1\r\nhost: test\r\nconnection: close\r\nexpect: 100-continue\r\n\
                content-type: application/vnd.oci.image.manifest.v1+json\r\ncontent-length: 20000000\r\n\r\n";
    let started = Instant::now();
    assert_eq!(Reply::read(silent(&registry, head.as_bytes()), false).status, 413);
    assert!(started.elapsed() < crate::limits::LINGER_TIME, "nothing is waited for");
}

#[test]
fn bodies_that_stand_still_give_their_places_up() {
    let budgets = Budgets { idle: PATIENCE * 10, pause: PATIENCE * 10, connections: 6, ..short() };
    let registry = Registry::start_with(|config| config.budgets = budgets);
    for (method, path) in [("PATCH", registry.session("a")), ("PUT", "/v2/a/manifests/x".to_owned())] {
        for length in ["content-length: 1000", "transfer-encoding: chunked"] {
            let head = format!(
                "{method} {path} HTTP/1.1\r\nhost: test\r\n\
                 content-type: application/vnd.oci.image.manifest.v1+json\r\n{length}\r\n\r\n"
            );
            let held: Vec<_> = (0..20).map(|_| silent(&registry, head.as_bytes())).collect();
            let started = Instant::now();
            assert_eq!(registry.get("/v2/").status, 200);
            assert!(started.elapsed() < PATIENCE, "{method} {length}: {:?}", started.elapsed());
            drop(held);
        }
    }
}
