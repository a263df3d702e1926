//! Images for several platforms: indexes are kept as they came.

use crate::support::{Slipway, http, run, server::Server};
use serde_json::{Value, json};
use std::process::Command;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry with `app:multi`, an index over an image for this machine, one for another and an attestation.
struct Hub {
    slipway: Slipway,
    server: Server,
    index: String,
}

impl Hub {
    fn new() -> Hub {
        let slipway = Slipway::new();
        let server = Server::slipway(&slipway, &slipway.path("registry"));
        let mut entries = Vec::new();
        for (tag, recipe, platform) in [
            ("own", "FROM base\nRUN echo own > /which\n", None),
            ("other", "FROM scratch\nCOPY which /which\n", Some("linux/s390x")),
            ("note", "FROM scratch\nCOPY which /note\n", Some("unknown/unknown")),
        ] {
            let name = server.name(&format!("app:{tag}"));
            let flags: Vec<&str> = platform.iter().flat_map(|platform| ["--platform", platform]).collect();
            slipway.build_with(&name, recipe, &[("which", tag)], &flags).ok();
            slipway.ok(["push", &name]);
            let reply = http::request(
                &server.address,
                "GET",
                &format!("/v2/app/manifests/{tag}"),
                &[("Accept", MANIFEST)],
                b"",
            );
            let own =
                format!("linux/{}", slipway.ok(["inspect", "--format", "{{.Architecture}}", &name]).trim());
            let (os, architecture) = platform.unwrap_or(&own).split_once('/').unwrap();
            entries.push(json!({
                "mediaType": MANIFEST, "digest": reply.header("docker-content-digest"), "size": reply.body.len(),
                "platform": { "os": os, "architecture": architecture },
            }));
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string();
        let path = "/v2/app/manifests/multi";
        let reply = http::request(&server.address, "PUT", path, &[("Content-Type", INDEX)], index.as_bytes());
        assert_eq!(reply.status, 201, "{}", reply.text());
        let index = reply.header("docker-content-digest").to_owned();
        Hub { slipway, server, index }
    }

    fn name(&self) -> String {
        self.server.name("app:multi")
    }

    /// The digest that the registry has under a name.
    fn digest(&self, repository: &str, tag: &str) -> String {
        let accept = format!("{INDEX}, {MANIFEST}");
        let path = format!("/v2/{repository}/manifests/{tag}");
        let reply = http::request(&self.server.address, "HEAD", &path, &[("Accept", &accept)], b"");
        reply.header("docker-content-digest").to_owned()
    }
}

fn blobs(slipway: &Slipway) -> usize {
    let found = run(Command::new("find").arg(slipway.root.join("blobs")).args(["-type", "f"])).ok();
    found.lines().count()
}

#[test]
fn an_index_is_one_image_here_and_whole_elsewhere() {
    let hub = Hub::new();
    let (user, name) = (hub.slipway.another("user"), hub.name());
    let printed = user.ok(["pull", &name]);
    assert!(printed.ends_with(&format!("@{}\n", hub.index)), "{printed}");
    let listed = user.ok(["images", "--format", "{{.Tag}} {{.Digest}}"]);
    assert_eq!(listed, format!("multi {}\n", hub.index));
    assert_eq!(user.shell(&name, "cat /which"), "own\n");
    let digests = user.ok(["inspect", "--format", "{{json .RepoDigests}}", &name]);
    assert!(digests.contains(&hub.index), "{digests}");

    // one platform of three: no registry takes an index without its parts
    let other = hub.server.name("copy:part");
    user.ok(["tag", &name, &other]);
    let pushed = user.run(["push", &other]);
    assert!(pushed.stderr.contains("--all-platforms"), "{}", pushed.stderr);
    pushed.ok();
    assert_ne!(hub.digest("copy", "part"), hub.index);

    // the others come beside, one by one or all
    assert!(
        user.fails(125, ["run", "--pull=never", "--platform", "linux/s390x", &name]).contains("linux/s390x")
    );
    user.ok(["pull", "--platform", "linux/s390x", &name]);
    let architecture = |flags: &[&str]| {
        let words = ["inspect", "--format", "{{.Architecture}}"].iter().chain(flags);
        user.ok(words.copied().chain([name.as_str()])).trim().to_owned()
    };
    assert_eq!(architecture(&["--platform", "linux/s390x"]), "s390x");
    assert_ne!(architecture(&[]), "s390x");
    assert_eq!(user.ok(["images", "-q"]).lines().count(), 2, "one line a name");
    user.ok(["pull", "--all-platforms", &name]);
    assert_eq!(user.ok(["images", "-q"]).lines().count(), 2);
    let whole = hub.server.name("copy:whole");
    user.ok(["push", &name, &whole]);
    assert_eq!(hub.digest("copy", "whole"), hub.index);
    user.ok(["push", "--platform", "linux/s390x", &name, &hub.server.name("copy:s390x")]);
    assert_eq!(hub.digest("copy", "s390x"), hub.digest("app", "other"));

    // by one name, by the other, and nothing is left
    user.ok(["rmi", &name]);
    assert_eq!(user.shell(&other, "cat /which"), "own\n");
    user.ok(["rmi", &other]);
    assert_eq!((user.ok(["images", "-q"]), blobs(&user)), (String::new(), 0));
}

#[test]
fn a_base_by_an_index_digest_asks_nobody() {
    for pulled in [false, true] {
        let mut hub = Hub::new();
        let user = hub.slipway.another("user");
        let base = format!("{}@{}", hub.server.name("app"), hub.index);
        if pulled {
            user.ok(["pull", &hub.name()]);
        }
        let recipe = format!("FROM {base}\nRUN cat /which > /seen\n");
        if !pulled {
            user.build("first", &recipe, &[]).ok();
        }
        hub.server.kill();
        user.build("again", &recipe, &[]).ok();
        user.build("more", &format!("{recipe}RUN echo more >> /seen\n"), &[]).ok();
        assert_eq!(user.shell("more", "cat /seen"), "own\nmore\n");
        // what is not here is still asked for
        let other = user.build_with("other", &recipe, &[], &["--platform", "linux/s390x"]);
        assert_ne!(other.code(), Some(0));
    }
}

#[test]
fn archives_hold_indexes_whole() {
    let hub = Hub::new();
    let (user, name) = (hub.slipway.another("user"), hub.name());
    user.ok(["pull", "--all-platforms", &name]);
    let archive = user.path("index.tar");
    let folder = user.path("layout");
    let (archive, folder) = (archive.to_str().unwrap(), folder.to_str().unwrap());
    user.ok(["save", "-o", archive, &name]);
    user.ok(["save", "--format", "oci-dir", "-o", folder, &name]);
    let index: Value =
        serde_json::from_slice(&std::fs::read(user.path("layout/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], hub.index.as_str());
    for (number, source) in [archive, folder].into_iter().enumerate() {
        let third = hub.slipway.another(&format!("third-{number}"));
        third.ok(["load", "-i", source]);
        assert_eq!(third.ok(["images", "--format", "{{.Digest}}"]), format!("{}\n", hub.index));
        assert_eq!(third.shell(&name, "cat /which"), "own\n");
        let copy = hub.server.name(&format!("loaded:{number}"));
        third.ok(["push", &name, &copy]);
        assert_eq!(hub.digest("loaded", &number.to_string()), hub.index);
        // by its id, an image takes the names of its index with it
        let id = third.ok(["images", "-q"]);
        third.ok(["rmi", id.trim()]);
        assert_eq!((third.ok(["images", "-q"]), blobs(&third)), (String::new(), 0));
    }
    for (platform, which) in [("linux/s390x", "s390x"), ("linux/amd64", "amd64")] {
        let part = user.path("part.tar");
        let flags = ["save", "--platform", platform, "-o", part.to_str().unwrap(), &name];
        let saved = user.run(flags);
        // the second one is there on machines of that kind only
        if saved.code() != Some(0) && which == "amd64" {
            continue;
        }
        saved.ok();
        let third = hub.slipway.another(&format!("part-{which}"));
        third.ok(["load", "-i", part.to_str().unwrap()]);
        assert_eq!(third.ok(["inspect", "--format", "{{.Architecture}}", &name]).trim(), which);
    }
}
