//! Bytes in versitygw, which another process restarts where that is what a test is about.

use super::*;
use slipway_skip::engines::{self, Store};
use std::{cell::RefCell, time::Duration};

macro_rules! content {
    ($name:literal) => {
        match engines::store() {
            Some(store) => open(store, $name),
            None => return slipway_skip::skip("`versitygw` is not installed"),
        }
    };
}

fn config(store: &Store, prefix: &str) -> BucketConfig {
    let (key_id, secret) = engines::STORE_KEY;
    BucketConfig {
        bucket: "registry".to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(store.endpoint()),
        key_id: key_id.to_owned(),
        secret: secret.to_owned(),
        ..BucketConfig::default()
    }
}

fn open(store: &Store, prefix: &str) -> (ObjectContent, tempfile::TempDir) {
    let scratch = tempfile::tempdir().expect("a folder");
    (ObjectContent::open(&config(store, prefix), scratch.path()).expect("a bucket"), scratch)
}

/// Bytes that nowhere repeat within a part.
fn bytes(length: usize) -> Vec<u8> {
    (0..length.div_ceil(4) as u32)
        .flat_map(|number| (number.wrapping_mul(2_654_435_761)).to_le_bytes())
        .take(length)
        .collect()
}

fn id(number: u8) -> UploadId {
    format!("6a1f1c52-0000-4000-8000-0000000000{number:02x}").parse().expect("an id")
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(60)
}

/// Everything that a reader has.
fn read(reader: &dyn Reader, length: usize) -> Vec<u8> {
    let mut all = vec![0; length];
    for (index, piece) in all.chunks_mut(300_001).enumerate() {
        reader.read_exact_at(piece, (index * 300_001) as u64).expect("its bytes");
    }
    all
}

/// Whether something is left below a session's folder, and multipart uploads in the whole bucket.
fn left_over(content: &ObjectContent) -> usize {
    content.bucket.list("uploads", None, 100, |_| true).expect("a list").len()
}

const MIB: usize = 1 << 20;

#[test]
fn blobs_of_every_size_come_in_and_go() {
    let (content, _scratch) = content!("sizes");
    for (number, length) in
        [0, 1, 16 * 1024, 16 * 1024 + 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 17 * MIB].into_iter().enumerate()
    {
        let (wanted, id) = (bytes(length), id(number as u8));
        let digest = Digest::sha256(&wanted);
        let mut staged = content.stage(&id).expect("staged");
        assert!(!content.discard(&id).expect("a look"), "it is being written");
        let mut offset = 0;
        for piece in wanted.chunks(500_000) {
            staged.append(piece, offset).expect("taken");
            offset += piece.len() as u64;
        }
        staged.place(&digest).expect("placed");
        staged.place(&digest).expect("placed once more");
        assert_eq!(content.size(&digest).expect("a look"), Some(length as u64), "{length}");
        assert!(content.open(&digest, length as u64 + 1).expect("a look").is_none());
        let reader = content.open(&digest, length as u64).expect("a look").expect("it is there");
        assert_eq!(read(&*reader, length), wanted, "{length}");
        assert!(reader.read_exact_at(&mut [0], length as u64).is_err(), "beyond its end");
        drop(staged);
        assert!(content.discard(&id).expect("discarded"));
        assert_eq!(left_over(&content), 0, "{length}");
    }
    let all = content.placed(None, later(), 100).expect("a list");
    assert_eq!(all.len(), 8);
    assert!(all.is_sorted());
    assert_eq!(content.placed(Some(&all[2]), later(), 3).expect("a list"), all[3..6]);
    assert_eq!(content.placed(None, SystemTime::UNIX_EPOCH, 100).expect("a list"), []);
    for digest in &all {
        content.remove(digest).expect("removed");
        content.remove(digest).expect("nothing there is fine");
        assert_eq!(content.size(digest).expect("a look"), None);
    }
}

/// Chunks that hop between replicas, of sizes below, at and above a part, cut back in between.
#[test]
fn a_session_goes_on_wherever_it_is_taken_up() {
    let (one, _scratch) = content!("hops");
    let (other, _other_scratch) = content!("hops");
    let id = id(1);
    let wanted = bytes(42 * MIB);
    let told = RefCell::new((0_u64, Vec::new()));
    drop(one.stage(&id).expect("staged"));
    let sizes = [100, 5 * MIB, 8 * MIB - 5 * MIB - 100, 20 * MIB, 1, 3 * MIB];
    for (turn, size) in sizes.into_iter().enumerate() {
        let content = if turn % 2 == 0 { &one } else { &other };
        let resumed = content.resume(&id, &|| Ok(told.borrow().clone())).expect("taken up");
        assert!(resumed.is_certain);
        let (mut staged, from) = (resumed.staged, resumed.length as usize);
        assert!(matches!(content.resume(&id, &|| Ok((0, Vec::new()))), Err(StorageError::UploadBusy)));
        // what a client sent beyond and lost on the way goes again
        let end = from + size;
        staged.append(&wanted[from..end + 3], from as u64).expect("taken");
        staged.truncate(end as u64).expect("cut");
        *told.borrow_mut() = (end as u64, staged.checkpoint().expect("a checkpoint"));
        // what comes after that was never told of
        staged.append(&wanted[..100], end as u64).expect("taken");
    }
    let length = told.borrow().0 as usize;
    let mut resumed = one.resume(&id, &|| Ok(told.borrow().clone())).expect("taken up");
    let reader = resumed.staged.reader().expect("a reader");
    assert_eq!(read(&*reader, length), wanted[..length]);
    let digest = Digest::sha256(&wanted[..length]);
    assert!(matches!(resumed.staged.place(&Digest::sha256(b"other")), Err(StorageError::Rot { .. })));
    resumed.staged.place(&digest).expect("placed");
    let reader = other.open(&digest, length as u64).expect("a look").expect("it is there");
    assert_eq!(read(&*reader, length), wanted[..length]);
    drop(resumed);
    assert!(other.stale_uploads(later(), None).expect("a list").0.contains(&id));
    assert!(other.stale_uploads(later(), Some(&id)).expect("a list").0.is_empty());
    assert!(other.stale_uploads(SystemTime::UNIX_EPOCH, None).expect("a list").0.is_empty());
    assert!(other.discard(&id).expect("discarded"));
    assert_eq!(left_over(&one), 0);
}

/// What was read once is at hand, until it is told to be gone; the scrub reads the store all the same.
#[test]
fn what_was_read_is_at_hand() {
    let Some(store) = engines::store() else {
        return slipway_skip::skip("`versitygw` is not installed");
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let config = BucketConfig { cache_bytes: 64 << 20, ..config(store, "at-hand") };
    let content = ObjectContent::open(&config, scratch.path()).expect("a bucket");
    for (number, length) in [(0x30, 100), (0x31, 64 * 1024), (0x32, 64 * 1024 + 1), (0x33, 9 * MIB)] {
        let (wanted, id) = (bytes(length), id(number));
        let digest = Digest::sha256(&wanted);
        let mut staged = content.stage(&id).expect("staged");
        staged.append(&wanted, 0).expect("taken");
        staged.place(&digest).expect("placed");
        let open = || content.open(&digest, length as u64).expect("a look");
        assert!(content.open(&digest, length as u64 - 1).expect("a look").is_none());
        // a part alone does not come in
        open().expect("it is there").read_exact_at(&mut [0; 10], 50).expect("a part");
        assert_eq!(read(&*open().expect("it is there"), length), wanted);
        // another replica loses it, and says so later
        content.bucket.delete(&content.bucket.key(&blob(&digest))).expect("gone");
        let reader = open().expect("it is at hand");
        assert_eq!(read(&*reader, length), wanted, "{length}");
        assert_eq!(content.size_lately(&digest).expect("a look"), Some(length as u64));
        assert!(content.open_stored(&digest, length as u64).expect("a look").is_none());
        content.forgetting()(&digest);
        assert!(open().is_none());
        assert_eq!(content.size_lately(&digest).expect("a look"), None);
        assert_eq!(read(&*reader, length), wanted, "who reads it has it open");
    }
}

/// Two replicas that write to one session at once: whoever is told of last goes on with exactly its own bytes.
#[test]
fn writers_of_one_session_never_mix() {
    let (one, _scratch) = content!("mix");
    let (other, _other_scratch) = content!("mix");
    let id = id(2);
    let (first, second) = (bytes(9 * MIB), vec![7_u8; 9 * MIB]);
    drop(one.stage(&id).expect("staged"));
    let begin = || Ok((0, Vec::new()));
    let (mut a, mut b) = (
        one.resume(&id, &begin).expect("taken up").staged,
        other.resume(&id, &begin).expect("taken up").staged,
    );
    a.append(&first, 0).expect("taken");
    b.append(&second, 0).expect("taken");
    let told = a.checkpoint().expect("a checkpoint");
    drop(b);
    let taken = other.resume(&id, &|| Ok((first.len() as u64, told.clone()))).expect("taken up");
    let reader = taken.staged.reader().expect("a reader");
    assert_eq!(read(&*reader, first.len()), first);
    // the one before is still at it: its upload was completed under its hands
    let late = a.append(&second, first.len() as u64).and_then(|()| a.place(&Digest::sha256(b"x")));
    assert!(late.is_err());
    drop((a, taken));
    assert!(one.discard(&id).expect("discarded"));
    assert_eq!(left_over(&one), 0);
}

/// What was begun and never noted is found in the store's own list, and ends unless a session knows it.
#[test]
fn uploads_that_nobody_ends_are_ended() {
    let (content, _scratch) = content!("dangling");
    let (other, _other_scratch) = content!("dangling-other");
    let (mine, known) = (id(0x20), id(0x21));
    let key = |name: &str| content.bucket.key(name);
    for name in [format!("uploads/{mine}/0a"), format!("uploads/{known}/0b"), "blobs/sha256/00".to_owned()] {
        content.bucket.begin(&key(&name)).expect("begun");
    }
    other.bucket.begin(&other.bucket.key("uploads/x")).expect("begun");
    let keys = || {
        let page = content.bucket.unfinished(None).expect("a list");
        page.uploads.into_iter().map(|one| one.key).collect::<Vec<_>>()
    };
    assert_eq!(keys().len(), 3, "{:?}", keys());
    let is_known = |id: &UploadId| Ok(*id == known);
    assert_eq!(content.end_dangling(SystemTime::UNIX_EPOCH, &is_known).expect("a sweep"), 0, "all are young");
    assert_eq!(content.end_dangling(later(), &is_known).expect("a sweep"), 2);
    assert_eq!(keys(), [format!("uploads/{known}/0b")]);
    assert_eq!(
        other.bucket.unfinished(None).expect("a list").uploads.len(),
        1,
        "another prefix is another's"
    );
    assert_eq!(content.end_dangling(later(), &|_| Ok(false)).expect("a sweep"), 1);
}

#[test]
fn damaged_content_is_set_aside_and_notes_are_kept() {
    let (content, _scratch) = content!("aside");
    let digest = Digest::sha256(b"content");
    let mut staged = content.stage(&id(3)).expect("staged");
    staged.append(b"content", 0).expect("taken");
    staged.place(&digest).expect("placed");
    assert!(content.set_aside(&digest).expect("set aside"));
    assert!(!content.set_aside(&digest).expect("a look"));
    assert_eq!(content.size(&digest).expect("a look"), None);
    assert!(content.open_aside(&digest, 7).expect("a look").is_some());
    content.put_back(&digest).expect("put back");
    assert_eq!(content.size(&digest).expect("a look"), Some(7));
    assert_eq!(content.note("round").expect("a look"), None);
    content.set_note("round", "half").expect("a note");
    assert_eq!(content.note("round").expect("a look").as_deref(), Some("half"));
    let turn = content.turn("round").expect("a turn").expect("nobody has it");
    assert!(content.turn("round").expect("a look").is_none());
    drop(turn);
    assert!(content.turn("round").expect("a look").is_some());
}

#[test]
fn a_store_that_is_away_is_said_to_be_and_comes_back() {
    let Some(mut store) = Store::start() else {
        return slipway_skip::skip("`versitygw` is not installed");
    };
    let (content, scratch) = open(&store, "");
    let digest = Digest::sha256(b"content");
    let mut staged = content.stage(&id(4)).expect("staged");
    staged.append(b"content", 0).expect("taken");
    store.stop();
    let away = staged.place(&digest).expect_err("it is away");
    assert!(matches!(away, StorageError::Store(_)), "{away}");
    assert!(!format!("{away:?} {:?}", config(&store, "")).contains(engines::STORE_KEY.1), "a secret");
    store.restart();
    staged.place(&digest).expect("placed");
    assert_eq!(content.size(&digest).expect("a look"), Some(7));
    let wrong = BucketConfig { bucket: "another".to_owned(), ..config(&store, "") };
    let refused = ObjectContent::open(&wrong, scratch.path()).err().expect("no such bucket");
    assert!(refused.to_string().contains("in the object store"), "{refused}");
}
