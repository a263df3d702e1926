//! Servers that lie, stall or never end.

use super::*;

/// Fetches the blob `0123456789` from a server that answers every request for it like this.
fn fetch(
    answer: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
) -> (Result<(), ClientError>, Vec<String>) {
    let fake = Fake::start(move |asked, before| match asked.path.as_str() {
        "/v2/" => reply(200, &[], b"{}"),
        _ => answer(before),
    });
    let (there, notes) = (Local::new(), Notes::default());
    let blob = Descriptor::of(media_type::OCI_LAYER, b"0123456789");
    let client = client_with(|config| config.retries = 2);
    let result = client.fetch_blob(&fake.reference("a"), &blob, &there.blobs, &notes);
    assert_eq!(there.blobs.contains(&blob.digest).expect("look"), result.is_ok());
    (result, notes.0.into_inner().expect("notes"))
}

fn chunked(pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = head(200, &[("transfer-encoding", "chunked")]);
    for piece in pieces {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[test]
fn wrong_bytes_are_not_taken() {
    let (result, notes) = fetch(|_| reply(200, &[], b"012345678!"));
    assert!(matches!(result, Err(ClientError::Digest { .. })), "{result:?}");
    assert_eq!(notes, ["started"]);
}

#[test]
fn wrong_lengths_are_not_taken() {
    for bytes in
        [reply(200, &[], b"012345678"), reply(200, &[], b"01234567890"), chunked(&[b"0123456789", b"0"])]
    {
        let (result, _) = fetch(move |_| bytes.clone());
        assert!(matches!(result, Err(ClientError::Size { .. })), "{result:?}");
    }
    // no length, too short: perhaps a cut, so the rest is asked for
    let (result, notes) = fetch(|before| match before {
        0 => chunked(&[b"01234"]),
        _ => reply(206, &[("content-range", "bytes 5-9/10")], b"56789"),
    });
    result.expect("the rest");
    assert_eq!(notes, ["started", "retry 1 after 0", "finished"]);
    // another part than asked for
    let (result, _) = fetch(|before| match before {
        0 => chunked(&[b"01234"]),
        _ => reply(206, &[("content-range", "bytes 4-9/10")], b"456789"),
    });
    assert!(matches!(result, Err(ClientError::Protocol { .. })), "{result:?}");
    // nothing, again and again
    let (result, notes) = fetch(|_| chunked(&[]));
    assert!(matches!(result, Err(ClientError::Interrupted { .. })), "{result:?}");
    assert_eq!(notes.len(), 3);
}

#[test]
fn a_busy_server_is_given_time() {
    let (result, notes) = fetch(|before| match before {
        0 => reply(429, &[("retry-after", "0")], b"{\"errors\":[{\"code\":\"TOOMANYREQUESTS\"}]}"),
        1 => reply(503, &[("retry-after", "1")], b""),
        _ => reply(200, &[], b"0123456789"),
    });
    result.expect("in the end");
    assert_eq!(notes, ["started", "retry 1 after 0", "retry 2 after 1", "finished"]);
    let (result, notes) = fetch(|_| reply(500, &[], b"<html>"));
    assert!(matches!(result, Err(ClientError::Status { status: 500, .. })), "{result:?}");
    assert_eq!(notes.len(), 3);
    let (result, notes) = fetch(|_| reply(404, &[], b""));
    assert!(matches!(result, Err(ClientError::NotFound { .. })), "{result:?}");
    assert_eq!(notes, ["started"]);
}

#[test]
fn redirects_end() {
    let (result, _) = fetch(|_| reply(307, &[("location", "?again")], b""));
    assert!(matches!(result, Err(ClientError::Redirects { .. })), "{result:?}");
    for target in ["file:///etc/passwd", "gopher://x/", "http://"] {
        let (result, _) = fetch(move |_| reply(307, &[("location", target)], b""));
        assert!(matches!(result, Err(ClientError::Address { .. })), "{target}: {result:?}");
    }
}

#[test]
fn a_tag_that_was_moved_by_an_earlier_attempt_is_moved() {
    let here = Local::new();
    let (descriptor, bytes, _) = here.image(&[b"layer"]);
    let (own, other) = (descriptor.digest.to_string(), Digest::sha256(b"other").to_string());
    // whose digest a refusal names, after how many lost replies, and whether it is the client's own work
    for (named, lost, is_moved) in
        [(Some(&own), 1, true), (Some(&other), 1, false), (None, 1, false), (Some(&own), 0, false)]
    {
        let named = named.cloned();
        let fake = Fake::start(move |asked, before| match asked.path.as_str() {
            "/v2/" => reply(200, &[], b"{}"),
            _ if before < lost => reply(502, &[("retry-after", "0")], b""),
            _ => {
                let digest = named.iter().map(|digest| ("docker-content-digest", digest.as_str()));
                reply(412, &digest.collect::<Vec<_>>(), b"")
            }
        });
        let client = client_with(|config| config.retries = 2);
        let manifest = ManifestBytes { descriptor: &descriptor, bytes: &bytes };
        let reference = fake.reference("a:1");
        let moved = client.put_manifest(&reference, manifest, Some(&Condition::Absent));
        match moved {
            Ok(()) => assert!(is_moved),
            Err(ClientError::Changed { .. }) => assert!(!is_moved),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn manifests_are_checked() {
    let here = Local::new();
    let (descriptor, bytes, _) = here.image(&[b"layer"]);
    let other = Digest::sha256(b"other").to_string();
    let kind = ("content-type", media_type::OCI_MANIFEST);
    let text = String::from_utf8(bytes.clone()).expect("text");
    let confused = text.replace("\"config\"", "\"manifests\":[],\"config\"");
    type Check = fn(&ClientError) -> bool;
    let cases: [(Vec<u8>, Check); 5] = [
        (reply(200, &[kind, ("docker-content-digest", &other)], &bytes), |e| {
            matches!(e, ClientError::Digest { .. })
        }),
        (reply(200, &[("content-type", media_type::OCI_INDEX)], &bytes), |e| {
            matches!(e, ClientError::Manifest { .. })
        }),
        (reply(200, &[kind], confused.as_bytes()), |e| matches!(e, ClientError::Manifest { .. })),
        (reply(200, &[("content-type", "text/html")], b"<html>"), |e| {
            matches!(e, ClientError::Manifest { .. })
        }),
        (reply(200, &[kind, ("content-length", "5000000")], b""), |e| {
            matches!(e, ClientError::Large { .. } | ClientError::Interrupted { .. })
        }),
    ];
    for (answer, check) in cases {
        let fake = Fake::start(
            move |asked, _| if asked.path == "/v2/" { reply(200, &[], b"{}") } else { answer.clone() },
        );
        let error =
            client_with(|config| config.retries = 0).manifest(&fake.reference("a:t")).expect_err("refusal");
        assert!(check(&error), "{error:?}");
    }
    // by digest: whatever the headers promise
    let served = bytes.clone();
    let fake =
        Fake::start(
            move |asked, _| {
                if asked.path == "/v2/" { reply(200, &[], b"{}") } else { reply(200, &[kind], &served) }
            },
        );
    let good = fake.reference("a").with_digest(descriptor.digest.clone());
    assert_eq!(client().manifest(&good).expect("manifest"), (descriptor.clone(), bytes));
    let wrong = fake.reference("a").with_digest(Digest::sha256(b"other"));
    assert!(matches!(client().manifest(&wrong), Err(ClientError::Digest { .. })));
    // HEAD without a digest falls back to GET
    assert_eq!(client().resolve(&fake.reference("a:t")).expect("resolve"), descriptor);
}

#[test]
fn an_endless_manifest_ends_at_the_cap() {
    let fake = Fake::streaming(|asked, _, stream| {
        if asked.path == "/v2/" {
            let _ = stream.write_all(&reply(200, &[], b"{}"));
            return;
        }
        let kind = ("content-type", media_type::OCI_MANIFEST);
        let _ = stream.write_all(&head(200, &[kind, ("transfer-encoding", "chunked")]));
        let mut piece = b"10000\r\n".to_vec();
        piece.extend_from_slice(&vec![b' '; 0x10000]);
        piece.extend_from_slice(b"\r\n");
        while stream.write_all(&piece).is_ok() {}
    });
    let error = client().manifest(&fake.reference("a:t")).expect_err("refusal");
    assert!(matches!(error, ClientError::Large { .. }), "{error:?}");
}

#[test]
fn endless_tags_end() {
    let fake = Fake::start(|asked, _| match asked.path.as_str() {
        "/v2/" => reply(200, &[], b"{}"),
        _ => reply(
            200,
            &[("link", "<http://elsewhere.invalid/>; rel=\"next\"")],
            b"{\"tags\":[\"a\",\"-\",\"../b\"]}",
        ),
    });
    // a next page on another host is not a next page
    assert_eq!(client().tags(&fake.reference("a")).expect("tags"), ["a"]);
    let null = Fake::start(|_, _| reply(200, &[], b"{\"name\":\"a\",\"tags\":null}"));
    assert_eq!(client().tags(&null.reference("a")).expect("tags"), Vec::<String>::new());
}

#[test]
fn a_server_that_wants_tls_is_tried_with_tls() {
    // what Go's servers say to plain http on a TLS port; what follows is no TLS either
    let fake = Fake::start(|_, _| reply(400, &[], b"Client sent an HTTP request to an HTTPS server."));
    let error = client().resolve(&fake.reference("a:t")).expect_err("failure");
    assert!(matches!(error, ClientError::Status { status: 400, .. }), "{error:?}");
}

#[test]
fn authorities_that_cannot_be_read_are_named() {
    for (pem, words) in [
        (&b""[..], "no certificate"),
        (b"a text", "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", ""),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", ""),
    ] {
        let error = Authorities::from_pem("/some/ca.pem".as_ref(), pem).expect_err("refused");
        let shown = slipway_oci::error::chain(&error);
        assert!(shown.contains("`/some/ca.pem`") && shown.contains(words), "{shown}");
    }
}

#[test]
fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let error = client().resolve(&at(address, "a:t")).expect_err("failure");
    assert!(matches!(&error, ClientError::Connect { .. }), "{error:?}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
