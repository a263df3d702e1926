//! Texts of others, everywhere that they are shown.

use super::*;

/// What nobody's browser may ever see as it is.
const TEXTS: [&str; 8] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "<svg/onload=alert(1)>",
    "javascript:alert(1)",
    "\u{202e}gnp.exe\u{2066}",
    "\u{1b}[31mred\u{0}\u{7f}\u{9b}",
    "</title></textarea><iframe srcdoc=x>{{7*7}}&#x3c;script&gt;",
];

/// No text of [`TEXTS`] came through as markup, nor as something that deceives.
#[track_caller]
fn is_harmless(page: &str) {
    for part in [
        "<script>alert",
        "<img src=x",
        "<svg/",
        "<iframe",
        "</textarea>",
        "href=\"javascript:",
        "onmouseover='alert(1)'>",
    ] {
        assert!(!page.contains(part), "{part}: {page}");
    }
    let deceiving = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!page.chars().any(deceiving), "{page}");
}

#[test]
fn texts_of_others_are_texts() {
    let registry = start(|_| {});
    for (at, text) in TEXTS.into_iter().enumerate() {
        let json = |value: &str| serde_json::to_string(value).expect("json");
        let name = format!("hostile/n{at}");
        let mut labels = serde_json::Map::new();
        labels.insert(text.to_owned(), text.into());
        let run = serde_json::json!({ "Labels": labels, "Env": [format!("{text}={text}")], "User": text, "Cmd": [text],
            "Entrypoint": [text], "WorkingDir": text, "ExposedPorts": { text: {} }, "Volumes": { text: {} } });
        // names of files cannot hold a zero byte
        let file = text.replace('\0', "");
        let file = file.trim_matches('/');
        let mut entries = vec![("a/b", &b"x"[..])];
        let plain = !file.contains('/') && !file.contains("..");
        if plain {
            entries.push((file, b"y"));
        }
        let layers = [archive(&entries)];
        let mut config: serde_json::Value =
            serde_json::from_slice(&configuration(&layers, run)).expect("json");
        config["history"][0] = serde_json::json!({ "created_by": text, "comment": text, "author": text });
        config["author"] = text.into();
        config["created"] = text.into();
        config["os"] = text.into();
        let config = config.to_string().into_bytes();
        let more = format!(r#","annotations":{{{}:{}}}"#, json(text), json(text));
        let image = registry.push_layers(&name, Some("v"), &layers, &config, &more);
        let layers = [archive(&[("c", b"z")])];
        registry.push_layers(&name, Some("w"), &layers, &configuration(&layers, serde_json::json!({})), "");
        let sbom = serde_json::json!({ "predicateType": text, "subject": [{ "name": text, "digest": { text: text } }],
            "predicate": { "spdxVersion": text, "name": text, "packages": [{ "name": text, "versionInfo": text, "licenseDeclared": text }],
            "creationInfo": { "creators": [text], "created": text } } });
        let sbom = sbom.to_string().into_bytes();
        registry.push_blob(&name, &sbom);
        registry.push_blob(&name, b"{}");
        let mut layer = Descriptor::of("application/vnd.in-toto+json", &sbom);
        layer.annotations.insert("org.opencontainers.image.title".to_owned(), text.to_owned());
        let layer = serde_json::to_string(&layer).expect("json");
        let empty =
            serde_json::to_string(&Descriptor::of("application/vnd.oci.empty.v1+json", b"{}")).expect("json");
        let size = registry
            .call("HEAD", &format!("/v2/{name}/manifests/{image}"), &[], b"")
            .header("content-length")
            .expect("a length")
            .to_owned();
        let kind = media_type::OCI_MANIFEST;
        let artifact = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}","artifactType":{},"config":{empty},"layers":[{layer}],"subject":{{"mediaType":"{kind}","digest":"{image}","size":{size}}}{more}}}"#,
            json(text)
        );
        let artifact = registry.push_manifest(&name, Some("art"), kind, artifact.as_bytes());
        let asked = form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        for path in [
            "/".to_owned(),
            format!("/?q={asked}"),
            format!("/?last={asked}"),
            format!("/r/{name}"),
            format!("/r/{name}?q={asked}"),
            format!("/r/{name}/_image/v"),
            format!("/r/{name}/_image/{artifact}"),
            format!("/r/{name}/_files/v"),
            format!("/r/{name}/_files/v?q={asked}"),
            format!("/r/{name}/_files/v?path={asked}"),
            format!("/r/{name}/_compare?from=v&to=w"),
            format!("/r/{name}/_history?tag={asked}"),
        ] {
            is_harmless(&registry.get(&path).page(200));
        }
        is_harmless(&registry.get(&format!("/r/{name}/_compare?from={asked}&to=v")).page(200));
        is_harmless(&registry.get(&format!("/r/{asked}")).page(404));
        is_harmless(&registry.get(&format!("/r/{name}/_files/v?layer={asked}")).page(400));
        let shown = registry.get(&format!("/r/{name}/_files/v")).page(200);
        assert!(!plain || shown.matches("<tr>").count() >= 3, "the file is in the list: {shown}");
    }
}

#[test]
fn what_was_pushed_is_no_page_of_ours() {
    let registry = start(|_| {});
    let page = b"<html><script>alert(1)</script>";
    let digest = registry.push_blob("a", page);
    let reply = registry.get(&format!("/v2/a/blobs/{digest}"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert!(!reply.header("content-type").unwrap_or_default().contains("html"));
}

#[test]
fn large_texts_are_cut() {
    let registry = start(|_| {});
    let long = "l".repeat(3 << 20);
    let run = serde_json::json!({ "Labels": { "long": long }, "Env": vec!["A=1"; 20_000] });
    let layers = [archive(&[("a", b"x")])];
    registry.push_layers("a", Some("v"), &layers, &configuration(&layers, run), "");
    let page = registry.get("/r/a/_image/v").page(200);
    assert!(
        page.len() < 300_000 && page.contains("more)") && page.contains("There are more than 500"),
        "{}",
        page.len()
    );
}

/// The template crate escapes what it is not told to leave alone: nothing here tells it.
#[test]
fn no_page_writes_markup_that_is_not_checked() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/web");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("the pages") {
        let path = entry.expect("a page").path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        files += 1;
        for word in ["PreEscaped", "Markup("] {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
    assert!(files > 15, "{files}");
}
