//! Registries that move, between engines of both kinds.

use super::*;
use crate::server::storage::{
    Author, Deletion, ManifestKey, ManifestRecord, NewManifest, SigningKey,
    pointers::{
        PostgresPointers,
        rows::{COUNTED, Cell, LEFT, Row, text_bytes},
    },
};
use slipway_oci::{
    Algorithm, Descriptor,
    spec::{Parsed, media_type},
};
use slipway_skip::engines::{self, Postgres, STORE_KEY, Store};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const NOTHING: Moving<'static> = Moving { progress: &|_, _| {}, held: &|| {} };

fn push(storage: &Arc<Storage>, repository: &str, bytes: &[u8]) -> Result<Digest, StorageError> {
    let digest = Digest::sha256(bytes);
    let mut upload = storage.stage(repository, Algorithm::Sha256)?;
    upload.append(bytes)?;
    upload.finish(&digest)?;
    Ok(digest)
}

fn image(
    storage: &Arc<Storage>,
    repository: &str,
    tag: &str,
    layer: &[u8],
    subject: Option<&Digest>,
) -> Digest {
    push(storage, repository, b"{}").expect("a configuration");
    push(storage, repository, layer).expect("a layer");
    let json = |descriptor: &Descriptor| serde_json::to_string(descriptor).expect("json");
    let config = json(&Descriptor::of(media_type::OCI_CONFIG, b"{}"));
    let layer = json(&Descriptor::of(media_type::OCI_LAYER, layer));
    let kind = media_type::OCI_MANIFEST;
    let subject = subject.map_or(String::new(), |digest| {
        format!(
            r#","subject":{{"mediaType":"{kind}","digest":"{digest}","size":7}},"annotations":{{"a":"ü","b":"a\u0000b"}}"#
        )
    });
    let bytes = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{config},"layers":[{layer}]{subject}}}"#
    );
    let digest = Digest::sha256(bytes.as_bytes());
    let record = ManifestRecord {
        digest: digest.clone(),
        media_type: kind.to_owned(),
        size_bytes: bytes.len() as u64,
    };
    let parsed = Parsed::from_bytes(bytes.as_bytes(), Some(kind)).expect("a manifest");
    let manifest = NewManifest::described(record, &parsed, vec![tag.to_owned()]);
    let author = Author { who: Some("ann".to_owned()), origin: Some("\u{1}a\0b".to_owned()) };
    storage.put_manifest(repository, &manifest, bytes.as_bytes(), &author).expect("a manifest");
    digest
}

/// A registry with something of everything.
fn fill(storage: &Arc<Storage>) {
    storage.keep_trash(Duration::from_secs(1000));
    let one = image(storage, "app", "v1", &[1; 40_000], None);
    image(storage, "team/deep/app", "v1", &vec![2; 9 << 20], None);
    image(storage, "app", "signed", b"signature", Some(&one));
    image(storage, "app", "v1", b"moved", None);
    let gone = image(storage, "app", "gone", b"gone", None);
    let deletion = Deletion::by(Author::default());
    storage.delete_manifest("app", &ManifestKey::Digest(gone), &deletion).expect("deleted");
    push(storage, "loose/app", b"loose").expect("a blob");
    let key = SigningKey { id: "k".to_owned(), seed: vec![7; 32], created: 1 };
    storage.add_signing_key(&key, 0, 0).expect("a key");
}

/// All that a registry says, and that all of its bytes are there.
fn picture(side: &Side) -> (BTreeMap<&'static str, Vec<Row>>, Vec<String>) {
    let mut all = BTreeMap::new();
    for table in &CARRIED {
        all.insert(table.name, side.rows().page(table, None, 10_000).expect("rows"));
    }
    let storage = &side.storage;
    let survey = storage.pointers.survey().expect("a survey");
    assert_eq!((survey.miscounted, survey.dangling), (vec![], vec![]));
    for (digest, size) in storage.contents("", 1000).expect("contents") {
        assert_eq!(Digest::sha256(&storage.blob_bytes(&digest, size).expect("bytes")), digest);
    }
    let mut used = Vec::new();
    for of in [crate::server::storage::Kin::Repositories, crate::server::storage::Kin::Namespaces] {
        let all = storage.pointers.all_used(of, "", 1000).expect("counts");
        used.extend(all.iter().map(|(name, used)| format!("{name}: {used:?}")));
    }
    used.extend(storage.signing_keys().expect("keys").iter().map(|key| format!("{key:?} {:?}", key.seed)));
    (all, used)
}

fn bucket(store: &Store, database: &str) -> BucketConfig {
    BucketConfig {
        bucket: "registry".to_owned(),
        prefix: format!("moves/{}", database.split(['/', '?']).nth(3).expect("a name")),
        endpoint: Some(store.endpoint()),
        key_id: STORE_KEY.0.to_owned(),
        secret: STORE_KEY.1.to_owned(),
        ..BucketConfig::default()
    }
}

fn shared(server: &Postgres, store: &Store, seal: &str) -> impl Fn(bool) -> Result<Side, StorageError> {
    let database = server.database();
    let (address, bucket) = (database.parse().expect("an address"), bucket(store, &database));
    let seals = Seals::read(&seal.repeat(40)).expect("seals");
    move |is_target| Side::shared(&address, &bucket, &seals, &std::env::temp_dir(), is_target)
}

macro_rules! engines {
    () => {
        match (engines::postgres(), engines::store()) {
            (Some(server), Some(store)) => (server, store),
            _ => return slipway_skip::skip("`initdb` or `versitygw` is not installed"),
        }
    };
}

/// Every table and column of both databases is carried, or it is said why not.
#[test]
fn every_table_and_column_is_decided_on() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("registry.db");
    drop(SqlitePointers::open(&path).expect("a database"));
    let database = rusqlite::Connection::open(&path).expect("a database");
    let mut statement = database
        .prepare(
            "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table'",
        )
        .expect("a statement");
    let columns = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("columns");
    let mut all: Vec<(&str, BTreeSet<(String, String)>)> =
        vec![("SQLite", columns.collect::<Result<_, _>>().expect("columns"))];
    if let Some(server) = engines::postgres() {
        let address = server.database();
        drop(PostgresPointers::open(&address.parse().expect("an address")).expect("a database"));
        let name = address.split(['/', '?']).nth(3).expect("a name").to_owned();
        let told = server.tell(
            &name,
            "SELECT string_agg(table_name || ' ' || column_name, ',') FROM information_schema.columns
             WHERE table_schema = 'slipway'",
        );
        let two = |text: &str| text.split_once(' ').map(|(one, two)| (one.to_owned(), two.to_owned()));
        all.push(("PostgreSQL", told.split(',').filter_map(two).collect()));
    }
    for (engine, columns) in &all {
        for (table, column) in columns {
            let carried = CARRIED.iter().find(|own| own.name == table);
            let is_known = match carried {
                Some(own) => {
                    own.columns.iter().any(|(name, _)| name == column)
                        || COUNTED.contains(&(table.as_str(), column.as_str()))
                }
                None => LEFT.iter().any(|(name, _)| name == table),
            };
            assert!(
                is_known,
                "{engine}: whether `{table}.{column}` is carried is not decided (pointers/rows.rs)"
            );
        }
        for table in &CARRIED {
            for (column, _) in table.columns {
                assert!(
                    columns.contains(&(table.name.to_owned(), (*column).to_owned())),
                    "{engine} {column}"
                );
            }
        }
    }
}

#[test]
fn a_registry_moves_between_a_folder_and_replicas_and_back() {
    let (server, store) = engines!();
    let (first, last) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let from = Side::folder_made(first.path());
    fill(&from.storage);
    let before = picture(&from);
    let cluster = shared(server, store, "a");
    let to = cluster(true).expect("a place");
    let refused = Mutex::new(Vec::new());
    let held = || {
        // reads go on, and nothing is taken
        assert_eq!(from.storage.tags("app", "", 9).expect("tags"), ["signed", "v1"]);
        refused.lock().expect("refused").push(push(&from.storage, "app", b"late").expect_err("held"));
    };
    let moved = migrate(&from, &to, &Moving { held: &held, ..NOTHING }, &|| Ok(0)).expect("moved");
    assert!(matches!(refused.lock().expect("refused")[..], [StorageError::Moving]));
    assert_eq!((moved.lost, moved.contents > 5), (vec![], true));
    assert!(matches!(push(&from.storage, "app", b"later"), Err(StorageError::Moving)), "it has moved");
    assert_eq!(picture(&to), before);
    // it is a registry like any other: what is new has new numbers
    push(&to.storage, "new/app", b"new").expect("a push");
    image(&to.storage, "new/app", "v1", b"newer", None);
    let again = migrate(&from, &to, &NOTHING, &|| Ok(0));
    assert!(matches!(again, Err(StorageError::HasMoved(_) | StorageError::HasRegistry(_))), "{again:?}");
    drop(to);
    // under other keys, and back
    let source = cluster(false).expect("a registry");
    let before = picture(&source);
    let target = Side::target_folder(last.path()).expect("a place");
    migrate(&source, &target, &NOTHING, &|| Ok(0)).expect("moved back");
    assert_eq!(picture(&target), before);
    drop(target);
    let storage = Storage::open(last.path()).expect("a registry");
    image(&storage, "app", "v9", b"after", None);
    assert!(matches!(push(&source.storage, "app", b"late"), Err(StorageError::Moving)));
    source.give_back().expect("given back");
    push(&source.storage, "app", b"late").expect("it takes pushes again");
}

/// Two databases that share a place for content, whatever that is called, would each take the other's away.
#[test]
fn content_is_in_one_registry_alone() {
    let (server, store) = engines!();
    let (one, other) = (server.database(), server.database());
    let side = |database: &str, bucket: &BucketConfig, is_target| {
        let address: DatabaseAddress = database.parse().expect("an address");
        Side::shared(&address, bucket, &Seals::default(), &std::env::temp_dir(), is_target).expect("a place")
    };
    let mut place = bucket(store, &one);
    let from = side(&one, &place, true);
    push(&from.storage, "app", b"layer").expect("a push");
    // another name of the same store
    place.endpoint = place.endpoint.map(|endpoint| endpoint.replace("127.0.0.1", "localhost"));
    let to = side(&other, &place, true);
    let refused = migrate(&from, &to, &NOTHING, &|| Ok(0));
    assert!(matches!(refused, Err(StorageError::SameContent(_))), "{refused:?}");
    let name = refused.expect_err("refused").to_string();
    let port = store.endpoint().rsplit(':').next().expect("a port").to_owned();
    assert!(name.contains("endpoint=http://localhost:") && name.contains(&port), "{name}");
    assert_eq!(to.rows().mark().expect("a mark"), None);
    push(&from.storage, "app", b"another").expect("it takes pushes");
    place.prefix.push_str("-other");
    migrate(&from, &side(&other, &place, true), &NOTHING, &|| Ok(0)).expect("moved");
}

/// However long annotations are, a few of them are in memory.
#[test]
fn long_rows_come_a_few_at_a_time() {
    let (server, store) = engines!();
    let folder = tempfile::tempdir().expect("folder");
    let from = Side::folder_made(folder.path());
    let to = shared(server, store, "e")(true).expect("a place");
    let repository = vec![Cell::Number(1), Cell::Text("app".to_owned())];
    let row = |number: usize, bytes: usize| {
        let text = |text: String| Cell::Text(text);
        let digest = Digest::sha256(number.to_string().as_bytes());
        let mut row = vec![Cell::Number(1), text(digest.to_string()), text("m".to_owned()), Cell::Number(1)];
        row.extend([Cell::Nothing, Cell::Nothing, text("a".repeat(bytes)), Cell::Number(1)]);
        row.extend([Cell::Nothing, Cell::Number(0), Cell::Nothing]);
        row
    };
    let (table, few) = (&CARRIED[2], limits::MOVE_BYTES / 2);
    for side in [&from, &to] {
        side.rows().hold("one", "there", None).expect("held");
        side.rows().change(&CARRIED[0], vec![repository.clone()], Vec::new()).expect("a repository");
        let mut rows: Vec<Row> =
            [few, few, 1, few, 3 * few, 1].into_iter().enumerate().map(|(n, b)| row(n, b)).collect();
        side.rows().change(table, rows.clone(), Vec::new()).expect("rows");
        rows.sort_unstable();
        let (mut found, mut pages) = (Vec::<Row>::new(), 0);
        loop {
            let last = found.last().map(|row| table.key(row).to_vec());
            let page = side.rows().page(table, last.as_deref(), limits::MOVE_PAGE).expect("a page");
            let bytes: usize = page.iter().map(|row| text_bytes(row)).sum();
            assert!(bytes < limits::MOVE_BYTES + 3 * few + few, "{bytes}");
            if page.is_empty() {
                break;
            }
            found.extend(page);
            pages += 1;
        }
        assert_eq!(found, rows);
        assert!(pages > 1, "{pages}");
    }
}

/// Whatever moment it ends at, the next run goes on, and never do both sides take changes.
#[test]
fn what_is_interrupted_goes_on() {
    let (server, store) = engines!();
    let folder = tempfile::tempdir().expect("folder");
    let from = Side::folder_made(folder.path());
    fill(&from.storage);
    let cluster = shared(server, store, "b");
    let to = cluster(true).expect("a place");
    // it dies while it holds the source, and again when that is over
    let id = begin(&from, &to).expect("a move");
    drop(Held::take(&from, &id, &to.name).expect("held"));
    assert!(matches!(push(&from.storage, "app", b"meanwhile"), Err(StorageError::Moving)));
    let died = migrate(&from, &to, &NOTHING, &|| Err(StorageError::Stopped));
    assert!(matches!(died, Err(StorageError::Stopped)), "{died:?}");
    drop(to);
    assert!(matches!(cluster(false).map(drop), Err(StorageError::BeingFilled(_))), "nobody serves the half");
    // its operator has it stay after all, for a while
    from.give_back().expect("given back");
    image(&from.storage, "app", "v1", b"moved once more", None);
    let deletion = Deletion::by(Author::default());
    from.storage.delete_manifest("app", &ManifestKey::Tag("signed".to_owned()), &deletion).expect("deleted");
    let elsewhere = tempfile::tempdir().expect("folder");
    let other = Side::folder_made(elsewhere.path());
    let to = cluster(true).expect("a place");
    let mixed = migrate(&other, &to, &NOTHING, &|| Ok(0));
    assert!(matches!(mixed, Err(StorageError::BeingFilled(_))), "{mixed:?}");
    // it dies when the source is over, and the target is no registry yet
    let id = begin(&from, &to).expect("the same move");
    let held = Held::take(&from, &id, "there").expect("held");
    let second = Held::take(&from, "another", "there").map(drop);
    assert!(matches!(second, Err(StorageError::OtherMove)), "{second:?}");
    held.finish().expect("over");
    assert!(matches!(push(&from.storage, "app", b"late"), Err(StorageError::Moving)));
    let moved = migrate(&from, &to, &NOTHING, &|| Ok(0)).expect("moved");
    assert!(moved.rows > 0 && moved.rows < 20, "only what differs: {moved:?}");
    assert_eq!(picture(&to), picture(&from));
    // another run of the same words that is not yet at its end changes nothing that is served by now
    let row = vec![Cell::Number(99), Cell::Text("late".to_owned())];
    let late = to.rows().change(&CARRIED[0], vec![row], Vec::new());
    assert!(matches!(late, Err(StorageError::OtherMove)), "{late:?}");
    drop(to);
    cluster(false).expect("a registry");
}

/// A hold that nobody extends is over, in both databases, and whoever held it does not end the move.
#[test]
fn a_hold_ends_with_its_holder() {
    let (server, store) = engines!();
    let folder = tempfile::tempdir().expect("folder");
    let cluster = shared(server, store, "c");
    cluster(true).expect("tables");
    for side in [Side::folder_made(folder.path()), cluster(false).expect("a registry")] {
        push(&side.storage, "app", b"before").expect("a push");
        let rows = side.rows();
        assert!(rows.hold("one", "there", Some(Duration::from_secs(2))).expect("held"));
        assert!(!rows.hold("two", "there", Some(Duration::from_secs(2))).expect("asked"));
        assert!(matches!(push(&side.storage, "app", b"meanwhile"), Err(StorageError::Moving)));
        let session = side.storage.start_upload("app", Algorithm::Sha256);
        assert!(matches!(session, Err(StorageError::Moving)), "{session:?}");
        let found = side.storage.blob_size("app", &Digest::sha256(b"before"));
        assert_eq!(found.expect("a read"), 6);
        while push(&side.storage, "app", b"after").is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(!rows.hold_on("one", None).expect("asked"), "it was not held all the time");
        assert!(rows.hold("two", "there", Some(Duration::from_secs(60))).expect("held"));
        assert!(!rows.hold_on("one", None).expect("asked"), "it is another's");
        rows.release().expect("released");
        push(&side.storage, "app", b"again").expect("a push");
        assert_eq!(rows.mark().expect("a mark"), None);
    }
}

/// What the source has lost is carried without its bytes and said; what it has wrong is not passed on.
#[test]
fn what_is_lost_is_said() {
    let (server, store) = engines!();
    let folder = tempfile::tempdir().expect("folder");
    let from = Side::folder_made(folder.path());
    fill(&from.storage);
    let (gone, wrong) = (Digest::sha256(b"signature"), Digest::sha256(b"moved"));
    let path = |digest: &Digest| folder.path().join("blobs/sha256").join(digest.hex());
    std::fs::remove_file(path(&gone)).expect("damage");
    std::fs::write(path(&wrong), b"ruined".get(..5).expect("five")).expect("damage");
    let to = shared(server, store, "d")(true).expect("a place");
    let moved = migrate(&from, &to, &NOTHING, &|| Ok(0)).expect("moved");
    let mut lost = vec![gone.clone(), wrong.clone()];
    lost.sort_unstable();
    assert_eq!(moved.lost, lost);
    for digest in [gone, wrong] {
        assert_eq!(to.storage.content.size(&digest).expect("a look"), None);
    }
    push(&to.storage, "app", b"signature").expect("healed");
}

impl Side {
    /// A folder that is made for a test.
    fn folder_made(path: &Path) -> Side {
        drop(Storage::open(path).expect("a registry"));
        Side::folder(path).expect("a registry")
    }
}
