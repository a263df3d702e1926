//! A line that breaks.

use super::*;
use std::{net::Shutdown, sync::mpsc};

/// How many bytes a connection carries before it breaks, each way.
#[derive(Clone, Copy)]
struct Budget {
    up: u64,
    down: u64,
}

const ENDLESS: Budget = Budget { up: u64::MAX, down: u64::MAX };

/// A line to `to` whose first connections break as told, one budget a connection; later ones hold.
fn line(to: SocketAddr, budgets: Vec<Budget>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        let mut budgets = budgets.into_iter();
        for near in listener.incoming() {
            let (Ok(near), Ok(far)) = (near, TcpStream::connect(to)) else { return };
            let budget = budgets.next().unwrap_or(ENDLESS);
            carry(near.try_clone().expect("clone"), far.try_clone().expect("clone"), budget.up);
            carry(far, near, budget.down);
        }
    });
    address
}

fn carry(mut from: TcpStream, mut to: TcpStream, budget: u64) {
    thread::spawn(move || {
        let mut left = budget;
        let mut buffer = [0; 16 << 10];
        while let Ok(count) = from.read(&mut buffer) {
            let allowed = left.min(count as u64) as usize;
            if count == 0 || to.write_all(&buffer[..allowed]).is_err() || allowed < count {
                break;
            }
            left -= allowed as u64;
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 31 % 249) as u8).collect()
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let (registry, here, there) = (Registry::start(), Local::new(), Local::new());
    let (descriptor, manifest, blobs) = here.image(&[&bytes(6_000_000)]);
    let push = Push {
        blobs: &blobs,
        children: &[],
        manifest: ManifestBytes { descriptor: &descriptor, bytes: &manifest },
    };
    client().push(&registry.reference("a:t"), &push, &here.blobs, &()).expect("push");
    let part = Budget { up: u64::MAX, down: 2_000_000 };
    // four breaks, but two retries: progress counts
    let address = line(registry.server.address(), vec![part; 4]);
    let client = client_with(|config| config.retries = 2);
    let notes = Notes::default();
    client.fetch_blob(&at(address, "a"), &blobs[1], &there.blobs, &notes).expect("fetch");
    assert!(notes.count("retry") >= 3);
    assert_eq!(there.blobs.read(&blobs[1].digest, 1 << 30).expect("blob"), bytes(6_000_000));
}

#[test]
fn an_upload_goes_on_where_it_broke_off() {
    let (registry, here) = (Registry::start(), Local::new());
    let (descriptor, manifest, blobs) = here.image(&[&bytes(6_000_000)]);
    let push = Push {
        blobs: &blobs,
        children: &[],
        manifest: ManifestBytes { descriptor: &descriptor, bytes: &manifest },
    };
    // each connection breaks: which of them carries the layer is the pool's affair
    let part = Budget { up: 2_500_000, down: u64::MAX };
    let address = line(registry.server.address(), vec![part; 1000]);
    let client = client_with(|config| config.retries = 8);
    let notes = Notes::default();
    client.push(&at(address, "a:t"), &push, &here.blobs, &notes).expect("push");
    // one session a blob: what broke off went on
    assert!(notes.count("retry") >= 1);
    assert_eq!(notes.count("started"), 2);
    let there = Local::new();
    client.fetch_blob(&registry.reference("a"), &blobs[1], &there.blobs, &()).expect("fetch");
    assert_eq!(there.blobs.read(&blobs[1].digest, 1 << 30).expect("blob"), bytes(6_000_000));
}

#[test]
fn a_line_that_never_holds_is_given_up() {
    let (registry, here, there) = (Registry::start(), Local::new(), Local::new());
    let (descriptor, manifest, blobs) = here.image(&[&bytes(2_000_000)]);
    let push = Push {
        blobs: &blobs,
        children: &[],
        manifest: ManifestBytes { descriptor: &descriptor, bytes: &manifest },
    };
    client().push(&registry.reference("a:t"), &push, &here.blobs, &()).expect("push");
    let address = line(registry.server.address(), vec![Budget { up: u64::MAX, down: 1000 }; 1000]);
    let client = client_with(|config| config.retries = 3);
    let notes = Notes::default();
    let error = client.fetch_blob(&at(address, "a"), &blobs[1], &there.blobs, &notes).expect_err("failure");
    assert!(matches!(error, ClientError::Interrupted { .. }), "{error:?}");
    assert_eq!(notes.count("retry"), 3);
    assert!(there.blobs.list().expect("list").is_empty());
}

#[test]
fn a_server_without_ranges_is_read_again_from_the_start() {
    let content = bytes(100_000);
    let served = content.clone();
    let fake = Fake::start(move |asked, before| {
        let length = served.len().to_string();
        match (asked.path.as_str(), before) {
            ("/v2/", _) => reply(200, &[], b"{}"),
            (_, 0) => {
                let mut bytes = head(200, &[("content-length", &length)]);
                bytes.extend_from_slice(&served[..70_000]);
                bytes
            }
            _ => reply(200, &[], &served),
        }
    });
    let there = Local::new();
    let blob = Descriptor::of(media_type::OCI_LAYER, &content);
    client().fetch_blob(&fake.reference("a"), &blob, &there.blobs, &()).expect("fetch");
    assert_eq!(there.blobs.read(&blob.digest, 1 << 30).expect("blob"), content);
    let ranges: Vec<Option<String>> =
        fake.asked().iter().map(|a| a.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some("bytes=70000-".to_owned())]);
}

#[test]
fn pieces_that_do_not_fit_together_are_fetched_once_more() {
    let content = bytes(100_000);
    let served = content.clone();
    let fake = Fake::start(move |asked, before| match (asked.path.as_str(), before) {
        ("/v2/", _) => reply(200, &[], b"{}"),
        (_, 0) => {
            let mut bytes = head(200, &[("content-length", "100000")]);
            bytes.extend_from_slice(&vec![b'!'; 50_000]);
            bytes
        }
        (_, 1) => reply(206, &[("content-range", "bytes 50000-99999/100000")], &served[50_000..]),
        _ => reply(200, &[], &served),
    });
    let there = Local::new();
    let blob = Descriptor::of(media_type::OCI_LAYER, &content);
    client().fetch_blob(&fake.reference("a"), &blob, &there.blobs, &()).expect("fetch");
    assert_eq!(there.blobs.read(&blob.digest, 1 << 30).expect("blob"), content);
}

/// A stand-in for a registry behind a proxy with a body limit.
#[test]
fn a_server_that_refuses_one_piece_gets_chunks() {
    let size = (limits_chunk() + 1000) as usize;
    let content = bytes(size);
    let (send, received) = mpsc::channel();
    let send = Mutex::new(send);
    let stored = Mutex::new(Vec::new());
    let fake = Fake::start(move |asked, _| {
        let mut stored = stored.lock().expect("stored");
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/v2/") => reply(200, &[], b"{}"),
            ("HEAD", _) => head(404, &[]),
            ("POST", _) => reply(202, &[("location", "/v2/a/blobs/uploads/u?state=1")], b""),
            ("PUT", _) if !asked.body.is_empty() => reply(413, &[], b""),
            ("PUT", path) => {
                send.lock().expect("send").send((path.to_owned(), stored.clone())).expect("test");
                reply(201, &[], b"")
            }
            ("PATCH", _) => {
                let range = format!("{}-{}", stored.len(), stored.len() + asked.body.len() - 1);
                assert_eq!(asked.header("content-range"), Some(range.as_str()));
                stored.extend_from_slice(&asked.body);
                reply(202, &[("location", "/v2/a/blobs/uploads/u?state=2")], b"")
            }
            _ => reply(500, &[], b""),
        }
    });
    let here = Local::new();
    let blob = here.put(media_type::OCI_LAYER, &content);
    let client = client();
    let target = fake.reference("a");
    let sent = client.inner.push_blob(&target, &blob, &here.blobs, &());
    client.runtime.block_on(async { sent.await.expect("push") });
    let (path, stored) = received.recv().expect("a closed upload");
    assert!(stored == content);
    let digest = blob.digest.to_string().replace(':', "%3A");
    assert_eq!(path, format!("/v2/a/blobs/uploads/u?state=2&digest={digest}"));
}

fn limits_chunk() -> u64 {
    crate::limits::CHUNK_BYTES
}

/// A session says that it has nothing, while what was cut off is still on its way in: what follows names its place, so
/// that the registry can refuse it.
#[test]
fn what_was_cut_off_and_comes_in_late_is_not_doubled() {
    let content = bytes(100_000);
    let late = content[..40_000].to_vec();
    let (send, received) = mpsc::channel();
    let send = Mutex::new(send);
    let stored = Mutex::new(Vec::new());
    let fake = Fake::start(move |asked, before| {
        let mut stored = stored.lock().expect("stored");
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/v2/") => reply(200, &[], b"{}"),
            ("HEAD", _) => head(404, &[]),
            ("POST", _) => reply(202, &[("location", "/v2/a/blobs/uploads/u")], b""),
            ("GET", _) if before == 0 => {
                let reply = reply(204, &[("location", "/v2/a/blobs/uploads/u"), ("range", "0-0")], b"");
                stored.extend_from_slice(&late);
                reply
            }
            ("GET", _) => {
                let range = format!("0-{}", stored.len() - 1);
                reply(204, &[("location", "/v2/a/blobs/uploads/u"), ("range", &range)], b"")
            }
            ("PUT", _) if stored.is_empty() => reply(502, &[], b""),
            ("PUT", _) => {
                stored.extend_from_slice(&asked.body);
                send.lock().expect("send").send(stored.clone()).expect("test");
                reply(201, &[], b"")
            }
            ("PATCH", _)
                if !asked
                    .header("content-range")
                    .is_some_and(|range| range.starts_with(&format!("{}-", stored.len()))) =>
            {
                reply(416, &[], b"")
            }
            ("PATCH", _) => {
                stored.extend_from_slice(&asked.body);
                reply(202, &[("location", "/v2/a/blobs/uploads/u")], b"")
            }
            _ => reply(500, &[], b""),
        }
    });
    let here = Local::new();
    let blob = here.put(media_type::OCI_LAYER, &content);
    let client = client_with(|config| config.retries = 4);
    let target = fake.reference("a");
    let sent = client.inner.push_blob(&target, &blob, &here.blobs, &());
    client.runtime.block_on(async { sent.await.expect("push") });
    assert!(received.recv().expect("a closed upload") == content);
}
