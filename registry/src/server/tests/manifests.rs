//! Manifests, tags, referrers and the catalog.

use super::*;

#[test]
fn bytes_come_back_as_they_went() {
    let registry = Registry::start();
    let (digest, bytes) = registry.push_image("a/b", "v1", b"layer");
    for reference in ["v1".to_owned(), digest.to_string()] {
        let path = format!("/v2/a/b/manifests/{reference}");
        let reply = registry.get(&path);
        assert_eq!((reply.status, &reply.body), (200, &bytes));
        let head = registry.call("HEAD", &path, &[], b"");
        for reply in [&reply, &head] {
            assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
            assert_eq!(reply.header("content-type"), Some(media_type::OCI_MANIFEST));
            assert_eq!(reply.header("content-length"), Some(bytes.len().to_string().as_str()));
        }
        let etag = head.header("etag").expect("etag").to_owned();
        assert_eq!(registry.call("GET", &path, &[("if-none-match", &etag)], b"").status, 304);
    }
    let unknown = registry.get("/v2/a/b/manifests/none");
    assert_eq!(unknown.refusal(), (404, "MANIFEST_UNKNOWN".into()));
    assert_eq!(registry.get("/v2/none/manifests/none").refusal(), (404, "NAME_UNKNOWN".into()));
    assert_eq!(registry.get("/v2/a/b/manifests/sha256:12").refusal(), (400, "DIGEST_INVALID".into()));
    assert_eq!(registry.get("/v2/a/b/manifests/-x").refusal(), (400, "MANIFEST_INVALID".into()));
    // a parameter is no part of the type
    let put =
        registry.put_manifest("a/b", "v2", &format!("{}; charset=utf-8", media_type::OCI_MANIFEST), &bytes);
    assert_eq!(put.status, 201);
    assert_eq!(registry.get("/v2/a/b/manifests/v2").header("content-type"), Some(media_type::OCI_MANIFEST));
}

#[test]
fn wrong_manifests_are_refused() {
    let registry = Registry::start();
    let (digest, good) = registry.push_image("a", "good", b"layer");
    let (oci, index) = (media_type::OCI_MANIFEST, media_type::OCI_INDEX);
    let text = String::from_utf8(good.clone()).expect("text");
    let lie = text.replace("\"size\":5", "\"size\":6");
    let negative = text.replace("\"size\":5", "\"size\":-5");
    let huge = text.replace("\"size\":5", "\"size\":18446744073709551615");
    let missing = text.replace(&Digest::sha256(b"layer").hex(), &Digest::sha256(b"none").hex());
    let confused = text.replace("\"unknown\"", "\"manifests\":[],\"unknown\"");
    let deep = format!("{{\"schemaVersion\":2,\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let other = Digest::sha256(b"other").to_string();
    for (reference, kind, body, status, code) in [
        ("x", oci, lie.as_str(), 400, "SIZE_INVALID"),
        ("x", oci, &negative, 400, "MANIFEST_INVALID"),
        ("x", oci, &huge, 400, "MANIFEST_INVALID"),
        ("x", oci, &missing, 400, "MANIFEST_BLOB_UNKNOWN"),
        ("x", oci, &confused, 400, "MANIFEST_INVALID"),
        ("x", index, &text, 400, "MANIFEST_INVALID"),
        ("x", media_type::DOCKER_MANIFEST, &text, 400, "MANIFEST_INVALID"),
        (
            "x",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "{\"schemaVersion\":1}",
            400,
            "MANIFEST_INVALID",
        ),
        ("x", oci, "{\"schemaVersion\":1}", 400, "MANIFEST_INVALID"),
        ("x", "application/json", &text, 400, "MANIFEST_INVALID"),
        ("x", oci, "", 400, "MANIFEST_INVALID"),
        ("x", oci, "[]", 400, "MANIFEST_INVALID"),
        ("x", oci, &deep, 400, "MANIFEST_INVALID"),
        (&other, oci, &text, 400, "DIGEST_INVALID"),
        ("sha256:zz", oci, &text, 400, "DIGEST_INVALID"),
        ("good?tag=y", oci, &text, 400, "UNSUPPORTED"),
    ] {
        let reply = registry.put_manifest("a", reference, kind, body.as_bytes());
        assert_eq!(reply.refusal(), (status, code.to_owned()), "{reference} {kind} {:.60}", body);
    }
    let untyped = registry.call("PUT", "/v2/a/manifests/x", &[], &good);
    assert_eq!(untyped.refusal(), (400, "MANIFEST_INVALID".into()));
    assert_eq!(registry.get("/v2/a/tags/list").json()["tags"], serde_json::json!(["good"]));
    assert_eq!(registry.get(&format!("/v2/a/manifests/{digest}")).status, 200);
}

#[test]
fn manifests_have_a_cap() {
    let registry = Registry::start();
    registry.push_blob("a", b"{}");
    registry.push_blob("a", b"layer");
    let of_size = |size: usize| {
        let empty = image(b"layer", ",\"annotations\":{\"a\":\"\"}").len();
        image(b"layer", &format!(",\"annotations\":{{\"a\":\"{}\"}}", "x".repeat(size - empty)))
    };
    let most = slipway_oci::limits::MANIFEST_BYTES as usize;
    assert_eq!(registry.put_manifest("a", "x", media_type::OCI_MANIFEST, &of_size(most)).status, 201);
    let large = of_size(most + 1);
    assert_eq!(registry.put_manifest("a", "y", media_type::OCI_MANIFEST, &large).status, 413);
    // without an announced length
    let mut chunked = format!("{:x}\r\n", large.len()).into_bytes();
    chunked.extend_from_slice(&large);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let headers = [("content-type", media_type::OCI_MANIFEST), ("transfer-encoding", "chunked")];
    assert_eq!(registry.call("PUT", "/v2/a/manifests/y", &headers, &chunked).status, 413);
}

#[test]
fn indexes_name_manifests_or_blobs_that_are_there() {
    let registry = Registry::start();
    let (digest, bytes) = registry.push_image("a", "child", b"layer");
    let index = |entries: &str| format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#);
    let entry = |digest: &Digest, size: usize| {
        format!(r#"{{"mediaType":"{}","digest":"{digest}","size":{size}}}"#, media_type::OCI_MANIFEST)
    };
    let put = |body: &str| registry.put_manifest("a", "i", media_type::OCI_INDEX, body.as_bytes());
    assert_eq!(put(&index("")).status, 201);
    assert_eq!(put(&index(&entry(&digest, bytes.len()))).status, 201);
    // BuildKit's cache lists layers as children (moby/buildkit#2251)
    assert_eq!(put(&index(&entry(&Digest::sha256(b"layer"), 5))).status, 201);
    assert_eq!(put(&index(&entry(&digest, bytes.len() + 1))).refusal().1, "SIZE_INVALID");
    assert_eq!(put(&index(&entry(&Digest::sha256(b"no"), 2))).refusal().1, "MANIFEST_BLOB_UNKNOWN");
    let foreign = registry.put_manifest(
        "b",
        "i",
        media_type::OCI_INDEX,
        index(&entry(&digest, bytes.len())).as_bytes(),
    );
    assert_eq!(foreign.refusal().1, "MANIFEST_BLOB_UNKNOWN");
}

#[test]
fn deleting_a_tag_and_a_digest_differ() {
    let registry = Registry::start_with(|config| config.policy.trash = "0".parse().expect("none"));
    let (digest, bytes) = registry.push_image("a", "one", b"layer");
    for tag in ["two", "three"] {
        assert_eq!(registry.put_manifest("a", tag, media_type::OCI_MANIFEST, &bytes).status, 201);
    }
    let delete = |reference: &str| registry.call("DELETE", &format!("/v2/a/manifests/{reference}"), &[], b"");
    assert_eq!(delete("one").status, 202);
    assert_eq!(delete("one").refusal(), (404, "MANIFEST_UNKNOWN".into()));
    assert_eq!(registry.get("/v2/a/manifests/two").status, 200);
    assert_eq!(registry.get(&format!("/v2/a/manifests/{digest}")).status, 200);
    assert_eq!(delete(&digest.to_string()).status, 202);
    assert_eq!(delete(&digest.to_string()).status, 404);
    assert_eq!(registry.get("/v2/a/manifests/three").status, 404);
    assert_eq!(registry.get("/v2/a/tags/list").json()["tags"], serde_json::json!([]));
    assert!(!engines::is_placed(&registry.folder.path().join("registry"), &digest));
    // the layer is a blob of its own
    assert_eq!(registry.get(&format!("/v2/a/blobs/{}", Digest::sha256(b"layer"))).status, 200);
}

#[test]
fn one_push_by_digest_moves_many_tags() {
    let registry = Registry::start();
    let (digest, bytes) = registry.push_image("a", "x", b"layer");
    let reply =
        registry.put_manifest("a", &format!("{digest}?tag=b&tag=c"), media_type::OCI_MANIFEST, &bytes);
    assert_eq!((reply.status, reply.header("oci-tag")), (201, Some("b, c")));
    assert_eq!(registry.get("/v2/a/tags/list").json()["tags"], serde_json::json!(["b", "c", "x"]));
    // one that is named twice is one: a condition is asked of it once
    let twice = format!("/v2/a/manifests/{digest}?tag=d&tag=e&tag=d");
    let headers = [("content-type", media_type::OCI_MANIFEST), ("if-none-match", "*")];
    let reply = registry.call("PUT", &twice, &headers, &bytes);
    assert_eq!((reply.status, reply.header("oci-tag")), (201, Some("d, e")));
    for tag in ["d", "e"] {
        assert_eq!(registry.call("DELETE", &format!("/v2/a/manifests/{tag}"), &[], b"").status, 202);
    }
    let many: Vec<String> = (0..101).map(|n| format!("tag=t{n}")).collect();
    let reference = format!("{digest}?{}", many.join("&"));
    assert_eq!(registry.put_manifest("a", &reference, media_type::OCI_MANIFEST, &bytes).status, 414);
    assert_eq!(
        registry.put_manifest("a", &format!("{digest}?tag=-"), media_type::OCI_MANIFEST, &bytes).status,
        400
    );
}

#[test]
fn pages_of_tags() {
    let registry = Registry::start();
    let (_, bytes) = registry.push_image("a/tags/list", "b", b"layer");
    for tag in ["a", "C", "_x", "d"] {
        assert_eq!(registry.put_manifest("a/tags/list", tag, media_type::OCI_MANIFEST, &bytes).status, 201);
    }
    let list = |query: &str| registry.get(&format!("/v2/a/tags/list/tags/list{query}"));
    for (query, tags, link) in [
        ("", &["C", "_x", "a", "b", "d"][..], None),
        ("?n=2", &["C", "_x"], Some("</v2/a/tags/list/tags/list?n=2&last=_x>; rel=\"next\"")),
        ("?n=2&last=_x", &["a", "b"], Some("</v2/a/tags/list/tags/list?n=2&last=b>; rel=\"next\"")),
        ("?n=2&last=b", &["d"], None),
        ("?n=5", &["C", "_x", "a", "b", "d"], None),
        ("?last=aa", &["b", "d"], None),
        ("?last=zz", &[], None),
        ("?n=0", &[], None),
        ("?n=99999999999999999999999", &["C", "_x", "a", "b", "d"], None),
    ] {
        let reply = list(query);
        assert_eq!(reply.status, 200);
        assert_eq!(
            (reply.json()["tags"].clone(), reply.header("link")),
            (serde_json::json!(tags), link),
            "{query}"
        );
        assert_eq!(reply.json()["name"], "a/tags/list");
    }
    for query in ["?n=-1", "?n=x", "?n=1.5", "?n="] {
        assert_eq!(list(query).status, 400, "{query}");
    }
    assert_eq!(registry.get("/v2/none/tags/list").refusal(), (404, "NAME_UNKNOWN".into()));
}

#[test]
fn the_catalog_has_pages_too() {
    let registry = Registry::start();
    for name in ["b/c", "a", "z"] {
        registry.push_image(name, "x", b"layer");
    }
    registry.push_blob("only-blobs", b"x");
    let first = registry.get("/v2/_catalog?n=2");
    assert_eq!(first.json()["repositories"], serde_json::json!(["a", "b/c"]));
    let link = first.header("link").expect("link");
    let path = link.trim_start_matches('<').split('>').next().expect("path");
    let second = registry.get(path);
    assert_eq!(
        (second.json()["repositories"].clone(), second.header("link")),
        (serde_json::json!(["z"]), None)
    );
}

#[test]
fn referrers_of_what_is_not_there_yet() {
    let registry = Registry::start();
    let subject = Digest::sha256(b"later");
    let path = format!("/v2/a/referrers/{subject}");
    let empty = registry.get(&path);
    assert_eq!((empty.status, empty.header("content-type")), (200, Some(media_type::OCI_INDEX)));
    assert_eq!(empty.json()["manifests"], serde_json::json!([]));
    assert_eq!(registry.get("/v2/a/referrers/x").refusal(), (400, "DIGEST_INVALID".into()));
    registry.push_blob("a", b"{}");
    registry.push_blob("a", b"sbom");
    let descriptor =
        format!(r#"{{"mediaType":"{}","digest":"{subject}","size":5}}"#, media_type::OCI_MANIFEST);
    let own = format!(r#","subject":{descriptor},"artifactType":"x/sbom","annotations":{{"k":"v"}}"#);
    let plain = format!(r#","subject":{descriptor}"#);
    for (tag, more) in [("one", &own), ("two", &plain)] {
        let reply = registry.put_manifest("a", tag, media_type::OCI_MANIFEST, &image(b"sbom", more));
        assert_eq!((reply.status, reply.header("oci-subject")), (201, Some(subject.to_string().as_str())));
    }
    let all = registry.get(&path).json();
    assert_eq!(all["manifests"].as_array().map(Vec::len), Some(2));
    for (filter, kind, annotations) in [
        ("x%2Fsbom", "x/sbom", serde_json::json!({"k": "v"})),
        ("application%2Fvnd.oci.image.config.v1%2Bjson", media_type::OCI_CONFIG, serde_json::Value::Null),
    ] {
        let reply = registry.get(&format!("{path}?artifactType={filter}"));
        assert_eq!(reply.header("oci-filters-applied"), Some("artifactType"));
        let json = reply.json();
        assert_eq!(json["manifests"].as_array().map(Vec::len), Some(1), "{filter}");
        let entry = &json["manifests"][0];
        assert_eq!((entry["artifactType"].as_str(), entry["annotations"].clone()), (Some(kind), annotations));
    }
    // a `+` that was left as it is has become a space, which no type has
    let bare = registry.get(&format!("{path}?artifactType=application/vnd.oci.image.config.v1+json"));
    assert_eq!(bare.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(bare.json()["manifests"][0]["artifactType"], media_type::OCI_CONFIG);
    // what is no one type filters nothing, and does not say so
    for query in ["artifactType=", "artifactType=x/sbom&artifactType=x/other", "artifacttype=x/sbom"] {
        let reply = registry.get(&format!("{path}?{query}"));
        assert_eq!(reply.header("oci-filters-applied"), None, "{query}");
        assert_eq!(reply.json()["manifests"].as_array().map(Vec::len), Some(2), "{query}");
    }
    // deleting one takes it off the list
    let digest = all["manifests"][0]["digest"].as_str().expect("digest");
    assert_eq!(registry.call("DELETE", &format!("/v2/a/manifests/{digest}"), &[], b"").status, 202);
    assert_eq!(registry.get(&path).json()["manifests"].as_array().map(Vec::len), Some(1));
}

#[test]
fn referrers_come_in_pages_that_clients_can_take() {
    let registry = Registry::start();
    registry.push_blob("a", b"{}");
    registry.push_blob("a", b"x");
    let subject = Digest::sha256(b"subject");
    for n in 0..3 {
        let more = format!(
            r#","subject":{{"mediaType":"{}","digest":"{subject}","size":7}},"annotations":{{"n":"{n}{}"}}"#,
            media_type::OCI_MANIFEST,
            "y".repeat(2 << 20)
        );
        assert_eq!(
            registry
                .put_manifest("a", &format!("t{n}"), media_type::OCI_MANIFEST, &image(b"x", &more))
                .status,
            201
        );
    }
    let (mut path, mut pages, mut seen) =
        (format!("/v2/a/referrers/{subject}"), 0, std::collections::BTreeSet::new());
    loop {
        let reply = registry.get(&path);
        assert!(reply.body.len() < slipway_oci::limits::MANIFEST_BYTES as usize);
        pages += 1;
        for entry in reply.json()["manifests"].as_array().expect("entries") {
            assert!(seen.insert(entry["digest"].as_str().expect("digest").to_owned()));
        }
        let Some(link) = reply.header("link") else { break };
        path = link.trim_start_matches('<').split('>').next().expect("path").to_owned();
    }
    assert_eq!((pages, seen.len()), (3, 3));
}

#[test]
fn images_without_layers_go_in_and_out() {
    let registry = Registry::start();
    registry.push_blob("a", b"{}");
    let config = serde_json::to_string(&Descriptor::of(media_type::OCI_CONFIG, b"{}")).expect("json");
    for (number, rest) in ["", r#","layers":null"#, r#","layers":[],"manifests":null"#].iter().enumerate() {
        let text = format!(r#"{{"schemaVersion":2,"config":{config}{rest}}}"#);
        let tag = format!("t{number}");
        let reply = registry.put_manifest("a", &tag, media_type::OCI_MANIFEST, text.as_bytes());
        assert_eq!(reply.status, 201, "{text}: {}", reply.text());
        assert_eq!(registry.get(&format!("/v2/a/manifests/{tag}")).text(), text);
    }
    for (tag, rest) in [("i0", ""), ("i1", r#","manifests":null"#)] {
        let text = format!(r#"{{"schemaVersion":2{rest}}}"#);
        assert_eq!(
            registry.put_manifest("a", tag, media_type::OCI_INDEX, text.as_bytes()).status,
            201,
            "{text}"
        );
    }
    let text = format!(r#"{{"schemaVersion":2,"config":{config},"Manifests":[]}}"#);
    let refusal = registry.put_manifest("a", "x", media_type::OCI_MANIFEST, text.as_bytes()).refusal();
    assert_eq!(refusal, (400, "MANIFEST_INVALID".into()));
}

#[test]
fn the_same_bytes_keep_their_type() {
    let registry = Registry::start();
    registry.push_blob("a", b"{}");
    let config = serde_json::to_string(&Descriptor::of(media_type::OCI_CONFIG, b"{}")).expect("json");
    let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
    assert_eq!(registry.put_manifest("a", "t", media_type::OCI_MANIFEST, text.as_bytes()).status, 201);
    for tag in ["t", "other"] {
        let reply = registry.put_manifest("a", tag, media_type::DOCKER_MANIFEST, text.as_bytes());
        assert_eq!(reply.refusal(), (400, "MANIFEST_INVALID".into()));
        assert_eq!(registry.get("/v2/a/manifests/t").header("content-type"), Some(media_type::OCI_MANIFEST));
    }
    // in another repository they are another manifest
    registry.push_blob("b", b"{}");
    assert_eq!(registry.put_manifest("b", "t", media_type::DOCKER_MANIFEST, text.as_bytes()).status, 201);
    assert_eq!(registry.get("/v2/a/manifests/t").header("content-type"), Some(media_type::OCI_MANIFEST));
}

#[test]
fn a_blob_that_a_manifest_needs_stays() {
    let registry = Registry::start();
    let (manifest, _) = registry.push_image("a", "t", b"layer");
    for needed in [b"layer".as_slice(), b"{}"] {
        let path = format!("/v2/a/blobs/{}", Digest::sha256(needed));
        let refused = registry.call("DELETE", &path, &[], b"");
        assert_eq!(refused.refusal(), (409, "DENIED".into()));
        assert_eq!(refused.json()["errors"][0]["detail"]["neededBy"], manifest.to_string());
        assert_eq!(registry.get(&path).body, needed);
    }
    // a tag's end frees nothing, the manifest's does
    assert_eq!(registry.call("DELETE", "/v2/a/manifests/t", &[], b"").status, 202);
    let path = format!("/v2/a/blobs/{}", Digest::sha256(b"layer"));
    assert_eq!(registry.call("DELETE", &path, &[], b"").status, 409);
    assert_eq!(registry.call("DELETE", &format!("/v2/a/manifests/{manifest}"), &[], b"").status, 202);
    assert_eq!(registry.call("DELETE", &path, &[], b"").status, 202);
    assert_eq!(registry.get(&path).status, 404);
}

#[test]
fn sparse_manifests_are_taken_by_rule() {
    let mut registry = Registry::start();
    let child = Descriptor::of(media_type::OCI_MANIFEST, b"elsewhere");
    let child = serde_json::to_string(&child).expect("json");
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{child}]}}"#);
    let image = String::from_utf8(image(b"absent", "")).expect("JSON");
    let all = [(media_type::OCI_INDEX, &index), (media_type::OCI_MANIFEST, &image)];
    let refused = |registry: &Registry, name: &str| {
        for (kind, text) in all {
            let refusal = registry.put_manifest(name, "t", kind, text.as_bytes()).refusal();
            assert_eq!(refusal, (400, "MANIFEST_BLOB_UNKNOWN".into()), "{text}");
        }
    };
    let taken = |registry: &Registry, name: &str| {
        for (kind, text) in all {
            let digest = Digest::sha256(text.as_bytes());
            for reference in ["t".to_owned(), digest.to_string(), format!("{digest}?tag=x&tag=y")] {
                let reply = registry.put_manifest(name, &reference, kind, text.as_bytes());
                assert_eq!(reply.status, 201, "{text}");
            }
            for reference in ["t", "x", "y", &digest.to_string()] {
                let reply = registry.get(&format!("/v2/{name}/manifests/{reference}"));
                assert_eq!((reply.status, reply.text()), (200, text.clone()));
            }
            let path = format!("/v2/{name}/manifests/{digest}");
            assert_eq!(registry.call("DELETE", &path, &[], b"").status, 202);
            assert_eq!(registry.get(&path).status, 404);
        }
    };
    refused(&registry, "a");
    registry.restart_with(|config| {
        config.policy.sparse_in = vec!["mirror/**".parse().expect("a pattern")];
    });
    refused(&registry, "a");
    taken(&registry, "mirror/a");
    registry.restart_with(|config| config.policy.sparse = true);
    taken(&registry, "a");
    // what is here has the size that it has all the same
    registry.push_blob("a", b"{}");
    let lying = image.replacen("\"size\":2", "\"size\":3", 1);
    assert_ne!(lying, image);
    let reply = registry.put_manifest("a", "u", media_type::OCI_MANIFEST, lying.as_bytes());
    assert_eq!(reply.refusal(), (400, "SIZE_INVALID".into()));
}

#[test]
fn deprecated_repositories_are_warned_of() {
    let registry = Registry::start_with(|config| {
        let one = |text: &str| text.parse().expect("a deprecation");
        config.policy.deprecated = vec![one("old/**=use \"new/\" instead"), one("old/a=closed soon")];
    });
    registry.push_image("old/a", "t", b"layer");
    let blob = Digest::sha256(b"layer");
    for (method, path) in [
        ("GET", "/v2/old/a/manifests/t".to_owned()),
        ("HEAD", "/v2/old/a/manifests/t".to_owned()),
        ("GET", format!("/v2/old/a/blobs/{blob}")),
        ("GET", "/v2/old/a/tags/list".to_owned()),
        ("POST", "/v2/old/a/blobs/uploads/".to_owned()),
        // where to look instead
        ("GET", "/v2/old/a/manifests/absent".to_owned()),
    ] {
        let reply = registry.call(method, &path, &[], b"");
        let warnings: Vec<&str> = reply
            .headers
            .iter()
            .filter(|(name, _)| name == "warning")
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(
            warnings,
            [r#"299 - "use \"new/\" instead""#, r#"299 - "closed soon""#],
            "{method} {path}"
        );
    }
    for path in ["/v2/", "/v2/_catalog", "/v2/new/a/tags/list"] {
        assert_eq!(registry.get(path).header("warning"), None, "{path}");
    }
    // a running server takes others over
    registry.server.as_ref().expect("running").control().replace_policy(crate::server::Policy::default());
    assert_eq!(registry.get("/v2/old/a/manifests/t").header("warning"), None);
}

#[test]
fn reads_beside_deletes_never_fail() {
    let registry = Registry::start();
    let layer = vec![5; 300_000];
    let (digest, bytes) = registry.push_image("a", "t", &layer);
    let large = Digest::sha256(&layer);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for path in
            [format!("/v2/a/manifests/{digest}"), "/v2/a/manifests/t".into(), format!("/v2/a/blobs/{large}")]
        {
            let (registry, stop, layer, bytes) = (&registry, &stop, &layer, &bytes);
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let reply = registry.get(&path);
                    match reply.status {
                        200 => assert!(reply.body == *layer || reply.body == *bytes, "{path}"),
                        404 => {}
                        status => panic!("{path}: {status}"),
                    }
                }
            });
        }
        for _ in 0..25 {
            for path in [format!("/v2/a/manifests/{digest}"), format!("/v2/a/blobs/{large}")] {
                assert_eq!(registry.call("DELETE", &path, &[], b"").status, 202);
            }
            registry.push_image("a", "t", &layer);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_mount_with_an_unknown_algorithm_is_an_upload() {
    let registry = Registry::start();
    for mount in ["md5:00", "sha384:00", "blake3:abc"] {
        let path = format!("/v2/a/blobs/uploads/?mount={mount}&from=b");
        let reply = registry.call("POST", &path, &[], b"");
        assert_eq!(reply.status, 202, "{mount}");
        assert!(reply.header("location").is_some());
    }
    let refusal = registry.call("POST", "/v2/a/blobs/uploads/?mount=sha256:xyz&from=b", &[], b"").refusal();
    assert_eq!(refusal, (400, "DIGEST_INVALID".into()));
}

#[test]
fn content_types_are_read_as_rfc_9110_has_them() {
    let registry = Registry::start();
    registry.push_blob("a", b"{}");
    let config = serde_json::to_string(&Descriptor::of(media_type::OCI_CONFIG, b"{}")).expect("json");
    for (number, rest) in ["", r#","mediaType":"""#, r#","mediaType":null"#].iter().enumerate() {
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]{rest}}}"#);
        for kind in [
            media_type::OCI_MANIFEST.to_owned(),
            media_type::OCI_MANIFEST.to_uppercase(),
            format!(" {} ; charset=utf-8", media_type::OCI_MANIFEST),
        ] {
            let tag = format!("t{number}");
            let reply = registry.put_manifest("a", &tag, &kind, text.as_bytes());
            assert_eq!(reply.status, 201, "{kind} {text}: {}", reply.text());
            let read = registry.get(&format!("/v2/a/manifests/{tag}"));
            assert_eq!(
                (read.header("content-type"), read.text()),
                (Some(media_type::OCI_MANIFEST), text.clone())
            );
        }
    }
}
