//! What a registry lets go and brings back, with the real binary: beside a server that is pushed to and killed.

use crate::support::http::{request, try_request};
use crate::support::server::{Server, free_address};
use crate::support::{Slipway, run, wait_until};
use slipway_oci::Digest;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image whose layer is this text.
fn image(layer: &str) -> String {
    let of = |kind: &str, bytes: &str| {
        format!(
            r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#,
            Digest::sha256(bytes.as_bytes()),
            bytes.len()
        )
    };
    let (config, layer) = (of("application/vnd.oci.empty.v1+json", "{}"), of("text/plain", layer));
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layer}]}}"#)
}

/// Pushes one as clients do, blobs first; whether the registry said that it has it.
fn push(address: &str, repository: &str, tag: &str, layer: &str) -> bool {
    for bytes in ["{}", layer] {
        let digest = Digest::sha256(bytes.as_bytes());
        let path = format!("/v2/{repository}/blobs/{digest}");
        let there = try_request(address, "HEAD", &path, &[], b"").is_ok_and(|reply| reply.status == 200);
        let upload = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        if !there
            && !try_request(address, "POST", &upload, &[], bytes.as_bytes())
                .is_ok_and(|reply| reply.status == 201)
        {
            return false;
        }
    }
    let put = format!("/v2/{repository}/manifests/{tag}");
    let text = image(layer);
    try_request(address, "PUT", &put, &[("content-type", MANIFEST)], text.as_bytes())
        .is_ok_and(|reply| reply.status == 201)
}

/// Everything of a tag is there.
fn check(address: &str, repository: &str, tag: &str, layer: &str) {
    let reply = request(address, "GET", &format!("/v2/{repository}/manifests/{tag}"), &[], b"");
    assert_eq!((reply.status, reply.text()), (200, image(layer)), "{repository}:{tag}");
    for bytes in ["{}", layer] {
        let digest = Digest::sha256(bytes.as_bytes());
        let reply = request(address, "GET", &format!("/v2/{repository}/blobs/{digest}"), &[], b"");
        assert_eq!((reply.status, reply.text()), (200, bytes.to_owned()), "{repository}:{tag}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a writer knows of its tags: the layer, or nothing where it does not know how the last change ended.
type Known = BTreeMap<String, Option<Option<String>>>;

/// What is run beside the server at every fourth step of a writer.
fn commands(slipway: &Slipway, storage: &Path, writer: usize) -> Vec<Command> {
    let of = |number: usize| {
        let manifest = Digest::sha256(image(&layer(number)).as_bytes());
        let name = format!("r{writer}@{manifest}");
        match number % 12 {
            3 => slipway.command(["registry", "undelete", "--storage", text(storage), &name]),
            _ => slipway.command([
                "registry",
                "gc",
                "--grace",
                "3s",
                "--trash",
                "2s",
                "--storage",
                text(storage),
            ]),
        }
    };
    (0..STEPS).filter(|number| number % 4 == 3).map(of).collect()
}

const STEPS: usize = 1000;

/// Layers are shared by writers, and pushed again and again.
fn layer(number: usize) -> String {
    format!("layer {}", number % 7)
}

/// Pushes, deletes and brings back, until told to stop; one writer a repository.
fn write(address: &str, writer: usize, commands: Vec<Command>, stop: &AtomicBool, known: &mut Known) {
    let (repository, mut commands) = (format!("r{writer}"), commands.into_iter());
    for number in (0..STEPS).take_while(|_| !stop.load(Ordering::Relaxed)) {
        let (tag, layer) = (format!("t{}", number % 5), layer(number));
        if number % 4 < 2 {
            let done = push(address, &repository, &tag, &layer);
            known.insert(tag, done.then_some(Some(layer)));
        } else if number % 4 == 2 {
            let manifest = Digest::sha256(image(&layer).as_bytes());
            let path = format!("/v2/{repository}/manifests/{manifest}");
            let status = try_request(address, "DELETE", &path, &[], b"").map_or(0, |reply| reply.status);
            for state in known.values_mut().filter(|state| **state == Some(Some(layer.clone()))) {
                assert_ne!(status, 404, "{repository} has lost {layer}");
                *state = (status == 202).then_some(None);
            }
        } else {
            let mut command = commands.next().unwrap();
            // with whatever tags it had: they are looked at, not known
            if run(&mut command).code() != Some(1) && number % 12 == 3 {
                known.values_mut().filter(|state| **state == Some(None)).for_each(|state| *state = None);
            }
        }
    }
}

#[test]
fn nothing_that_was_answered_is_lost_to_collections_and_kills() {
    let slipway = Slipway::new();
    let storage = slipway.path("storage");
    let mut all: Vec<Known> = vec![Known::new(); 3];
    for round in 0..4_u64 {
        let mut server = Server::slipway(&slipway, &storage);
        let (address, stop) = (server.address.clone(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for (writer, known) in all.iter_mut().enumerate() {
                let commands = commands(&slipway, &storage, writer);
                let (address, stop) = (&address, &stop);
                scope.spawn(move || write(address, writer, commands, stop, known));
            }
            std::thread::sleep(std::time::Duration::from_millis(1500 + 400 * round));
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        let server = Server::slipway(&slipway, &storage);
        for (writer, known) in all.iter().enumerate() {
            for (tag, layer) in known.iter().filter_map(|(tag, state)| Some((tag, state.as_ref()?.as_ref()?)))
            {
                check(&server.address, &format!("r{writer}"), tag, layer);
            }
        }
    }
    let known: usize =
        all.iter().flat_map(BTreeMap::values).filter(|state| matches!(state, Some(Some(_)))).count();
    assert!(known > 3, "{all:?}");
    // all is let go at last, and nothing stays
    let server = Server::slipway(&slipway, &storage);
    for number in 0..7 {
        let manifest = Digest::sha256(image(&format!("layer {number}")).as_bytes());
        for writer in 0..3 {
            request(&server.address, "DELETE", &format!("/v2/r{writer}/manifests/{manifest}"), &[], b"");
        }
    }
    // removals that a kill cut off are taken over after six seconds
    std::thread::sleep(std::time::Duration::from_secs(7));
    slipway.ok(["registry", "gc", "--grace", "0", "--trash", "0", "--storage", text(&storage)]);
    let verified = slipway.ok(["registry", "verify", "--storage", text(&storage)]);
    assert!(verified.starts_with("0 contents"), "{verified}");
    let left: Vec<_> = std::fs::read_dir(storage.join("blobs/sha256"))
        .unwrap()
        .map(|one| one.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_operator_sees_what_goes_and_brings_it_back() {
    let slipway = Slipway::new();
    let storage = slipway.path("storage");
    let server = Server::slipway(&slipway, &storage);
    let at = ["--storage", text(&storage)];
    for layer in ["one", "two"] {
        assert!(push(&server.address, "team/app", "v", layer));
    }
    let history = slipway.ok(["registry", "tag-history", at[0], at[1], "team/app:v"]);
    assert_eq!(history.lines().count(), 2);
    assert!(history.lines().all(|line| line.ends_with(" from 127.0.0.1")), "{history}");
    slipway.ok(["registry", "rollback", at[0], at[1], "team/app:v"]);
    check(&server.address, "team/app", "v", "one");
    let newest: serde_json::Value =
        serde_json::from_str(&slipway.ok(["registry", "tag-history", "--json", at[0], at[1], "team/app:v"]))
            .unwrap();
    assert_eq!(newest[0]["origin"], "slipway registry rollback");
    let one = format!("team/app@{}", Digest::sha256(image("one").as_bytes()));
    slipway.ok(["registry", "delete", at[0], at[1], &one]);
    assert_eq!(request(&server.address, "GET", "/v2/team/app/manifests/v", &[], b"").status, 404);
    let trash = slipway.ok(["registry", "trash", at[0], at[1], "team/app"]);
    assert!(trash.starts_with(&format!("manifest {one} (")) && trash.lines().count() == 1, "{trash}");
    let usage = slipway.ok(["registry", "usage", "--json", at[0], at[1]]);
    let usage: serde_json::Value = serde_json::from_str(&usage).unwrap();
    assert_eq!((&usage[0]["repository"], &usage[0]["manifests"]), (&"team/app".into(), &1.into()), "{usage}");
    assert_eq!(usage[0]["trashBytes"], image("one").len());
    // neither long enough in the trash, nor loose for long
    let nothing = slipway.ok(["registry", "gc", "--dry-run", at[0], at[1]]);
    assert_eq!(nothing, "0 would go\n");
    let would = slipway.ok(["registry", "gc", "--dry-run", "--json", "--trash", "0", at[0], at[1]]);
    let would: serde_json::Value = serde_json::from_str(&would).unwrap();
    assert_eq!(would["entries"].as_array().map(Vec::len), Some(1), "{would}");
    slipway.ok(["registry", "undelete", at[0], at[1], "team/app:v"]);
    check(&server.address, "team/app", "v", "one");
    slipway.fails(1, ["registry", "undelete", at[0], at[1], "team/app:v"]);
    // a tag that never changes is an operator's to move, by force
    let settings = slipway.path("slipway.toml");
    std::fs::write(&settings, "immutable-tags = [\"team/**:v\"]\n").unwrap();
    let by = ["--config", text(&settings)];
    for command in ["rollback", "delete"] {
        slipway.fails(1, ["registry", command, by[0], by[1], at[0], at[1], "team/app:v"]);
        check(&server.address, "team/app", "v", "one");
    }
    slipway.ok(["registry", "delete", "--force", by[0], by[1], at[0], at[1], "team/app:v"]);
    slipway.ok(["registry", "delete", "--now", at[0], at[1], &one]);
    slipway.fails(1, ["registry", "undelete", at[0], at[1], &one]);
    slipway.fails(1, ["registry", "gc", "--storage", text(&slipway.path("nowhere"))]);
    assert!(!slipway.path("nowhere").exists());
}

#[test]
fn tags_that_the_settings_keep_no_longer_go_by_themselves() {
    let slipway = Slipway::new();
    let storage = slipway.path("storage");
    let settings = slipway.path("slipway.toml");
    let by = ["--config", text(&settings), "--storage", text(&storage)];
    std::fs::write(&settings, "retention = [\n  \"keep 1 newest in **:ci-*\",\n  \"keep all on **\",\n]\n")
        .unwrap();
    let message = slipway.fails(1, ["registry", "check", by[1]]);
    assert!(message.contains(":3:") && message.contains("`keep all on **` is not like"), "{message}");
    let rules = "retention = [\"keep 1 newest in **:ci-*\"]\nimmutable-tags = [\"**:ci-prod\"]\n";
    std::fs::write(&settings, format!("{rules}collect = \"1000/s every 1s\"\n")).unwrap();
    let address = free_address();
    let mut command = slipway.command(["serve", "--listen", &address]);
    let server = Server::start(command.args(by), &address);
    for tag in ["ci-prod", "ci-a", "other"] {
        assert!(push(&server.address, "team/app", tag, tag));
    }
    // the newest by a second
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(push(&server.address, "team/app", "ci-b", "ci-b"));
    let tags = || {
        let listed = request(&server.address, "GET", "/v2/team/app/tags/list", &[], b"").json();
        serde_json::from_value::<Vec<String>>(listed["tags"].clone()).unwrap()
    };
    let dry = slipway.ok(["registry", "retain", "--dry-run", "--json", by[0], by[1], by[2], by[3]]);
    let dry: serde_json::Value = serde_json::from_str(&dry).unwrap();
    let named: Vec<_> = dry["entries"].as_array().unwrap().iter().map(|one| one["tag"].clone()).collect();
    assert!(named.is_empty() || named == ["ci-a"], "{dry}");
    wait_until("the server takes it", || tags() == ["ci-b", "ci-prod", "other"]);
    let events = slipway.ok(["registry", "tag-history", by[2], by[3], "team/app:ci-a"]);
    assert!(events.lines().next().unwrap().ends_with("deleted from retention"), "{events}");
    slipway.ok(["registry", "undelete", by[2], by[3], "team/app:ci-a"]);
    check(&server.address, "team/app", "ci-a", "ci-a");
    let went = slipway.ok(["registry", "retain", by[0], by[1], by[2], by[3]]);
    assert!(went.ends_with("went\n") || went.is_empty(), "{went}");
}
