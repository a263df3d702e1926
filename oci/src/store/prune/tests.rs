use super::*;
use crate::Digest;
use crate::store::{Adopted, CacheAbout, CacheEntry, Share, tests};

/// A store with images `named` and one without a name, and results: `old`, `new`, and the layer of `named`.
fn filled() -> (tempfile::TempDir, Store, i64) {
    let (folder, store) = tests::store();
    let layers = ["shared", "loose", "old", "new"].map(|name| tests::layer(&store, name));
    for layer in &layers {
        store.adopt_layer(layer, Adopted::Nothing).expect("adopt");
        store.unpacked(&layer.diff_id, &Default::default()).expect("unpacked");
    }
    for (index, layer) in layers.iter().enumerate() {
        let key = Digest::sha256(&[index as u8]);
        let diff_id = (index != 1).then_some(&layer.diff_id);
        store.put_cached(&CacheEntry { key: &key, diff_id, step: "RUN", description: None }).expect("cached");
    }
    tests::image(&store, &layers[0..1], &["named"]);
    tests::image(&store, &layers[1..2], &[]);
    let now = crate::store::now();
    let old = layers[2].diff_id.to_string();
    store
        .database()
        .execute("UPDATE cache SET used = ?1 WHERE diff_id = ?2", (now - 5000, old))
        .expect("aged");
    (folder, store, now)
}

fn step_total(store: &Store) -> Share {
    store.account().expect("account").total(RecordKind::Step)
}

fn steps(store: &Store) -> usize {
    step_total(store).count
}

#[test]
fn rules_let_go_what_they_say_and_no_more() {
    // rules, then images, names and results that stay, and unpacked layers
    type Case = (&'static str, fn(i64) -> Prune, (usize, usize, usize, usize));
    let cases: [Case; 9] = [
        ("nothing", |_| Prune::default(), (2, 1, 4, 4)),
        ("usual", |_| Prune { unnamed_images: true, cache: true, ..Prune::default() }, (1, 1, 1, 1)),
        ("images", |_| Prune { unnamed_images: true, ..Prune::default() }, (1, 1, 4, 3)),
        (
            "all images",
            |_| Prune { unnamed_images: true, named_images: true, ..Prune::default() },
            (0, 0, 4, 3),
        ),
        ("cache", |_| Prune { cache: true, ..Prune::default() }, (2, 1, 1, 2)),
        (
            "old cache",
            |now| Prune { cache: true, used_before: Some(now - 60), ..Prune::default() },
            (2, 1, 3, 3),
        ),
        ("all cache", |_| Prune { cache: true, shared_cache: true, ..Prune::default() }, (2, 1, 0, 2)),
        (
            "old images",
            |now| Prune {
                unnamed_images: true,
                named_images: true,
                used_before: Some(now - 60),
                ..Prune::default()
            },
            (2, 1, 4, 4),
        ),
        (
            "everything",
            |_| Prune {
                unnamed_images: true,
                named_images: true,
                cache: true,
                shared_cache: true,
                ..Prune::default()
            },
            (0, 0, 0, 0),
        ),
    ];
    for (name, rules, expected) in cases {
        let (_folder, store, now) = filled();
        let pruned = store.prune(&rules(now)).expect(name);
        let names = store.list_images().expect("images");
        let layers = std::fs::read_dir(store.root().join("layers")).expect("layers");
        let layers = layers.filter(|entry| entry.as_ref().expect("entry").path().is_dir()).count();
        let named = names.iter().filter(|image| image.name.is_some()).count();
        assert_eq!((names.len(), named, steps(&store), layers), expected, "{name}: {pruned:?}");
        assert_eq!(pruned.images.len(), 2 - names.len(), "{name}");
        assert_eq!(pruned.results, 4 - steps(&store), "{name}");
    }
}

#[test]
fn what_builds_keep_is_bounded_to_the_byte_and_the_longest_unused_goes_first() {
    let (_folder, store, _) = filled();
    let whole = step_total(&store).bytes;
    assert!(whole > 0 && whole.is_multiple_of(2), "two results of one size: {whole}");
    for (keep, left) in [(whole, 2), (whole - 1, 1), (whole / 2, 1), (whole / 2 - 1, 0), (0, 0)] {
        let (_folder, store, _) = filled();
        store.prune(&Prune { cache: true, keep_bytes: Some(keep), ..Prune::default() }).expect("pruned");
        let mut kept = store.account().expect("account").records;
        kept.retain(|one| one.kind == RecordKind::Step && one.bytes > one.shared_bytes);
        assert_eq!(kept.len(), left, "{keep} of {whole}");
        assert!(step_total(&store).bytes <= keep, "{keep} of {whole}");
        assert!(left != 1 || kept[0].used > Some(crate::store::now() - 4000), "the old one stayed");
    }
}

#[test]
fn a_use_is_noted_to_the_hour() {
    let (_folder, store, now) = filled();
    let key = Digest::sha256(&[2]);
    let used = || -> i64 {
        let sql = "SELECT used FROM cache WHERE key = ?1";
        store.database().query_row(sql, [key.to_string()], |row| row.get(0)).expect("row")
    };
    store.touch_cached([&key]).expect("touched");
    assert!(used() >= now);
    store.database().execute("UPDATE cache SET used = ?1", [now - 100]).expect("aged");
    store.touch_cached([&key]).expect("touched");
    assert_eq!(used(), now - 100);
    let image = store.list_images().expect("images")[0].digest.clone();
    store.database().execute("UPDATE manifests SET used = 5", []).expect("aged");
    store.touch_image(&image).expect("touched");
    let sql = "SELECT used FROM manifests WHERE digest = ?1";
    let used: i64 = store.database().query_row(sql, [image.to_string()], |row| row.get(0)).expect("row");
    assert!(used >= now);
}

/// A cache of two files, with a name of its own.
fn cache(store: &Store, id: &str, used: i64) -> String {
    let name = Digest::sha256(id.as_bytes()).hex();
    let _lock = store.try_lock_cache(&name, false).expect("lock").expect("free");
    let folder = store.cache_folder(&name);
    std::fs::create_dir_all(folder.join("deep")).expect("folder");
    std::fs::write(folder.join("deep/file"), vec![1; 9000]).expect("file");
    std::fs::write(folder.join("file"), vec![1; 5000]).expect("file");
    store.note_cache(&name, &CacheAbout { id: id.to_owned(), ..CacheAbout::default() });
    let path = folder.with_extension("about");
    let about = CacheAbout { used, ..store.cache_about(&name).expect("about") };
    std::fs::write(path, serde_json::to_vec(&about).expect("json")).expect("aged");
    name
}

const ALL: Prune = Prune {
    unnamed_images: true,
    named_images: true,
    cache: true,
    shared_cache: true,
    mounts: true,
    contexts: true,
    used_before: None,
    keep_bytes: None,
    only: Vec::new(),
};

/// Bytes of disk of all but the database, which grows and shrinks by itself.
fn disk(store: &Store) -> u64 {
    let places = ["blobs", "layers", "caches", "context", "tmp"];
    places.iter().map(|place| crate::file::disk_bytes(&store.root().join(place)).unwrap_or(0)).sum()
}

#[test]
fn what_is_said_to_be_freed_is_what_leaves_the_disk_and_what_was_announced() {
    let (_folder, store, now) = filled();
    cache(&store, "old", now - 9000);
    let used = cache(&store, "used", now);
    std::fs::write(store.root().join("context/stat"), vec![1; 7000]).expect("context");
    // of something that was given up: nothing names it, and nobody alive relies on it
    std::fs::write(store.blobs().path(&Digest::sha256(b"loose")), vec![1; 20_000]).expect("loose");
    drop(store);
    let store = tests::store_in(&_folder.path().join("store"));
    let lock = store.try_lock_cache(&used, false).expect("lock").expect("free");
    let account = store.account().expect("account");
    let announced: u64 = account.totals.values().map(|share| share.reclaimable_bytes).sum();
    let sizes: u64 = account
        .totals
        .iter()
        .filter(|(kind, _)| **kind != RecordKind::Own)
        .map(|(_, share)| share.bytes)
        .sum();
    let before = disk(&store);
    assert!(sizes <= before && sizes > 60_000, "{sizes} of {before}");
    let pruned = store.prune(&ALL).expect("pruned");
    assert_eq!(pruned.freed_bytes(), before - disk(&store));
    assert_eq!(pruned.freed_bytes(), announced);
    assert_eq!((pruned.mounts, pruned.in_use), (vec!["old".to_owned()], 1));
    assert!(store.cache_folder(&used).join("deep/file").exists(), "a step has it");
    drop(lock);
    let before = disk(&store);
    let pruned = store.prune(&ALL).expect("pruned");
    assert_eq!(pruned.mounts, ["used"]);
    assert_eq!(pruned.freed_bytes(), before - disk(&store));
    let left = std::fs::read_dir(store.root().join("caches")).expect("caches").count();
    assert_eq!(left, 0, "no lock, no record stays");
}

#[test]
fn one_bound_is_for_all_that_builds_have_kept() {
    let (_folder, store, now) = filled();
    cache(&store, "older", now - 9000);
    cache(&store, "newer", now);
    let kept = |store: &Store| -> u64 {
        let totals = store.account().expect("account").totals;
        totals.iter().filter(|(kind, _)| kind.is_kept_for_builds()).map(|(_, share)| share.bytes).sum()
    };
    let whole = kept(&store);
    let rules = |keep| Prune {
        cache: true,
        mounts: true,
        contexts: true,
        keep_bytes: Some(keep),
        ..Prune::default()
    };
    store.prune(&rules(whole)).expect("pruned");
    assert_eq!(kept(&store), whole);
    let pruned = store.prune(&rules(whole - 1)).expect("pruned");
    assert_eq!(
        (pruned.mounts.as_slice(), pruned.results),
        (&["older".to_owned()][..], 0),
        "the longest unused"
    );
    let pruned = store.prune(&rules(kept(&store) - 1)).expect("pruned");
    assert_eq!((pruned.mounts.len(), pruned.results), (0, 1), "then the old result");
    let only = Prune { only: vec!["newer".to_owned()], mounts: true, cache: true, ..Prune::default() };
    let pruned = store.prune(&only).expect("pruned");
    assert_eq!((pruned.mounts.as_slice(), pruned.results), (&["newer".to_owned()][..], 0));
}

#[test]
fn a_hard_link_that_stays_frees_nothing() {
    let (folder, store, _) = filled();
    let path = store.blobs().path(&Digest::sha256(b"loose"));
    std::fs::write(&path, vec![1; 200_000]).expect("blob");
    std::fs::hard_link(&path, folder.path().join("kept")).expect("link");
    let collected = store.collect().expect("collect").expect("alone");
    assert_eq!((collected.blobs, collected.bytes), (1, 0));
}
