//! Quotas of the real server: for other clients, in a storm that is killed, and for its operator.

use crate::interop::Containers;
use crate::support::http::{request, try_request};
use crate::support::server::{Server, free_address};
use crate::support::{Slipway, run};
use slipway_oci::Digest;
use slipway_skip::{need, need_root};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn serve(slipway: &Slipway, storage: &Path, quotas: &[&str]) -> Server {
    let address = free_address();
    let mut command = slipway.command(["serve", "--listen", &address]);
    command.arg("--storage").arg(storage);
    for quota in quotas {
        command.args(["--quota", quota]);
    }
    Server::start(&mut command, &address)
}

fn post(address: &str, repository: &str, bytes: &[u8]) -> u16 {
    let path = format!("/v2/{repository}/blobs/uploads/?digest={}", Digest::sha256(bytes));
    try_request(address, "POST", &path, &[], bytes).map_or(0, |reply| reply.status)
}

fn image(layer: &[u8]) -> String {
    let of = |kind: &str, bytes: &[u8]| {
        format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, Digest::sha256(bytes), bytes.len())
    };
    let (config, layer) = (of("application/vnd.oci.empty.v1+json", b"{}"), of("text/plain", layer));
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layer}]}}"#)
}

/// How much of everything and of the namespace `n` is used: bytes and tags.
fn used(slipway: &Slipway, storage: &Path) -> Vec<(u64, u64)> {
    let config = slipway.path("all.toml");
    std::fs::write(&config, "quotas = [\"0, 0 tags in all\", \"0, 0 tags in all of n\"]").unwrap();
    let (config, storage) = (config.to_str().unwrap(), storage.to_str().unwrap());
    let text = slipway.ok(["registry", "usage", "--json", "--storage", storage, "--config", config]);
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let quotas = all.as_array().unwrap().iter().filter(|one| one["quotaOf"] == "namespace");
    quotas.map(|one| (one["bytes"].as_u64().unwrap(), one["tags"].as_u64().unwrap())).collect()
}

/// Writers at the limit, and a server that is killed again and again: what is used never is more than the quota, and when all
/// is gone it is nothing.
#[test]
fn a_quota_holds_through_storms_and_kills() {
    let slipway = Slipway::empty();
    let storage = slipway.path("storage");
    for round in 0..4_u64 {
        let mut server = serve(&slipway, &storage, &["40000, 6 tags in all of n"]);
        let (address, stop) = (server.address.clone(), AtomicBool::new(false));
        let refused: usize = std::thread::scope(|scope| {
            let write = |writer: usize| {
                let (address, stop) = (&address, &stop);
                scope.spawn(move || {
                    let (repository, mut refused) = (format!("n/r{}", writer % 4), 0);
                    for number in (writer..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                        let layer = vec![number as u8 % 9; 9000];
                        post(address, &repository, b"{}");
                        refused += usize::from(post(address, &repository, &layer) == 403);
                        let (path, text) = (format!("/v2/{repository}/manifests/"), image(&layer));
                        let tag = format!("{path}t{}", number % 5);
                        let kind = [("content-type", MANIFEST)];
                        let put = try_request(address, "PUT", &tag, &kind, text.as_bytes());
                        refused += usize::from(put.is_ok_and(|reply| reply.status == 403));
                        if number % 3 == 0 {
                            let digest = Digest::sha256(text.as_bytes());
                            let _ = try_request(address, "DELETE", &format!("{path}{digest}"), &[], b"");
                        }
                        // what was pushed for nothing is taken back
                        if number % 4 == 0 {
                            let blob = format!("/v2/{repository}/blobs/{}", Digest::sha256(&layer));
                            let _ = try_request(address, "DELETE", &blob, &[], b"");
                        }
                    }
                    refused
                })
            };
            let all: Vec<_> = (0..8).map(write).collect();
            std::thread::sleep(Duration::from_millis(1200 + 300 * round));
            server.kill();
            stop.store(true, Ordering::Relaxed);
            all.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert!(refused > 0, "round {round} came nowhere near the limit");
        let [all, below] = used(&slipway, &storage)[..] else { panic!("two quotas") };
        assert_eq!(all, below, "everything lies in n");
        assert!(below.0 <= 40_000 && below.1 <= 6, "{below:?}");
    }
    let server = serve(&slipway, &storage, &[]);
    for (repository, number) in
        (0..4).flat_map(|repository| (0..9_u8).map(move |number| (repository, number)))
    {
        let digest = Digest::sha256(image(&[number; 9000]).as_bytes());
        let path = format!("/v2/n/r{repository}/manifests/{digest}");
        request(&server.address, "DELETE", &path, &[], b"");
    }
    slipway.ok(["registry", "gc", "--grace", "0", "--trash", "0", "--storage", storage.to_str().unwrap()]);
    assert_eq!(used(&slipway, &storage), [(0, 0), (0, 0)]);
}

/// What a push that does not fit is told.
const WORDS: &str = "the quota of namespace `team` is 100kB: ";

/// A server that takes less than the base image, and that image in an archive.
fn small() -> (Slipway, Server, String, String) {
    let slipway = Slipway::new();
    let server = serve(&slipway, &slipway.path("storage"), &["100kB in all of team"]);
    let (name, saved) = (server.name("team/app:1"), slipway.path("saved.tar").display().to_string());
    slipway.ok(["tag", "base", &name]);
    slipway.ok(["save", "--format", "oci-archive", "-o", &saved, &name]);
    (slipway, server, name, saved)
}

#[test]
fn a_push_that_does_not_fit_says_why() {
    let (slipway, server, name, _) = small();
    let refused = slipway.fails(1, ["push", &name]);
    assert!(refused.contains(WORDS), "{refused}");
    assert_eq!(request(&server.address, "GET", "/v2/team/app/manifests/1", &[], b"").status, 404);
    slipway.ok(["tag", "base", &server.name("app:1")]);
    slipway.ok(["push", &server.name("app:1")]);
}

#[test]
fn skopeo_is_told_and_does_not_ask_again() {
    need!("skopeo");
    let (_slipway, _server, name, saved) = small();
    let (from, to) = (format!("oci-archive:{saved}"), format!("docker://{name}"));
    let begun = Instant::now();
    let arguments =
        ["--insecure-policy", "copy", "--retry-times", "3", "--dest-tls-verify=false", &from, &to];
    let refused = run(Command::new("skopeo").args(arguments)).fails(1);
    assert!(refused.contains(WORDS), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(5), "it asked again");
}

#[test]
fn privileged_podman_is_told_and_does_not_ask_again() {
    need_root!();
    need!("podman", "crun", "unshare");
    let (slipway, _server, name, saved) = small();
    let containers = Containers::new(&slipway);
    let policy = containers.policy.as_str();
    containers.run("podman", &["load", "--quiet", "--signature-policy", policy, "-i", &saved]).ok();
    let begun = Instant::now();
    let push = ["push", "--tls-verify=false", "--signature-policy", policy, &name];
    let refused = containers.run("podman", &push).fails(125);
    assert!(refused.contains(WORDS), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(6), "it asked again");
}

#[test]
fn the_operator_sees_quotas_and_mistakes_in_them() {
    let slipway = Slipway::empty();
    let (storage, config) = (slipway.path("storage"), slipway.path("slipway.toml"));
    let (storage, config) = (storage.to_str().unwrap(), config.to_str().unwrap());
    let mut command = slipway.command(["serve", "--config", config]);
    let address = free_address();
    let settings = format!(
        "listen = [\"{address}\"]\nstorage = \"storage\"\nrules = [\"ann may push in team/**\"]\naccess = \"open\"\n\
         quotas = [\"1000, 4 tags in each team/*\", \"2KiB in all of team\"]\n"
    );
    std::fs::write(config, &settings).unwrap();
    let server = Server::start(&mut command, &address);
    assert_eq!(post(&server.address, "team/app", &[7; 500]), 201);
    let usage = slipway.ok(["registry", "usage", "--storage", storage, "--config", config, "team/app"]);
    let lines: Vec<&str> = usage.lines().collect();
    assert_eq!(lines[1], "quota of namespace `team`: 500B of 2KiB (24 %)");
    assert_eq!(lines[2], "quota of repository `team/app`: 500B of 1kB (50 %), 0 tags of 4 tags (0 %)");
    let explained = slipway.ok(["registry", "explain", "--config", config, "ann", "push", "team/app"]);
    assert!(explained.contains("the quota of repository `team/app` is 1kB, 4 tags\n"), "{explained}");
    slipway.ok(["registry", "check", config]);
    // another file takes its place while the server runs, unless it has a mistake
    std::fs::write(config, settings.replace("2KiB in all of team", "2XiB in all of team")).unwrap();
    let mistake = slipway.fails(1, ["registry", "check", config]);
    assert!(mistake.contains("slipway.toml:5:43: `quotas`: `2XiB` is no amount"), "{mistake}");
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(post(&server.address, "team/b", &[8; 1600]), 403, "the former ones hold");
    std::fs::write(config, settings.replace("1000, 4 tags", "4 tags")).unwrap();
    crate::support::wait_until("the file is read", || post(&server.address, "team/b", &[9; 1500]) == 201);
    assert_eq!(post(&server.address, "team/c", &[8; 500]), 403);
}
