//! Reading, mounting and deleting blobs.

use super::*;

#[test]
fn the_base_says_that_this_is_a_registry() {
    let registry = Registry::start();
    assert_eq!(registry.get("/v2/").status, 200);
    assert_eq!(registry.get("/v2").status, 200);
    let refused = registry.call("POST", "/v2/", &[], b"");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(registry.get("/").status, 404);
}

#[test]
fn ranges_of_a_blob() {
    let registry = Registry::start();
    // more than one piece, so that the streamed path is taken
    let bytes: Vec<u8> = (0..1_500_000_u32).flat_map(|n| (n as u16).to_le_bytes()).collect();
    let digest = registry.push_blob("a/b", &bytes);
    let path = format!("/v2/a/b/blobs/{digest}");
    let whole = registry.get(&path);
    assert_eq!((whole.status, &whole.body), (200, &bytes));
    assert_eq!(whole.header("docker-content-digest"), Some(digest.to_string().as_str()));
    let head = registry.call("HEAD", &path, &[("range", "bytes=1-2")], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("3000000")));
    let last = bytes.len() - 1;
    for (range, status, from, to) in [
        ("bytes=0-0", 206, 0, 0),
        ("bytes=10-", 206, 10, last),
        ("bytes=-5", 206, last - 4, last),
        ("bytes=1000000-2000000", 206, 1_000_000, 2_000_000),
        ("bytes=0-1,1-6", 200, 0, last),
        ("bytes=0-1499999,1500000-", 200, 0, last),
    ] {
        let part = registry.call("GET", &path, &[("range", range)], b"");
        assert_eq!((part.status, &part.body[..]), (status, &bytes[from..=to]), "{range}");
        if status == 206 {
            assert_eq!(part.header("content-range"), Some(format!("bytes {from}-{to}/3000000").as_str()));
        }
    }
    for range in ["bytes=3000000-", "bytes=500-0", "bytes=-0"] {
        let part = registry.call("GET", &path, &[("range", range)], b"");
        assert_eq!((part.status, part.header("content-range")), (416, Some("bytes */3000000")), "{range}");
    }
    let reversed = registry.call("GET", &path, &[("range", "bytes=1-0")], b"");
    assert!(
        reversed.text().contains("has 3000000 bytes, and none of them lies in the range"),
        "{}",
        reversed.text()
    );
    // of two headers nobody knows which is meant, and to a client that has it no range matters
    let two = registry.call("GET", &path, &[("range", "bytes=1-2"), ("range", "bytes=3-4")], b"");
    assert_eq!((two.status, two.body.len()), (200, 3_000_000));
    let own = format!("\"{digest}\"");
    for range in ["bytes=3000000-", "bytes=1-0", "bytes=0-1,5-6", "bytes=0-0"] {
        let known = registry.call("GET", &path, &[("range", range), ("if-none-match", &own)], b"");
        assert_eq!((known.status, known.header("content-range")), (304, None), "{range}");
        let head = registry.call("HEAD", &path, &[("range", range)], b"");
        assert_eq!((head.status, head.header("content-range")), (200, None), "{range}");
    }
    let other = registry.call("GET", &path, &[("range", "bytes=1-2"), ("if-range", "\"x\"")], b"");
    assert_eq!(other.status, 200);
    let etag = format!("\"sha256:x\", W/\"{digest}\"");
    let unchanged = registry.call("GET", &path, &[("if-none-match", &etag)], b"");
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
}

/// The parts of a multipart body, each with its `Content-Range`.
fn parts(reply: &Reply) -> Vec<(String, Vec<u8>)> {
    let kind = reply.header("content-type").expect("a type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("parts");
    let find = |bytes: &[u8], what: &str| {
        bytes.windows(what.len()).position(|window| window == what.as_bytes()).expect("a mark")
    };
    let mark = format!("\r\n--{boundary}");
    let mut rest = &reply.body[find(&reply.body, &mark) + mark.len()..];
    let mut all = Vec::new();
    while !rest.starts_with(b"--") {
        let head = find(rest, "\r\n\r\n");
        let text = String::from_utf8(rest[..head].to_vec()).expect("a head");
        let range = text.lines().find_map(|line| line.strip_prefix("Content-Range: ")).expect("a range");
        assert!(text.contains("Content-Type: application/octet-stream"), "{text}");
        rest = &rest[head + 4..];
        let end = find(rest, &mark);
        all.push((range.to_owned(), rest[..end].to_vec()));
        rest = &rest[end + mark.len()..];
    }
    assert_eq!(rest, b"--\r\n");
    all
}

#[test]
fn several_ranges_of_a_blob() {
    let registry = Registry::start();
    let bytes: Vec<u8> = (0..1_500_000_u32).flat_map(|n| (n as u16).to_le_bytes()).collect();
    let digest = registry.push_blob("a/b", &bytes);
    let path = format!("/v2/a/b/blobs/{digest}");
    for (range, expected) in [
        ("bytes=0-1,5-6", vec![(0, 1), (5, 6)]),
        ("bytes=2000000-2700000,10-10,-1", vec![(2_000_000, 2_700_000), (10, 10), (2_999_999, 2_999_999)]),
        ("bytes=0-9,3000000-,20-29", vec![(0, 9), (20, 29)]),
    ] {
        let reply = registry.call("GET", &path, &[("range", range)], b"");
        assert_eq!((reply.status, reply.header("content-range")), (206, None), "{range}");
        let length = reply.body.len().to_string();
        assert_eq!(reply.header("content-length"), Some(length.as_str()), "{range}");
        assert!(reply.body.len() < bytes.len(), "never more than the content");
        let expected: Vec<_> = expected
            .iter()
            .map(|(from, to)| (format!("bytes {from}-{to}/3000000"), bytes[*from..=*to].to_vec()))
            .collect();
        assert!(parts(&reply) == expected, "{range}");
    }
    // one that is left is a part by itself
    let one = registry.call("GET", &path, &[("range", "bytes=7-8,3000000-")], b"");
    assert_eq!((one.status, one.header("content-range")), (206, Some("bytes 7-8/3000000")));
    let none = registry.call("GET", &path, &[("range", "bytes=3000000-,4000000-")], b"");
    assert_eq!((none.status, none.header("content-range")), (416, Some("bytes */3000000")));
    // the same validators as of one range
    let etag = format!("\"{digest}\"");
    let headers = |name, value: &str| {
        registry.call("GET", &path, &[("range", "bytes=0-1,5-6"), (name, value)], b"").status
    };
    assert_eq!(headers("if-range", &etag), 206);
    assert_eq!(headers("if-range", "\"other\""), 200);
    assert_eq!(headers("if-none-match", &etag), 304);
    // many tiny and overlapping ones (CVE-2011-3192) cost no more than the whole
    for range in [
        format!("bytes={}", vec!["0-"; 1000].join(",")),
        format!("bytes={}", (0..3000).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",")),
    ] {
        let reply = registry.call("GET", &path, &[("range", &range)], b"");
        assert_eq!((reply.status, reply.body.len()), (200, bytes.len()));
    }
    let head = registry.call("HEAD", &path, &[("range", "bytes=0-1,5-6")], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("3000000")));
}

#[test]
fn blobs_belong_to_their_repository() {
    let registry = Registry::start_with(|config| config.policy.trash = "0".parse().expect("none"));
    let digest = registry.push_blob("one", b"content");
    let path = |name: &str| format!("/v2/{name}/blobs/{digest}");
    assert_eq!(registry.get(&path("one")).status, 200);
    assert_eq!(registry.get(&path("two")).refusal(), (404, "BLOB_UNKNOWN".into()));
    // a mount from a repository without it starts a session
    let mount = |query: &str| {
        registry.call("POST", &format!("/v2/two/blobs/uploads/?mount={digest}{query}"), &[], b"")
    };
    for query in ["&from=three", "&from=NO", "&from=../one"] {
        let reply = mount(query);
        assert_eq!(reply.status, 202, "{query}");
        assert!(reply.header("docker-upload-uuid").is_some());
    }
    let mounted = mount("&from=one");
    assert_eq!((mounted.status, mounted.header("location")), (201, Some(path("two").as_str())));
    assert_eq!(registry.call("POST", &format!("/v2/x/blobs/uploads/?mount={digest}"), &[], b"").status, 201);
    assert_eq!(registry.call("POST", "/v2/x/blobs/uploads/?mount=sha256:1", &[], b"").refusal().0, 400);
    // deleting in one leaves the others theirs, and the file goes with the last
    let is_there = || engines::is_placed(&registry.folder.path().join("registry"), &digest);
    for name in ["one", "two", "x"] {
        assert!(is_there());
        assert_eq!(registry.get(&path(name)).body, b"content");
        assert_eq!(registry.call("DELETE", &path(name), &[], b"").status, 202);
        assert_eq!(registry.call("DELETE", &path(name), &[], b"").refusal(), (404, "BLOB_UNKNOWN".into()));
        assert_eq!(registry.get(&path(name)).status, 404);
    }
    assert!(!is_there());
    // and it can be pushed again (distribution#4569)
    registry.push_blob("one", b"content");
    assert_eq!(registry.get(&path("one")).status, 200);
}

#[test]
fn sha512_is_kept_as_sha512() {
    let registry = Registry::start();
    let digest = sha512(b"long");
    let reply = registry.call("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], b"long");
    assert_eq!(
        (reply.status, reply.header("docker-content-digest")),
        (201, Some(digest.to_string().as_str()))
    );
    // the hint is a hint: without it, with it, and with the other one
    for query in ["", "?digest-algorithm=sha512", "?digest-algorithm=sha256"] {
        let session = registry.call("POST", &format!("/v2/b/blobs/uploads/{query}"), &[], b"");
        let location = session.header("location").expect("location").to_owned();
        assert_eq!(registry.call("PATCH", &location, &[], b"lo").status, 202);
        assert_eq!(
            registry.call("PUT", &format!("{location}?digest={digest}"), &[], b"ng").status,
            201,
            "{query}"
        );
        assert_eq!(registry.get(&format!("/v2/b/blobs/{digest}")).body, b"long");
    }
    assert_eq!(registry.call("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", &[], b"").status, 400);
    let bytes = {
        registry.push_blob("a", b"{}");
        registry.push_blob("a", b"long");
        image(b"long", "")
    };
    let name = sha512(&bytes).to_string();
    let put = registry.put_manifest("a", &name, media_type::OCI_MANIFEST, &bytes);
    assert_eq!((put.status, put.header("docker-content-digest")), (201, Some(name.as_str())));
    assert_eq!(registry.get(&format!("/v2/a/manifests/{name}")).body, bytes);
}

#[test]
fn an_empty_blob() {
    let registry = Registry::start();
    let digest = registry.push_blob("a", b"");
    let path = format!("/v2/a/blobs/{digest}");
    let reply = registry.get(&path);
    assert_eq!((reply.status, reply.header("content-length"), reply.body.len()), (200, Some("0"), 0));
    assert_eq!(registry.call("GET", &path, &[("range", "bytes=0-")], b"").status, 416);
}
