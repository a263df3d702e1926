//! The folder of Debian's registry, written by real clients, taken over.

use crate::remote::{debians, debians_over, indexed};
use crate::replicas::{both_engines, replica};
use crate::support::http::request;
use crate::support::server::Server;
use crate::support::{Slipway, run};
use serde_json::Value;
use slipway_oci::Digest;
use slipway_skip::engines::STORE_KEY;
use std::fs;
use std::process::Command;

const KINDS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

fn get(server: &Server, path: &str) -> (u16, String, Vec<u8>) {
    let reply = request(&server.address, "GET", path, &[("accept", KINDS)], b"");
    (reply.status, reply.header("content-type").to_owned(), reply.body)
}

fn names(server: &Server, path: &str, key: &str) -> Vec<String> {
    let (status, _, body) = get(server, path);
    assert_eq!(status, 200, "{path}");
    let list: Value = serde_json::from_slice(&body).unwrap();
    let names = list[key].as_array().into_iter().flatten();
    let mut names: Vec<String> = names.map(|name| name.as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Everything that can be pulled by a tag: manifests with their types, children, configurations and layers.
fn picture(server: &Server) -> Vec<String> {
    let mut lines = Vec::new();
    for repository in names(server, "/v2/_catalog", "repositories") {
        for tag in names(server, &format!("/v2/{repository}/tags/list"), "tags") {
            below(server, &repository, &tag, &mut lines);
        }
    }
    lines
}

fn below(server: &Server, repository: &str, reference: &str, lines: &mut Vec<String>) {
    let (status, kind, body) = get(server, &format!("/v2/{repository}/manifests/{reference}"));
    assert_eq!(status, 200, "{repository} {reference}");
    lines.push(format!("{repository} {reference} {kind} {}", Digest::sha256(&body)));
    let manifest: Value = serde_json::from_slice(&body).unwrap();
    for child in manifest["manifests"].as_array().into_iter().flatten() {
        below(server, repository, child["digest"].as_str().unwrap(), lines);
    }
    let layers = manifest["layers"].as_array().into_iter().flatten();
    for blob in layers.chain(manifest.get("config")) {
        let digest = blob["digest"].as_str().unwrap();
        let (status, _, body) = get(server, &format!("/v2/{repository}/blobs/{digest}"));
        lines.push(format!("{repository} {digest} {status} {}", Digest::sha256(&body)));
    }
}

/// Copies with a memory of its own: from the machine's, which other tests write, it learns that a layer has a form with zstd, and
/// then cannot write docker's manifest of it.
fn skopeo(words: &[&str]) {
    let memory = "/var/lib/containers/cache";
    fs::create_dir_all(memory).unwrap();
    let script = format!("mount -t tmpfs tmpfs {memory} && exec skopeo \"$@\"");
    let flags = ["--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"];
    run(Command::new("unshare").args(["--mount", "sh", "-c", &script, "sh"]).args(flags).args(words)).ok();
}

/// Debian's registry with pushes of every kind; its address, and a manifest that was deleted.
fn filled(slipway: &Slipway, there: Server) -> (Server, String) {
    let here = Server::slipway(slipway, &slipway.path("here"));
    indexed(slipway, &here, "team/app");
    let far = there.name("team/app:1");
    slipway.ok(["copy", "-q", "--referrers", &here.name("team/app:1"), &far]);
    // another tag of the same, a mount into another repository
    slipway.ok(["copy", "-q", &far, &there.name("team/app:latest")]);
    slipway.ok(["copy", "-q", &far, &there.name("near/app:1")]);
    // skopeo's, in docker's types and in OCI's
    let archive = format!("docker-archive:{}", slipway.path("base.tar").display());
    slipway.ok(["push", "-q", "base", &here.name("base:1")]);
    slipway.ok(["copy", "-q", &here.name("base:1"), &archive]);
    for (format, tag) in [("v2s2", "docker"), ("oci", "oci")] {
        let to = format!("docker://{}", there.name(&format!("deep/er/and/deeper/base:{tag}")));
        skopeo(&["--format", format, &archive, &to]);
    }
    // what is deleted, and what is pushed over
    let gone = there.name("gone:1");
    slipway.build(&gone, "FROM base\nRUN echo gone > /file\n", &[]).ok();
    slipway.ok(["push", "-q", &gone]);
    let deleted = slipway.ok(["digest", &gone]).trim().to_owned();
    slipway.ok(["push", "-q", "base", &there.name("gone:2")]);
    slipway.ok(["delete", &format!("{}@{deleted}", there.name("gone"))]);
    slipway.ok(["push", "-q", "base", &gone]);
    // an upload that nobody finishes
    let session = request(&there.address, "POST", "/v2/team/app/blobs/uploads/", &[], b"");
    let location = session.header("location");
    let path = &location[location.find("/v2/").unwrap()..];
    request(&there.address, "PATCH", path, &[("content-type", "application/octet-stream")], b"half");
    (there, deleted)
}

#[test]
fn a_folder_of_debians_registry_is_taken_over() {
    slipway_skip::need!("docker-registry", "skopeo");
    let slipway = Slipway::new();
    let (mut debian, deleted) = filled(&slipway, debians(&slipway, "debian"));
    let before = picture(&debian);
    assert!(before.len() > 20, "{before:#?}");
    debian.terminate();
    let from = slipway.path("debian");
    for flags in [&["--copy"][..], &[], &["--move"]] {
        let storage = slipway.path(&format!("adopted{}", flags.concat()));
        let place = ["--storage", storage.to_str().unwrap()];
        let words = [&["registry", "adopt", "--json"], flags, &place, &[from.to_str().unwrap()]].concat();
        let said: Value = serde_json::from_str(&slipway.ok(words)).unwrap();
        // with the tag that stands in for a list of referrers
        assert_eq!(said["tags"], 8, "{said}");
        let unfit = said["unfit"].as_array().unwrap();
        assert_eq!(unfit.len(), 1, "{said}");
        assert!(unfit[0]["why"].as_str().unwrap().contains("unfinished"), "{said}");
        // a copy may share blocks, where the file system does that
        assert!(flags == ["--copy"] || said["shared"] == said["contents"], "{said}");
        slipway.ok([&["registry", "verify", "-q"][..], &place].concat());
        let server = Server::slipway(&slipway, &storage);
        assert_eq!(picture(&server), before, "{flags:?}");
        assert_eq!(get(&server, &format!("/v2/gone/manifests/{deleted}")).0, 404);
        // what was found by that is found by its subject as well
        let attached = slipway.ok(["referrers", "--json", &server.name("team/app:1")]);
        assert!(attached.contains("application/x.signature"), "{attached}");
        let other = slipway.another(&format!("store{}", flags.concat()));
        other.ok(["pull", "-q", &server.name("deep/er/and/deeper/base:docker")]);
        // it goes on as one of its own
        slipway.ok(["push", "-q", "base", &server.name("team/app:new")]);
    }
    // nothing is left to take
    let storage = slipway.path("late");
    let words = ["registry", "adopt", "-q", "--storage", storage.to_str().unwrap(), from.to_str().unwrap()];
    let ended = slipway.run(words);
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("its bytes are not there"), "{}", ended.stderr);
}

/// The bucket of Debian's registry becomes replicas', and a folder's too.
#[test]
fn a_bucket_of_debians_registry_is_taken_over() {
    slipway_skip::need!("docker-registry", "skopeo");
    let (server, store) = both_engines!();
    let slipway = Slipway::new();
    let (id, secret) = STORE_KEY;
    let driver = format!(
        "s3:\n    accesskey: {id}\n    secretkey: {secret}\n    region: us-east-1\n    regionendpoint: {}\n    bucket: registry\n    \
         secure: false\n    v4auth: true\n    rootdirectory: /debian\n  redirect:\n    disable: true",
        store.endpoint()
    );
    let (mut debian, deleted) = filled(&slipway, debians_over(&slipway, "debian", &driver));
    let before = picture(&debian);
    assert!(before.len() > 20, "{before:#?}");
    debian.terminate();
    let (database, settings) = (server.database(), slipway.path("replica-0.toml"));
    let content = format!("s3://registry/adopted endpoint={}", store.endpoint());
    std::fs::write(&settings, format!("database = \"{database}\"\ncontent = \"{content}\"\n")).unwrap();
    let from = format!("s3://registry/debian endpoint={}", store.endpoint());
    let folder = slipway.path("folder");
    let adopt = |place: [&str; 2], more: &[&str], from: &str| {
        let mut command = slipway.command(["registry", "adopt", "--json"]);
        command.args(place).args(more).arg(from);
        run(command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret))
    };
    let shared = ["--config", settings.to_str().unwrap()];
    assert!(adopt(shared, &["--move"], &from).fails(1).contains("for folders"));
    let nothing = format!("s3://registry/nothing endpoint={}", store.endpoint());
    assert!(adopt(shared, &[], &nothing).fails(1).contains("docker/registry/v2"));
    for place in [shared, ["--storage", folder.to_str().unwrap()]] {
        // again, as one that was interrupted does
        for present in [false, true] {
            let said: Value = serde_json::from_str(&adopt(place, &[], &from).ok()).unwrap();
            assert_eq!(said["tags"], 8, "{said}");
            assert_eq!(said["present"] == said["contents"], present, "{said}");
            let unfit = said["unfit"].as_array().unwrap();
            assert!(unfit.iter().all(|one| one["why"].as_str().unwrap().contains("unfinished")), "{said}");
        }
    }
    let replica = replica(&slipway, 0, &database, store, "adopted");
    for adopted in [&replica, &Server::slipway(&slipway, &folder)] {
        assert_eq!(picture(adopted), before);
        assert_eq!(get(adopted, &format!("/v2/gone/manifests/{deleted}")).0, 404);
        slipway.ok(["push", "-q", "base", &adopted.name("team/app:new")]);
    }
}
