//! What the disk damages: found by the scrub or by serving it, never served again, healed by a push.

use super::*;
use crate::server::{Event, Scrub, storage::Fault};
use std::{
    fs,
    sync::{Arc, Mutex},
};

/// How a file goes bad.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip,
    Cut,
    Grow,
    Empty,
    Remove,
    Folder,
}

const HARMS: [Harm; 6] = [Harm::Flip, Harm::Cut, Harm::Grow, Harm::Empty, Harm::Remove, Harm::Folder];

type Told = Arc<Mutex<Vec<(String, Fault, Vec<String>)>>>;

/// A registry whose scrub is off, or goes round and round, and what it tells.
fn registry(scrub: &'static str) -> (Registry, Told) {
    let told = Told::default();
    let tell = Arc::clone(&told);
    let registry = Registry::start_with(move |config| {
        config.policy.scrub = scrub.parse::<Scrub>().expect("a scrub");
        config.observer = Some(Arc::new(move |event| match event {
            Event::Damaged(damage) => {
                let places = damage.repositories.clone();
                tell.lock().expect("told").push((damage.digest.to_string(), damage.fault.clone(), places));
            }
            Event::Failure { operation, error } => panic!("{operation}: {error:?}"),
            _ => {}
        }));
    });
    (registry, told)
}

fn path(registry: &Registry, digest: &Digest) -> std::path::PathBuf {
    registry.folder.path().join("registry/blobs/sha256").join(digest.hex())
}

fn harm(registry: &Registry, digest: &Digest, harm: Harm) {
    let path = path(registry, digest);
    let mut bytes = fs::read(&path).expect("content");
    // in another inode, as nobody writes into content; a server that has the file open still has the old one
    fs::remove_file(&path).expect("remove");
    match harm {
        Harm::Flip => *bytes.last_mut().expect("a byte") ^= 1,
        Harm::Cut => drop(bytes.pop()),
        Harm::Grow => bytes.push(0),
        Harm::Empty => bytes.clear(),
        Harm::Remove => return,
        Harm::Folder => return fs::create_dir(&path).expect("folder"),
    }
    fs::write(&path, bytes).expect("harm");
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Nothing of the content is answered any more.
fn gone(registry: &Registry, repository: &str, digest: &Digest, kind: &str) {
    let place = format!("/v2/{repository}/{kind}/{digest}");
    assert_eq!(registry.get(&place).status, 404, "GET {place}");
    assert_eq!(registry.call("HEAD", &place, &[], b"").status, 404, "HEAD {place}");
    for range in ["bytes=0-0", "bytes=0-1,3-4"] {
        assert_eq!(registry.call("GET", &place, &[("range", range)], b"").status, 404, "{range} of {place}");
    }
}

#[test]
fn the_scrub_takes_damage_out_of_service_and_a_push_heals_it() {
    engines::in_folder!();
    let (registry, told) = registry("1GiB/s every 1s");
    for (number, kind) in HARMS.into_iter().enumerate() {
        let bytes = format!("{number}: {}", "x".repeat(100_000 * number)).into_bytes();
        let (one, other) = (format!("one/{number}"), format!("two/{number}"));
        let digest = registry.push_blob(&one, &bytes);
        let mount = format!("/v2/{other}/blobs/uploads/?mount={digest}&from={one}");
        assert_eq!(registry.call("POST", &mount, &[], b"").status, 201);
        harm(&registry, &digest, kind);
        let found = || told.lock().expect("told").iter().any(|(name, ..)| *name == digest.to_string());
        wait(&format!("{kind:?} is found"), found);
        let (_, fault, places) = told
            .lock()
            .expect("told")
            .iter()
            .find(|(name, ..)| *name == digest.to_string())
            .expect("told")
            .clone();
        assert_eq!(places, [one.clone(), other.clone()], "{kind:?}");
        match kind {
            Harm::Flip => assert!(matches!(fault, Fault::Bytes { .. }), "{fault}"),
            Harm::Remove => assert_eq!(fault, Fault::Missing),
            _ => assert!(matches!(fault, Fault::Length { .. }), "{kind:?}: {fault}"),
        }
        let aside =
            registry.folder.path().join("registry/quarantine").join(format!("sha256-{}", digest.hex()));
        assert_eq!(aside.exists(), !matches!(kind, Harm::Remove), "{kind:?}");
        for repository in [&one, &other] {
            gone(&registry, repository, &digest, "blobs");
        }
        // neither a source of mounts, nor named by a manifest
        let mount = format!("/v2/three/{number}/blobs/uploads/?mount={digest}&from={one}");
        assert_eq!(registry.call("POST", &mount, &[], b"").status, 202);
        registry.push_blob(&one, b"{}");
        let image = image(&bytes, "");
        let refused = registry.put_manifest(&one, "v", media_type::OCI_MANIFEST, &image);
        assert_eq!(refused.refusal(), (400, "MANIFEST_BLOB_UNKNOWN".to_owned()));
        // pushed into one, it is there for both
        registry.push_blob(&other, &bytes);
        for repository in [&one, &other] {
            assert_eq!(registry.get(&format!("/v2/{repository}/blobs/{digest}")).body, bytes);
        }
        assert_eq!(registry.put_manifest(&one, "v", media_type::OCI_MANIFEST, &image).status, 201);
    }
}

#[test]
fn manifests_are_scrubbed_too_and_what_is_not_needed_is_not_told() {
    engines::in_folder!();
    let (registry, told) = registry("1GiB/s every 1s");
    let (digest, bytes) = registry.push_image("a", "v", b"layer");
    // a file that nothing points at, as a crash leaves it
    fs::write(path(&registry, &Digest::sha256(b"nobody's")), b"other bytes").expect("a file");
    harm(&registry, &digest, Harm::Flip);
    wait("it is found", || !told.lock().expect("told").is_empty());
    gone(&registry, "a", &digest, "manifests");
    assert_eq!(registry.get("/v2/a/manifests/v").refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));
    assert_eq!(registry.put_manifest("a", "v", media_type::OCI_MANIFEST, &bytes).status, 201);
    assert_eq!(registry.get("/v2/a/manifests/v").body, bytes);
    let told = told.lock().expect("told");
    assert!(told.iter().all(|(name, ..)| *name == digest.to_string()), "{told:?}");
    let metrics = registry.get("/metrics").text();
    assert!(!metrics.contains("slipway_damaged_total 0\n"), "{metrics}");
}

#[test]
fn what_is_served_for_the_first_time_is_digested_on_the_way() {
    engines::in_folder!();
    let (mut registry, told) = registry("off");
    let small = registry.push_blob("a", b"small");
    let large: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
    let large = registry.push_blob("a", &large);
    let (manifest, _) = registry.push_image("a", "v", b"layer");
    let tell = Arc::clone(&told);
    // what this process saw come in it trusts
    registry.restart_with(move |config| {
        config.policy.scrub = "off".parse().expect("off");
        config.observer = Some(Arc::new(move |event| {
            if let Event::Damaged(damage) = event {
                tell.lock().expect("told").push((
                    damage.digest.to_string(),
                    damage.fault.clone(),
                    Vec::new(),
                ));
            }
        }));
    });
    harm(&registry, &large, Harm::Flip);
    let broken = registry.get(&format!("/v2/a/blobs/{large}"));
    let promised: usize = broken.header("content-length").expect("a length").parse().expect("a number");
    assert!(broken.body.len() < promised, "a wrong reply does not look complete");
    gone(&registry, "a", &large, "blobs");
    // what is read at once is known to be wrong before anything is answered
    harm(&registry, &small, Harm::Flip);
    let refused = registry.get(&format!("/v2/a/blobs/{small}"));
    assert_eq!(refused.refusal(), (404, "BLOB_UNKNOWN".to_owned()));
    gone(&registry, "a", &small, "blobs");
    harm(&registry, &manifest, Harm::Flip);
    assert_eq!(registry.get("/v2/a/manifests/v").refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));
    gone(&registry, "a", &manifest, "manifests");
    let told: Vec<String> = told.lock().expect("told").iter().map(|(name, ..)| name.clone()).collect();
    assert_eq!(told, [large.to_string(), small.to_string(), manifest.to_string()]);
}
