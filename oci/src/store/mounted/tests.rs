use super::*;
use crate::{
    layer::{Entry, Kind},
    store::{Adopted, Collected, RecordKind, Wanted, tests},
};
use std::os::unix::fs::{FileExt, MetadataExt};

/// A store whose layers get `shape`; nothing is mounted.
fn store_with(root: &Path, shape: Shape) -> Store {
    let mut store = Store::open(root, OverlayXattrs::Trusted).expect("store");
    store.shape_layers(Wanted { shape: Some(shape), try_mount: |_, _| Ok(()) });
    store
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("folder");
    let store = store_with(&folder.path().join("store"), Shape::Mounted);
    (folder, store)
}

/// The only layer of a store, and its file.
fn file_of(store: &Store, diff_id: &Digest) -> PathBuf {
    match store.runnable(diff_id, &Tree::default()).expect("runnable") {
        Runnable::Image { path, looped: false, .. } => path,
        other => panic!("{other:?}"),
    }
}

fn text(files: &LayerFiles, path: &str) -> String {
    io::read_to_string(files.open(Path::new(path)).expect("open")).expect("text")
}

#[test]
fn a_layer_becomes_one_file_of_its_owner() {
    let (_folder, store) = store();
    let made = tests::layer(&store, "f");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    assert!(!store.is_runnable(&made.diff_id, &Tree::default()).expect("looked"));
    let path = file_of(&store, &made.diff_id);
    let metadata = path.metadata().expect("file");
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    assert!(store.is_runnable(&made.diff_id, &Tree::default()).expect("looked"));
    assert!(!store.has_unpacked(&made.diff_id, &Tree::default()).expect("looked"));
    assert_eq!(
        file_of(&store, &made.diff_id).metadata().expect("file").ino(),
        metadata.ino(),
        "written once"
    );
    let files = store.layer_files(&made.diff_id, &Tree::default()).expect("files");
    assert_eq!(text(&files, "f"), "data");
    assert_eq!(files.read(Path::new("f"), 4).expect("read"), b"data");
    assert!(files.read(Path::new("f"), 3).is_err() && files.open(Path::new("g")).is_err());
    // the table is made in the same reading
    assert!(store.has_toc(&made.diff_id).expect("looked"));
    let left: Vec<_> = fs::read_dir(store.root().join("tmp")).expect("list").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_shape_that_is_here_serves() {
    let (folder, store) = store();
    let made = tests::layer(&store, "f");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    let unpacked = store.unpacked(&made.diff_id, &Tree::default()).expect("unpacked");
    let runnable = |store: &Store| store.runnable(&made.diff_id, &Tree::default()).expect("runnable");
    assert_eq!(runnable(&store), Runnable::Folder(unpacked.clone()), "nothing is converted");
    fs::remove_dir_all(&unpacked).expect("the folder goes");
    let path = file_of(&store, &made.diff_id);
    let again = store_with(&folder.path().join("store"), Shape::Looped);
    assert_eq!(runnable(&again), Runnable::Image { path: path.clone(), devices: Vec::new(), looped: true });
    // who is told to unpack mounts nothing, but reads what is there
    let plain = store_with(&folder.path().join("store"), Shape::Unpacked);
    assert!(!plain.is_runnable(&made.diff_id, &Tree::default()).expect("looked"));
    assert_eq!(text(&plain.layer_files(&made.diff_id, &Tree::default()).expect("files"), "f"), "data");
    assert_eq!(runnable(&plain), Runnable::Folder(unpacked));
    // with both, the chosen one
    assert_eq!(runnable(&again), Runnable::Image { path, devices: Vec::new(), looped: true });
}

#[test]
fn marks_of_a_user_namespace_are_not_those_of_root() {
    let (folder, store) = store();
    let made = tests::layer(&store, "f");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    file_of(&store, &made.diff_id);
    let user = Store::open(&folder.path().join("store"), OverlayXattrs::User).expect("store");
    assert!(!user.has_files(&made.diff_id, &Tree::default()).expect("looked"));
}

#[test]
fn a_file_is_looked_at_once_in_each_boot() {
    let (_folder, store) = store();
    let made = tests::layer(&store, "f");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    let path = file_of(&store, &made.diff_id);
    let set = |columns: &str| {
        store.database().execute(&format!("UPDATE mounted SET {columns}"), []).expect("update");
    };
    let inode = || path.metadata().expect("file").ino();
    let damage = || {
        let file = File::options().read(true).write(true).open(&path).expect("file");
        let at = path.metadata().expect("file").len() - 4000;
        file.write_all_at(b"rot", at).expect("write");
    };
    let first = inode();
    // of another boot, and on the disk for certain
    set("made_in = 'synced', checked_in = 'another boot'");
    file_of(&store, &made.diff_id);
    assert_eq!(inode(), first, "it is whole");
    damage();
    file_of(&store, &made.diff_id);
    assert_eq!(inode(), first, "it was looked at in this boot");
    set("checked_in = 'another boot'");
    assert!(!store.is_runnable(&made.diff_id, &Tree::default()).expect("looked"));
    file_of(&store, &made.diff_id);
    assert_ne!(inode(), first, "damage is written anew");
    // of another boot, and perhaps never on the disk
    let second = inode();
    set("made_in = 'another boot'");
    file_of(&store, &made.diff_id);
    assert_ne!(inode(), second);
    // cut, or gone
    File::options().write(true).open(&path).expect("file").set_len(4096).expect("cut");
    set("made_in = 'synced', checked_in = NULL");
    assert_eq!(text(&store.layer_files(&made.diff_id, &Tree::default()).expect("files"), "f"), "data");
    fs::remove_file(&path).expect("gone");
    assert_eq!(text(&store.layer_files(&made.diff_id, &Tree::default()).expect("files"), "f"), "data");
    set("made_in = made_in, made_at = 0");
    store.maintain().expect("maintain");
    let settled: String =
        store.database().query_row("SELECT made_in FROM mounted", [], |row| row.get(0)).expect("row");
    assert_eq!(settled, "synced");
}

#[test]
fn several_processes_write_a_layer_once() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path().join("store");
    let store = store_with(&root, Shape::Mounted);
    let made = tests::layer(&store, "f");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    let inodes: std::collections::BTreeSet<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let own = store_with(&root, Shape::Mounted);
                    file_of(&own, &made.diff_id).metadata().expect("file").ino()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    assert_eq!(inodes.len(), 1);
}

#[test]
fn removing_a_layer_is_unlinking_a_file() {
    let (folder, store) = store();
    let layer = tests::layer(&store, "f");
    store.adopt_layer(&layer, Adopted::Nothing).expect("adopt");
    let path = file_of(&store, &layer.diff_id);
    let image = tests::image(&store, std::slice::from_ref(&layer), &["named"]);
    let disk = path.metadata().expect("file").blocks() * 512;
    let usage = store.account().expect("account").total(RecordKind::Image);
    assert!(usage.bytes >= disk && disk >= 8192, "{usage:?} has {disk}");
    drop(store);
    let store = store_with(&folder.path().join("store"), Shape::Mounted);
    assert_eq!(store.collect().expect("collect"), Some(Collected::default()));
    assert!(path.exists(), "an image names it");
    store.remove_image(&image.to_string(), true).expect("removed");
    let collected = store.collect().expect("collect").expect("alone");
    assert_eq!(collected.layers, 1);
    assert!(!path.exists());
    let rows: i64 =
        store.database().query_row("SELECT count(*) FROM mounted", [], |row| row.get(0)).expect("rows");
    assert_eq!(rows, 0);
}

#[test]
fn each_footing_has_a_file() {
    let (_folder, store) = store();
    let adopt = |entries: &[Entry]| {
        let mut writer = crate::layer::LayerWriter::new(store.blobs(), crate::compression::Compression::Zstd)
            .expect("writer");
        for entry in entries {
            writer.append(entry.clone()).expect("append");
        }
        let layer = writer.finish().expect("finish");
        let form = crate::store::LayerForm { diff_id: layer.diff_id.clone(), descriptor: layer.descriptor };
        store.put_form(&form, 0).expect("form");
        layer.diff_id
    };
    let layer = adopt(&[Entry::new("lib/foo", Kind::File, 0o644)]);
    let mut link = Entry::new("lib", Kind::Symlink, 0o777);
    link.link = b"usr/lib".to_vec();
    let bases = [vec![Entry::new("lib", Kind::Directory, 0o711)], vec![link], Vec::new()];
    let mut paths = std::collections::BTreeSet::new();
    for (base, place) in bases.iter().zip(["lib/foo", "usr/lib/foo", "lib/foo"]) {
        let below = store.tree([&adopt(base)]).expect("tree");
        let Runnable::Image { path, .. } = store.runnable(&layer, &below).expect("runnable") else {
            panic!("a folder")
        };
        let image = Image::open(File::open(&path).expect("file"), Vec::new()).expect("image");
        assert!(image.find(place.as_bytes()).expect("look").is_some(), "{place}");
        assert!(store.toc(&layer, &below).expect("table").get(place.as_bytes()).is_some());
        paths.insert(path);
    }
    assert_eq!(paths.len(), 3);
}

#[test]
fn a_layer_that_is_not_what_it_says_leaves_nothing() {
    let (_folder, store) = store();
    let made = tests::layer(&store, "f");
    let false_id = Digest::sha256(b"something else");
    let form = crate::store::LayerForm { diff_id: false_id.clone(), descriptor: made.descriptor };
    store.put_form(&form, 0).expect("form");
    assert!(store.runnable(&false_id, &Tree::default()).is_err());
    for folder in ["layers", "tmp"] {
        assert_eq!(fs::read_dir(store.root().join(folder)).expect("list").count(), 0, "{folder}");
    }
}

#[test]
fn stores_of_earlier_versions_get_the_table() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path().join("store");
    drop(store_with(&root, Shape::Mounted));
    let database = rusqlite::Connection::open(root.join("store.db")).expect("database");
    database
        .execute_batch("DROP TABLE mounted; DROP TABLE contents; DROP TABLE pieces; PRAGMA user_version = 2;")
        .expect("version 2");
    drop(database);
    let store = store_with(&root, Shape::Mounted);
    let made = tests::layer(&store, "f");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    assert!(file_of(&store, &made.diff_id).exists());
}
