use super::*;
use crate::{
    Descriptor, Digest, Platform, Reference,
    compression::Compression,
    layer::{Entry, Kind, Layer, LayerWriter, Tree},
    spec::{ImageConfig, Manifest, media_type, to_json},
};

pub(super) fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("folder");
    let store = Store::open(&folder.path().join("store"), OverlayXattrs::User).expect("store");
    (folder, store)
}

/// A store in `root`, as another command opens it.
pub(super) fn store_in(root: &Path) -> Store {
    Store::open(root, OverlayXattrs::User).expect("store")
}

pub(super) fn layer(store: &Store, name: &str) -> Layer {
    let mut writer = LayerWriter::new(store.blobs(), Compression::Zstd).expect("writer");
    let mut entry = Entry::new(name, Kind::File, 0o644);
    (entry.uid, entry.gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    entry.size_bytes = 4;
    writer.append_file(entry, &mut &b"data"[..]).expect("append");
    writer.finish().expect("finish")
}

pub(super) fn image(store: &Store, layers: &[Layer], names: &[&str]) -> Digest {
    let mut config = ImageConfig::empty(Platform::host());
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let config = to_json(&config);
    store.blobs().put(&config).expect("config");
    let manifest = to_json(&Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.into()),
        artifact_type: None,
        config: Descriptor::of(media_type::OCI_CONFIG, &config),
        layers: layers.iter().map(|layer| layer.descriptor.clone()).collect(),
        subject: None,
        annotations: Default::default(),
    });
    let digest = store.blobs().put(&manifest).expect("manifest");
    let names: Vec<Reference> = names.iter().map(|name| name.parse().expect("name")).collect();
    store.put_image(&digest, &names).expect("image");
    digest
}

#[test]
fn a_layer_that_is_not_what_it_says_leaves_nothing() {
    let (_folder, store) = store();
    let made = layer(&store, "f");
    let false_id = Digest::sha256(b"something else");
    let form = LayerForm { diff_id: false_id.clone(), descriptor: made.descriptor };
    store.put_form(&form, 0).expect("form");
    assert!(store.unpacked(&false_id, &Tree::default()).is_err());
    assert_eq!(std::fs::read_dir(store.root().join("tmp")).expect("tmp").count(), 0);
    assert!(!store.root().join("layers").join(false_id.hex()).exists());
}

#[test]
fn names_ids_and_removal() {
    let (_folder, store) = store();
    let made = layer(&store, "f");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    let digest = image(&store, &[made], &["a:1", "b"]);
    let id = store.list_images().expect("list")[0].id.clone();
    for text in ["a:1", "b", "b:latest", &id.short(), &id.to_string(), &digest.short()] {
        assert_eq!(store.find_image(text).expect("find"), Some(digest.clone()), "{text}");
    }
    assert_eq!(store.find_image("a").expect("find"), None);
    assert!(matches!(store.remove_image(&id.short(), false), Err(StoreError::SeveralNames { .. })));
    assert!(matches!(store.remove_image("zzz", false), Err(StoreError::NoImage(_))));
    let (names, gone) = store.remove_image("a:1", false).expect("remove");
    assert_eq!((names.len(), gone.len()), (1, 0));
    let (_, gone) = store.remove_image("b", false).expect("remove");
    assert_eq!(gone, [digest]);
    let collected = store.collect().expect("collect").expect("alone");
    assert_eq!(collected.blobs, 3);
    assert!(store.blobs().list().expect("list").is_empty());
}

#[test]
fn the_collector_leaves_cached_layers() {
    let (_folder, store) = store();
    let made = layer(&store, "f");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    let key = Digest::sha256(b"key");
    store
        .put_cached(&CacheEntry { key: &key, diff_id: Some(&made.diff_id), step: "RUN x", description: None })
        .expect("cache");
    assert_eq!(store.collect().expect("collect"), Some(Collected::default()));
    assert!(
        matches!(store.cached(&key).expect("cached"), Some(CachedLayer::Layer(form)) if form.diff_id == made.diff_id)
    );
    store.blobs().remove(&made.descriptor.digest).expect("remove");
    assert_eq!(store.cached(&key).expect("cached"), None, "a result without bytes is none");
}

#[test]
fn layers_unpack_once_and_again_after_a_boot() {
    let (_folder, store) = store();
    let made = layer(&store, "f");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    let path = store.unpacked(&made.diff_id, &Tree::default()).expect("unpacked");
    assert_eq!(std::fs::read_to_string(path.join("f")).expect("f"), "data");
    std::fs::write(path.join("mark"), "").expect("mark");
    store.unpacked(&made.diff_id, &Tree::default()).expect("again");
    assert!(path.join("mark").exists(), "not unpacked twice");
    store.database().execute("UPDATE unpacked SET made_in = 'another boot'", []).expect("update");
    store.unpacked(&made.diff_id, &Tree::default()).expect("again");
    assert!(!path.join("mark").exists(), "a folder of another boot is not trusted");
}

#[test]
fn a_newer_format_is_refused_in_words() {
    let (folder, store) = store();
    store.database().pragma_update(None, "user_version", 99).expect("update");
    drop(store);
    let error = Store::open(&folder.path().join("store"), OverlayXattrs::User).err().expect("refused");
    assert!(error.to_string().contains("format 99"), "{error}");
}

#[test]
fn what_the_dead_left_is_swept_and_what_the_living_make_is_not() {
    let (folder, store) = store();
    let path = folder.path().join("store");
    let tmp = path.join("tmp");
    let open = || Store::open(&path, OverlayXattrs::User).expect("store");
    // whose lease is gone, whose lease nobody holds, and a name that says nothing
    std::fs::create_dir_all(tmp.join("layer-00000000000000aa-0/deep")).expect("folder");
    std::fs::write(path.join("leases/00000000000000bb"), "blob x\n").expect("lease");
    std::fs::write(tmp.join("blob-00000000000000bb-1f"), "").expect("file");
    std::fs::write(tmp.join("by hand"), "").expect("file");
    let own = store.temporary_folder("layer").expect("own");
    let written = store.blobs().writer(crate::Algorithm::Sha256).expect("writer");
    let living: Vec<_> = std::fs::read_dir(&tmp).expect("list").flatten().map(|entry| entry.path()).collect();
    assert_eq!(living.len(), 5, "{living:?}");
    let other = open();
    let left: Vec<_> = std::fs::read_dir(&tmp).expect("list").flatten().map(|entry| entry.path()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(own.exists() && tmp.join("by hand").exists());
    drop((other, written, store));
    // its owner forgot the folder, and is gone now
    open();
    assert!(!own.exists());
    assert_eq!(std::fs::read_dir(path.join("leases")).expect("list").count(), 0);
}

/// What another user of the store relies on, by every way in which one can come to rely on it.
#[test]
fn what_others_rely_on_is_not_collected() {
    type Way = fn(&Store, &Layer, &Digest);
    let ways: [(&str, Way); 9] = [
        ("the image", |store, _, image| drop(store.read_image(image).expect("image"))),
        ("a size", |store, layer, _| {
            assert!(store.blobs().contains(&layer.descriptor.digest).expect("looked"))
        }),
        ("an open blob", |store, layer, _| {
            drop(store.blobs().open_blob(&layer.descriptor.digest).expect("open"))
        }),
        ("the layer's forms", |store, layer, _| drop(store.layer_forms(&layer.diff_id).expect("forms"))),
        ("its archive", |store, layer, _| drop(store.read_layer(&layer.diff_id).expect("archive"))),
        ("its table", |store, layer, _| assert!(store.has_toc(&layer.diff_id).expect("looked"))),
        ("its tree", |store, layer, _| drop(store.tree([&layer.diff_id]).expect("tree"))),
        ("its folder", |store, layer, _| {
            drop(store.unpacked(&layer.diff_id, &Tree::default()).expect("folder"))
        }),
        ("a cached step", |store, _, _| {
            assert!(store.cached(&Digest::sha256(b"key")).expect("looked").is_some());
        }),
    ];
    for (way, rely) in ways {
        let (folder, store) = store();
        let made = layer(&store, "f");
        store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
        let image = image(&store, std::slice::from_ref(&made), &["a"]);
        let (key, diff_id) = (Digest::sha256(b"key"), Some(&made.diff_id));
        store.put_cached(&CacheEntry { key: &key, diff_id, step: "x", description: None }).expect("cache");
        let user = Store::open(&folder.path().join("store"), OverlayXattrs::User).expect("user");
        rely(&user, &made, &image);
        store.remove_image("a", false).expect("removed");
        let collected = store.collect().expect("collect").expect("done");
        // all but the image name one blob or layer, and manifest and configuration go
        assert_eq!(collected.blobs, if way == "the image" { 0 } else { 2 }, "{way}");
        assert!(store.blobs().path(&made.descriptor.digest).exists(), "{way}");
        if !way.contains("blob") && !way.contains("size") {
            user.unpacked(&made.diff_id, &Tree::default()).expect("the layer is whole");
        }
        drop(user);
        store.collect().expect("collect").expect("done");
        assert_eq!(store.blobs().list().expect("list"), [], "{way}: and afterwards it is");
    }
}

/// Writers and collectors at once: what was written and named is there.
#[test]
fn nothing_that_is_being_made_is_collected() {
    let (folder, store) = store();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let stop = &stop;
    let path = &folder.path().join("store");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                let collector = Store::open(path, OverlayXattrs::User).expect("collector");
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    collector.collect().expect("collect");
                }
            });
        }
        for round in 0..25 {
            let maker = Store::open(path, OverlayXattrs::User).expect("maker");
            let made = layer(&maker, &format!("f{round}"));
            maker.adopt_layer(&made, Adopted::Nothing).expect("adopt");
            maker.unpacked(&made.diff_id, &Tree::default()).expect("unpacked");
            let name = format!("made:{round}");
            image(&maker, &[made], &[&name]);
            drop(maker);
            let reader = Store::open(path, OverlayXattrs::User).expect("reader");
            let digest = reader.find_image(&name).expect("find").expect("named");
            let record = reader.read_image(&digest).expect("image");
            let diff_id = &record.config.rootfs.diff_ids[0];
            assert!(reader.has_unpacked(diff_id, &Tree::default()).expect("looked"), "{round}");
            reader.read_layer(diff_id).expect("blob");
            reader.remove_image(&name, false).expect("removed");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    store.collect().expect("collect").expect("done");
    assert_eq!(store.blobs().list().expect("list"), []);
    assert_eq!(std::fs::read_dir(path.join("layers")).expect("list").count(), 0);
}

/// A layer of `entries` as another tool may have packed it: parents are not made up.
fn foreign(store: &Store, entries: &[Entry]) -> Digest {
    let mut writer = LayerWriter::new(store.blobs(), Compression::None).expect("writer");
    for entry in entries {
        let mut entry = entry.clone();
        let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        (entry.uid, entry.gid) = own;
        writer.append(entry).expect("append");
    }
    let made = writer.finish().expect("finish");
    // its table is made from the archive, as for a layer that was pulled
    let form = LayerForm { diff_id: made.diff_id.clone(), descriptor: made.descriptor };
    store.put_form(&form, 0).expect("form");
    made.diff_id
}

/// Layers without parents on bases that differ in what the parents are, in every order, with the table asked for before
/// or after the folder, in one store and in another.
#[test]
fn a_layer_on_two_bases_is_in_the_right_place_on_both() {
    let link = |path: &str, target: &str| {
        let mut entry = Entry::new(path, Kind::Symlink, 0o777);
        entry.link = target.into();
        entry
    };
    let folder = |path: &str, mode| Entry::new(path, Kind::Directory, mode);
    let file = |path: &str| Entry::new(path, Kind::File, 0o644);
    let bases: [(Vec<Entry>, &str); 4] = [
        (vec![folder("lib", 0o755)], "lib/foo"),
        (vec![folder("usr", 0o755), folder("usr/lib", 0o755), link("lib", "usr/lib")], "usr/lib/foo"),
        (vec![folder("lib", 0o700)], "lib/foo"),
        (vec![folder("srv", 0o700)], "lib/foo"),
    ];
    for turn in 0..bases.len() {
        for table_first in [true, false] {
            let (_folder, store) = store();
            let layer = foreign(&store, &[file("lib/foo")]);
            let mut folders = std::collections::HashSet::new();
            for number in 0..bases.len() {
                let (entries, place) = &bases[(turn + number) % bases.len()];
                let base = foreign(&store, entries);
                let below = store.tree([&base]).expect("tree");
                let before = table_first.then(|| store.toc(&layer, &below).expect("table"));
                let path = store.unpacked(&layer, &below).expect("unpacked");
                let table = store.toc(&layer, &below).expect("table");
                assert!(before.is_none_or(|before| before == table), "unpacking changes no table");
                assert!(path.join(place).is_file(), "{place} in {}", path.display());
                assert!(table.get(place.as_bytes()).is_some(), "{place} in {table:?}");
                assert!(store.has_unpacked(&layer, &below).expect("looked"));
                let whole = store.tree([&base, &layer]).expect("tree");
                assert!(whole.resolve(b"lib/foo", true).expect("resolved").exists);
                use std::os::unix::fs::MetadataExt;
                let parent = path.join(place).parent().expect("parent").metadata().expect("folder");
                let meant = below.resolve(b"lib", true).expect("resolved").path;
                let meant = below.get(&meant).map_or(0o755, |found| found.entry.mode);
                assert_eq!(parent.mode() & 0o7777, meant);
                folders.insert(path);
            }
            assert_eq!(folders.len(), bases.len());
        }
    }
}

#[test]
fn bases_that_agree_share_one_folder_and_the_collector_takes_all_of_them() {
    let (_folder, store) = store();
    let layer = foreign(&store, &[Entry::new("lib/foo", Kind::File, 0o644)]);
    let path = |names: &[&str]| {
        let entries: Vec<Entry> =
            names.iter().map(|name| Entry::new(*name, Kind::Directory, 0o755)).collect();
        let base = foreign(&store, &entries);
        store.unpacked(&layer, &store.tree([&base]).expect("tree")).expect("unpacked")
    };
    assert_eq!(path(&["lib"]), path(&["lib", "srv"]));
    assert_ne!(path(&["lib"]), path(&["srv"]));
    assert_eq!(path(&["srv"]), store.unpacked(&layer, &Tree::default()).expect("unpacked"));
    store.collect().expect("collect").expect("alone");
    assert_eq!(std::fs::read_dir(store.root().join("layers")).expect("list").count(), 0);
}

/// Two processes: one removes an image by its only name while another gives it a second one.
#[test]
fn a_name_that_comes_while_the_image_is_removed_keeps_it() {
    let (folder, store) = store();
    let made = layer(&store, "f");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    let other = Store::open(&folder.path().join("store"), OverlayXattrs::User).expect("store");
    let kept: Vec<Reference> = vec!["kept".parse().expect("name")];
    for round in 0..150 {
        let digest = image(&store, std::slice::from_ref(&made), &["gone"]);
        std::thread::scope(|scope| {
            let naming = scope.spawn(|| other.put_image(&digest, &kept).map(drop));
            // the look and the removal are a few hundred microseconds apart
            std::thread::sleep(std::time::Duration::from_micros(round * 3));
            let removed = store.remove_image("gone", false).map(drop);
            assert!(matches!(removed, Ok(())), "{removed:?}");
            naming.join().expect("no panic").expect("named");
        });
        let listed = store.list_images().expect("list");
        assert_eq!(listed.len(), 1, "round {round}: an image that has a name is there");
        store.remove_image("kept", false).expect("removed");
    }
}
