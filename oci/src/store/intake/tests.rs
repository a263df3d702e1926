use super::*;
use crate::{
    Descriptor,
    compression::Compression,
    layer::{Entry, Kind, LayerWriter, OverlayXattrs},
    store::{Runnable, Wanted as WantedShape},
};
use std::{fs, io::Write, path::Path, sync::mpsc};

/// A store whose layers get `shape`; nothing is mounted.
fn store_in(root: &Path, shape: Shape) -> Store {
    let mut store = Store::open(root, OverlayXattrs::Trusted).expect("store");
    store.shape_layers(WantedShape { shape: Some(shape), try_mount: |_, _| Ok(()) });
    store
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("folder");
    let store = store_in(&folder.path().join("store"), Shape::Mounted);
    (folder, store)
}

/// An archive; parents that are not among the entries are left out.
fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let (_folder, store) = store();
    let mut writer = LayerWriter::new(store.blobs(), Compression::None).expect("writer");
    for (entry, bytes) in entries {
        let mut entry = entry.clone();
        entry.size_bytes = bytes.len() as u64;
        match entry.kind {
            Kind::File => writer.append_file(entry, &mut &bytes[..]).map(drop),
            _ => writer.append(entry),
        }
        .expect("append");
    }
    let layer = writer.finish().expect("finish");
    store.blobs().read(&layer.descriptor.digest, 1 << 30).expect("blob")
}

fn file(path: &str) -> Entry {
    Entry::new(path, Kind::File, 0o644)
}

/// Some files, of which one is larger than every buffer on the way.
fn files() -> Vec<u8> {
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| (u64::from(number).pow(2) >> 7) as u8).collect();
    archive(&[(file("a"), b"first"), (file("large"), &large), (file("z"), b"last")])
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).expect("zstd")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    encoder.write_all(bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

/// The same in parts, each packed by itself.
fn in_parts(bytes: &[u8], pack: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (first, rest) = bytes.split_at(bytes.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    [pack(first), pack(second), pack(&[]), pack(third)].concat()
}

/// A layer and its blob.
fn form(archive: &[u8], blob: &[u8]) -> LayerForm {
    LayerForm { diff_id: Digest::sha256(archive), descriptor: Descriptor::of("layer", blob) }
}

/// Brings a blob in, as a transfer does.
fn bring(intake: &Intake<'_>, form: &LayerForm, blob: &[u8]) -> Result<(), BlobError> {
    let digest = &form.descriptor.digest;
    if intake.size(digest)?.is_some() {
        return Ok(());
    }
    let mut writer = intake.writer(digest)?;
    for piece in blob.chunks(100_003) {
        writer.write_all(piece).expect("write");
    }
    writer.commit(Some((digest, form.descriptor.size_bytes))).map(drop)
}

fn names(store: &Store, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(store.root().join(folder)).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("entry").file_name().into_string().expect("name")).collect();
    names.sort();
    names
}

fn assert_nothing_is_left(store: &Store, what: &str) {
    for folder in ["tmp", "run/turns"] {
        assert_eq!(names(store, folder), [""; 0], "{what}: {folder}");
    }
}

/// The files of a row of layers, made after the transfer as they were before there was an intake.
fn made_later(row: &[(LayerForm, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let (_folder, store) = store();
    let mut below = Tree::default();
    for (form, blob) in row {
        store.blobs().copy_from(&blob[..], &form.descriptor).expect("blob");
        store.put_form(form, 0).expect("form");
        assert!(matches!(store.runnable(&form.diff_id, &below), Ok(Runnable::Image { .. })));
        below = below.with(store.toc(&form.diff_id, &below).expect("table"));
    }
    layers_of(&store)
}

/// Tables and files.
fn layers_of(store: &Store) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| {
        let bytes = fs::read(store.root().join("layers").join(&name)).expect("read");
        (name, bytes)
    };
    names(store, "layers").into_iter().map(read).collect()
}

#[test]
fn a_layer_is_runnable_when_its_last_byte_has_come() {
    let nothing = vec![0; 1024];
    let implied = archive(&[(file("lib/foo"), b"alone")]);
    for (name, archive) in [("files", files()), ("nothing", nothing), ("implied parents", implied)] {
        for (packing, blob) in [
            ("plain", archive.clone()),
            ("gzip", gzip(&archive)),
            ("gzip in parts", in_parts(&archive, gzip)),
            ("zstd", zstd(&archive)),
            ("zstd in frames", in_parts(&archive, zstd)),
            // RFC 8878, 3.1.2: a frame that is passed over
            (
                "zstd with a frame to skip",
                [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2][..], &zstd(&archive)].concat(),
            ),
        ] {
            let what = format!("{name}, {packing}");
            let form = form(&archive, &blob);
            let (_folder, store) = store();
            let images = [vec![form.clone()]];
            let (brought, made) = store.take_in(&images, |intake| bring(intake, &form, &blob));
            brought.expect(&what);
            made.expect(&what);
            assert!(store.blobs().contains(&form.descriptor.digest).expect("looked"));
            assert!(store.is_runnable(&form.diff_id, &Tree::default()).expect("looked"), "{what}");
            assert_eq!(layers_of(&store), made_later(&[(form, blob)]), "{what}");
            assert_nothing_is_left(&store, &what);
        }
    }
}

#[test]
fn what_is_wrong_with_a_layer_is_said_by_who_runs_it() {
    let archive = files();
    let mut damaged = archive.clone();
    damaged[100] ^= 1;
    let packed = gzip(&archive);
    let mut broken = zstd(&archive);
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    for (what, diff_id, blob) in [
        ("another diff id", Digest::sha256(b"another"), packed.clone()),
        ("a damaged header", Digest::sha256(&damaged), damaged.clone()),
        ("a damaged stream", Digest::sha256(&archive), broken),
        ("a stream that ends early", Digest::sha256(&archive), packed[..packed.len() / 2].to_vec()),
        ("an archive that ends early", Digest::sha256(&archive[..700_000]), archive[..700_000].to_vec()),
        ("no archive", Digest::sha256(b"text"), b"text".to_vec()),
        ("no bytes at all, and they should be some", Digest::sha256(&archive), Vec::new()),
        ("rubbish behind it", Digest::sha256(&archive), [&packed[..], b"rubbish"].concat()),
    ] {
        let form = LayerForm { diff_id, descriptor: Descriptor::of("layer", &blob) };
        let (_folder, store) = store();
        let (brought, made) = store.take_in(&[vec![form.clone()]], |intake| bring(intake, &form, &blob));
        brought.expect(what);
        made.expect(what);
        assert!(store.blobs().contains(&form.descriptor.digest).expect("looked"), "{what}");
        assert_eq!(names(&store, "layers"), [""; 0], "{what}");
        assert_nothing_is_left(&store, what);
        store.put_form(&form, 0).expect("form");
        assert!(store.runnable(&form.diff_id, &Tree::default()).is_err(), "{what}");
        assert_nothing_is_left(&store, what);
    }
}

#[test]
fn a_transfer_that_fails_leaves_nothing_and_the_next_one_is_whole() {
    let archive = files();
    let blob = zstd(&archive);
    let form = form(&archive, &blob);
    let mut evil = blob.clone();
    *evil.last_mut().expect("bytes") ^= 1;
    for (what, bytes) in
        [("given up", &blob[..blob.len() / 2]), ("wrong bytes", &evil[..]), ("too few", &blob[..9])]
    {
        let (_folder, store) = store();
        let images = [vec![form.clone()]];
        let (brought, made) = store.take_in(&images, |intake| bring(intake, &form, bytes));
        brought.expect_err(what);
        made.expect(what);
        assert_eq!(names(&store, "blobs/sha256"), [""; 0], "{what}");
        assert_eq!(names(&store, "layers"), [""; 0], "{what}");
        assert_nothing_is_left(&store, what);
        // the same transfer once more within one command, as after a reply that was pieced together wrongly
        let (brought, made) = store.take_in(&images, |intake| {
            bring(intake, &form, bytes).expect_err(what);
            // the worker has to see that before it takes the layer up again
            while !names(&store, "run/turns").is_empty() {
                thread::yield_now();
            }
            bring(intake, &form, &blob)
        });
        brought.expect(what);
        made.expect(what);
        assert!(store.is_runnable(&form.diff_id, &Tree::default()).expect("looked"), "{what}");
        assert_nothing_is_left(&store, what);
    }
}

#[test]
fn layers_that_leave_parents_out_wait_for_those_beneath() {
    let mut link = Entry::new("lib", Kind::Symlink, 0o777);
    link.link = b"usr/lib".to_vec();
    let folder = Entry::new("lib", Kind::Directory, 0o711);
    let packed = |archive: Vec<u8>| (form(&archive, &zstd(&archive)), zstd(&archive));
    let upper = packed(archive(&[(file("lib/foo"), b"foo")]));
    let top = packed(archive(&[(file("lib/deep/bar"), b"bar")]));
    for base in [vec![(folder, &b""[..])], vec![(link, &b""[..])], vec![(file("other"), &b"x"[..])]] {
        let row = [packed(archive(&base)), upper.clone(), top.clone()];
        let expected = made_later(&row);
        let images = [row.iter().map(|(form, _)| form.clone()).collect::<Vec<_>>()];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let (_folder, store) = store();
            let (brought, made) = store.take_in(&images, |intake| {
                order.into_iter().try_for_each(|at| bring(intake, &row[at].0, &row[at].1))
            });
            brought.expect("brought");
            made.expect("made");
            assert_eq!(store.runnable_below(&images[0]).expect("looked"), 3, "{order:?}");
            let names = |layers: &[(String, Vec<u8>)]| {
                layers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
            };
            assert_eq!(names(&layers_of(&store)), names(&expected), "{order:?}");
            assert_eq!(layers_of(&store), expected, "{order:?}");
            assert_nothing_is_left(&store, "footing");
        }
    }
}

#[test]
fn what_is_here_is_not_made_again() {
    let archive = files();
    let blob = gzip(&archive);
    let form = form(&archive, &blob);
    let images = [vec![form.clone()]];
    let take = |store: &Store| {
        let (brought, made) = store.take_in(&images, |intake| bring(intake, &form, &blob));
        brought.expect("brought");
        made.expect("made");
    };
    // its blob alone: made of that
    let (_folder, store) = store();
    store.blobs().copy_from(&blob[..], &form.descriptor).expect("blob");
    take(&store);
    let before = layers_of(&store);
    assert!(store.is_runnable(&form.diff_id, &Tree::default()).expect("looked"));
    // all of it
    take(&store);
    assert_eq!(layers_of(&store), before);
    // its file without its blob
    store.blobs().remove(&form.descriptor.digest).expect("remove");
    take(&store);
    assert_eq!(layers_of(&store), before);
    assert!(store.blobs().contains(&form.descriptor.digest).expect("looked"));
    // its folder
    let (_folder, unpacked) = {
        let folder = tempfile::tempdir().expect("folder");
        let store = store_in(&folder.path().join("store"), Shape::Unpacked);
        (folder, store)
    };
    take(&unpacked);
    assert_eq!(names(&unpacked, "layers"), [""; 0], "nothing is unpacked before somebody runs it");
    if rustix::process::getuid().is_root() {
        unpacked.put_form(&form, 0).expect("form");
        unpacked.unpacked(&form.diff_id, &Tree::default()).expect("unpacked");
        let mounted = store_in(unpacked.root(), Shape::Mounted);
        let before = names(&mounted, "layers");
        take(&mounted);
        assert_eq!(names(&mounted, "layers"), before, "the folder serves");
    }
    assert_nothing_is_left(&unpacked, "unpacked");
}

#[test]
fn two_who_want_one_layer_write_it_once() {
    let archive = files();
    let blob = zstd(&archive);
    let form = form(&archive, &blob);
    let (folder, first) = store();
    let images = [vec![form.clone()]];
    let (begun, wait) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let (first, form, blob, images) = (&first, &form, &blob, &images);
    thread::scope(|scope| {
        scope.spawn(move || {
            let (brought, made) = first.take_in(images, |intake| {
                let mut writer = intake.writer(&form.descriptor.digest).expect("writer");
                writer.write_all(&blob[..100]).expect("write");
                while names(first, "run/turns").is_empty() {
                    thread::yield_now();
                }
                begun.send(()).expect("told");
                gone.recv().expect("told");
                writer.write_all(&blob[100..]).expect("write");
                writer.commit(Some((&form.descriptor.digest, form.descriptor.size_bytes))).map(drop)
            });
            brought.expect("brought");
            made.expect("made");
        });
        wait.recv().expect("told");
        // another process comes, is faster, and leaves the layer to who has begun
        let second = store_in(&folder.path().join("store"), Shape::Mounted);
        let (brought, made) = second.take_in(images, |intake| bring(intake, form, blob));
        brought.expect("brought");
        made.expect("made");
        assert_eq!(names(&second, "layers"), [""; 0]);
        go.send(()).expect("told");
    });
    assert!(first.is_runnable(&form.diff_id, &Tree::default()).expect("looked"));
    assert_eq!(names(first, "layers").len(), 2);
    assert_nothing_is_left(first, "two");
}

#[test]
fn many_layers_at_once_are_all_made() {
    let rows: Vec<(LayerForm, Vec<u8>)> = (0..3 * limits::INTAKE_LAYERS)
        .map(|number| {
            let archive = archive(&[(file(&format!("f{number}")), format!("{number}").as_bytes())]);
            let blob = zstd(&archive);
            (form(&archive, &blob), blob)
        })
        .collect();
    let images = [rows.iter().map(|(form, _)| form.clone()).collect::<Vec<_>>()];
    let (_folder, store) = store();
    let (brought, made) = store.take_in(&images, |intake| {
        // more are begun than there are workers, and the last ones come first
        let writers: Vec<_> = rows
            .iter()
            .map(|(form, blob)| (intake.writer(&form.descriptor.digest).expect("writer"), form, blob))
            .collect();
        writers.into_iter().rev().try_for_each(|(mut writer, form, blob)| {
            writer.write_all(blob).expect("write");
            writer.commit(Some((&form.descriptor.digest, form.descriptor.size_bytes))).map(drop)
        })
    });
    brought.expect("brought");
    made.expect("made");
    assert_eq!(store.runnable_below(&images[0]).expect("looked"), rows.len());
    assert_nothing_is_left(&store, "many");
}
