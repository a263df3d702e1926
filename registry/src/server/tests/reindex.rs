//! A database that is lost, and made again from what lies beside it.

use super::*;
use crate::server::storage::{
    Kin, Scope, StorageError,
    keep::{Lost, Reindexed, reindex},
};
use std::{cell::RefCell, fs, path::Path};

/// Everything that clients see of these repositories.
fn seen(registry: &Registry, repositories: &[&str]) -> Vec<String> {
    let mut all = vec![registry.get("/v2/_catalog").text()];
    // what counts for quotas too
    let storage = &registry.server.as_ref().expect("a server").control().0.storage;
    for of in [Kin::Repositories, Kin::Namespaces] {
        all.push(format!("{:?}", storage.all_used(of, "", 100).expect("sums")));
    }
    all.push(format!("{:?}", storage.used(&Scope::Namespace(String::new())).expect("a sum")));
    for name in repositories {
        let tags = registry.get(&format!("/v2/{name}/tags/list"));
        all.push(tags.text());
        for tag in tags.json()["tags"].as_array().into_iter().flatten() {
            let manifest = registry.get(&format!("/v2/{name}/manifests/{}", tag.as_str().expect("a tag")));
            let kind = manifest.header("content-type").expect("a type").to_owned();
            let digest = manifest.header("docker-content-digest").expect("a digest").to_owned();
            all.push(format!("{tag} {kind} {digest} {}", manifest.text()));
            all.push(registry.get(&format!("/v2/{name}/referrers/{digest}")).text());
            for entry in ["layers", "manifests"] {
                for part in manifest.json()[entry].as_array().into_iter().flatten() {
                    let part = part["digest"].as_str().expect("a digest");
                    let kind = if entry == "layers" { "blobs" } else { "manifests" };
                    let reply = registry.get(&format!("/v2/{name}/{kind}/{part}"));
                    all.push(format!("{part} {} {}", reply.status, reply.text()));
                }
            }
        }
    }
    all
}

const REPOSITORIES: [&str; 3] = ["team/app", "team/index", "other"];

/// Pushes of every kind, deletes and moves. Answers a blob that a repository has without a manifest.
fn fill(registry: &Registry) -> Digest {
    registry.push_image("team/app", "v1", b"layer 1");
    let (second, _) = registry.push_image("team/app", "v2", b"layer 2");
    registry.push_image("team/app", "v1", b"layer 3");
    registry.push_image("other", "gone", b"layer 4");
    assert_eq!(registry.call("DELETE", "/v2/other/manifests/gone", &[], b"").status, 202);
    let (deleted, _) = registry.push_image("other", "deleted", b"layer 5");
    assert_eq!(registry.call("DELETE", &format!("/v2/other/manifests/{deleted}"), &[], b"").status, 202);
    registry.push_image("other", "stays", b"layer 6");
    // an index, of a child without a tag
    registry.push_blob("team/index", b"{}");
    registry.push_blob("team/index", b"layer 7");
    let child = image(b"layer 7", "");
    let name = Digest::sha256(&child).to_string();
    assert_eq!(registry.put_manifest("team/index", &name, media_type::OCI_MANIFEST, &child).status, 201);
    let entry = serde_json::to_string(&Descriptor::of(media_type::OCI_MANIFEST, &child)).expect("json");
    let index =
        format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{entry}]}}"#, media_type::OCI_INDEX);
    assert_eq!(
        registry.put_manifest("team/index", "all", media_type::OCI_INDEX, index.as_bytes()).status,
        201
    );
    // what is attached, by digest
    let subject = registry.get(&format!("/v2/team/app/manifests/{second}"));
    let subject =
        serde_json::to_string(&Descriptor::of(media_type::OCI_MANIFEST, &subject.body)).expect("json");
    let attached = image(
        b"layer 2",
        &format!(r#","subject":{subject},"artifactType":"text/x","annotations":{{"a":"b"}}"#),
    );
    let name = Digest::sha256(&attached).to_string();
    assert_eq!(registry.put_manifest("team/app", &name, media_type::OCI_MANIFEST, &attached).status, 201);
    registry.push_blob("team/app", b"loose")
}

fn lose(folder: &Path) {
    for name in ["registry.db", "registry.db-wal", "registry.db-shm"] {
        let _ = fs::remove_file(folder.join(name));
    }
}

/// Makes the database again, and what was lost.
fn again(folder: &Path, found_in: Option<&str>) -> Result<(Reindexed, Vec<Lost>), StorageError> {
    let lost = RefCell::new(Vec::new());
    let done = reindex(folder, found_in, &|one| lost.borrow_mut().push(one.clone()))?;
    Ok((done, lost.into_inner()))
}

#[test]
fn a_lost_database_comes_back_as_it_was() {
    engines::in_folder!();
    for snapshots in [false, true] {
        let mut registry = Registry::start();
        let loose = fill(&registry);
        let storage = registry.folder.path().join("registry");
        if snapshots {
            // a snapshot in the middle, when the server starts again
            registry.restart();
            registry.push_image("other", "late", b"layer 8");
        }
        let before = seen(&registry, &REPOSITORIES);
        let session = registry.session("other");
        assert!(matches!(again(&storage, None), Err(StorageError::InUse(_))));
        registry.server = None;
        for (number, damage) in ["gone", "torn", "empty", "whole"].into_iter().enumerate() {
            match damage {
                "gone" => lose(&storage),
                "torn" => {
                    fs::write(storage.join("registry.db"), b"SQLite format 3\0 and no more").expect("damage")
                }
                "empty" => fs::write(storage.join("registry.db"), b"").expect("damage"),
                _ => {}
            }
            let (done, lost) = again(&storage, None).expect("it is made again");
            assert_eq!(lost, [], "{damage}");
            assert_eq!((done.repositories, done.tags), (3, if snapshots { 5 } else { 4 }), "{damage}");
            assert_eq!(done.former.is_some(), number > 0, "{damage}");
            registry.restart();
            assert_eq!(seen(&registry, &REPOSITORIES), before, "{damage}");
            assert_eq!(registry.call("HEAD", &format!("/v2/team/app/blobs/{loose}"), &[], b"").status, 200);
            // membership is what it was: nobody has what another one pushed
            assert_eq!(registry.call("HEAD", &format!("/v2/other/blobs/{loose}"), &[], b"").status, 404);
            assert_eq!(registry.get(&session).status, 404);
            registry.server = None;
        }
    }
}

#[test]
fn what_cannot_come_back_is_said_and_a_push_heals_it() {
    engines::in_folder!();
    let mut registry = Registry::start();
    let (damaged, bytes) = registry.push_image("a", "damaged", b"layer 1");
    registry.push_image("a", "whole", b"layer 2");
    let folder = registry.folder.path().join("registry");
    registry.server = None;
    let path = |bytes: &[u8]| folder.join("blobs/sha256").join(Digest::sha256(bytes).hex());
    fs::write(path(&bytes), vec![b' '; bytes.len()]).expect("damage");
    fs::remove_file(path(b"layer 2")).expect("damage");
    // a line that a crash tore, one of damaged bytes, and one of a hostile hand
    let log = folder.join("pointers/log");
    let mut lines = fs::read(&log).expect("the log");
    lines.extend_from_slice(b"00000000 [\"t\",\"a\",\"evil\",\"sha256:0\",1]\n0123");
    fs::write(&log, lines).expect("damage");
    lose(&folder);
    let (done, lost) = again(&folder, None).expect("it is made again");
    assert_eq!((done.manifests, done.tags, done.blobs), (2, 2, 3));
    let content = |digest: Digest| Lost::Content { repository: "a".to_owned(), digest };
    assert_eq!(lost.len(), 3, "{lost:?}");
    for expected in [Lost::Lines(2), content(Digest::sha256(b"layer 2")), content(damaged)] {
        assert!(lost.contains(&expected), "{lost:?}");
    }
    registry.restart();
    assert_eq!(registry.get("/v2/a/manifests/damaged").status, 404);
    assert_eq!(registry.put_manifest("a", "damaged", media_type::OCI_MANIFEST, &bytes).status, 201);
    registry.push_blob("a", b"layer 2");
    assert_eq!(registry.get("/v2/a/manifests/damaged").body, bytes);
    assert_eq!(registry.get("/v2/a/tags/list").json()["tags"], serde_json::json!(["damaged", "whole"]));
}

#[test]
fn without_a_journal_manifests_are_found_by_their_bytes() {
    engines::in_folder!();
    let mut registry = Registry::start();
    let (digest, bytes) = registry.push_image("a", "v", b"layer");
    // JSON that is no manifest
    registry.push_blob("a", b"{\"schemaVersion\":2,\"config\":7}");
    let folder = registry.folder.path().join("registry");
    registry.server = None;
    lose(&folder);
    fs::remove_dir_all(folder.join("pointers")).expect("remove");
    assert!(matches!(again(&folder, None), Err(StorageError::NoJournal(_))));
    assert!(!folder.join("registry.db").exists(), "a refusal changes nothing");
    let (done, lost) = again(&folder, Some("lost/found")).expect("it is made again");
    assert_eq!((done.found, done.manifests, done.blobs, lost), (1, 1, 2, vec![]));
    registry.restart();
    assert_eq!(registry.get(&format!("/v2/lost/found/manifests/{digest}")).body, bytes);
    let layer = Digest::sha256(b"layer");
    assert_eq!(registry.get(&format!("/v2/lost/found/blobs/{layer}")).body, b"layer");
    let nothing = tempfile::tempdir().expect("folder");
    assert!(matches!(again(nothing.path(), None), Err(StorageError::NoRegistry(_))));
}
