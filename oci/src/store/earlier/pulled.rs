//! Layers that come from elsewhere and are nearly one that is here.

use super::{
    tests::{disk, names, store, store_in},
    *,
};
use crate::{
    Descriptor,
    blobs::BlobSink,
    layer::{Tree, import_archive},
    store::{LayerForm, Runnable},
};
use std::{
    io::Write,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

/// Files in the order of their archive.
type Files = Vec<(String, Vec<u8>)>;

fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b'a' + (state >> 59) as u8 % 26
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn files(folder: &str, count: u64) -> Files {
    (0..count)
        .map(|number| (format!("{folder}/f{number:04}"), text(number, 3000 + number as usize)))
        .collect()
}

/// Some hundred small ones and a large one.
fn tree() -> Files {
    let mut all = files("usr", 500);
    all.insert(250, ("usr/large".to_owned(), text(9999, 3 << 20)));
    all
}

fn archive(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, &bytes[..]).expect("append");
    }
    builder.into_inner().expect("archive")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    encoder.write_all(bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).expect("zstd")
}

fn form(files: &Files, pack: fn(&[u8]) -> Vec<u8>) -> (LayerForm, Vec<u8>) {
    let archive = archive(files);
    let blob = pack(&archive);
    (LayerForm { diff_id: Digest::sha256(&archive), descriptor: Descriptor::of("layer", &blob) }, blob)
}

/// Takes the layer in as a transfer brings it.
fn pull(store: &Store, files: &Files, pack: fn(&[u8]) -> Vec<u8>) -> Digest {
    let (form, blob) = form(files, pack);
    let (brought, made) = store.take_in(&[vec![form.clone()]], |intake| {
        if intake.size(&form.descriptor.digest).expect("size").is_none() {
            let mut writer = intake.writer(&form.descriptor.digest).expect("writer");
            blob.chunks(100_003).for_each(|piece| writer.write_all(piece).expect("write"));
            return writer.commit(Some((&form.descriptor.digest, blob.len() as u64))).map(drop);
        }
        Ok(())
    });
    brought.expect("brought");
    made.expect("made");
    form.diff_id
}

fn devices(store: &Store, diff_id: &Digest) -> Vec<PathBuf> {
    match store.runnable(diff_id, &Tree::default()).expect("runnable") {
        Runnable::Image { devices, .. } => devices,
        other => panic!("{other:?}"),
    }
}

/// Whether the layer shows what its archive says, whose later entries win.
fn holds(store: &Store, diff_id: &Digest, files: &Files, what: &str) {
    let found = store.layer_files(diff_id, &Tree::default()).expect("files");
    let last: HashMap<&String, &Vec<u8>> = files.iter().map(|(name, bytes)| (name, bytes)).collect();
    for (name, bytes) in last {
        assert!(found.read(Path::new(name), 8 << 20).expect("read") == *bytes, "{what}: {name}");
    }
}

#[test]
fn a_pulled_layer_that_is_nearly_an_earlier_one_refers_to_it() {
    type Change = fn(&mut Files);
    let changes: [(&str, Change); 10] = [
        ("the same under another digest", |all| all.push(("last".to_owned(), b"one more".to_vec()))),
        ("a file touched", |all| all[77].1 = text(7777, 3100)),
        ("a file in front", |all| all.insert(0, ("a".to_owned(), text(1111, 100)))),
        ("many files in front", |all| drop(all.splice(0..0, files("bin", 520).into_iter().skip(490)))),
        ("a folder renamed", |all| all.iter_mut().for_each(|(name, _)| *name = name.replace("usr", "opt/x"))),
        ("another order", |all| all.reverse()),
        ("fewer files", |all| all.truncate(300)),
        ("each content twice", |all| {
            let again: Files =
                all.iter().map(|(name, bytes)| (format!("{name}-again"), bytes.clone())).collect();
            all.extend(again);
        }),
        ("the large one changed at its end", |all| *all[250].1.last_mut().expect("bytes") ^= 1),
        ("files that are replaced within it", |all| {
            all.push(("usr/f0100".to_owned(), text(4444, 5000)));
            let first = all[0].clone();
            all.push(("usr/f0000".to_owned(), text(4445, 5000)));
            all.push(first);
        }),
    ];
    for (what, change) in changes {
        let (_folder, store) = store();
        let old = tree();
        let first = pull(&store, &old, zstd);
        let before = disk(&store);
        let mut new = old.clone();
        change(&mut new);
        // other bytes on the way
        let second = pull(&store, &new, if what.len() % 2 == 0 { gzip } else { |bytes| bytes.to_vec() });
        assert_ne!(first, second);
        assert_eq!(devices(&store, &second).len(), 1, "{what}");
        let more = disk(&store) - before;
        // a changed large file is written
        let most = if what.contains("large") { before * 4 / 5 } else { before / 4 };
        assert!(more < most, "{what}: {more} after {before}");
        holds(&store, &second, &new, what);
        holds(&store, &first, &old, what);
        assert_eq!(names(&store, "tmp").len(), 0, "{what}");
    }
}

#[test]
fn what_has_little_in_common_stands_alone() {
    for (what, kept) in [("nothing", 0), ("a few files", 40)] {
        let (_folder, store) = store();
        let old = files("usr", 600);
        pull(&store, &old, zstd);
        let mut new: Files = old.into_iter().take(kept).collect();
        new.extend((0..200).map(|number| (format!("opt/{number}"), text(50_000 + number, 4000))));
        let second = pull(&store, &new, zstd);
        assert_eq!(devices(&store, &second), Vec::<PathBuf>::new(), "{what}");
        holds(&store, &second, &new, what);
        assert_eq!(names(&store, "tmp").len(), 0, "{what}");
    }
}

#[test]
fn an_import_and_what_is_run_later_refer_to_it_too() {
    let (_folder, store) = store();
    let old = tree();
    pull(&store, &old, zstd);
    let mut new = old.clone();
    new[3].1 = text(3333, 3000);
    let (file, image) = store.new_import().expect("import").expect("a file");
    let layer =
        import_archive(store.blobs(), &archive(&new)[..], Compression::Zstd, Some(image)).expect("read");
    store.adopt_layer(&layer, crate::store::Adopted::File(&file)).expect("adopt");
    drop(file);
    assert_eq!(devices(&store, &layer.diff_id).len(), 1);
    holds(&store, &layer.diff_id, &new, "imported");
    // only the blob came
    new[4].1 = text(4444, 3000);
    let (form, blob) = form(&new, gzip);
    store.blobs().copy_from(&blob[..], &form.descriptor).expect("blob");
    store.put_form(&form, 0).expect("form");
    assert_eq!(devices(&store, &form.diff_id).len(), 1);
    holds(&store, &form.diff_id, &new, "run later");
    assert_eq!(names(&store, "tmp").len(), 0);
}

#[test]
fn a_row_of_versions_stays_flat() {
    let (_folder, store) = store();
    let mut all = tree();
    let mut versions = vec![(pull(&store, &all, zstd), all.clone())];
    let first = disk(&store);
    for version in 0..12 {
        // more than a device's least each time, so that each has bytes of its own that the next may want
        for (number, file) in all.iter_mut().skip(version * 40).take(40).enumerate() {
            file.1 = text(100_000 + (version * 40 + number) as u64, 4000);
        }
        versions.push((pull(&store, &all, zstd), all.clone()));
    }
    for (number, (diff_id, files)) in versions.iter().enumerate() {
        let devices = devices(&store, diff_id);
        assert!(devices.len() <= 8, "{number}: {devices:?}");
        assert_eq!(devices.is_empty(), number == 0, "{number}");
        holds(&store, diff_id, files, &number.to_string());
    }
    // alone they would be 13 times the first
    assert!(disk(&store) < first * 5, "{} after {first}", disk(&store));
}

#[test]
fn an_earlier_file_that_rots_or_goes_gives_nothing() {
    type Damage = fn(&Path);
    let damage: [(&str, Damage); 3] = [
        ("rotten in its contents", |path| {
            let file = fs::File::options().read(true).write(true).open(path).expect("file");
            let mut bytes = vec![0; 400 << 10];
            file.read_exact_at(&mut bytes, 400 << 10).expect("read");
            bytes.iter_mut().step_by(4096).for_each(|byte| *byte ^= 1);
            file.write_all_at(&bytes, 400 << 10).expect("write");
        }),
        ("cut", |path| {
            fs::File::options().write(true).open(path).expect("file").set_len(1 << 20).expect("cut");
        }),
        ("gone", |path| fs::remove_file(path).expect("removed")),
    ];
    for (what, damage) in damage {
        let (_folder, store) = store();
        let old = tree();
        let first = pull(&store, &old, zstd);
        damage(&store.root().join("layers").join(format!("{}.erofs", first.hex())));
        let mut new = old.clone();
        new[9].1 = text(7777, 3100);
        let second = pull(&store, &new, zstd);
        holds(&store, &second, &new, what);
        assert_eq!(names(&store, "tmp").len(), 0, "{what}");
    }
}

#[test]
fn an_earlier_layer_goes_while_the_new_one_is_written() {
    let (folder, store) = store();
    let old = tree();
    let first = pull(&store, &old, zstd);
    let mut new = old.clone();
    new[400].1 = text(7777, 3100);
    let (form, blob) = form(&new, |bytes| bytes.to_vec());
    let path = store.root().join("layers").join(format!("{}.erofs", first.hex()));
    let (brought, made) = store.take_in(&[vec![form.clone()]], |intake| {
        let mut writer = intake.writer(&form.descriptor.digest).expect("writer");
        let (half, rest) = blob.split_at(blob.len() / 2);
        writer.write_all(half).expect("write");
        // until the file has a name of the earlier one
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while path.metadata().expect("file").nlink() == 1 && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        fs::remove_file(&path).expect("removed");
        writer.write_all(rest).expect("write");
        writer.commit(Some((&form.descriptor.digest, blob.len() as u64))).map(drop)
    });
    brought.expect("brought");
    made.expect("made");
    drop(store);
    let store = store_in(&folder.path().join("store"));
    assert_eq!(devices(&store, &form.diff_id).len(), 1);
    holds(&store, &form.diff_id, &new, "it went");
}

#[test]
fn two_processes_pull_what_is_nearly_the_same() {
    let (folder, store) = store();
    let old = tree();
    pull(&store, &old, zstd);
    let root = folder.path().join("store");
    std::thread::scope(|scope| {
        for process in 0..4 {
            let (root, mut new) = (&root, old.clone());
            scope.spawn(move || {
                let store = store_in(root);
                // two of one kind, two of another
                new[process / 2].1 = text(8000 + process as u64 / 2, 3100);
                let layer = pull(&store, &new, zstd);
                assert_eq!(devices(&store, &layer).len(), 1);
                holds(&store, &layer, &new, "one of several");
            });
        }
    });
    drop(store);
    let store = store_in(&root);
    assert_eq!(names(&store, "tmp").len(), 0);
    // the first one's file, and two more with a device each
    assert_eq!(names(&store, "layers").iter().filter(|name| !is_toc(name)).count(), 5);
}

fn is_toc(name: &std::io::Result<fs::DirEntry>) -> bool {
    name.as_ref().expect("entry").path().extension().is_some_and(|extension| extension == "toc")
}
