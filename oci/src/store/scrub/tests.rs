use super::*;
use crate::{
    layer::{OverlayXattrs, Tree},
    store::{Adopted, Shape, Wanted, tests},
};
use std::{os::unix::fs::FileExt, path::PathBuf};

/// A store with an image of one layer, in all shapes.
struct Held {
    folder: tempfile::TempDir,
    store: Store,
    diff_id: Digest,
    blob: Digest,
    manifest: Digest,
}

fn open(folder: &Path) -> Store {
    let mut store = Store::open(&folder.join("store"), OverlayXattrs::Trusted).expect("store");
    store.shape_layers(Wanted { shape: Some(Shape::Mounted), try_mount: |_, _| Ok(()) });
    store
}

fn held() -> Held {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path());
    let made = tests::layer(&store, "f");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    store.unpacked(&made.diff_id, &Tree::default()).expect("a folder");
    let manifest = tests::image(&store, std::slice::from_ref(&made), &["app:1", "app:2"]);
    store.provide(&made.diff_id, &Tree::default(), super::super::layers::Product::File).expect("a file");
    Held { folder, store, diff_id: made.diff_id, blob: made.descriptor.digest, manifest }
}

fn scrubbed(store: &Store, repair: bool) -> Vec<Damage> {
    let (mut found, told) = (Vec::new(), std::cell::Cell::new((0, 0)));
    let progress = |bytes, whole| told.set((bytes, whole));
    let scrubbed = store
        .scrub(&mut Scrub { repair, found: &mut |damage| found.push(damage), progress: &progress })
        .expect("scrubbed");
    let (read, whole) = told.get();
    assert_eq!(scrubbed.bytes, read);
    assert!(read <= whole, "{read} of {whole}");
    found
}

/// Changes one byte.
fn rot(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("write");
}

impl Held {
    fn layers(&self, name: &str) -> PathBuf {
        self.store.root().join("layers").join(format!("{}{name}", self.diff_id.hex()))
    }

    /// What the layer's file is read as by who runs it now.
    fn text(&self) -> String {
        let store = open(self.folder.path());
        let files = store.layer_files(&self.diff_id, &Tree::default()).expect("files");
        io::read_to_string(files.open(Path::new("f")).expect("open")).expect("text")
    }

    /// Where in the layer's file its one file's bytes are.
    fn data_at(&self) -> u64 {
        let bytes = fs::read(self.layers(".erofs")).expect("file");
        bytes.windows(4).position(|four| four == b"data").expect("the data") as u64
    }
}

#[test]
fn what_is_whole_is_left_alone() {
    let held = held();
    assert_eq!(scrubbed(&held.store, false), []);
    assert_eq!(scrubbed(&held.store, true), []);
    assert_eq!(held.text(), "data");
}

/// One byte of anything, anywhere: it is found, said whose it is, and what can be made again is.
#[test]
fn a_byte_of_anything_is_found_and_mended() {
    for what in ["folder", "data", "tables", "table"] {
        let held = held();
        let (part, path, at) = match what {
            "folder" => (Part::Folder, self::folder_file(&held), 0),
            "data" => (Part::File, held.layers(".erofs"), held.data_at()),
            "tables" => {
                let length = held.layers(".erofs").metadata().expect("file").len();
                (Part::File, held.layers(".erofs"), length - 4000)
            }
            _ => (Part::Table, held.layers(".toc"), 9),
        };
        rot(&path, at);
        let expected = |outcome| (part, Some(held.diff_id.clone()), vec!["app:1", "app:2"], outcome);
        let told = |found: &[Damage]| -> Vec<_> {
            let of = |one: &Damage| (one.part, one.digest.clone(), one.outcome);
            found.iter().map(of).collect()
        };
        let found = scrubbed(&held.store, false);
        let (part, digest, names, _) = expected(Outcome::Left);
        assert!(told(&found).contains(&(part, digest.clone(), Outcome::Left)), "{what}: {found:?}");
        for damage in &found {
            let images: Vec<_> =
                damage.images.iter().map(|name| name.rsplit('/').next().expect("name")).collect();
            assert_eq!(images, names, "{what}");
        }
        // somebody else runs on it
        let other = open(held.folder.path());
        other.has_toc(&held.diff_id).expect("looked");
        let found = scrubbed(&held.store, true);
        assert!(found.iter().all(|one| one.outcome == Outcome::InUse), "{what}: {found:?}");
        assert!(path.exists());
        drop(other);
        let found = scrubbed(&held.store, true);
        assert!(told(&found).contains(&(part, digest, Outcome::Gone)), "{what}: {found:?}");
        assert_eq!(scrubbed(&held.store, false), [], "{what}");
        assert_eq!(held.text(), "data", "{what}");
        assert_eq!(fs::read_dir(held.store.root().join("tmp")).expect("tmp").count(), 0);
    }
}

fn folder_file(held: &Held) -> PathBuf {
    held.layers("").join("f")
}

#[test]
fn a_blob_that_goes_is_missed_and_a_layer_without_one_stays() {
    let held = held();
    let blobs = |digest: &Digest| held.store.blobs().path(digest);
    rot(&blobs(&held.blob), 30);
    rot(&folder_file(&held), 0);
    let found = scrubbed(&held.store, true);
    let of = |part| found.iter().find(|one| one.part == part).unwrap_or_else(|| panic!("{found:?}"));
    // blobs are looked at first, so there is nothing to make the folder of
    assert_eq!(of(Part::Blob).outcome, Outcome::Missing);
    assert!(of(Part::Blob).fault.contains(&held.blob.to_string()), "{found:?}");
    assert_eq!(of(Part::Folder).outcome, Outcome::Alone);
    assert!(folder_file(&held).exists() && !blobs(&held.blob).exists());
    // a manifest
    rot(&blobs(&held.manifest), 3);
    let found = scrubbed(&held.store, true);
    assert!(found.iter().any(|one| one.digest.as_ref() == Some(&held.manifest)), "{found:?}");
    let found = scrubbed(&held.store, false);
    let missing: Vec<_> = found.iter().filter(|one| one.outcome == Outcome::Missing).collect();
    assert_eq!(missing.len(), 1, "{found:?}");
    assert_eq!((missing[0].digest.as_ref(), missing[0].images.len()), (Some(&held.manifest), 2));
}

#[test]
fn what_was_cut_short_or_lost_is_found() {
    let held = held();
    fs::remove_file(folder_file(&held)).expect("removed");
    let file = File::options().write(true).open(held.layers(".erofs")).expect("open");
    file.set_len(4096).expect("cut");
    let found = scrubbed(&held.store, true);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(held.text(), "data");
}
