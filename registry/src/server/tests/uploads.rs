//! Upload sessions: order, interruption, concurrency, crashes.

use super::*;
use std::thread;

#[test]
fn chunks_come_in_order() {
    let registry = Registry::start();
    let session = registry.session("a");
    let patch =
        |range: &str, body: &[u8]| registry.call("PATCH", &session, &[("content-range", range)], body);
    let status = || {
        let reply = registry.get(&session);
        assert_eq!((reply.status, reply.header("location")), (204, Some(session.as_str())));
        reply.header("range").expect("range").to_owned()
    };
    assert_eq!(status(), "0-0");
    let first = patch("0-4", b"01234");
    assert_eq!((first.status, first.header("range")), (202, Some("0-4")));
    for (range, body, expected) in [
        ("0-4", &b"01234"[..], 416),
        ("4-5", b"45", 416),
        ("6-7", b"67", 416),
        ("5-4", b"", 400),
        ("5-9", b"5678", 400),
        ("5-18446744073709551615", b"5", 400),
        ("x", b"5", 400),
        ("99999999999999999999-99999999999999999999", b"5", 400),
    ] {
        let reply = patch(range, body);
        assert_eq!(reply.status, expected, "{range}");
        if expected == 416 {
            assert_eq!(
                (reply.header("location"), reply.header("range")),
                (Some(session.as_str()), Some("0-4"))
            );
        }
        assert_eq!(status(), "0-4", "{range}");
    }
    // out of order in the closing PUT is 416 too, and the session lives on
    let digest = Digest::sha256(b"0123456789");
    let close = format!("{session}?digest={digest}");
    assert_eq!(registry.call("PUT", &close, &[("content-range", "7-9")], b"789").status, 416);
    assert_eq!(registry.call("GET", &close, &[], b"").status, 204);
    // docker's way: chunked transfer, no range
    let chunked =
        registry.call("PATCH", &session, &[("transfer-encoding", "chunked")], b"2\r\n56\r\n0\r\n\r\n");
    assert_eq!((chunked.status, chunked.header("range")), (202, Some("0-6")));
    let done = registry.call("PUT", &close, &[("content-range", "7-9")], b"789");
    let path = format!("/v2/a/blobs/{digest}");
    assert_eq!((done.status, done.header("location")), (201, Some(path.as_str())));
    assert_eq!(registry.get(&path).body, b"0123456789");
    // the answer was lost: the same PUT again
    assert_eq!(registry.call("PUT", &close, &[], b"").status, 201);
    let other = format!("{session}?digest={}", Digest::sha256(b"other"));
    assert_eq!(registry.call("PUT", &other, &[], b"").refusal(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    assert_eq!(registry.get(&session).status, 404);
}

#[test]
fn a_chunk_of_another_length_than_its_range_changes_nothing() {
    let registry = Registry::start();
    let session = registry.session("a");
    for body in [&b"3\r\nabc\r\n0\r\n\r\n"[..], b"7\r\nabcdefg\r\n0\r\n\r\n"] {
        let headers = [("content-range", "0-4"), ("transfer-encoding", "chunked")];
        assert_eq!(registry.call("PATCH", &session, &headers, body).refusal(), (400, "SIZE_INVALID".into()));
        assert_eq!(registry.get(&session).header("range"), Some("0-0"));
    }
    let digest = Digest::sha256(b"abcde");
    assert_eq!(registry.call("PUT", &format!("{session}?digest={digest}"), &[], b"abcde").status, 201);
}

#[test]
fn a_wrong_digest_stores_nothing() {
    let registry = Registry::start();
    let wrong = Digest::sha256(b"right");
    let whole = registry.call("POST", &format!("/v2/a/blobs/uploads/?digest={wrong}"), &[], b"wrong");
    assert_eq!(whole.refusal(), (400, "DIGEST_INVALID".into()));
    let session = registry.session("a");
    let reply = registry.call("PUT", &format!("{session}?digest={wrong}"), &[], b"wrong");
    assert_eq!(reply.refusal(), (400, "DIGEST_INVALID".into()));
    assert_eq!(registry.get(&format!("/v2/a/blobs/{wrong}")).status, 404);
    assert_eq!(registry.get(&session).status, 404);
    for query in ["", "?digest=", "?digest=sha256:12", "?digest=md5:d41d8cd98f00b204e9800998ecf8427e"] {
        let session = registry.session("a");
        let reply = registry.call("PUT", &format!("{session}{query}"), &[], b"");
        assert_eq!(reply.refusal(), (400, "DIGEST_INVALID".into()), "{query}");
        assert_eq!(registry.get(&session).status, 204);
    }
    engines::in_folder!();
    for name in ["uploads", "blobs/sha256"] {
        let left =
            std::fs::read_dir(registry.folder.path().join("registry").join(name)).expect("folder").count();
        assert_eq!(left, if name == "uploads" { 4 } else { 0 }, "{name}");
    }
}

#[test]
fn sessions_belong_to_their_repository() {
    let registry = Registry::start();
    let session = registry.session("a");
    let foreign = session.replace("/v2/a/", "/v2/b/");
    let digest = Digest::sha256(b"x");
    for (method, path) in [
        ("GET", foreign.clone()),
        ("PATCH", foreign.clone()),
        ("PUT", format!("{foreign}?digest={digest}")),
        ("DELETE", foreign.clone()),
        ("GET", "/v2/a/blobs/uploads/no-uuid".into()),
        ("PATCH", "/v2/a/blobs/uploads/..".into()),
        ("GET", "/v2/a/blobs/uploads/00000000-0000-4000-8000-000000000000".into()),
    ] {
        assert_eq!(
            registry.call(method, &path, &[], b"x").refusal(),
            (404, "BLOB_UPLOAD_UNKNOWN".into()),
            "{path}"
        );
    }
    assert_eq!(registry.call("DELETE", &session, &[], b"").status, 204);
    assert_eq!(registry.get(&session).status, 404);
}

/// The worst that a registry can do: bytes kept, hash state not (angos 1.6).
#[test]
fn an_interrupted_chunk_is_taken_up_where_it_broke_off() {
    let registry = Registry::start();
    let session = registry.session("a");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    assert_eq!(registry.call("PATCH", &session, &[], &bytes[..1000]).status, 202);
    let mut stream = registry.connect();
    let head = format!("PATCH {session} HTTP/1.1\r\nhost: t\r\ncontent-length: 2999000\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("head");
    stream.write_all(&bytes[1000..2_000_000]).expect("half");
    drop(stream);
    // as a client does: where it is refused it asks again how far the session is, for the broken request may come to its turn
    // after the question and before the rest, and its lease ends when the server has seen the end of its connection
    wait_for(|| {
        let probe = registry.call("PATCH", &session, &[("content-range", "0-0")], b"x");
        let last: usize = probe.header("range")?[2..].parse().expect("number");
        let kept = (probe.status == 416).then_some(last + 1)?;
        assert!((1000..=2_000_000).contains(&kept), "{kept}");
        let range = format!("{kept}-2999999");
        let rest = registry.call("PATCH", &session, &[("content-range", &range)], &bytes[kept..]);
        assert!(matches!(rest.status, 202 | 409 | 416), "{}", rest.status);
        (rest.status == 202).then_some(())
    });
    let digest = Digest::sha256(&bytes);
    assert_eq!(registry.call("PUT", &format!("{session}?digest={digest}"), &[], b"").status, 201);
    assert!(registry.get(&format!("/v2/a/blobs/{digest}")).body == bytes);
}

fn wait_for<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = probe() {
            return found;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("never came to pass");
}

#[test]
fn two_writers_never_mix() {
    engines::in_folder!();
    let registry = Registry::start();
    let session = registry.session("a");
    let mut slow = registry.connect();
    let head =
        format!("PATCH {session} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: 600000\r\n\r\n");
    slow.write_all(head.as_bytes()).expect("head");
    slow.write_all(&vec![b'a'; 550_000]).expect("most of it");
    // the first piece is on disk, so the first writer holds the lease
    let id = session.rsplit('/').next().expect("an id");
    let file = registry.folder.path().join("registry/uploads").join(id);
    wait_for(|| (std::fs::metadata(&file).expect("file").len() > 0).then_some(()));
    // what is not answered yet is not told either
    assert_eq!(registry.get(&session).header("range"), Some("0-0"));
    let digest = Digest::sha256(&[b'b'; 10]);
    for (method, path) in [
        ("PATCH", session.clone()),
        ("PUT", format!("{session}?digest={digest}")),
        ("DELETE", session.clone()),
    ] {
        assert_eq!(
            registry.call(method, &path, &[], &[b'b'; 10]).refusal(),
            (409, "BLOB_UPLOAD_INVALID".into())
        );
    }
    slow.write_all(&vec![b'a'; 50_000]).expect("the rest");
    assert_eq!(Reply::read(slow, false).status, 202);
    let digest = Digest::sha256(&vec![b'a'; 600_000]);
    assert_eq!(registry.call("PUT", &format!("{session}?digest={digest}"), &[], b"").status, 201);
}

#[test]
fn many_writers_on_one_session_leave_one_truth() {
    engines::in_folder!();
    let registry = Registry::start();
    let session = registry.session("a");
    thread::scope(|scope| {
        for writer in 0..8_u8 {
            let (registry, session) = (&registry, &session);
            scope.spawn(move || {
                for _ in 0..20 {
                    let reply = registry.call("PATCH", session, &[], &[b'a' + writer; 100]);
                    assert!(matches!(reply.status, 202 | 409), "{}", reply.status);
                }
            });
        }
    });
    let id = session.rsplit('/').next().expect("id");
    let bytes = std::fs::read(registry.folder.path().join("registry/uploads").join(id)).expect("bytes");
    assert!(bytes.chunks(100).all(|chunk| chunk.len() == 100 && chunk.iter().all(|byte| *byte == chunk[0])));
    let digest = Digest::sha256(&bytes);
    assert_eq!(registry.call("PUT", &format!("{session}?digest={digest}"), &[], b"").status, 201);
    assert_eq!(registry.get(&format!("/v2/a/blobs/{digest}")).body, bytes);
}

#[test]
fn a_session_survives_a_restart() {
    let mut registry = Registry::start();
    let session = registry.session("a");
    assert_eq!(registry.call("PATCH", &session, &[], b"before ").status, 202);
    registry.restart();
    assert_eq!(registry.get(&session).header("range"), Some("0-6"));
    assert_eq!(registry.call("PATCH", &session, &[("content-range", "7-11")], b"after").status, 202);
    let digest = Digest::sha256(b"before after");
    assert_eq!(registry.call("PUT", &format!("{session}?digest={digest}"), &[], b"").status, 201);
    registry.restart();
    assert_eq!(registry.get(&format!("/v2/a/blobs/{digest}")).body, b"before after");
}

#[test]
fn the_same_blob_pushed_at_once_is_one_blob() {
    let registry = Registry::start();
    let bytes = vec![7; 100_000];
    thread::scope(|scope| {
        for name in ["a", "a", "b", "b", "c", "c"] {
            let (registry, bytes) = (&registry, &bytes);
            scope.spawn(move || registry.push_blob(name, bytes));
        }
    });
    for name in ["a", "b", "c"] {
        assert_eq!(registry.get(&format!("/v2/{name}/blobs/{}", Digest::sha256(&bytes))).body, bytes);
    }
}

/// A place that cannot be read is no place that was not said: the chunk would go anywhere.
#[test]
fn a_chunk_whose_place_cannot_be_read_is_refused() {
    let registry = Registry::start();
    let session = registry.session("a");
    assert_eq!(registry.call("PATCH", &session, &[("content-range", "0-4")], b"01234").status, 202);
    let fullwidth = ("content-range", "\u{ff15}-\u{ff15}");
    for headers in [
        &[fullwidth][..],
        &[("content-range", "5-5\u{a0}")],
        &[("content-range", "5-5"), ("content-range", "5-5")],
        &[("content-range", "5-5"), fullwidth],
        &[("content-range", "5-5/5")],
        &[("content-range", "bytes 5-5/x")],
        &[("content-range", "")],
    ] {
        for method in ["PATCH", "PUT"] {
            let path = format!("{session}?digest={}", Digest::sha256(b"012345"));
            let reply = registry.call(method, &path, headers, b"5");
            assert_eq!(reply.refusal(), (400, "BLOB_UPLOAD_INVALID".to_owned()), "{method} {headers:?}");
        }
        assert_eq!(registry.get(&session).header("range"), Some("0-4"), "{headers:?}");
    }
    let path = format!("{session}?digest={}", Digest::sha256(b"012345"));
    assert_eq!(registry.call("PUT", &path, &[("content-range", "bytes 5-5/6")], b"5").status, 201);
}
