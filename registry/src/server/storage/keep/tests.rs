//! A folder with everything wrong that can be wrong with one.

use super::*;
use crate::server::storage::{
    Author, Deletion, Fault, ManifestKey, ManifestRecord, NewManifest, Scope, Storage, StorageError, Used,
};
use slipway_oci::{
    Algorithm, Descriptor, Digest,
    spec::{Parsed, media_type},
};
use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

fn push(storage: &Arc<Storage>, repository: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    let mut upload = storage.stage(repository, Algorithm::Sha256).expect("stage");
    upload.append(bytes).expect("append");
    upload.finish(&digest).expect("finish");
    digest
}

/// Pushes an image of one layer.
fn push_image(storage: &Arc<Storage>, repository: &str, tag: &str, layer: &[u8]) -> Digest {
    push(storage, repository, b"{}");
    push(storage, repository, layer);
    let json = |descriptor: &Descriptor| serde_json::to_string(descriptor).expect("json");
    let config = json(&Descriptor::of(media_type::OCI_CONFIG, b"{}"));
    let layer = json(&Descriptor::of(media_type::OCI_LAYER, layer));
    let kind = media_type::OCI_MANIFEST;
    let bytes = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{config},"layers":[{layer}]}}"#);
    let digest = Digest::sha256(bytes.as_bytes());
    let record = ManifestRecord {
        digest: digest.clone(),
        media_type: kind.to_owned(),
        size_bytes: bytes.len() as u64,
    };
    let parsed = Parsed::from_bytes(bytes.as_bytes(), Some(kind)).expect("a manifest");
    let manifest = NewManifest::described(record, &parsed, vec![tag.to_owned()]);
    storage.put_manifest(repository, &manifest, bytes.as_bytes(), &Author::default()).expect("put");
    digest
}

fn blob(folder: &Path, digest: &Digest) -> std::path::PathBuf {
    folder.join("blobs").join(digest.algorithm().name()).join(digest.hex())
}

fn look(folder: &Path, quarantine: bool) -> (Verified, Vec<Finding>) {
    let (found, read) = (Mutex::new(Vec::new()), AtomicU64::new(0));
    let progress = |done: u64, all: u64| {
        assert!(done <= 2 * all, "what is wrong is read twice at most: {done} of {all}");
        read.fetch_max(done, Ordering::Relaxed);
    };
    let note = |finding: &Finding| found.lock().expect("found").push(finding.clone());
    let verified =
        verify(folder, quarantine, &Watching { progress: &progress, found: &note }).expect("verified");
    (verified, found.into_inner().expect("found"))
}

#[test]
fn a_whole_folder_is_all_right_also_while_it_is_used() {
    let folder = tempfile::tempdir().expect("folder");
    let storage = Storage::open(folder.path()).expect("open");
    let large = vec![7; 3 << 20];
    push_image(&storage, "a", "v", &large);
    push_image(&storage, "b", "v", b"layer");
    let writing = std::thread::spawn({
        let storage = Arc::clone(&storage);
        move || {
            for number in 0..100_u8 {
                let digest = push(&storage, "c", &[number; 1000]);
                if number % 2 == 0 {
                    storage.delete_blob("c", &digest, &Deletion::by(Author::default())).expect("delete");
                }
            }
        }
    });
    for _ in 0..5 {
        assert_eq!(look(folder.path(), false).1, []);
    }
    writing.join().expect("pushes");
    let (verified, found) = look(folder.path(), true);
    assert_eq!((verified.contents, found), (55, vec![]));
    assert!(!folder.path().join("quarantine").exists());
}

fn used(database: &rusqlite::Connection, query: &str) -> Used {
    let read = |row: &rusqlite::Row<'_>| Ok(Used { bytes: row.get(0)?, tags: row.get(1)? });
    database.query_row(query, [], read).expect("numbers")
}

#[test]
fn everything_that_can_be_wrong_is_found() {
    let folder = tempfile::tempdir().expect("folder");
    let storage = Storage::open(folder.path()).expect("open");
    let manifest = push_image(&storage, "a", "v", b"layer 1");
    push_image(&storage, "b", "v", b"layer 2");
    let whole = push_image(&storage, "c", "v", b"layer 3");
    let [flipped, cut, missing, folder_of] =
        ["flipped", "cut", "missing", "folder"].map(|text| push(&storage, "a", text.as_bytes()));
    fs::write(blob(folder.path(), &flipped), b"flopped").expect("damage");
    fs::write(blob(folder.path(), &cut), b"cu").expect("damage");
    fs::remove_file(blob(folder.path(), &missing)).expect("damage");
    fs::remove_file(blob(folder.path(), &folder_of)).expect("damage");
    fs::create_dir(blob(folder.path(), &folder_of)).expect("damage");
    let length = fs::metadata(blob(folder.path(), &manifest)).expect("it").len();
    fs::write(blob(folder.path(), &manifest), vec![b'x'; length as usize]).expect("damage");
    // what nothing points at, long ago and just now
    let (old, young) = (Digest::sha256(b"old"), Digest::sha256(b"young"));
    fs::write(blob(folder.path(), &old), b"old").expect("a file");
    fs::write(blob(folder.path(), &young), b"young").expect("a file");
    let long_ago = SystemTime::now() - Duration::from_secs(100_000);
    fs::File::options()
        .write(true)
        .open(blob(folder.path(), &old))
        .and_then(|file| file.set_modified(long_ago))
        .expect("time");
    fs::write(folder.path().join("blobs/sha256/README"), b"").expect("a file");
    fs::create_dir(folder.path().join("blobs/sha512/sub")).expect("a folder");
    drop(storage);
    let database = rusqlite::Connection::open(folder.path().join("registry.db")).expect("the database");
    database.execute("UPDATE tags SET digest = 'sha256:gone' WHERE repository = (SELECT id FROM repositories WHERE name = 'b')", []).expect("damage");
    database
        .execute("DELETE FROM blobs WHERE digest = ?1", [Digest::sha256(b"layer 3").to_string()])
        .expect("damage");
    database
        .execute_batch(
            "UPDATE repositories SET bytes = bytes + 7 WHERE name = 'a';
             UPDATE namespaces SET tags = 9 WHERE name = '';",
        )
        .expect("damage");
    let of_a = used(&database, "SELECT bytes - 7, tags FROM repositories WHERE name = 'a'");
    let of_all = used(&database, "SELECT bytes, 3 FROM namespaces WHERE name = ''");
    drop(database);
    for quarantine in [false, true] {
        let (_, found) = look(folder.path(), quarantine);
        let fault = |digest: &Digest| {
            found.iter().find_map(|one| match one {
                Finding::Damaged(damage) if damage.digest == *digest => {
                    Some((damage.fault.clone(), damage.aside, damage.repositories.clone()))
                }
                _ => None,
            })
        };
        let places = vec!["a".to_owned()];
        let bytes = |actual: &[u8]| Fault::Bytes { actual: Digest::sha256(actual) };
        assert_eq!(fault(&flipped), Some((bytes(b"flopped"), quarantine, places.clone())));
        assert_eq!(fault(&cut), Some((Fault::Length { expected: 3, actual: 2 }, quarantine, places.clone())));
        assert_eq!(fault(&missing), Some((Fault::Missing, false, places.clone())));
        assert!(matches!(fault(&folder_of), Some((Fault::Length { .. }, ..))), "{found:?}");
        assert!(matches!(fault(&manifest), Some((Fault::Bytes { .. }, ..))), "{found:?}");
        for expected in [
            Finding::Dangling { repository: "b".into(), tag: "v".into(), digest: "sha256:gone".into() },
            Finding::Incomplete {
                repository: "c".into(),
                manifest: whole.to_string(),
                needs: Digest::sha256(b"layer 3").to_string(),
            },
            Finding::Miscounted {
                scope: Scope::Repository("a".into()),
                said: Used { bytes: of_a.bytes + 7, ..of_a },
                counted: of_a,
            },
            Finding::Miscounted {
                scope: Scope::Namespace(String::new()),
                said: Used { tags: 9, ..of_all },
                counted: of_all,
            },
            Finding::Unreferenced { digest: old.clone(), size_bytes: 3 },
            Finding::Foreign { name: "sha256/README".into() },
            Finding::Foreign { name: "sha512/sub".into() },
        ] {
            assert!(found.contains(&expected), "{expected:?} in {found:?}");
        }
        // the folder in a blob's place is foreign, too, until it is moved aside
        assert_eq!(found.len(), 5 + 7 + usize::from(!quarantine), "{found:?}");
    }
    assert!(!blob(folder.path(), &flipped).exists());
    let storage = Storage::open(folder.path()).expect("open");
    let key = ManifestKey::Tag("v".to_owned());
    assert!(matches!(storage.manifest("a", &key), Err(StorageError::ManifestUnknown(_))));
    push_image(&storage, "a", "v", b"layer 1");
    assert_eq!(storage.manifest("a", &key).expect("healed").digest, manifest);
}

#[test]
fn a_database_that_contradicts_itself_is_found_and_nothing_is_believed_of_it() {
    for (name, bytes) in [
        ("text", b"this is no database, however long it may be, and it goes on".to_vec()),
        ("zeros", vec![0; 8192]),
    ] {
        let folder = tempfile::tempdir().expect("folder");
        drop(Storage::open(folder.path()).expect("open"));
        let database = folder.path().join("registry.db");
        let whole = fs::read(&database).expect("the database");
        fs::write(&database, &bytes).expect("damage");
        let (verified, found) = look(folder.path(), true);
        assert!(matches!(&found[..], [Finding::Database(_)]), "{name}: {found:?}");
        assert_eq!(verified, Verified::default());
        assert_eq!(fs::read(&database).expect("it is left as it is"), bytes, "{name}");
        fs::write(&database, whole).expect("mended");
        assert_eq!(look(folder.path(), true).1, []);
    }
    let empty = tempfile::tempdir().expect("folder");
    let watching = Watching { progress: &|_, _| {}, found: &|_| {} };
    assert!(matches!(verify(empty.path(), false, &watching), Err(StorageError::NoRegistry(_))));
    assert_eq!(fs::read_dir(empty.path()).expect("list").count(), 0, "nothing was made");
}

/// Every tag of a registry's folder, with the bytes of all that it needs.
fn pull_all(folder: &Path) -> Vec<String> {
    let storage = Storage::open(folder).expect("open");
    let mut all = Vec::new();
    for repository in storage.repositories("", 1000).expect("repositories") {
        for tag in storage.tags(&repository, "", 1000).expect("tags") {
            let record = storage.manifest(&repository, &ManifestKey::Tag(tag.clone())).expect("a manifest");
            let bytes = storage.manifest_bytes(&record).expect("its bytes");
            let Ok(Parsed::Manifest(manifest)) = Parsed::from_bytes(&bytes, None) else { panic!("an image") };
            for layer in manifest.layers.iter().chain([&manifest.config]) {
                let size = storage.blob_size(&repository, &layer.digest).expect("a blob");
                assert_eq!(size, layer.size_bytes);
                let mut bytes = vec![0; size as usize];
                let reader = storage.open_blob(&layer.digest, size).expect("it opens");
                reader.read_exact_at(&mut bytes, 0).expect("its bytes");
                assert_eq!(Digest::sha256(&bytes), layer.digest);
            }
            all.push(format!("{repository}:{tag} {}", record.digest));
        }
    }
    all
}

fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("a file"))
}

#[test]
fn a_backup_copies_what_is_new_and_comes_back_as_it_was() {
    let folder = tempfile::tempdir().expect("folder");
    let place = |name: &str| folder.path().join(name);
    let storage = Storage::open(&place("registry")).expect("open");
    let first = push_image(&storage, "a", "v", b"layer 1");
    push_image(&storage, "b", "v", b"layer 2");
    storage.start_upload("a", Algorithm::Sha256).expect("an upload");
    for by in [By::Links, By::Copies] {
        let to = place(&format!("{by:?}"));
        let copied = backup(&place("registry"), &to, by, &|_, _| {}).expect("a backup");
        assert_eq!((copied.contents, copied.present, &copied.lost[..]), (5, 0, &[][..]));
        let same = inode(&blob(&to, &first)) == inode(&blob(&place("registry"), &first));
        assert_eq!(same, by == By::Links);
        assert_eq!(look(&to, false).1, []);
        assert_eq!(pull_all(&to), pull_all(&place("registry")));
    }
    // the next one copies the next image, and has no more than there is
    push_image(&storage, "a", "w", b"layer 3");
    let author = || Deletion::by(Author::default());
    storage.delete_manifest("a", &ManifestKey::Digest(first.clone()), &author()).expect("delete");
    storage.delete_blob("a", &Digest::sha256(b"layer 1"), &author()).expect("delete");
    for by in [By::Links, By::Copies] {
        let to = place(&format!("{by:?}"));
        let copied = backup(&place("registry"), &to, by, &|_, _| {}).expect("a backup");
        assert_eq!((copied.contents, copied.present, copied.removed, &copied.lost[..]), (5, 3, 2, &[][..]));
        assert_eq!((pull_all(&to), look(&to, false).1), (pull_all(&place("registry")), vec![]));
        let back = place(&format!("back of {by:?}"));
        let restored = restore(&to, &back, &|_, _| {}).expect("restored");
        assert_eq!((restored.contents, restored.present), (5, 0));
        assert_ne!(
            inode(&blob(&to, &Digest::sha256(b"layer 3"))),
            inode(&blob(&back, &Digest::sha256(b"layer 3")))
        );
        assert_eq!((pull_all(&back), look(&back, false).1), (pull_all(&place("registry")), vec![]));
        // it is no folder to restore into any more, nor one to back up into
        assert!(matches!(restore(&to, &back, &|_, _| {}), Err(StorageError::Registry(_))));
        assert!(matches!(backup(&place("registry"), &back, by, &|_, _| {}), Err(StorageError::NoBackup(_))));
    }
    for within in ["registry/backup", "registry", "."] {
        let refused = backup(&place("registry"), &place(within), By::Links, &|_, _| {});
        assert!(matches!(refused, Err(StorageError::Within(_))), "{within}: {refused:?}");
    }
    assert!(matches!(
        backup(&place("nothing"), &place("new"), By::Links, &|_, _| {}),
        Err(StorageError::NoRegistry(_))
    ));
    assert!(!place("new").exists(), "a refusal makes nothing");
}

#[test]
fn a_backup_says_what_the_registry_itself_has_lost() {
    let folder = tempfile::tempdir().expect("folder");
    let place = |name: &str| folder.path().join(name);
    let storage = Storage::open(&place("registry")).expect("open");
    push_image(&storage, "a", "v", b"layer");
    let [gone, cut, flipped] = ["gone", "cut", "flipped"].map(|text| push(&storage, "a", text.as_bytes()));
    fs::remove_file(blob(&place("registry"), &gone)).expect("damage");
    fs::write(blob(&place("registry"), &cut), b"cu").expect("damage");
    fs::write(blob(&place("registry"), &flipped), b"flopped").expect("damage");
    let copied = backup(&place("registry"), &place("backup"), By::Copies, &|_, _| {}).expect("a backup");
    let mut expected = vec![gone, cut, flipped.clone()];
    expected.sort_unstable();
    assert_eq!(copied.lost, expected);
    assert!(!blob(&place("backup"), &flipped).exists(), "wrong bytes are not kept");
    // healed, and backed up again
    push(&storage, "b", b"flipped");
    let copied = backup(&place("registry"), &place("backup"), By::Copies, &|_, _| {}).expect("a backup");
    assert_eq!(copied.lost.len(), 2);
    assert!(blob(&place("backup"), &flipped).exists());
}

#[test]
fn a_backup_in_a_storm_is_of_one_moment() {
    let folder = tempfile::tempdir().expect("folder");
    let place = |name: &str| folder.path().join(name);
    let storage = Storage::open(&place("registry")).expect("open");
    push_image(&storage, "stays", "v", b"it");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let done: Arc<[AtomicU32; 3]> = Arc::default();
    let writers: Vec<_> = (0..3_usize)
        .map(|writer| {
            let (storage, stop, done) = (Arc::clone(&storage), Arc::clone(&stop), Arc::clone(&done));
            std::thread::spawn(move || {
                let repository = format!("r{writer}");
                let author = || Deletion::by(Author::default());
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    done[writer].store(number, Ordering::Relaxed);
                    // few contents, so that they come and go and come again
                    let layer = format!("{writer} {}", number % 7).into_bytes();
                    let digest = push_image(&storage, &repository, &format!("t{}", number % 5), &layer);
                    if number % 3 > 0 {
                        storage
                            .delete_manifest(&repository, &ManifestKey::Digest(digest), &author())
                            .expect("delete");
                        storage.delete_blob(&repository, &Digest::sha256(&layer), &author()).expect("delete");
                    }
                }
            })
        })
        .collect();
    for round in 0..6 {
        let by = if round % 2 == 0 { By::Links } else { By::Copies };
        let to = place(&format!("backup {}", round % 4));
        let copied = backup(&place("registry"), &to, by, &|_, _| {}).expect("a backup");
        assert_eq!(copied.lost, [], "round {round}");
        assert_eq!(look(&to, false).1, [], "round {round}");
        let back = place(&format!("back {round}"));
        restore(&to, &back, &|_, _| {}).expect("restored");
        assert_eq!(look(&back, false).1, [], "round {round}");
        assert!(pull_all(&back).iter().any(|line| line.starts_with("stays:v")));
    }
    // how far they are by now is the machine's business, but they go on
    while done.iter().any(|done| done.load(Ordering::Relaxed) <= 10) {
        assert!(writers.iter().all(|writer| !writer.is_finished()), "one of them failed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
    storage.sweep_uploads(SystemTime::now()).expect("a sweep");
    assert!(!place("registry/held").exists(), "nothing is held any more");
    assert_eq!(look(&place("registry"), false).1, []);
}

#[test]
fn what_an_interrupted_backup_held_is_let_go() {
    let folder = tempfile::tempdir().expect("folder");
    let storage = Storage::open(folder.path()).expect("open");
    let author = || Deletion::by(Author::default());
    let [one, two] = ["one", "two"].map(|text| push(&storage, "a", text.as_bytes()));
    let hold = lock::hold(folder.path()).expect("held");
    storage.delete_blob("a", &one, &author()).expect("delete");
    let held = folder.path().join("held").join(format!("sha256-{}", one.hex()));
    assert_eq!(fs::read(&held).expect("held"), b"one");
    assert!(matches!(storage.blob_size("a", &one), Err(StorageError::BlobUnknown(_))));
    storage.sweep_uploads(SystemTime::now()).expect("a sweep");
    assert!(held.exists(), "a backup is under way");
    drop(hold);
    storage.delete_blob("a", &two, &author()).expect("delete");
    assert!(!folder.path().join("held").join(format!("sha256-{}", two.hex())).exists());
    storage.sweep_uploads(SystemTime::now()).expect("a sweep");
    assert!(!folder.path().join("held").exists());
}

#[test]
fn one_file_has_it_all_and_a_hostile_one_has_no_say() {
    let folder = tempfile::tempdir().expect("folder");
    let place = |name: &str| folder.path().join(name);
    let storage = Storage::open(&place("registry")).expect("open");
    push_image(&storage, "a", "v", b"layer 1");
    push_image(&storage, "b", "v", &vec![5; 2 << 20]);
    let mut bytes = Vec::new();
    let written = archive(&place("registry"), &mut bytes, &|_, _| {}).expect("an archive");
    assert_eq!((written.contents, &written.lost[..]), (5, &[][..]));
    let mut again = Vec::new();
    archive(&place("registry"), &mut again, &|_, _| {}).expect("an archive");
    assert!(!place("registry/backup.db").exists() && !place("registry/held").exists());
    let back = |name: &str, bytes: &[u8]| unarchive(&mut &*bytes, &place(name), &|_, _| {});
    let restored = back("back", &bytes).expect("restored");
    assert_eq!((restored.contents, restored.removed, &restored.lost[..]), (5, 0, &[][..]));
    assert_eq!(
        (pull_all(&place("back")), look(&place("back"), false).1),
        (pull_all(&place("registry")), vec![])
    );
    assert!(matches!(back("back", &bytes), Err(StorageError::Registry(_))));
    // cut off, empty, none
    for (name, part) in [("cut", &bytes[..bytes.len() / 2]), ("empty", &[]), ("none", b"no archive at all")] {
        assert!(back(name, part).is_err(), "{name}");
        assert!(!place(name).join("registry.db").exists(), "{name}");
    }
    // entries that lead elsewhere, links, contents under others' names, and what nothing points at
    let mut hostile = tar::Builder::new(Vec::new());
    let mut add = |name: &[u8], kind: tar::EntryType, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        if kind == tar::EntryType::Symlink {
            header.set_link_name("/etc/passwd").expect("a link");
        }
        header.set_cksum();
        hostile.append(&header, bytes).expect("an entry");
    };
    let hex = Digest::sha256(b"right").hex().to_owned();
    add(b"../outside", tar::EntryType::Regular, b"evil");
    add(b"/tmp/outside", tar::EntryType::Regular, b"evil");
    add(b"blobs/sha256/../../outside", tar::EntryType::Regular, b"evil");
    add(b"registry.db", tar::EntryType::Symlink, b"");
    add(format!("blobs/sha256/{hex}").as_bytes(), tar::EntryType::Regular, b"wrong");
    add(
        format!("blobs/sha256/{}", Digest::sha256(b"nobody's").hex()).as_bytes(),
        tar::EntryType::Regular,
        b"nobody's",
    );
    let mut hostile = hostile.into_inner().expect("an archive");
    // without its two blocks of zeros, the whole archive follows
    hostile.truncate(hostile.len() - 1024);
    hostile.extend_from_slice(&bytes);
    let restored = back("hostile", &hostile).expect("restored");
    assert_eq!((restored.contents, restored.removed, &restored.lost[..]), (5, 1, &[][..]));
    assert_eq!(pull_all(&place("hostile")), pull_all(&place("registry")));
    assert!(!place("outside").exists() && !Path::new("/tmp/outside").exists());
    // bytes that changed on their way are not taken, and said
    let at = bytes.windows(7).position(|window| window == b"layer 1").expect("its bytes");
    bytes[at] ^= 1;
    let restored = back("changed", &bytes).expect("restored");
    assert_eq!(restored.lost, [Digest::sha256(b"layer 1")]);
}
