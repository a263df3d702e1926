//! Push and pull with our own server.

use super::*;

/// Blobs that say where else they are.
struct Known<'a>(&'a Blobs, &'static str);

impl BlobSource for Known<'_> {
    fn open(&self, digest: &Digest) -> std::io::Result<Box<dyn BlobReader>> {
        BlobSource::open(self.0, digest)
    }
    fn known_in(&self, _: &str, _: &Digest) -> Option<String> {
        Some(self.1.to_owned())
    }
}

#[test]
fn an_image_goes_and_comes_back() {
    let (registry, here, there) = (Registry::start(), Local::new(), Local::new());
    let large: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 241) as u8).collect();
    let (descriptor, bytes, mut blobs) = here.image(&[&large, b"small", b""]);
    blobs.push(blobs[1].clone());
    let manifest = ManifestBytes { descriptor: &descriptor, bytes: &bytes };
    let push = Push { blobs: &blobs, children: &[], manifest };
    let (client, notes) = (client(), Notes::default());
    let target = registry.reference("team/app:v1");
    let pushed = client.push(&target, &push, &here.blobs, &notes).expect("push");
    assert_eq!((pushed.uploaded, pushed.present, pushed.mounted), (4, 0, 0));
    assert_eq!((pushed.digest.clone(), notes.count("finished")), (descriptor.digest.clone(), 5));
    // again: nothing moves
    let again = client.push(&registry.reference("team/app:v2"), &push, &here.blobs, &()).expect("push");
    assert_eq!((again.uploaded, again.present), (0, 4));
    // to a neighbour: nothing moves either
    let known = Known(&here.blobs, "team/app");
    let mounted = client.push(&registry.reference("team/copy:v1"), &push, &known, &notes).expect("push");
    assert_eq!((mounted.uploaded, mounted.mounted, notes.count("mounted from team/app")), (0, 4, 4));
    // from one that lacks it: sent after all
    let known = Known(&here.blobs, "team/none");
    let sent = client.push(&registry.reference("other:v1"), &push, &known, &()).expect("push");
    assert_eq!((sent.uploaded, sent.mounted), (4, 0));
    // and back
    assert_eq!(client.resolve(&target).expect("resolve"), descriptor);
    let (found, fetched) = client.manifest(&target).expect("manifest");
    assert_eq!((&found, &fetched), (&descriptor, &bytes));
    client.fetch_blobs(&target, &blobs, &there.blobs, &()).expect("fetch");
    assert_eq!(there.blobs.read(&blobs[1].digest, 1 << 30).expect("blob"), large);
    let notes = Notes::default();
    client.fetch_blobs(&target, &blobs, &there.blobs, &notes).expect("fetch");
    assert_eq!((notes.count("present"), notes.count("started")), (4, 0));
    assert_eq!(client.tags(&target).expect("tags"), ["v1", "v2"]);
    let by_digest = target.with_digest(descriptor.digest.clone());
    assert_eq!(client.resolve(&by_digest).expect("resolve"), descriptor);
    client.delete_manifest(&target).expect("delete");
    assert_eq!(client.tags(&target).expect("tags"), ["v2"]);
    client.delete_manifest(&by_digest).expect("delete");
    assert!(matches!(client.manifest(&by_digest), Err(ClientError::NotFound { .. })));
    client.delete_blob(&target, &blobs[1].digest).expect("delete");
    assert!(matches!(client.delete_blob(&target, &blobs[1].digest), Err(ClientError::NotFound { .. })));
}

#[test]
fn localhost_is_found_without_asking_anybody() {
    let (registry, here) = (Registry::start(), Local::new());
    let (descriptor, bytes, blobs) = here.image(&[b"x"]);
    let manifest = ManifestBytes { descriptor: &descriptor, bytes: &bytes };
    let target: Reference =
        format!("localhost:{}/a:t", registry.server.address().port()).parse().expect("reference");
    let (client, push) = (client(), Push { blobs: &blobs, children: &[], manifest });
    client.push(&target, &push, &here.blobs, &()).expect("push");
    assert_eq!(client.resolve(&target).expect("resolve"), descriptor);
}

#[test]
fn an_index_goes_after_its_children() {
    let (registry, here) = (Registry::start(), Local::new());
    let (one, one_bytes, mut blobs) = here.image(&[b"one"]);
    let (two, two_bytes, more) = here.image(&[b"two", b"three"]);
    blobs.extend(more);
    let index = slipway_oci::spec::Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.into()),
        artifact_type: None,
        manifests: vec![one.clone(), two.clone()],
        subject: None,
        annotations: BTreeMap::new(),
    };
    let bytes = to_json(&index);
    let descriptor = Descriptor::of(media_type::OCI_INDEX, &bytes);
    let children = [
        ManifestBytes { descriptor: &one, bytes: &one_bytes },
        ManifestBytes { descriptor: &two, bytes: &two_bytes },
    ];
    let manifest = ManifestBytes { descriptor: &descriptor, bytes: &bytes };
    let push = Push { blobs: &blobs, children: &children, manifest };
    let (client, target) = (client(), registry.reference("multi:v1"));
    client.push(&target, &push, &here.blobs, &()).expect("push");
    assert_eq!(client.manifest(&target).expect("index"), (descriptor.clone(), bytes.clone()));
    assert_eq!(client.manifest(&target.with_digest(two.digest.clone())).expect("child").0, two);
    assert_eq!(client.tags(&target).expect("tags"), ["v1"]);
    // a target that names another digest than what is pushed
    let wrong = target.with_digest(one.digest.clone());
    assert!(matches!(client.push(&wrong, &push, &here.blobs, &()), Err(ClientError::Digest { .. })));
}

#[test]
fn pages_of_tags_are_followed() {
    let (registry, here, client) = (Registry::start(), Local::new(), client());
    let (descriptor, bytes, blobs) = here.image(&[b"x"]);
    let manifest = ManifestBytes { descriptor: &descriptor, bytes: &bytes };
    client
        .push(&registry.reference("a:t"), &Push { blobs: &blobs, children: &[], manifest }, &here.blobs, &())
        .expect("push");
    // tags are cheap for the registry: a hundred a request
    let home = "http://127.0.0.1/".parse().expect("address");
    let http = client.inner.transport.http(super::super::transport::Kind::Loopback, &home).expect("http");
    for hundred in 0..15 {
        let query: Vec<String> = (0..100).map(|n| format!("tag=t{:04}", hundred * 100 + n)).collect();
        let url = format!(
            "http://{}/v2/a/manifests/{}?{}",
            registry.server.address(),
            descriptor.digest,
            query.join("&")
        );
        let request = http.put(url).header("content-type", media_type::OCI_MANIFEST).body(bytes.clone());
        assert_eq!(client.runtime.block_on(async { request.send().await }).expect("put").status(), 201);
    }
    let tags = client.tags(&registry.reference("a")).expect("tags");
    assert_eq!((tags.len(), tags[0].as_str(), tags[1500].as_str()), (1501, "t", "t1499"));
    assert!(matches!(client.tags(&registry.reference("b")), Err(ClientError::NotFound { .. })));
}

#[test]
fn a_local_blob_that_is_gone_or_short_is_a_local_failure() {
    let (registry, here, client) = (Registry::start(), Local::new(), client());
    let (descriptor, bytes, blobs) = here.image(&[b"missing", b"shortened"]);
    let manifest = ManifestBytes { descriptor: &descriptor, bytes: &bytes };
    std::fs::write(here.blobs.path(&blobs[2].digest), b"short").expect("damage");
    for wrong in [&blobs[2], &blobs[1]] {
        here.blobs.remove(&blobs[1].digest).expect("remove");
        let push = Push { blobs: std::slice::from_ref(wrong), children: &[], manifest };
        let notes = Notes::default();
        let error = client.push(&registry.reference("a:t"), &push, &here.blobs, &notes).expect_err("failure");
        assert!(matches!(error, ClientError::Source { .. }), "{error:?}");
        assert_eq!(notes.count("retry"), 0);
    }
    assert!(matches!(client.manifest(&registry.reference("a:t")), Err(ClientError::NotFound { .. })));
}

#[test]
fn what_a_registry_warns_of_is_passed_on() {
    let registry = Registry::start();
    let deprecated = vec!["old/**=use \"new\"".parse().expect("a deprecation")];
    registry.server.control().replace_policy(crate::server::Policy { deprecated, ..Default::default() });
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = Arc::clone(&heard);
    let client = client_with(|config| {
        config.warned =
            Some(Arc::new(move |host, words| notes.lock().expect("notes").push(format!("{host}: {words}"))));
    });
    let local = Local::new();
    let (manifest, bytes, blobs) = local.image(&[b"one"]);
    for name in ["old/a:t", "new/a:t", "old/b:t"] {
        let manifest = ManifestBytes { descriptor: &manifest, bytes: &bytes };
        let push = Push { blobs: &blobs, children: &[], manifest };
        client.push(&registry.reference(name), &push, &local.blobs, &()).expect("push");
        client.resolve(&registry.reference(name)).expect("resolve");
    }
    assert_eq!(*heard.lock().expect("notes"), [format!("{}: use \"new\"", registry.server.address())]);
}

#[test]
fn a_layer_that_lives_elsewhere_is_fetched_from_there_where_that_is_allowed() {
    let elsewhere = Fake::start(|asked, _| match asked.path.as_str() {
        "/layer" => reply(200, &[], b"foreign"),
        "/other" => reply(200, &[], b"f0reign"),
        "/long" => reply(200, &[], b"foreign and more"),
        "/moved" => reply(302, &[("location", "/layer")], b""),
        _ => reply(404, &[], b""),
    });
    let registry = Registry::start();
    let name = registry.reference("a:t");
    let layer = |paths: &[&str]| {
        let mut layer = Descriptor::of(media_type::OCI_LAYER, b"foreign");
        layer.urls = paths.iter().map(|path| format!("http://{}{path}", elsewhere.address)).collect();
        layer
    };
    let fetch = |client: &Client, paths: &[&str]| {
        let local = Local::new();
        client
            .fetch_blobs(&name, &[layer(paths)], &local.blobs, &())
            .map(|()| local.blobs.read(&Digest::sha256(b"foreign"), 100).expect("the layer"))
    };
    // said, and nobody else is asked
    let refused = fetch(&client(), &["/layer"]).expect_err("not allowed");
    assert!(matches!(&refused, ClientError::Foreign { url, .. } if url.ends_with("/layer")), "{refused}");
    assert!(elsewhere.asked().is_empty());
    let allowed = client_with(|config| config.foreign_layers = true);
    for paths in [&["/layer"][..], &["/gone", "/layer"], &["/other", "/moved"], &["/long", "/layer"]] {
        assert_eq!(fetch(&allowed, paths).expect("fetched"), b"foreign", "{paths:?}");
    }
    for (paths, words) in [
        (&["/other"][..], "content with digest"),
        (&["/long"], "bytes for"),
        (&["/gone"], "is not in the registry"),
    ] {
        let error = fetch(&allowed, paths).expect_err("refused").to_string();
        assert!(error.contains(words), "{paths:?}: {error}");
    }
    let mut strange = layer(&[]);
    strange.urls = vec!["file:///etc/passwd".into()];
    let error = allowed.fetch_blobs(&name, &[strange], &Local::new().blobs, &()).expect_err("no address");
    assert!(matches!(error, ClientError::Address { .. }), "{error}");
    // what the registry has itself is asked of nobody else
    let before = elsewhere.asked().len();
    let local = Local::new();
    let (manifest, bytes, blobs) = local.image(&[b"foreign"]);
    let manifest = ManifestBytes { descriptor: &manifest, bytes: &bytes };
    let push = Push { blobs: &blobs, children: &[], manifest };
    allowed.push(&name, &push, &local.blobs, &()).expect("pushed");
    assert_eq!(fetch(&client(), &["/layer"]).expect("fetched"), b"foreign");
    assert_eq!(elsewhere.asked().len(), before);
}
