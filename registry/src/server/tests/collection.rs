//! What goes and what comes back, beside a server that goes on: its own storage is opened a second time, as another process does.

use super::*;
use crate::server::storage::{
    Author, Collected, Deletion, Expired, IsImmutable, Keeping, ManifestKey, Pulls, Retired, Storage,
    StorageError, TagFacts,
};
use std::sync::Arc;

const NOW: Duration = Duration::ZERO;

fn beside(registry: &Registry, trash: Duration) -> Arc<Storage> {
    let storage = engines::beside(&registry.folder.path().join("registry"));
    storage.keep_trash(trash);
    storage
}

fn week() -> Duration {
    Duration::from_secs(7 * 86_400)
}

fn collect(storage: &Storage) -> Collected {
    storage.collect(NOW, &mut |_| true).expect("a collection")
}

fn files(registry: &Registry) -> usize {
    engines::placed(&registry.folder.path().join("registry"))
}

fn index_of(child: &[u8], more: &str) -> Vec<u8> {
    let entry = serde_json::to_string(&Descriptor::of(media_type::OCI_MANIFEST, child)).expect("json");
    format!(r#"{{"schemaVersion":2,"manifests":[{entry}]{more}}}"#).into_bytes()
}

fn delete(registry: &Registry, reference: &str) -> u16 {
    registry.call("DELETE", &format!("/v2/a/manifests/{reference}"), &[], b"").status
}

#[test]
fn what_is_deleted_is_gone_for_everybody_and_comes_back_whole() {
    let registry = Registry::start();
    let (child, bytes) = registry.push_image("a", "child", b"layer");
    let index = index_of(&bytes, "");
    for tag in ["v1", "v2"] {
        assert_eq!(registry.put_manifest("a", tag, media_type::OCI_INDEX, &index).status, 201);
    }
    let whole = Digest::sha256(&index);
    let subject = serde_json::to_string(&Descriptor::of(media_type::OCI_INDEX, &index)).expect("json");
    registry.push_blob("a", b"signature");
    let signature = image(b"signature", &format!(r#","subject":{subject}"#));
    let signed = Digest::sha256(&signature);
    let put = registry.put_manifest("a", &signed.to_string(), media_type::OCI_MANIFEST, &signature);
    assert_eq!(put.status, 201);
    assert_eq!(delete(&registry, "child"), 202);
    assert_eq!(delete(&registry, &whole.to_string()), 202);
    let storage = beside(&registry, week());
    // children and what is attached go with it, blobs stay for who undeletes
    let taken = collect(&storage);
    assert_eq!((taken.trashed, taken.manifests, taken.blobs, taken.contents), (2, 0, 0, 0), "{taken:?}");
    for reference in [&child, &whole, &signed] {
        assert_eq!(registry.get(&format!("/v2/a/manifests/{reference}")).status, 404, "{reference}");
    }
    let referrers = format!("/v2/a/referrers/{whole}");
    assert_eq!(registry.get(&referrers).json()["manifests"], serde_json::json!([]));
    assert_eq!(registry.get("/v2/_catalog").json()["repositories"], serde_json::json!([]));
    assert_eq!(storage.counts().expect("counts").expect("counted").manifests, 0);
    // one tag is another's by now
    let (other, _) = registry.push_image("a", "v2", b"other");
    let author = Author { who: Some("ann".to_owned()), origin: None };
    let revived = storage.revive("a", &whole, &author).expect("back");
    assert_eq!((revived.tags, revived.missing), (vec!["v1".to_owned()], vec![]));
    for reference in [&child.to_string(), &whole.to_string(), "v1"] {
        assert_eq!(registry.get(&format!("/v2/a/manifests/{reference}")).status, 200, "{reference}");
    }
    let v2 = registry.call("HEAD", "/v2/a/manifests/v2", &[], b"");
    assert_eq!(v2.header("docker-content-digest"), Some(other.to_string().as_str()));
    assert_eq!(storage.tag_history("a", Some("v1"), i64::MAX, 1).expect("moves")[0].change.who, author.who);
    assert!(matches!(storage.revive("a", &whole, &author), Err(StorageError::ManifestUnknown(_))));
    // what is attached has its own way back
    storage.revive("a", &signed, &author).expect("back");
    assert_eq!(registry.get(&referrers).json()["manifests"].as_array().map(Vec::len), Some(1));
    assert_eq!(collect(&storage), Collected::default());
}

#[test]
fn tags_come_back_and_roll_back() {
    let registry = Registry::start();
    let (one, _) = registry.push_image("a", "t", b"one");
    let (two, _) = registry.push_image("a", "t", b"two");
    let storage = beside(&registry, week());
    let author = Author::default();
    let at = || {
        let reply = registry.call("HEAD", "/v2/a/manifests/t", &[], b"");
        reply.header("docker-content-digest").map(str::to_owned)
    };
    assert_eq!(storage.roll_back("a", "t", None, &author).expect("back").0, one);
    assert_eq!(at(), Some(one.to_string()));
    assert_eq!(storage.roll_back("a", "t", None, &author).expect("forth").0, two);
    assert!(storage.revive_tag("a", "t", &author).is_err(), "it is there");
    assert_eq!(delete(&registry, "t"), 202);
    assert_eq!(storage.revive_tag("a", "t", &author).expect("back").digest, two);
    // with its manifest out of the trash
    assert_eq!(delete(&registry, &two.to_string()), 202);
    assert_eq!(at(), None);
    assert_eq!(storage.roll_back("a", "t", Some(&two), &author).expect("back").1, []);
    assert_eq!(at(), Some(two.to_string()));
    for (tag, to) in [("none", None), ("t", Some(Digest::sha256(b"nothing")))] {
        assert!(storage.roll_back("a", tag, to.as_ref(), &author).is_err(), "{tag}");
    }
    assert_eq!(at(), Some(two.to_string()));
}

#[test]
fn an_image_whose_child_is_gone_says_what_it_lacks() {
    let registry = Registry::start();
    let (child, bytes) = registry.push_image("a", "child", b"layer");
    let index = index_of(&bytes, "");
    assert_eq!(registry.put_manifest("a", "v", media_type::OCI_INDEX, &index).status, 201);
    let whole = Digest::sha256(&index);
    let storage = beside(&registry, NOW);
    let force = Deletion { force: true, ..Deletion::by(Author::default()) };
    let key = ManifestKey::Digest(child.clone());
    let refused = storage.delete_manifest("a", &key, &Deletion::by(Author::default()));
    assert!(matches!(refused, Err(StorageError::ManifestNeeded { .. })), "{refused:?}");
    storage.delete_manifest("a", &key, &force).expect("forced");
    assert_eq!(delete(&registry, &whole.to_string()), 202);
    let revived = storage.revive("a", &whole, &Author::default()).expect("back");
    assert_eq!((revived.missing, revived.tags), (vec![child], vec!["v".to_owned()]));
}

#[test]
fn nothing_is_left_of_what_nothing_needs_and_nothing_else_goes() {
    let registry = Registry::start();
    let (kept, _) = registry.push_image("a", "kept", b"kept");
    let (gone, bytes) = registry.push_image("a", "gone", b"gone");
    registry.push_image("b", "same", b"gone");
    registry.push_blob("a", b"loose");
    let before = files(&registry);
    assert_eq!(delete(&registry, &gone.to_string()), 202);
    // pushed again while it lies in the trash
    assert_eq!(registry.put_manifest("a", "again", media_type::OCI_MANIFEST, &bytes).status, 201);
    let storage = beside(&registry, NOW);
    assert_eq!(storage.collectable(NOW, 10).expect("candidates").len(), 1);
    assert_eq!(collect(&storage).contents, 1, "the loose blob alone");
    assert_eq!(registry.get("/v2/a/manifests/again").status, 200);
    assert_eq!(delete(&registry, &gone.to_string()), 202);
    // b has the same image
    assert_eq!(collect(&storage).contents, 0);
    assert_eq!(registry.get("/v2/b/manifests/same").status, 200);
    assert_eq!(registry.call("DELETE", &format!("/v2/b/manifests/{gone}"), &[], b"").status, 202);
    collect(&storage);
    // the image of `kept`: manifest, config, layer
    assert_eq!((before, files(&registry)), (6, 3));
    assert_eq!(registry.get(&format!("/v2/a/manifests/{kept}")).status, 200);
    // what went is pushed anew, by a server that has seen it before
    registry.push_image("a", "gone", b"gone");
    assert_eq!(registry.get(&format!("/v2/a/blobs/{}", Digest::sha256(b"gone"))).body, b"gone");
}

/// What comes back takes no tag from anybody, whether tags may move or not: so that none that never changes is ever moved.
#[test]
fn what_comes_back_never_moves_a_tag() {
    let registry = Registry::start();
    let storage = beside(&registry, week());
    let author = Author::default();
    let (one, _) = registry.push_image("a", "v", b"one");
    assert_eq!(registry.call("DELETE", &format!("/v2/a/manifests/{one}"), &[], b"").status, 202);
    let (two, _) = registry.push_image("a", "v", b"two");
    let at = || {
        let key = ManifestKey::Tag("v".to_owned());
        storage.manifest("a", &key).expect("the tag").digest
    };
    assert!(matches!(storage.revive_tag("a", "v", &author), Err(StorageError::Moved { .. })));
    let revived = storage.revive("a", &one, &author).expect("back");
    assert_eq!((revived.tags.len(), at()), (0, two.clone()), "somebody has taken it");
    for digest in [&one, &two] {
        // not even to where it is
        let refused = storage.add_tag("a", "v", digest, &author);
        assert!(matches!(refused, Err(StorageError::Moved { .. })), "{digest}");
    }
    assert_eq!(at(), two);
    let moves = storage.tag_history("a", Some("v"), i64::MAX, 10).expect("moves");
    assert_eq!(moves.len(), 3, "pushed, deleted, pushed: {moves:?}");
}

#[test]
fn pulls_count_for_tags() {
    let mut registry = Registry::start();
    let (digest, _) = registry.push_image("a", "t", b"one");
    registry.call("HEAD", "/v2/a/manifests/t", &[], b"");
    for reference in ["t", "t", &digest.to_string()] {
        assert_eq!(registry.get(&format!("/v2/a/manifests/{reference}")).status, 200);
    }
    // written down at the latest when it stops
    registry.restart();
    let facts = beside(&registry, NOW).tag_facts("a", "", 10).expect("facts");
    assert_eq!(facts[0].pulls, 3);
    assert!(facts[0].pulled >= Some(facts[0].updated));
}

#[test]
fn tags_that_are_kept_no_longer_go_with_all_below() {
    let registry = Registry::start();
    let (child, bytes) = registry.push_image("a", "child", b"layer");
    let index = index_of(&bytes, "");
    assert_eq!(registry.put_manifest("a", "pr-1", media_type::OCI_INDEX, &index).status, 201);
    let (other, _) = registry.push_image("a", "pr-2", b"two");
    let (never, _) = registry.push_image("a", "pr-prod", b"three");
    assert_eq!(delete(&registry, "child"), 202);
    let storage = beside(&registry, week());
    let author = Author { who: None, origin: Some("retention".to_owned()) };
    let goes = |facts: &[TagFacts]| -> Vec<TagFacts> {
        facts.iter().filter(|one| one.tag.starts_with("pr-")).cloned().collect()
    };
    // one is pulled between the look and the removal
    let pulled = |repository: &str, facts: &[TagFacts], _| {
        let key = ManifestKey::Tag("pr-2".to_owned());
        let pull = Pulls { repository: repository.to_owned(), key, at: facts[0].updated + 1, count: 1 };
        storage.record_pulls(&[pull]).expect("a pull");
        goes(facts)
    };
    let quiet = |_: &str, facts: &[TagFacts], _| goes(facts);
    let immutable = |_: &str| -> IsImmutable { Arc::new(|tag| tag == "pr-prod") };
    let retire = |expired: &Expired<'_>, dry_run| {
        let keeping = Keeping { expired, untagged: &|_| None, immutable: &immutable, author: &author };
        let mut gone = Vec::new();
        let mut note = |one: &Retired| {
            gone.extend(one.tag.clone());
            true
        };
        storage.retire(&keeping, dry_run, &mut note).expect("retired");
        gone
    };
    assert_eq!(retire(&quiet, true), ["pr-1", "pr-2"]);
    assert_eq!(registry.get("/v2/a/manifests/pr-1").status, 200);
    assert_eq!(retire(&pulled, false), ["pr-1"]);
    // into the trash: the index, and then its child
    assert_eq!(collect(&storage).trashed, 2);
    for (digest, status) in [(&Digest::sha256(&index), 404), (&child, 404), (&other, 200), (&never, 200)] {
        assert_eq!(registry.get(&format!("/v2/a/manifests/{digest}")).status, status, "{digest}");
    }
    storage.revive_tag("a", "pr-1", &author).expect("back");
    assert_eq!(registry.get(&format!("/v2/a/manifests/{child}")).status, 200);
}

#[test]
fn a_large_trash_is_emptied_in_small_steps() {
    let registry = Registry::start();
    let storage = beside(&registry, week());
    registry.push_image("a", "t", b"layer");
    let (step, count) = (crate::limits::COLLECT_BATCH as u64, 2 * crate::limits::COLLECT_BATCH as u64 + 20);
    for number in 0..count {
        let bytes = image(b"layer", &format!(r#","annotations":{{"n":"{number}"}}"#));
        let digest = Digest::sha256(&bytes);
        assert_eq!(
            registry.put_manifest("a", &digest.to_string(), media_type::OCI_MANIFEST, &bytes).status,
            201
        );
        assert_eq!(delete(&registry, &digest.to_string()), 202);
    }
    storage.keep_trash(NOW);
    let mut steps = Vec::new();
    let stop_after = |steps: &mut Vec<u64>, most: usize| {
        let mut note = |gone| {
            steps.push(gone);
            steps.len() < most
        };
        storage.collect(NOW, &mut note).expect("a collection")
    };
    // one that is stopped goes on with the next
    let before = storage.written().transactions;
    assert_eq!(stop_after(&mut steps, 1).manifests, step);
    assert_eq!(stop_after(&mut steps, usize::MAX).manifests, count - step);
    assert!(steps.len() >= 3 && steps.iter().all(|gone| *gone <= step), "{steps:?}");
    // and others write between the parts of a step
    let transactions = storage.written().transactions - before;
    // another database counts its own
    assert!(
        !slipway_skip::engines::in_folders() || transactions >= count / crate::limits::COLLECT_PAGE,
        "{transactions}"
    );
    assert_eq!(registry.get("/v2/a/manifests/t").status, 200);
    if !slipway_skip::engines::in_folders() {
        // what a slow store kept a step from removing in its time is the sweep's
        storage.sweep_uploads(std::time::SystemTime::now() + week()).expect("a sweep");
    }
    assert_eq!(files(&registry), 3);
}
