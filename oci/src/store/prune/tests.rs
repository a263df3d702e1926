use super::*;
use crate::Digest;
use crate::store::{Adopted, CacheEntry, tests};

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

fn steps(store: &Store) -> usize {
    store.usage().expect("usage").cache.count
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
    let whole = store.usage().expect("usage").cache.bytes;
    assert!(whole > 0 && whole % 2 == 0, "two results of one size: {whole}");
    for (keep, left) in [(whole, 2), (whole - 1, 1), (whole / 2, 1), (whole / 2 - 1, 0), (0, 0)] {
        let (_folder, store, _) = filled();
        store.prune(&Prune { cache: true, keep_bytes: Some(keep), ..Prune::default() }).expect("pruned");
        let kept = store.kept_by_cache(&store.needed().expect("needed")).expect("kept");
        assert_eq!(kept.len(), left, "{keep} of {whole}");
        assert!(kept.iter().map(|one| one.bytes).sum::<u64>() <= keep, "{keep} of {whole}");
        assert!(left != 1 || kept[0].used > crate::store::now() - 4000, "the old one stayed");
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
