//! The life of what is stored, as requests see it: what may go, and only if it is what the caller thinks.

use super::*;

fn index(children: &[&[u8]]) -> Vec<u8> {
    let entries: Vec<String> = children
        .iter()
        .map(|bytes| serde_json::to_string(&Descriptor::of(media_type::OCI_MANIFEST, bytes)).expect("json"))
        .collect();
    format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")).into_bytes()
}

fn delete(registry: &Registry, reference: &str, headers: &[(&str, &str)]) -> Reply {
    registry.call("DELETE", &format!("/v2/a/manifests/{reference}"), headers, b"")
}

#[test]
fn a_manifest_that_an_index_needs_stays() {
    let registry = Registry::start();
    let (child, bytes) = registry.push_image("a", "child", b"layer");
    let whole = index(&[&bytes]);
    let nested = index(&[&whole]);
    for (tag, bytes) in [("whole", &whole), ("nested", &nested)] {
        assert_eq!(registry.put_manifest("a", tag, media_type::OCI_INDEX, bytes).status, 201);
    }
    let (whole, nested) = (Digest::sha256(&whole), Digest::sha256(&nested));
    // tagged or not, by whatever needs it
    for (digest, by) in [(&child, &whole), (&whole, &nested)] {
        let refused = delete(&registry, &digest.to_string(), &[]);
        assert_eq!(refused.refusal(), (409, "DENIED".into()));
        assert_eq!(refused.json()["errors"][0]["detail"]["neededBy"], by.to_string());
        assert_eq!(registry.get(&format!("/v2/a/manifests/{digest}")).status, 200);
    }
    // tags are free to go
    for tag in ["child", "whole"] {
        assert_eq!(delete(&registry, tag, &[]).status, 202, "{tag}");
    }
    assert_eq!(delete(&registry, &child.to_string(), &[]).status, 409);
    // from the top
    for digest in [&nested, &whole, &child] {
        assert_eq!(delete(&registry, &digest.to_string(), &[]).status, 202, "{digest}");
        assert_eq!(delete(&registry, &digest.to_string(), &[]).status, 404, "{digest}");
    }
    // what is attached keeps nothing
    let (subject, bytes) = registry.push_image("a", "subject", b"layer");
    let subject_of = serde_json::to_string(&Descriptor::of(media_type::OCI_MANIFEST, &bytes)).expect("json");
    let attached = image(b"layer", &format!(r#","subject":{subject_of}"#));
    assert_eq!(registry.put_manifest("a", "attached", media_type::OCI_MANIFEST, &attached).status, 201);
    assert_eq!(delete(&registry, &subject.to_string(), &[]).status, 202);
}

#[test]
fn tags_move_only_from_what_the_caller_saw() {
    let registry = Registry::start();
    let (one, first) = registry.push_image("a", "t", b"one");
    let (two, second) = registry.push_image("a", "other", b"two");
    let quoted = |digest: &Digest| format!("\"{digest}\"");
    let put = |reference: &str, bytes: &[u8], header: (&str, &str)| {
        let headers = [("content-type", media_type::OCI_MANIFEST), header];
        registry.call("PUT", &format!("/v2/a/manifests/{reference}"), &headers, bytes)
    };
    let at = |tag: &str| {
        let reply = registry.call("HEAD", &format!("/v2/a/manifests/{tag}"), &[], b"");
        reply.header("docker-content-digest").map(str::to_owned)
    };
    let both = format!("{}, {}", quoted(&two), quoted(&one));
    for (reference, header, status) in [
        ("t", ("if-match", quoted(&two)), 412),
        ("t", ("if-none-match", "*".to_owned()), 412),
        ("t", ("if-none-match", both.clone()), 412),
        ("new", ("if-match", "*".to_owned()), 412),
        ("new", ("if-match", quoted(&one)), 412),
        ("t", ("if-match", "latest".to_owned()), 400),
        ("t", ("if-match", two.to_string()), 400),
    ] {
        let reply = put(reference, &second, (header.0, &header.1));
        assert_eq!(reply.status, status, "{reference} {header:?}: {}", reply.text());
        assert_eq!(at("t"), Some(one.to_string()));
        assert_eq!(at("new"), None);
        if status == 412 {
            // what to look at again
            let expected = (reference == "t").then(|| one.to_string());
            assert_eq!(reply.header("docker-content-digest").map(str::to_owned), expected);
            assert_eq!(reply.json()["errors"][0]["detail"]["digest"].as_str().map(str::to_owned), expected);
        }
    }
    for (reference, bytes, header) in [
        ("t", &second, ("if-match", both.clone())),
        ("t", &second, ("if-match", "*".to_owned())),
        ("t", &first, ("if-none-match", quoted(&one))),
        ("new", &first, ("if-none-match", "*".to_owned())),
    ] {
        let reply = put(reference, bytes, (header.0, &header.1));
        assert_eq!(reply.status, 201, "{reference} {header:?}: {}", reply.text());
        assert_eq!(at(reference), Some(Digest::sha256(bytes).to_string()));
    }
    // several tags move together or not at all
    let many = format!("{two}?tag=t&tag=x&tag=new");
    assert_eq!(put(&many, &second, ("if-none-match", "*")).status, 412);
    assert_eq!(put(&many, &second, ("if-match", &quoted(&one))).status, 412);
    assert_eq!((at("t"), at("x")), (Some(one.to_string()), None));
    let many = format!("{two}?tag=t&tag=new");
    assert_eq!(put(&many, &second, ("if-match", &quoted(&one))).status, 201);
    assert_eq!((at("t"), at("new")), (Some(two.to_string()), Some(two.to_string())));
    // a digest is what it is: there, or not
    assert_eq!(put(&two.to_string(), &second, ("if-none-match", "*")).status, 412);
    assert_eq!(put(&two.to_string(), &second, ("if-match", &quoted(&two))).status, 201);
}

#[test]
fn deletes_take_only_what_the_caller_saw() {
    let registry = Registry::start();
    let (one, _) = registry.push_image("a", "t", b"one");
    let (two, _) = registry.push_image("a", "other", b"two");
    let quoted = |digest: &Digest| format!("\"{digest}\"");
    let (one_text, two_text) = (one.to_string(), two.to_string());
    for (reference, header, status) in [
        ("t", ("if-match", quoted(&two)), 412),
        ("t", ("if-none-match", quoted(&one)), 412),
        ("gone", ("if-match", quoted(&two)), 412),
        ("gone", ("if-none-match", "*".to_owned()), 404),
        (&one_text, ("if-match", quoted(&two)), 412),
        ("t", ("if-match", "?".to_owned()), 400),
        ("t", ("if-match", quoted(&one)), 202),
        (&two_text, ("if-match", "*".to_owned()), 202),
    ] {
        let reply = delete(&registry, reference, &[(header.0, &header.1)]);
        assert_eq!(reply.status, status, "{reference} {header:?}: {}", reply.text());
    }
}

#[test]
fn of_many_writers_one_wins() {
    let registry = Registry::start();
    let (_, bytes) = registry.push_image("a", "first", b"layer");
    let images: Vec<Vec<u8>> =
        (0..8).map(|n| image(b"layer", &format!(r#","annotations":{{"n":"{n}"}}"#))).collect();
    assert_eq!(registry.put_manifest("a", "t", media_type::OCI_MANIFEST, &bytes).status, 201);
    let seen = format!("\"{}\"", Digest::sha256(&bytes));
    let won = std::thread::scope(|scope| {
        let writers: Vec<_> = images
            .iter()
            .map(|image| {
                let headers = [("content-type", media_type::OCI_MANIFEST), ("if-match", seen.as_str())];
                let registry = &registry;
                scope.spawn(move || registry.call("PUT", "/v2/a/manifests/t", &headers, image).status)
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer")).collect::<Vec<_>>()
    });
    assert_eq!(won.iter().filter(|status| **status == 201).count(), 1, "{won:?}");
    assert_eq!(won.iter().filter(|status| **status == 412).count(), 7, "{won:?}");
}
