//! Commands that ask and change registries: ours, and Debian's.

use crate::support::http::request;
use crate::support::server::{Server, free_address};
use crate::support::{Slipway, find};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// Debian's registry, which deletes; it has neither a list of referrers nor deletes of tags.
fn debians(slipway: &Slipway, name: &str) -> Server {
    let address = free_address();
    let storage = slipway.context(name, &[]);
    let config = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  delete:\n    enabled: true\n  \
         filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
        storage.display()
    );
    let place = slipway.path(&format!("{name}.yml"));
    fs::write(&place, config).unwrap();
    let log = fs::File::options().create(true).append(true).open(slipway.path("registry.log")).unwrap();
    Server::start(
        Command::new(find("docker-registry").unwrap()).arg("serve").arg(place).stderr(log),
        &address,
    )
}

fn ours(slipway: &Slipway, name: &str) -> Server {
    Server::slipway(slipway, &slipway.path(name))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Puts a manifest of one empty configuration with a subject, and answers its digest.
fn attach(server: &Server, repository: &str, kind: &str, subject: &Value) -> String {
    let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let path = format!("/v2/{repository}/blobs/uploads/?digest={empty}");
    assert_eq!(request(&server.address, "POST", &path, &[], b"{}").status, 201);
    let config = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2 });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": kind,
        "config": config,
        "layers": [config],
        "subject": subject,
    });
    let bytes = manifest.to_string();
    let digest = slipway_oci::Digest::sha256(bytes.as_bytes()).to_string();
    let path = format!("/v2/{repository}/manifests/{digest}");
    let kind = [("content-type", "application/vnd.oci.image.manifest.v1+json")];
    assert_eq!(request(&server.address, "PUT", &path, &kind, bytes.as_bytes()).status, 201);
    digest
}

#[test]
fn what_a_registry_has_is_shown_and_deleted() {
    let slipway = Slipway::new();
    let server = ours(&slipway, "storage");
    let (one, two) = (server.name("team/app:1"), server.name("team/app:2"));
    for name in [&one, &two] {
        slipway.ok(["push", "-q", "base", name]);
    }
    let repository = server.name("team/app");
    assert_eq!(slipway.ok(["tags", &repository]), "1\n2\n");
    let listed = json(&slipway.ok(["tags", "--json", &format!("docker://{repository}")]));
    assert_eq!(listed, json!({ "Repository": repository, "Tags": ["1", "2"] }));
    assert!(slipway.fails(2, ["tags", &one]).contains("tags are of a repository"));
    assert!(slipway.fails(1, ["tags", &server.name("none")]).contains("is not in the registry"));
    let digest = slipway.ok(["digest", &one]).trim().to_owned();
    let shown = json(&slipway.ok(["digest", "--json", &one]));
    assert_eq!(shown["digest"], json!(digest));
    assert_eq!(slipway.ok(["digest", &format!("{repository}@{digest}")]).trim(), digest);
    // what is attached
    let subject = json!({ "mediaType": shown["mediaType"], "digest": digest, "size": shown["size"] });
    let sbom = attach(&server, "team/app", "application/spdx+json", &subject);
    let signature = attach(&server, "team/app", "application/x.signature", &subject);
    let table = slipway.ok(["referrers", &one]);
    assert!(table.contains(&sbom) && table.contains(&signature) && table.contains("application/spdx+json"));
    let only = ["referrers", "--json", "--artifact-type", "application/spdx+json", &one];
    let only = json(&slipway.ok(only));
    assert_eq!((only.as_array().unwrap().len(), &only[0]["digest"]), (1, &json!(sbom)));
    assert_eq!(json(&slipway.ok(["referrers", "--json", &format!("{repository}@{sbom}")])), json!([]));
    // a tag alone, then all
    assert!(slipway.fails(2, ["delete", &repository]).contains("names no tag and no digest"));
    let words = slipway.ok(["delete", &one]);
    assert!(words.contains("deleted the tag") && words.contains(&format!("{digest} stays")), "{words}");
    assert_eq!(slipway.ok(["tags", &repository]), "2\n");
    let gone = json(&slipway.ok(["delete", "--json", &format!("{repository}@{digest}")]));
    assert_eq!(gone, json!({ "name": repository, "tag": null, "digest": digest }));
    slipway.fails(1, ["digest", &two]);
    assert!(slipway.fails(1, ["delete", &two]).contains("is not in the registry"));
}

#[test]
fn what_debians_registry_has_is_shown_and_deleted() {
    slipway_skip::need!("docker-registry");
    let slipway = Slipway::new();
    let server = debians(&slipway, "debian");
    let one = server.name("team/app:1");
    slipway.ok(["push", "-q", "base", &one]);
    let repository = server.name("team/app");
    assert_eq!(slipway.ok(["tags", &repository]), "1\n");
    let digest = slipway.ok(["digest", &one]).trim().to_owned();
    assert_eq!(json(&slipway.ok(["referrers", "--json", &one])), json!([]));
    let words = slipway.fails(1, ["delete", &one]);
    assert!(words.contains("some registries delete by digest alone"), "{words}");
    slipway.ok(["delete", &format!("{repository}@{digest}")]);
    slipway.fails(1, ["digest", &one]);
}
