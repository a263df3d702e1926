//! The web page: every page, who sees it, and what cannot be done through it.

mod devices;
mod files;
mod hostile;
pub(super) mod rights;

use super::*;
use slipway_oci::spec::ImageConfig;

/// A registry with its page.
fn start(change: impl FnOnce(&mut ServerConfig)) -> Registry {
    Registry::start_with(|config| {
        config.policy.web = true;
        change(config);
    })
}

impl Reply {
    /// A page that is whole, and guarded as every page is.
    #[track_caller]
    fn page(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        self.guarded();
        assert_eq!(self.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let text = self.text();
        assert!(text.starts_with("<!DOCTYPE html><html lang=\"en\">") && text.ends_with("</html>"), "{text}");
        // nothing that the policy would forbid, whatever it shows
        for forbidden in ["<style", "<iframe", "<object", "<base", "href=\"javascript:"] {
            assert!(!text.contains(forbidden), "{forbidden}: {text}");
        }
        for tag in text.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default()) {
            assert!(tag.matches('"').count().is_multiple_of(2), "an attribute that does not end: {tag}");
            // outside of quotes no attribute is anybody's
            let outside: String = tag.split('"').step_by(2).collect();
            assert!(!outside.contains(" on") && !outside.contains(" style"), "{tag}");
        }
        assert_eq!(text.matches("<script").count(), 1, "the one script");
        text
    }

    #[track_caller]
    fn guarded(&self) {
        let policy = self.header("content-security-policy").expect("a policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{part}");
        }
        assert!(!policy.contains("unsafe"));
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(self.header("referrer-policy"), Some("same-origin"));
        assert_eq!(self.header("x-frame-options"), Some("DENY"));
    }
}

/// An archive of files with their bytes; a name that ends with a slash is a folder.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if path.ends_with('/') { 0o755 } else { 0o644 });
        header.set_mtime(1_700_000_000);
        header.set_size(bytes.len() as u64);
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        builder.append_data(&mut header, path, *bytes).expect("an entry");
    }
    builder.into_inner().expect("an archive")
}

/// A configuration with a history of one instruction a layer.
fn configuration(layers: &[Vec<u8>], more: serde_json::Value) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| Digest::sha256(layer).to_string()).collect();
    let history: Vec<_> = (0..layers.len())
        .map(|at| serde_json::json!({ "created_by": format!("RUN step {at} # buildkit") }))
        .chain([serde_json::json!({ "created_by": "CMD [\"app\"]", "empty_layer": true })])
        .collect();
    let mut config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": more, "rootfs": { "type": "layers", "diff_ids": ids }, "history": history,
    });
    config["author"] = "ann".into();
    let bytes = config.to_string().into_bytes();
    ImageConfig::from_bytes(&bytes).expect("a configuration");
    bytes
}

impl Registry {
    /// Pushes an image of layers, under a tag where it is given.
    fn push_layers(
        &self,
        name: &str,
        tag: Option<&str>,
        layers: &[Vec<u8>],
        config: &[u8],
        more: &str,
    ) -> Digest {
        layers.iter().for_each(|layer| drop(self.push_blob(name, layer)));
        self.push_blob(name, config);
        let text = |descriptor: &Descriptor| serde_json::to_string(descriptor).expect("json");
        let config = text(&Descriptor::of(media_type::OCI_CONFIG, config));
        let layers: Vec<String> =
            layers.iter().map(|layer| text(&Descriptor::of(media_type::OCI_LAYER, layer))).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[{}]{more}}}"#,
            media_type::OCI_MANIFEST,
            layers.join(",")
        );
        self.push_manifest(name, tag, media_type::OCI_MANIFEST, manifest.as_bytes())
    }

    fn push_manifest(&self, name: &str, tag: Option<&str>, kind: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let reference = tag.map_or_else(|| digest.to_string(), str::to_owned);
        let reply = self.put_manifest(name, &reference, kind, bytes);
        assert_eq!(reply.status, 201, "{}", reply.text());
        digest
    }
}

/// A registry with an image of two layers in two versions, an index over the first, and what is attached to it.
fn filled() -> (Registry, Digest) {
    let registry = start(|_| {});
    let base =
        archive(&[("etc/", b""), ("etc/hosts", b"x"), ("etc/old", b"12345"), ("usr/bin/app", &[7; 3000])]);
    let upper = archive(&[("etc/.wh.old", b""), ("srv/index.html", b"<h1>hello</h1>")]);
    let run = serde_json::json!({ "Env": ["PATH=/bin", "EMPTY="], "Entrypoint": ["/usr/bin/app"], "User": "app",
        "Labels": { "org.opencontainers.image.source": "https://code.example/app", "plain": "text" } });
    let layers = [base.clone(), upper];
    let one = registry.push_layers("team/app", Some("v1"), &layers, &configuration(&layers, run), "");
    let layers = [base, archive(&[("srv/index.html", b"<h1>bye</h1>"), ("srv/new", b"1")])];
    registry.push_layers("team/app", Some("v2"), &layers, &configuration(&layers, serde_json::json!({})), "");
    let size = registry
        .call("HEAD", &format!("/v2/team/app/manifests/{one}"), &[], b"")
        .header("content-length")
        .expect("a length")
        .to_owned();
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{one}","size":{size},"platform":{{"architecture":"amd64","os":"linux"}}}}]}}"#,
        media_type::OCI_INDEX,
        media_type::OCI_MANIFEST
    );
    registry.push_manifest("team/app", Some("latest"), media_type::OCI_INDEX, index.as_bytes());
    let sbom = br#"{"spdxVersion":"SPDX-2.3","name":"app","packages":[{"name":"zlib","versionInfo":"1.3.1","licenseDeclared":"Zlib"}]}"#;
    registry.push_blob("team/app", sbom);
    registry.push_blob("team/app", b"{}");
    let layer = serde_json::to_string(&Descriptor::of("application/spdx+json", sbom)).expect("json");
    let empty =
        serde_json::to_string(&Descriptor::of("application/vnd.oci.empty.v1+json", b"{}")).expect("json");
    let artifact = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","artifactType":"application/spdx+json","config":{empty},"layers":[{layer}],"subject":{{"mediaType":"{kind}","digest":"{one}","size":{size}}}}}"#,
        kind = media_type::OCI_MANIFEST,
    );
    registry.push_manifest("team/app", None, media_type::OCI_MANIFEST, artifact.as_bytes());
    (registry, one)
}

/// The first link of a page that has `part` in it.
fn link(page: &str, part: &str) -> String {
    let links = page.split("href=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(link, _)| link);
    let link = links
        .into_iter()
        .find(|link| link.contains(part))
        .unwrap_or_else(|| panic!("no link to {part}: {page}"));
    link.replace("&amp;", "&")
}

#[test]
fn every_page_shows_what_is_there() {
    let (registry, one) = filled();
    let page = |path: &str| registry.get(path).page(200);
    let has = |path: &str, wanted: &[&str]| {
        let text = page(path);
        for words in wanted {
            assert!(text.contains(words), "{path} has no `{words}`: {text}");
        }
        text
    };
    has("/", &["team/", "app", "3 tags", "href=\"/r/team/app\""]);
    has("/?q=nothing", &["No repository is called so"]);
    has("/?q=APP", &["href=\"/r/team/app\""]);
    let tags = has("/r/team/app", &["v1", "v2", "latest", "linux/amd64", "kB", "just now", "/_image/v1"]);
    assert!(tags.contains("<option value=\"latest\""), "{tags}");
    let none = page("/r/team/app?q=v2");
    assert!(none.contains("_image/v2") && !none.contains("_image/v1"), "{none}");
    let image = has(
        "/r/team/app/_image/v1",
        &[
            "RUN step 0",
            "RUN step 1",
            "CMD [&quot;app&quot;]",
            "linux/amd64",
            "PATH",
            "/usr/bin/app",
            "SBOM (SPDX)",
            "<a href=\"https://code.example/app\" rel=\"noopener noreferrer nofollow\">",
            "2026-01-02T03:04:05Z",
        ],
    );
    assert!(!image.contains("# buildkit"));
    let sbom = link(&image, "_image/sha256:");
    has(&format!("/r/team/app/_image/{one}"), &["RUN step 0"]);
    let index = has("/r/team/app/_image/latest", &["index of 1 image", "linux/amd64"]);
    assert!(link(&index, "_image/sha256:").contains(&one.to_string()));
    let attached = image.split("<h2>Attached</h2>").nth(1).expect("attached");
    has(&link(attached, "_image/sha256:"), &["zlib", "1.3.1", "Zlib", "1 package", "Attached to"]);
    assert!(!sbom.is_empty());
    let compared = has(
        "/r/team/app/_compare?from=v1&to=v2",
        &["/srv/new", "added", "/srv/index.html", "changed", "/etc/old", "Variable PATH", "1 layer in both"],
    );
    assert!(!compared.contains("/usr/bin/app</span>"), "the same in both: {compared}");
    has("/r/team/app/_compare?from=latest&to=latest", &["The same", "0 paths added"]);
    has("/r/team/app/_compare", &["Show what differs"]);
    has("/r/team/app/_history", &["v1", "v2", "latest", "new", "127.0.0.1"]);
    let moves = page("/r/team/app/_history?tag=v1");
    assert!(moves.contains("v1") && !moves.contains("_image/v2"));
    has("/r/team/app/_trash", &["The trash is empty"]);
    has("/usage", &["team/app", "kB"]);
    for path in [
        "/r/team/app/_image/nothing",
        "/r/none",
        "/r/none/_history",
        "/r/none/_trash",
        "/r/none/_compare",
        "/r/team/app/_nothing",
        "/r/team/app/_files/latest",
        "/r/team/app/_compare?from=v1&to=nothing",
        "/assets/none.css",
    ] {
        assert!(registry.get(path).page(404).contains("Nothing here"), "{path}");
    }
}

#[test]
fn assets_are_named_by_what_they_are() {
    let registry = start(|_| {});
    let page = registry.get("/").page(200);
    for (part, kind) in [("style", "text/css; charset=utf-8"), ("icon", "image/svg+xml")] {
        let reply = registry.get(&link(&page, part));
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(kind)));
        assert!(reply.header("cache-control").expect("caching").contains("immutable"));
        reply.guarded();
    }
    let script =
        page.split("script src=\"").nth(1).and_then(|rest| rest.split_once('"')).expect("a script").0;
    assert_eq!(registry.get(script).header("content-type"), Some("text/javascript; charset=utf-8"));
    let head = registry.call("HEAD", script, &[], b"");
    assert_eq!(head.status, 200);
    assert!(!head.header("content-length").expect("a length").starts_with('0'));
}

#[test]
fn the_protocol_is_as_it_was() {
    let registry = start(|_| {});
    for (method, path, status) in [
        ("GET", "/v2/", 200),
        ("HEAD", "/", 200),
        ("HEAD", "/usage", 200),
        ("POST", "/", 405),
        ("OPTIONS", "/", 405),
        ("DELETE", "/r/a", 405),
        ("PUT", "/usage", 405),
        ("GET", "/logout", 405),
        ("GET", "/r/a/_undelete", 405),
        ("GET", "/v1/_ping", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", "/v2", 200),
        ("GET", "/v2/r/tags/list", 404),
        ("GET", "/healthz", 200),
        ("GET", "/token", 404),
    ] {
        let reply = registry.call(method, path, &[], b"");
        assert_eq!(reply.status, status, "{method} {path}");
        let ours = !(path.starts_with("/v") || matches!(path, "/favicon.ico" | "/healthz" | "/token"));
        assert_eq!(reply.header("content-security-policy").is_some(), ours, "{method} {path}");
        assert_eq!(reply.header("allow").is_some(), status == 405, "{method} {path}");
    }
    let off = Registry::start();
    for path in ["/", "/r/a", "/usage", "/login", "/assets/style.css"] {
        assert_eq!(off.get(path).refusal(), (404, "UNSUPPORTED".to_owned()), "{path}");
    }
}

#[test]
fn lists_have_pages() {
    let registry = start(|_| {});
    for number in 0..105 {
        registry.push_image(&format!("many/r{number:03}"), "v", b"x");
        if number < 104 {
            registry.push_image("many/r000", &format!("t{number:03}"), b"x");
        }
    }
    let first = registry.get("/").page(200);
    let next = link(&first, "last=");
    let second = registry.get(&next).page(200);
    assert!(first.contains("many/r000") && !first.contains("href=\"/r/many/r104\""), "{first}");
    assert!(second.contains("href=\"/r/many/r104\"") && !second.contains("href=\"/r/many/r000\""));
    let tags = registry.get("/r/many/r000").page(200);
    let more = registry.get(&link(&tags, "from=100")).page(200);
    let count = |page: &str| page.matches("class=\"tag\"").count();
    assert_eq!((count(&tags), count(&more)), (100, 5));
    let moves = registry.get("/r/many/r000/_history").page(200);
    assert_eq!(count(&registry.get(&link(&moves, "before=")).page(200)), 5);
    let usage = registry.get("/usage").page(200);
    registry.get(&link(&usage, "from=100")).page(200);
}

/// Signatures of cosign and attestations of BuildKit look like images by their configuration.
#[test]
fn attestations_and_signatures_are_no_images() {
    let (registry, one) = filled();
    let push = |tag: Option<&str>,
                kind: &str,
                document: &serde_json::Value,
                annotations: serde_json::Value| {
        let bytes = document.to_string().into_bytes();
        registry.push_blob("team/app", &bytes);
        registry.push_blob("team/app", b"{}");
        let config = serde_json::to_value(Descriptor::of(media_type::OCI_CONFIG, b"{}")).expect("json");
        let mut layer = serde_json::to_value(Descriptor::of(kind, &bytes)).expect("json");
        layer["annotations"] = annotations;
        let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer] });
        let bytes = manifest.to_string().into_bytes();
        (registry.push_manifest("team/app", tag, media_type::OCI_MANIFEST, &bytes), bytes.len())
    };
    let signed = serde_json::json!({ "critical": { "identity": { "docker-reference": "team/app" },
        "image": { "docker-manifest-digest": one.to_string() }, "type": "cosign container image signature" } });
    let tag = format!("{}.sig", one.to_string().replace(':', "-"));
    let signature = serde_json::json!({ "dev.cosignproject.cosign/signature": "MEUCIQ" });
    push(Some(&tag), "application/vnd.dev.cosign.simplesigning.v1+json", &signed, signature);
    let image = registry.get("/r/team/app/_image/v1").page(200);
    assert!(image.contains("Signature (cosign)") && image.contains(&format!("/_image/{tag}")), "{image}");
    let page = registry.get(&format!("/r/team/app/_image/{tag}")).page(200);
    for wanted in ["Signature (cosign)", "MEUCIQ", "cosign container image signature", &one.to_string()] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    assert!(!page.contains("Files of the image"));
    let provenance = serde_json::json!({ "predicateType": "https://slsa.dev/provenance/v1", "subject": [],
        "predicate": { "runDetails": { "builder": { "id": "https://builder.example/1" } } } });
    let (digest, size) = push(
        None,
        "application/vnd.in-toto+json",
        &provenance,
        serde_json::json!({ "in-toto.io/predicate-type": "slsa" }),
    );
    let entry = |digest: &Digest, size: usize, annotations: serde_json::Value| {
        serde_json::json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest.to_string(), "size": size, "annotations": annotations,
            "platform": { "architecture": "unknown", "os": "unknown" } })
    };
    let attests = serde_json::json!({ "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": one.to_string() });
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry(&digest, size, attests)] });
    registry.push_manifest("team/app", Some("attested"), media_type::OCI_INDEX, index.to_string().as_bytes());
    let page = registry.get("/r/team/app/_image/attested").page(200);
    assert!(page.contains("Attestation") && page.contains("index of 0 images"), "{page}");
    let page = registry.get(&format!("/r/team/app/_image/{digest}")).page(200);
    assert!(page.contains("<h2>Provenance</h2>") && page.contains("https://builder.example/1"), "{page}");
}
