//! A registry that moves while it is served, whatever kills the mover.

use crate::replicas::{both_engines, bytes, manifest, push, replica};
use crate::support::http::{request, try_request};
use crate::support::server::Server;
use crate::support::{Ended, Slipway, run};
use slipway_oci::Digest;
use slipway_skip::engines::STORE_KEY;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn command(slipway: &Slipway, words: &[&str]) -> std::process::Command {
    let mut command = slipway.command(["registry"].iter().chain(words));
    command.env("AWS_ACCESS_KEY_ID", STORE_KEY.0).env("AWS_SECRET_ACCESS_KEY", STORE_KEY.1);
    command
}

fn registry(slipway: &Slipway, words: &[&str]) -> Ended {
    run(&mut command(slipway, words))
}

/// Pushes image after image until it is told to stop, or everything is refused for good. Answers the tags that were taken.
fn write(address: &str, stop: &AtomicBool) -> Vec<String> {
    let mut taken = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (layer, tag) = (bytes(5_000, number), format!("w{number}"));
        let text = manifest(b"{}", &layer, &tag);
        let upload = format!("/v2/app/blobs/uploads/?digest={}", Digest::sha256(&layer));
        let put = format!("/v2/app/manifests/{tag}");
        for (method, path, kind, body) in
            [("POST", &upload, "application/octet-stream", &layer), ("PUT", &put, MANIFEST, &text)]
        {
            let reply = request(address, method, path, &[("content-type", kind)], body);
            match reply.status {
                201 if method == "PUT" => taken.push(tag.clone()),
                201 => {}
                // its layer was refused
                400 if method == "PUT" => {}
                status => {
                    assert_eq!((status, reply.header("retry-after")), (503, "5"), "{}", reply.text());
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
    taken
}

/// Reads until it is told to stop: nothing is ever missing or wrong.
fn read(address: &str, text: &[u8], stop: &AtomicBool) -> u32 {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let found = request(address, "GET", "/v2/app/manifests/v1", &[("accept", MANIFEST)], b"");
        assert_eq!((found.status, &found.body[..]), (200, text));
        count += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    count
}

fn tags(address: &str) -> Vec<String> {
    let listed = request(address, "GET", "/v2/app/tags/list", &[], b"");
    let listed: serde_json::Value = serde_json::from_slice(&listed.body).unwrap();
    listed["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_registry_moves_while_it_is_served_and_the_mover_is_killed() {
    let (server, store) = both_engines!();
    let slipway = Slipway::empty();
    let folder = slipway.path("registry");
    let old = Server::slipway(&slipway, &folder);
    let layer = bytes(10 << 20, 1);
    push(&old.address, "app", b"{}");
    push(&old.address, "app", &layer);
    let text = manifest(b"{}", &layer, "v1");
    let kind = [("content-type", MANIFEST)];
    assert_eq!(request(&old.address, "PUT", "/v2/app/manifests/v1", &kind, &text).status, 201);
    let database = server.database();
    let settings = slipway.path("replica-0.toml");
    let content = format!("s3://registry/moving endpoint={}", store.endpoint());
    std::fs::write(&settings, format!("database = \"{database}\"\ncontent = \"{content}\"\n")).unwrap();
    let ends = [folder.to_str().unwrap(), settings.to_str().unwrap()];
    let words = ["migrate", "--json", ends[0], ends[1]];
    let stop = AtomicBool::new(false);
    let (taken, reads) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&old.address, &stop));
        let reader = scope.spawn(|| read(&old.address, &text, &stop));
        for moment in [150, 600] {
            let mut mover = command(&slipway, &words).stderr(std::process::Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(moment));
            mover.kill().unwrap();
            mover.wait().unwrap();
        }
        let moved = registry(&slipway, &words).ok();
        let moved: serde_json::Value = serde_json::from_str(&moved).unwrap();
        assert_eq!(moved["lost"], serde_json::json!([]));
        // what was taken is taken; from here on nothing is
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        (writer.join().unwrap(), reader.join().unwrap())
    });
    assert!(reads > 0 && !taken.is_empty());
    let refused = request(&old.address, "POST", "/v2/app/blobs/uploads/", &[], b"");
    assert_eq!((refused.status, refused.header("retry-after")), (503, "5"));
    assert!(refused.text().contains("is being moved"), "{}", refused.text());
    let new = replica(&slipway, 0, &database, store, "moving");
    let mut expected = taken;
    expected.push("v1".to_owned());
    expected.sort();
    assert_eq!(tags(&new.address), expected);
    let config = ["--config", ends[1]];
    assert!(registry(&slipway, &["verify", config[0], config[1]]).ok().contains("all right"));
    let again = registry(&slipway, &words).fails(1);
    assert!(again.contains("has a registry already") || again.contains("has moved to"), "{again}");
    // and back, while it is served there
    let back = slipway.path("back");
    let words = ["migrate", ends[1], back.to_str().unwrap()];
    let moved = registry(&slipway, &words);
    assert!(moved.stderr.contains("pushes are told to try again"), "{}", moved.stderr);
    moved.ok();
    let last = Server::slipway(&slipway, &back);
    assert_eq!(tags(&last.address), expected);
    push(&last.address, "app", b"it takes pushes");
    let blob = format!("/v2/app/blobs/{}", Digest::sha256(&layer));
    assert_eq!(try_request(&last.address, "GET", &blob, &[], b"").unwrap().body, layer);
    assert_eq!(request(&new.address, "POST", "/v2/app/blobs/uploads/", &[], b"").status, 503);
    registry(&slipway, &["migrate", "--cancel", ends[1]]).ok();
    push(&new.address, "app", b"it takes pushes again");
    registry(&slipway, &["verify", "--storage", back.to_str().unwrap()]).ok();
}
