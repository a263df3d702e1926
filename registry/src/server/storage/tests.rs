//! The folder after crashes: what a `kill -9` leaves, made by hand.

use super::{content::MemoryContent, pointers::MemoryPointers, *};
use crate::limits;
use slipway_oci::Algorithm;
use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("folder")
}

fn deletion() -> Deletion {
    Deletion::by(Author::default())
}

/// Where some bytes lie.
fn blob(folder: &Path, bytes: &[u8]) -> std::path::PathBuf {
    folder.join("blobs/sha256").join(Digest::sha256(bytes).hex())
}

/// Copies the folder as it is on disk at this instant, with the first instance still alive: a crash's picture.
fn crash(from: &Path) -> tempfile::TempDir {
    let to = folder();
    copy(from, to.path());
    to
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}

#[test]
fn a_half_written_upload_continues_with_the_right_bytes() {
    let first = folder();
    let storage = Storage::open(first.path()).expect("open");
    let id = storage.start_upload("a", Algorithm::Sha256).expect("start");
    let mut upload = storage.open_upload("a", &id).expect("lease");
    upload.append(b"half ").expect("append");
    upload.save().expect("save");
    let crashed = crash(first.path());
    let storage = Storage::open(crashed.path()).expect("open again");
    assert_eq!(storage.upload_length("a", &id).expect("length"), 5);
    let mut upload = storage.open_upload("a", &id).expect("lease");
    upload.append(b"done").expect("append");
    upload.finish(&Digest::sha256(b"half done")).expect("finish");
    assert_eq!(fs::read(blob(crashed.path(), b"half done")).expect("blob"), b"half done");
}

#[test]
fn bytes_that_changed_behind_the_hash_state_are_seen() {
    let folder = folder();
    let storage = Storage::open(folder.path()).expect("open");
    let id = storage.start_upload("a", Algorithm::Sha256).expect("start");
    storage.open_upload("a", &id).expect("lease").append(b"0123456789").expect("append");
    // a torn tail, as after a power cut
    fs::write(folder.path().join("uploads").join(id.as_str()), b"01234").expect("tear");
    let mut upload = storage.open_upload("a", &id).expect("lease");
    assert_eq!(upload.length(), 5);
    upload.append(b"56789").expect("append");
    upload.finish(&Digest::sha256(b"0123456789")).expect("finish");
}

#[test]
fn a_lease_is_exclusive_across_processes() {
    let folder = folder();
    let (one, two) =
        (Storage::open(folder.path()).expect("open"), Storage::open(folder.path()).expect("open"));
    let id = one.start_upload("a", Algorithm::Sha256).expect("start");
    let mut upload = one.open_upload("a", &id).expect("lease");
    assert!(matches!(two.open_upload("a", &id), Err(StorageError::UploadBusy)));
    upload.append(b"x").expect("append");
    drop(upload);
    let mut upload = two.open_upload("a", &id).expect("lease");
    upload.append(b"y").expect("append");
    drop(upload);
    // the first process' hash state stands for one byte, the file has two
    let upload = one.open_upload("a", &id).expect("lease");
    upload.finish(&Digest::sha256(b"xy")).expect("finish");
    assert_eq!(two.blob_size("a", &Digest::sha256(b"xy")).expect("size"), 2);
}

#[test]
fn a_crash_between_rename_and_commit_leaves_a_session_that_is_gone() {
    let folder = folder();
    let storage = Storage::open(folder.path()).expect("open");
    let id = storage.start_upload("a", Algorithm::Sha256).expect("start");
    storage.open_upload("a", &id).expect("lease").append(b"bytes").expect("append");
    let digest = Digest::sha256(b"bytes");
    fs::rename(folder.path().join("uploads").join(id.as_str()), blob(folder.path(), b"bytes"))
        .expect("rename");
    drop(storage);
    let storage = Storage::open(folder.path()).expect("open again");
    assert!(matches!(storage.upload_length("a", &id), Err(StorageError::UploadUnknown)));
    assert!(matches!(storage.open_upload("a", &id), Err(StorageError::UploadUnknown)));
    assert!(matches!(storage.blob_size("a", &digest), Err(StorageError::BlobUnknown(_))));
    // sent again, it is there
    let mut upload = storage.stage("a", Algorithm::Sha256).expect("stage");
    upload.append(b"bytes").expect("append");
    upload.finish(&digest).expect("finish");
    assert_eq!(storage.blob_size("a", &digest).expect("size"), 5);
    assert_eq!(storage.sweep_uploads(SystemTime::now()).expect("sweep"), 0);
}

#[test]
fn sweeping_spares_what_is_young_or_leased() {
    let folder = folder();
    let storage = Storage::open(folder.path()).expect("open");
    let (old, leased) = (
        storage.start_upload("a", Algorithm::Sha256).expect("start"),
        storage.start_upload("a", Algorithm::Sha256).expect("start"),
    );
    fs::write(folder.path().join("uploads/6f1c0f84-0000-4000-8000-000000000000"), b"x").expect("orphan");
    let lease = storage.open_upload("a", &leased).expect("lease");
    let now = SystemTime::now();
    assert_eq!(storage.sweep_uploads(now).expect("sweep"), 0);
    assert_eq!(storage.sweep_uploads(now + limits::ORPHAN_AGE + Duration::from_secs(1)).expect("sweep"), 1);
    assert_eq!(storage.sweep_uploads(now + limits::SESSION_AGE + Duration::from_secs(1)).expect("sweep"), 1);
    assert!(matches!(storage.upload_length("a", &old), Err(StorageError::UploadUnknown)));
    drop(lease);
    assert_eq!(storage.upload_length("a", &leased).expect("length"), 0);
}

#[test]
fn a_finished_file_is_never_written_through_an_old_handle() {
    let folder = folder();
    let storage = Storage::open(folder.path()).expect("open");
    let id = storage.start_upload("a", Algorithm::Sha256).expect("start");
    let mut upload = storage.open_upload("a", &id).expect("lease");
    upload.append(b"done").expect("append");
    upload.finish(&Digest::sha256(b"done")).expect("finish");
    assert!(matches!(storage.open_upload("a", &id), Err(StorageError::UploadUnknown)));
}

#[test]
fn one_refused_write_undoes_nothing_of_its_batch() {
    let folder = folder();
    let storage = Storage::open(folder.path()).expect("open");
    std::thread::scope(|scope| {
        for n in 0..40_u8 {
            let storage = &storage;
            scope.spawn(move || {
                let mut upload = storage.stage("a", Algorithm::Sha256).expect("stage");
                upload.append(&[n]).expect("append");
                let right = Digest::sha256(&[n]);
                if n % 2 == 0 {
                    upload.finish(&right).expect("finish");
                } else {
                    assert!(storage.delete_blob("a", &right, &deletion()).is_err());
                    assert!(upload.finish(&Digest::sha256(b"wrong")).is_err());
                }
            });
        }
    });
    for n in 0..40_u8 {
        assert_eq!(storage.blob_size("a", &Digest::sha256(&[n])).is_ok(), n % 2 == 0, "{n}");
    }
    assert_eq!(fs::read_dir(folder.path().join("uploads")).expect("uploads").count(), 0);
}

#[test]
fn the_folder_is_its_owners_alone() {
    let outer = folder();
    let made = outer.path().join("made");
    let open = outer.path().join("open");
    fs::create_dir(&open).expect("folder");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("mode");
    for path in [made, open] {
        drop(Storage::open(&path).expect("open"));
        let mode = fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", path.display());
    }
}

#[test]
fn unfinished_sessions_are_bounded_and_idle_ones_make_room() {
    let mut storage = Storage::new(MemoryContent::default(), MemoryPointers::default());
    Arc::get_mut(&mut storage).expect("ours alone").caps = SessionCaps { repository: 3, registry: 5 };
    let start = |name: &str| storage.start_upload(name, Algorithm::Sha256);
    let first = start("a").expect("start");
    for name in ["a", "a", "b", "b"] {
        start(name).expect("start");
    }
    for name in ["a", "b", "c"] {
        assert!(matches!(start(name), Err(StorageError::SessionsMany)), "{name}");
    }
    storage.open_upload("a", &first).expect("lease").cancel().expect("cancel");
    start("c").expect("room again");
    assert!(matches!(start("c"), Err(StorageError::SessionsMany)));
    let later = SystemTime::now() + limits::SESSION_IDLE + Duration::from_secs(2);
    assert_eq!(storage.end_idle(Some("b"), later, limits::SESSION_IDLE).expect("end"), 2);
    start("c").expect("room again");
}

#[test]
fn a_session_goes_on_in_another_process_with_its_hash_state() {
    let folder = folder();
    let id = {
        let storage = Storage::open(folder.path()).expect("open");
        let id = storage.start_upload("a", Algorithm::Sha256).expect("start");
        storage.open_upload("a", &id).expect("lease").append(b"one ").expect("append");
        id
    };
    let storage = Storage::open(folder.path()).expect("open again");
    let mut upload = storage.open_upload("a", &id).expect("lease");
    assert_eq!(upload.length(), 4);
    assert!(upload.has_state(), "nothing is read again");
    upload.append(b"two").expect("append");
    // beyond what was acknowledged: cut off
    let path = folder.path().join("uploads").join(id.as_str());
    upload.save().expect("save");
    drop(upload);
    fs::OpenOptions::new().append(true).open(&path).expect("open").write_all(b"torn").expect("write");
    let upload = storage.open_upload("a", &id).expect("lease");
    assert_eq!(upload.length(), 7);
    upload.finish(&Digest::sha256(b"one two")).expect("finish");
}

#[test]
fn what_a_dead_process_condemned_is_carried_out() {
    let folder = folder();
    let storage = Storage::open(folder.path()).expect("open");
    let put = || {
        let mut upload = storage.stage("a", Algorithm::Sha256).expect("stage");
        upload.append(b"bytes").expect("append");
        upload.finish(&Digest::sha256(b"bytes"))
    };
    let digest = Digest::sha256(b"bytes");
    put().expect("put");
    // died between the two steps of a delete, long ago
    let long_ago = Change { at: now_seconds() - 3600, ..Change::default() };
    let removal = Removal { change: long_ago, ..storage.removal(&deletion()) };
    assert!(storage.pointers.delete_blob("a", &digest, &removal).expect("delete"));
    assert!(blob(folder.path(), b"bytes").exists());
    put().expect("a push waits for the removal and stands");
    assert_eq!(storage.blob_size("a", &digest).expect("size"), 5);
    assert!(storage.pointers.delete_blob("a", &digest, &removal).expect("delete"));
    storage.sweep_uploads(SystemTime::now()).expect("sweep");
    assert!(!blob(folder.path(), b"bytes").exists());
    assert_eq!(storage.pointers.condemned(i64::MAX, 10).expect("list"), []);
}

#[test]
fn puts_beside_deletes_never_lose_bytes() {
    let folder = folder();
    let storage = Storage::open(folder.path()).expect("open");
    let digest = Digest::sha256(b"contended");
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let (storage, digest) = (&storage, &digest);
            scope.spawn(move || {
                for _ in 0..30 {
                    let mut upload = storage.stage(name, Algorithm::Sha256).expect("stage");
                    upload.append(b"contended").expect("append");
                    upload.finish(digest).expect("finish");
                    // nobody else takes it out of this repository
                    assert_eq!(storage.blob_size(name, digest).expect("size"), 9);
                    storage.delete_blob(name, digest, &deletion()).expect("delete");
                }
            });
        }
    });
    assert!(!blob(folder.path(), b"contended").exists());
}

#[test]
fn what_no_pointer_was_written_for_goes() {
    let folder = folder();
    let storage = Storage::open(folder.path()).expect("open");
    fs::write(blob(folder.path(), b"left by a crash"), b"left by a crash").expect("orphan");
    let now = SystemTime::now();
    storage.sweep_uploads(now).expect("sweep");
    assert!(blob(folder.path(), b"left by a crash").exists(), "it may be about to be pointed at");
    storage.sweep_uploads(now + limits::ORPHAN_AGE + Duration::from_secs(5)).expect("sweep");
    assert!(!blob(folder.path(), b"left by a crash").exists());
}

#[test]
fn moves_of_tags_are_remembered_the_newest_of_each() {
    let folder = folder();
    for storage in [Storage::open(folder.path()).expect("open"), Storage::in_memory()] {
        let put = |bytes: &[u8], tag: &str, who: &str| {
            let author = Author { who: Some(who.to_owned()), origin: Some("10.0.0.1".to_owned()) };
            let record = ManifestRecord {
                digest: Digest::sha256(bytes),
                media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
                size_bytes: bytes.len() as u64,
            };
            let manifest = NewManifest {
                record,
                subject: None,
                artifact_type: None,
                annotations: None,
                required: Vec::new(),
                tags: vec![tag.to_owned()],
                kept: Vec::new(),
                condition: Condition::default(),
            };
            storage.put_manifest("a", &manifest, bytes, &author).expect("put");
        };
        put(b"one", "still", "ann");
        for turn in 0..limits::TAG_MOVES + 7 {
            put(if turn % 2 == 0 { b"one" } else { b"two" }, "busy", "ci");
            // a push that moves nothing is no move
            put(b"one", "still", "bob");
        }
        let history = |tag| storage.pointers.tag_history("a", Some(tag), i64::MAX, 1000).expect("history");
        assert_eq!(history("busy").len() as u64, limits::TAG_MOVES);
        let key = ManifestKey::Tag("busy".to_owned());
        let now = storage.manifest("a", &key).expect("manifest").digest;
        assert_eq!(history("busy")[0].digest.as_ref(), Some(&now));
        let [only] = history("still").try_into().expect("one move");
        assert_eq!((only.former, only.digest), (None, Some(Digest::sha256(b"one"))));
        assert_eq!(
            (only.change.who.as_deref(), only.change.origin.as_deref()),
            (Some("ann"), Some("10.0.0.1"))
        );
        storage.delete_manifest("a", &key, &deletion()).expect("delete");
        let last = history("busy").remove(0);
        assert_eq!((last.former, last.digest), (Some(now), None));
    }
}

fn push(storage: &Arc<Storage>, repository: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    let mut upload = storage.stage(repository, Algorithm::Sha256).expect("stage");
    upload.append(bytes).expect("append");
    upload.finish(&digest).expect("finish");
    digest
}

#[test]
fn a_round_of_the_scrub_goes_on_where_the_last_process_left_it() {
    let folder = folder();
    let storage = Storage::open(folder.path()).expect("open");
    let mut digests: Vec<Digest> = (0..20_u8).map(|number| push(&storage, "a", &[number; 100])).collect();
    digests.sort_unstable_by_key(Digest::to_string);
    let (mut rounds, mut read) = (0, 0);
    // a process that is ended after each third content
    let ended = loop {
        let storage = Storage::open(folder.path()).expect("open again");
        let mut scrubbing = storage.begin_scrub(Duration::from_secs(3600)).expect("a turn").expect("due");
        // nobody else meanwhile
        assert!(storage.begin_scrub(Duration::ZERO).expect("a turn").is_none());
        let mut left = 3;
        let mut pace = |bytes: u64| {
            left -= i32::from(bytes == 100);
            read += u64::from(bytes == 100);
            left > 0
        };
        let until = std::time::Instant::now() + Duration::from_secs(60);
        let scrubbed = storage.scrub(&mut scrubbing, until, &mut pace, &|error| panic!("{error}"));
        rounds += 1;
        match scrubbed.expect("scrub") {
            Scrubbed::Ended(round) => break round,
            Scrubbed::On(_) => assert!(rounds < 20, "it gets on"),
            Scrubbed::Idle => panic!("it has the turn"),
        }
    };
    assert_eq!((ended.contents, ended.bytes, ended.damaged), (20, 2000, 0));
    assert!(rounds > 5 && read >= 20, "{rounds} {read}");
    assert!(
        storage.begin_scrub(Duration::from_secs(3600)).expect("a turn").is_none(),
        "the next one is not due"
    );
    assert!(storage.begin_scrub(Duration::ZERO).expect("a turn").is_some(), "it is now");
}

#[test]
fn what_is_pushed_while_it_is_taken_aside_is_put_back() {
    let folder = folder();
    let storage = Storage::open(folder.path()).expect("open");
    let digest = push(&storage, "a", b"bytes");
    // found wrong, and pushed again before it is moved
    let fault = Fault::Bytes { actual: Digest::sha256(b"other") };
    assert_eq!(storage.quarantine(&digest, 5, fault.clone()).expect("quarantine"), None);
    assert_eq!(storage.blob_size("a", &digest).expect("it is there"), 5);
    // a crash in between left it where only the next round finds it
    fs::create_dir_all(folder.path().join("quarantine")).expect("folder");
    let aside = folder.path().join("quarantine").join(format!("sha256-{}", digest.hex()));
    fs::rename(blob(folder.path(), b"bytes"), &aside).expect("rename");
    assert_eq!(storage.scrub_now().damaged, 0);
    assert_eq!(storage.blob_size("a", &digest).expect("it is there"), 5);
    // what is deleted meanwhile is nobody's damage
    storage.delete_blob("a", &digest, &deletion()).expect("delete");
    assert_eq!(storage.quarantine(&digest, 5, Fault::Missing).expect("quarantine"), None);
    // one that is truly wrong stays for its operator
    let digest = push(&storage, "a", b"more bytes");
    fs::write(blob(folder.path(), b"more bytes"), b"m0re bytes").expect("damage");
    assert_eq!(storage.scrub_now().damaged, 1);
    let kept = folder.path().join("quarantine").join(format!("sha256-{}", digest.hex()));
    assert_eq!(fs::read(kept).expect("kept"), b"m0re bytes");
    // and is missing in the next round
    assert_eq!(storage.scrub_now().damaged, 1);
    push(&storage, "b", b"more bytes");
    assert_eq!(storage.scrub_now().damaged, 0);
    assert_eq!(storage.blob_size("a", &digest).expect("healed"), 10);
}

/// What the journal of a folder comes to.
fn journal(folder: &Path) -> keep::reindex::Kept {
    let (kept, broken) = keep::reindex::read_journal(&folder.join("pointers")).expect("a journal");
    assert_eq!(broken, 0);
    kept
}

/// The same from the database alone.
fn written_anew(folder: &Path) -> keep::reindex::Kept {
    fs::remove_dir_all(folder.join("pointers")).expect("remove");
    Storage::open(folder).expect("open").write_down(true).expect("a snapshot");
    journal(folder)
}

#[test]
fn the_journal_is_right_whoever_writes_and_makes_snapshots_meanwhile() {
    let folder = folder();
    let open = || Storage::open(folder.path()).expect("open");
    // two processes' worth, and a third that makes nothing but snapshots
    let (one, two, third) = (open(), open(), open());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = [&one, &one, &two, &two]
            .into_iter()
            .enumerate()
            .map(|(writer, storage)| {
                scope.spawn(move || {
                    for number in 0..60_u8 {
                        let bytes = [number % 7, (writer / 2) as u8];
                        let digest = push(storage, &format!("r{}", writer % 2), &bytes);
                        if number % 3 == 0 {
                            // another one may have been first
                            let _ = storage.delete_blob(&format!("r{}", writer % 2), &digest, &deletion());
                        }
                    }
                })
            })
            .collect();
        let snapshots = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                third.write_down(true).expect("a snapshot");
                count += 1;
            }
            count
        });
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        stop.store(true, Ordering::Relaxed);
        assert!(snapshots.join().expect("snapshots") > 3);
    });
    drop((one, two, third));
    assert_eq!(journal(folder.path()), written_anew(folder.path()));
}

#[test]
fn a_snapshot_that_a_crash_cut_off_loses_nothing() {
    let first = folder();
    let storage = Storage::open(first.path()).expect("open");
    push(&storage, "a", b"in the snapshot");
    storage.write_down(true).expect("a snapshot");
    push(&storage, "a", b"in the former log");
    let gone = push(&storage, "a", b"gone since");
    // the log is moved away, and the snapshot that makes it superfluous is half done
    let pointers = first.path().join("pointers");
    fs::rename(pointers.join("log"), pointers.join("log.1")).expect("rename");
    fs::write(pointers.join("snapshot.new"), b"00000000 [\"b\",\"a\"").expect("half of one");
    storage.delete_blob("a", &gone, &deletion()).expect("delete");
    push(&storage, "b", b"in the log");
    let crashed = crash(first.path());
    let told = journal(crashed.path());
    assert_eq!(told.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(told["a"].blobs.len(), 2);
    assert_eq!(told, written_anew(crashed.path()));
    // the next snapshot takes all of it in
    storage.write_down(true).expect("a snapshot");
    let names = fs::read_dir(&pointers).expect("list");
    let mut names: Vec<_> = names.map(|entry| entry.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["lock", "snapshot"]);
    assert_eq!(journal(first.path()), told);
    // and where there is nothing new there is none to make
    let made = fs::metadata(pointers.join("snapshot")).and_then(|found| found.modified()).expect("a time");
    storage.write_down(true).expect("nothing");
    assert_eq!(
        fs::metadata(pointers.join("snapshot")).and_then(|found| found.modified()).expect("a time"),
        made
    );
}
