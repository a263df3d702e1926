use super::*;
use crate::{
    layer::{Kind as EntryKind, Layer, LayerWriter, OverlayXattrs, Tree},
    store::{Adopted, Collected, RecordKind, Runnable, Shape, Wanted, tests},
};
use std::{collections::BTreeMap, io, os::unix::fs::MetadataExt, path::Path};

pub(super) fn store_in(root: &Path) -> Store {
    let mut store = Store::open(root, OverlayXattrs::Trusted).expect("store");
    store.shape_layers(Wanted { shape: Some(Shape::Mounted), try_mount: |_, _| Ok(()) });
    store
}

pub(super) fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("folder");
    let store = store_in(&folder.path().join("store"));
    (folder, store)
}

/// So many files, some of which are not what they were.
fn tree(count: u32, changed: &[u32]) -> BTreeMap<String, Vec<u8>> {
    let text = |number: u32| {
        let seed = if changed.contains(&number) { number + 7919 } else { number };
        let words =
            (0..2000 + number).map(|at| (seed.wrapping_add(at).wrapping_mul(2_654_435_761) >> 27) as u8);
        words.map(|word| b'a' + word).collect()
    };
    (0..count).map(|number| (format!("f{number:05}"), text(number))).collect()
}

/// A layer as the builder makes it, with the file that is mounted.
fn adopt(store: &Store, files: &BTreeMap<String, Vec<u8>>) -> Layer {
    let digests: Vec<(Digest, u64)> =
        files.values().map(|bytes| (Digest::content(bytes), bytes.len() as u64)).collect();
    let new = store.new_layer(digests.iter().map(|(digest, size)| (digest, *size)), Some(Compression::Zstd));
    let (file, image) = store.new_image(&new).expect("image");
    let mut writer = LayerWriter::on_known(store.blobs(), Compression::Zstd, new.pieces.clone())
        .expect("writer")
        .with_image(image);
    for (name, bytes) in files {
        let mut entry = Entry::new(name.as_str(), EntryKind::File, 0o644);
        (entry.size_bytes, entry.content) = (bytes.len() as u64, Some(Digest::content(bytes)));
        writer.append_bytes(entry, bytes).expect("append");
    }
    let layer = writer.finish().expect("finish");
    store.adopt_layer(&layer, Adopted::File(&file)).expect("adopt");
    layer
}

fn runnable(store: &Store, layer: &Layer) -> (PathBuf, Vec<PathBuf>) {
    match store.runnable(&layer.diff_id, &Tree::default()).expect("runnable") {
        Runnable::Image { path, devices, .. } => (path, devices),
        other => panic!("{other:?}"),
    }
}

fn holds(store: &Store, layer: &Layer, files: &BTreeMap<String, Vec<u8>>) {
    let found = store.layer_files(&layer.diff_id, &Tree::default()).expect("files");
    for (name, bytes) in files {
        assert!(found.read(Path::new(name), 8 << 20).expect("read") == *bytes, "{name}");
    }
}

/// Bytes of disk in `layers/`, each inode once.
pub(super) fn disk(store: &Store) -> u64 {
    let mut inodes = BTreeMap::new();
    for entry in fs::read_dir(store.root().join("layers")).expect("list") {
        let metadata = entry.expect("entry").metadata().expect("metadata");
        inodes.insert(metadata.ino(), metadata.blocks() * 512);
    }
    inodes.values().sum()
}

pub(super) fn names(store: &Store, folder: &str) -> Vec<io::Result<fs::DirEntry>> {
    fs::read_dir(store.root().join(folder)).expect("list").collect()
}

#[test]
fn a_touched_file_costs_a_touched_file() {
    let (_folder, store) = store();
    let (old, new) = (tree(2000, &[]), tree(2000, &[77]));
    let first = adopt(&store, &old);
    let before = disk(&store);
    let second = adopt(&store, &new);
    let (path, devices) = runnable(&store, &second);
    assert_eq!(devices.len(), 1);
    assert!(disk(&store) - before < before / 8, "{} after {before}", disk(&store));
    assert_eq!(runnable(&store, &first).1, Vec::<PathBuf>::new());
    holds(&store, &first, &old);
    holds(&store, &second, &new);
    // and the blob is the one that is made where nothing is known
    assert!(first.pieces.len() > 2 && second.pieces.len() > 2);
    assert!(second.pieces.iter().filter(|piece| !first.pieces.contains(piece)).count() <= 2);
    let (_elsewhere, other) = self::store();
    assert_eq!(adopt(&other, &new).descriptor, second.descriptor);
    assert_eq!(names(&store, "tmp").len(), 0, "names of the earlier file are gone");
    // a third one takes from the first, whatever it is like the second
    let third = adopt(&store, &tree(2000, &[77, 78]));
    assert_eq!(runnable(&store, &third).1.len(), 1);
    let inode = |path: &Path| path.metadata().expect("file").ino();
    assert_eq!(inode(&runnable(&store, &third).1[0]), inode(&devices[0]));
    assert_ne!(inode(&path), inode(&devices[0]));
}

#[test]
fn one_large_file_among_small_ones_is_found_too() {
    let (_folder, store) = store();
    let large = |byte: u8| vec![byte; 3 << 20];
    let with = |note: &str| {
        BTreeMap::from([
            ("model".to_owned(), [large(1), large(2)].concat()),
            ("note".to_owned(), note.into()),
        ])
    };
    adopt(&store, &with("one"));
    let second = adopt(&store, &with("another"));
    assert_eq!(runnable(&store, &second).1.len(), 1);
    holds(&store, &second, &with("another"));
}

#[test]
fn a_layer_that_runs_only_later_refers_to_the_earlier_one_too() {
    let (_folder, store) = store();
    let new = tree(600, &[5]);
    adopt(&store, &tree(600, &[]));
    let (_elsewhere, other) = self::store();
    let made = adopt(&other, &new);
    // the same layer as a build makes it that runs nothing on it
    fs::copy(other.blobs().path(&made.descriptor.digest), store.blobs().path(&made.descriptor.digest))
        .expect("blob");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    assert_eq!(runnable(&store, &made).1.len(), 1);
    holds(&store, &made, &new);
    assert_eq!(names(&store, "tmp").len(), 0);
}

#[test]
fn what_has_little_in_common_stands_alone() {
    let (_folder, store) = store();
    adopt(&store, &tree(300, &[]));
    let changed: Vec<u32> = (0..280).collect();
    let second = adopt(&store, &tree(300, &changed));
    assert!(runnable(&store, &second).1.is_empty(), "20 files of 300 do not keep the other 280 on the disk");
    holds(&store, &second, &tree(300, &changed));
}

#[test]
fn an_earlier_layer_goes_and_its_bytes_stay_with_who_needs_them() {
    let (folder, store) = store();
    let new = tree(1500, &[3]);
    let first = adopt(&store, &tree(1500, &[]));
    let second = adopt(&store, &new);
    let (old, kept) = (
        tests::image(&store, std::slice::from_ref(&first), &["old"]),
        tests::image(&store, std::slice::from_ref(&second), &["new"]),
    );
    let usage = store.account().expect("account").total(RecordKind::Image);
    let blobs: u64 = store
        .blobs()
        .list()
        .expect("list")
        .iter()
        .map(|digest| store.blobs().path(digest).metadata().expect("blob").blocks() * 512)
        .sum();
    assert_eq!(usage.bytes, blobs + disk(&store), "what is shared counts once");
    let path = runnable(&store, &first).0;
    drop(store);
    let store = store_in(&folder.path().join("store"));
    store.remove_image(&old.to_string(), true).expect("removed");
    let collected = store.collect().expect("collect").expect("alone");
    assert_eq!(collected.layers, 1);
    assert!(!path.exists());
    holds(&store, &second, &new);
    drop(store);
    let store = store_in(&folder.path().join("store"));
    store.remove_image(&kept.to_string(), true).expect("removed");
    assert_ne!(store.collect().expect("collect"), Some(Collected::default()));
    assert_eq!(names(&store, "layers").len(), 0);
    for table in ["mounted", "contents", "pieces"] {
        let rows: i64 = store
            .database()
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .expect("rows");
        assert_eq!(rows, 0, "{table}");
    }
}

#[test]
fn an_earlier_file_that_is_not_what_it_was_is_not_taken_from() {
    type Damage = fn(&Path);
    let damage: [(&str, Damage); 3] = [
        ("gone", |path| fs::remove_file(path).expect("removed")),
        ("shorter", |path| {
            fs::File::options().write(true).open(path).expect("file").set_len(8192).expect("cut")
        }),
        ("longer", |path| {
            let file = fs::File::options().write(true).open(path).expect("file");
            file.set_len(path.metadata().expect("file").len() + 4096).expect("longer");
        }),
    ];
    for (name, damage) in damage {
        let (folder, store) = store();
        let new = tree(600, &[3]);
        adopt(&store, &tree(600, &[]));
        let second = adopt(&store, &new);
        let (path, devices) = runnable(&store, &second);
        damage(&devices[0]);
        store.database().execute("UPDATE mounted SET checked_in = 'an earlier boot'", []).expect("update");
        drop(store);
        let store = store_in(&folder.path().join("store"));
        // made again of the blob: of a name that is gone the earlier layer still has the file, else it stands alone
        let again = if name == "gone" { devices } else { Vec::new() };
        assert_eq!(runnable(&store, &second), (path, again), "{name}");
        holds(&store, &second, &new);
    }
}

#[test]
fn stores_of_version_3_get_the_tables() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path().join("store");
    let layer = adopt(&store_in(&root), &tree(10, &[]));
    let database = rusqlite::Connection::open(root.join("store.db")).expect("database");
    database
        .execute_batch(
            "ALTER TABLE mounted DROP COLUMN devices; DROP TABLE contents; DROP TABLE pieces;
             PRAGMA user_version = 3;",
        )
        .expect("version 3");
    drop(database);
    let store = store_in(&root);
    holds(&store, &layer, &tree(10, &[]));
    adopt(&store, &tree(11, &[]));
}
