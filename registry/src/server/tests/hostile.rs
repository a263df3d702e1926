//! Requests that are wrong in ways of their own.

use super::*;

#[test]
fn names_and_paths_are_checked() {
    let registry = Registry::start();
    let long = "a".repeat(256);
    for (path, status) in [
        ("/v2/A/tags/list", 400),
        ("/v2/a..b/tags/list", 400),
        ("/v2/a/../b/tags/list", 400),
        ("/v2/%2e%2e/tags/list", 400),
        ("/v2//tags/list", 400),
        ("/v2/a%00/tags/list", 400),
        (&format!("/v2/{long}/tags/list"), 400),
        ("/v2/a/blobs/sha256:../../../etc/passwd", 404),
        ("/v2/a/blobs/sha256:..%2f..%2fetc%2fpasswd", 404),
        ("/v2/a/blobs/sha256:ABCDEF", 400),
        ("/v2/a", 404),
        ("/etc/passwd", 404),
    ] {
        assert_eq!(registry.get(path).status, status, "{path}");
    }
    let query = format!("/v2/a/tags/list?x={}", "y".repeat(20_000));
    assert_eq!(registry.get(&query).status, 414);
}

#[test]
fn a_failing_store_says_nothing_of_itself() {
    engines::in_folder!();
    let registry = Registry::start();
    let digest = registry.push_blob("a", b"content");
    let file = registry.folder.path().join("registry/blobs/sha256").join(digest.hex());
    // shorter than its row says, or gone: not there, for every way to ask, until somebody pushes it again
    for damage in [Some(b"con".as_slice()), Some(b"content and more"), Some(b""), None] {
        match damage {
            Some(bytes) => std::fs::write(&file, bytes).expect("damage"),
            None => std::fs::remove_file(&file).expect("damage"),
        }
        let path = format!("/v2/a/blobs/{digest}");
        assert_eq!(registry.get(&path).refusal(), (404, "BLOB_UNKNOWN".into()), "{damage:?}");
        assert_eq!(registry.call("HEAD", &path, &[], b"").status, 404, "{damage:?}");
        assert_eq!(registry.call("GET", &path, &[("range", "bytes=0-1")], b"").status, 404, "{damage:?}");
        let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
        assert_eq!(registry.call("POST", &mount, &[], b"").status, 202, "{damage:?}");
        registry.push_blob("a", b"content");
        assert_eq!(registry.get(&path).body, b"content", "{damage:?}");
        assert_eq!(registry.call("POST", &mount, &[], b"").status, 201, "{damage:?}");
    }
    // a manifest is verified before it goes out
    let (digest, bytes) = registry.push_image("b", "x", b"layer");
    let file = registry.folder.path().join("registry/blobs/sha256").join(digest.hex());
    let mut wrong = bytes.clone();
    wrong[0] ^= 1;
    std::fs::write(&file, &wrong).expect("damage");
    assert_eq!(registry.get("/v2/b/manifests/x").refusal(), (404, "MANIFEST_UNKNOWN".into()));
    for reference in ["x".to_owned(), digest.to_string()] {
        std::fs::write(&file, b"{").expect("damage");
        let path = format!("/v2/b/manifests/{reference}");
        assert_eq!(registry.get(&path).refusal(), (404, "MANIFEST_UNKNOWN".into()));
        assert_eq!(registry.call("HEAD", &path, &[], b"").status, 404);
    }
    // and pushing it again mends it
    assert_eq!(registry.put_manifest("b", "x", media_type::OCI_MANIFEST, &bytes).status, 201);
    assert_eq!(registry.get("/v2/b/manifests/x").body, bytes);
}

#[test]
fn a_newer_folder_is_refused_in_words() {
    engines::in_folder!();
    let folder = tempfile::tempdir().expect("folder");
    let storage = folder.path().join("registry");
    std::fs::create_dir(&storage).expect("folder");
    let database = rusqlite::Connection::open(storage.join("registry.db")).expect("database");
    database.pragma_update(None, "user_version", 99).expect("version");
    drop(database);
    let mut config = ServerConfig::new(storage);
    config.listen = vec![crate::server::Listen::Address(SocketAddr::from(([127, 0, 0, 1], 0)))];
    let error = Server::bind(config).err().expect("a refusal");
    let source = std::error::Error::source(&error).expect("a source").to_string();
    assert!(source.contains("schema 99") && source.contains("newer slipway"), "{source}");
}

#[test]
fn an_address_in_use_is_named() {
    let registry = Registry::start();
    let folder = tempfile::tempdir().expect("folder");
    let mut config = ServerConfig::new(folder.path().to_owned());
    config.listen = vec![crate::server::Listen::Address(registry.address())];
    let error = Server::bind(config).err().expect("a refusal").to_string();
    assert!(error.contains(&registry.address().to_string()), "{error}");
}

#[test]
fn a_read_only_registry_changes_nothing() {
    let mut registry = Registry::start();
    let (digest, bytes) = registry.push_image("a", "v", b"layer");
    let session = registry.session("a");
    registry.restart_with(|config| config.policy.read_only = true);
    for (method, path) in [
        ("POST", "/v2/a/blobs/uploads/".to_owned()),
        ("POST", format!("/v2/b/blobs/uploads/?mount={digest}&from=a")),
        ("PATCH", session.clone()),
        ("PUT", format!("{session}?digest={digest}")),
        ("DELETE", session.clone()),
        ("PUT", "/v2/a/manifests/w".to_owned()),
        ("DELETE", "/v2/a/manifests/v".to_owned()),
        ("DELETE", format!("/v2/a/manifests/{digest}")),
        ("DELETE", format!("/v2/a/blobs/{}", Digest::sha256(b"layer"))),
    ] {
        let reply = registry.call(method, &path, &[("content-type", media_type::OCI_MANIFEST)], &bytes);
        assert_eq!(reply.refusal(), (405, "UNSUPPORTED".into()), "{method} {path}");
    }
    assert_eq!(registry.get("/v2/a/manifests/v").body, bytes);
    assert_eq!(registry.get(&session).status, 204);
    assert_eq!(registry.get("/v2/a/tags/list").json()["tags"], serde_json::json!(["v"]));
}

/// Whoever names two hosts means to be taken for another's client by what stands in front (RFC 9112, section 3.2).
#[test]
fn a_request_names_one_host() {
    let registry = Registry::start();
    for (headers, status) in [
        (&[("host", "r.example")][..], 200),
        (&[("host", "")], 200),
        (&[("host", "r.example"), ("host", "r.example")], 400),
        (&[("host", "r.example"), ("host", "other")], 400),
        (&[("host", "user@r.example")], 400),
        (&[("host", "r.example/x")], 400),
        (&[("host", "r\u{e9}.example")], 400),
    ] {
        for path in ["/v2/", "/healthz"] {
            assert_eq!(registry.call("GET", path, headers, b"").status, status, "{path} {headers:?}");
        }
    }
    let none = |version: &str| {
        let mut stream = registry.connect();
        let request = format!("GET /v2/ HTTP/{version}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        Reply::read(stream, false).status
    };
    assert_eq!((none("1.1"), none("1.0")), (400, 200));
}

/// What stands in front may have gone by the other one (the confusion of CVE-2021-41190 by another way).
#[test]
fn a_manifest_has_one_type() {
    let registry = Registry::start();
    registry.push_blob("a", b"{}");
    registry.push_blob("a", b"x");
    let (bytes, own) = (image(b"x", ""), ("content-type", media_type::OCI_MANIFEST));
    for headers in
        [&[own, ("content-type", media_type::OCI_INDEX)][..], &[own, own], &[("content-type", "\u{e9}")]]
    {
        let reply = registry.call("PUT", "/v2/a/manifests/t", headers, &bytes);
        assert_eq!(reply.refusal(), (400, "MANIFEST_INVALID".to_owned()), "{headers:?}");
    }
    assert_eq!(registry.call("PUT", "/v2/a/manifests/t", &[own], &bytes).status, 201);
    // serde takes a list of an object's values for the object, and nobody else does
    let text = String::from_utf8(bytes).expect("text");
    let config = text.find("\"config\":{").expect("a configuration");
    let end = config + text[config..].find('}').expect("its end") + 1;
    let digest = Digest::sha256(b"{}");
    let listed = format!(
        "{}\"config\":[\"{}\",\"{digest}\",2]{}",
        &text[..config],
        media_type::OCI_CONFIG,
        &text[end..]
    );
    for body in [listed.as_str(), "[]", "null", "2"] {
        let reply = registry.call("PUT", "/v2/a/manifests/u", &[own], body.as_bytes());
        assert_eq!(reply.refusal(), (400, "MANIFEST_INVALID".to_owned()), "{body}");
        assert!(!reply.text().contains("Probe"), "{}", reply.text());
    }
}

/// A zero byte is one that no name has and that not every database can hold: wherever a text of a client goes, nothing fails of it.
#[test]
fn zero_bytes_in_texts_are_nobody_s_failure() {
    let registry = Registry::start();
    let (subject, bytes) = registry.push_image("a", "x", b"layer");
    let subject_of = serde_json::to_string(&Descriptor::of(media_type::OCI_MANIFEST, &bytes)).expect("json");
    let kinds = ["a/b\\u0000", "a/b\\u00001", "\\u0001", "a/b"];
    for kind in kinds {
        let more =
            format!(r#","artifactType":"{kind}","subject":{subject_of},"annotations":{{"{kind}":"{kind}"}}"#);
        let text = image(b"layer", &more);
        let digest = Digest::sha256(&text).to_string();
        assert_eq!(
            registry.put_manifest("a", &digest, media_type::OCI_MANIFEST, &text).status,
            201,
            "{kind}"
        );
    }
    let referrers = format!("/v2/a/referrers/{subject}");
    assert_eq!(registry.get(&referrers).json()["manifests"].as_array().map(Vec::len), Some(kinds.len()));
    for (filter, found) in [("a/b%00", 1), ("a/b%001", 1), ("%01", 1), ("a/b", 1), ("%00", 0), ("%010", 0)] {
        let reply = registry.get(&format!("{referrers}?artifactType={filter}"));
        assert_eq!(reply.json()["manifests"].as_array().map(Vec::len), Some(found), "{filter}");
    }
    for (path, status) in [
        ("/v2/a/tags/list?last=w%00&n=5", 200),
        ("/v2/_catalog?last=%00&n=5", 200),
        (&format!("{referrers}?last=%00"), 200),
        ("/v2/a/manifests/%00", 400),
    ] {
        let reply = registry.get(path);
        assert!(reply.status == status || (400..500).contains(&reply.status), "{path}: {}", reply.status);
    }
    let tags = registry.get("/v2/a/tags/list?last=w%00&n=5");
    assert_eq!(tags.json()["tags"], serde_json::json!(["x"]));
    let blob = Digest::sha256(b"layer");
    let mount = format!("/v2/b/blobs/uploads/?mount={blob}&from=a%00");
    assert_eq!(registry.call("POST", &mount, &[], b"").status, 202, "no repository is called so");
}
