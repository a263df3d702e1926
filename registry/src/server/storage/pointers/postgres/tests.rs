//! What many connections do at once, and what few statements do.

use super::*;
use crate::server::storage::{Seals, Storage, content::MemoryContent, pointers::Entities};
use slipway_skip::engines::{self, Postgres};
use std::{
    collections::BTreeSet,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// A connection of a test's own.
struct Client(line::Line);

impl Client {
    fn connect(address: &str) -> Client {
        let address = address.parse().expect("an address");
        Client(line::Line::open(&address, Duration::from_secs(60)).expect("a connection"))
    }

    fn batch_execute(&mut self, text: &str) -> Result<(), StorageError> {
        self.0.ask(async |client| client.batch_execute(text).await)
    }

    fn execute(&mut self, text: &str, values: connect::Values<'_>) -> Result<u64, StorageError> {
        self.0.ask(async |client| client.execute(text, values).await)
    }

    fn query(&mut self, text: &str, values: connect::Values<'_>) -> Result<Vec<postgres::Row>, StorageError> {
        self.0.ask(async |client| client.query(text, values).await)
    }

    fn query_one(&mut self, text: &str, values: connect::Values<'_>) -> Result<postgres::Row, StorageError> {
        self.0.ask(async |client| client.query_one(text, values).await)
    }
}

fn open(server: &Postgres) -> (PostgresPointers, String) {
    let address = server.database();
    let pointers = PostgresPointers::open(&address.parse().expect("an address")).expect("a database");
    (pointers, address)
}

fn change(at: i64) -> Change {
    Change { at, who: None, origin: None }
}

fn manifest(bytes: &str, tag: Option<&str>) -> NewManifest {
    let record = ManifestRecord {
        digest: Digest::sha256(bytes.as_bytes()),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        size_bytes: bytes.len() as u64,
    };
    NewManifest {
        record,
        subject: None,
        artifact_type: None,
        annotations: None,
        required: Vec::new(),
        tags: tag.map(str::to_owned).into_iter().collect(),
        kept: Vec::new(),
        condition: Condition::default(),
    }
}

fn removal() -> Removal {
    Removal {
        change: change(5),
        immutable: std::sync::Arc::new(|_| false),
        condition: Condition::default(),
        force: false,
        trash: false,
        seen: None,
    }
}

macro_rules! server {
    () => {
        match engines::postgres() {
            Some(server) => server,
            None => return slipway_skip::skip("`initdb` is not installed"),
        }
    };
}

// after the macro that it uses
mod scale;

/// Replicas move one tag, each from what it found: every move has one winner, and the history is the one chain of them.
#[test]
fn of_many_that_move_a_tag_one_wins_each_time() {
    let (first, address) = open(server!());
    let address: &str = &address;
    const MOVES: usize = 15;
    first.put_manifest("team/app", &manifest("begin", Some("v")), &[], &change(1)).expect("a manifest");
    let start = Barrier::new(4);
    let won = AtomicUsize::new(0);
    thread::scope(|scope| {
        for replica in 0..4 {
            let (start, won) = (&start, &won);
            scope.spawn(move || {
                let own = PostgresPointers::open(&address.parse().expect("an address")).expect("open");
                start.wait();
                let mut moved = 0;
                while moved < MOVES {
                    let key = ManifestKey::Tag("v".to_owned());
                    let found = own.manifest("team/app", &key).expect("the tag is there").digest;
                    let mut next = manifest(&format!("{replica} {moved}"), Some("v"));
                    next.condition = Condition::is(&found);
                    match own.put_manifest("team/app", &next, &[], &change(2)) {
                        Ok(()) => {
                            moved += 1;
                            won.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(StorageError::Moved { current: Some(current), .. }) => assert_ne!(current, found),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(won.into_inner(), 4 * MOVES);
    let mut events = first.tag_history("team/app", Some("v"), i64::MAX, 1000).expect("a history");
    events.reverse();
    assert_eq!(events.len(), 4 * MOVES + 1);
    for pair in events.windows(2) {
        assert_eq!(pair[0].digest, pair[1].former, "a move was lost");
    }
}

/// Repositories get and lose the same content: whoever has it never lacks its bytes, which a set stands for here.
#[test]
fn content_that_somebody_points_at_is_never_condemned() {
    let (first, address) = open(server!());
    let address: &str = &address;
    let digest = Digest::sha256(b"shared");
    thread::scope(|scope| {
        for replica in 0..4_i64 {
            let digest = &digest;
            scope.spawn(move || {
                let own = PostgresPointers::open(&address.parse().expect("an address")).expect("open");
                let name = format!("r{replica}");
                for round in 0..40 {
                    // as storage does: it waits until the removal is over
                    while let Err(error) = own.put_blob(&name, digest, 6, None, &[], round) {
                        assert!(matches!(error, StorageError::Condemned(_)), "{error}");
                        thread::yield_now();
                    }
                    assert_eq!(own.condemned(i64::MAX, 10).expect("a list"), [], "it is pointed at");
                    let mounted = own.mount(&format!("m{replica}"), digest, Some(&name), &[], round);
                    assert!(mounted.expect("it is there"));
                    assert!(!own.delete_blob(&name, digest, &removal()).expect("it is there"));
                    if own.delete_blob(&format!("m{replica}"), digest, &removal()).expect("it is there") {
                        assert!(!own.is_needed(digest).expect("a look"));
                        own.forget(std::slice::from_ref(digest)).expect("its bytes are gone");
                    }
                }
            });
        }
    });
    assert!(!first.is_needed(&digest).expect("a look"));
    assert_eq!(first.used(&Scope::Namespace(String::new())).expect("a sum"), Used::default());
}

/// A quota is exact however many add at once, and what slots say is what there is.
#[test]
fn of_many_that_add_no_more_pass_than_fit() {
    let (first, address) = open(server!());
    let address: &str = &address;
    let bound = Bound { scope: Scope::Namespace("team".to_owned()), bytes: Some(100), tags: None };
    let passed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for replica in 0..4 {
            let (bound, passed) = (&bound, &passed);
            scope.spawn(move || {
                let own = PostgresPointers::open(&address.parse().expect("an address")).expect("open");
                for number in 0..10 {
                    let digest = Digest::sha256(format!("{replica} {number}").as_bytes());
                    let name = format!("team/r{}", (replica + number) % 3);
                    match own.put_blob(&name, &digest, 7, None, std::slice::from_ref(bound), 1) {
                        Ok(()) => drop(passed.fetch_add(1, Ordering::Relaxed)),
                        Err(StorageError::OverQuota(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 14, "of 7 bytes each");
    assert_eq!(first.used(&bound.scope).expect("a sum"), Used { bytes: 98, tags: 0 });
    let mut all = 0;
    for (name, used) in first.all_used(Kin::Repositories, "", 10).expect("sums") {
        let usage = first.usage(&name).expect("usage");
        assert_eq!(usage.bytes, used.bytes);
        all += used.bytes;
    }
    assert_eq!(all, 98);
}

/// Two replicas get the same chunk: one moves the session on.
#[test]
fn of_two_that_move_a_session_on_one_wins() {
    let (first, address) = open(server!());
    let second = PostgresPointers::open(&address.parse().expect("an address")).expect("open");
    let id: UploadId = "6a1f1c52-0000-4000-8000-000000000001".parse().expect("an id");
    let progress = |length| Progress { length, hash: None, place: vec![7] };
    let session = Session { algorithm: slipway_oci::Algorithm::Sha256, progress: progress(0) };
    let caps = SessionCaps { repository: 1, registry: 10 };
    first.start_session("app", &id, &session, caps, 1).expect("a session");
    let other: UploadId = "6a1f1c52-0000-4000-8000-000000000002".parse().expect("an id");
    let many = first.start_session("app", &other, &session, caps, 1);
    assert!(matches!(many, Err(StorageError::SessionsMany)));
    let start = Barrier::new(2);
    let won = thread::scope(|scope| {
        let tries = [&first, &second].map(|own| {
            let (start, id) = (&start, &id);
            scope.spawn(move || {
                start.wait();
                own.advance_session(id, 0, &progress(9), 2)
            })
        });
        tries.map(|one| one.join().expect("no panic"))
    });
    assert_eq!(won.iter().filter(|one| one.is_ok()).count(), 1, "{won:?}");
    assert!(won.iter().any(|one| matches!(one, Err(StorageError::UploadBusy))), "{won:?}");
    assert_eq!(second.session("app", &id).expect("the session").progress, progress(9));
    first.put_blob("app", &Digest::sha256(b"blob"), 4, Some(&id), &[], 3).expect("a blob");
    assert!(!second.has_session(&id).expect("a look"));
}

/// What a pull asks is one statement by digest, and no more by tag.
#[test]
fn a_pull_asks_few_statements() {
    let server = server!();
    let (pointers, address) = open(server);
    let name = address.split(['/', '?']).nth(3).expect("a name").to_owned();
    server.tell(&name, "CREATE EXTENSION pg_stat_statements SCHEMA public");
    pointers.put_manifest("app", &manifest("m", Some("v")), &[], &change(1)).expect("a manifest");
    let digest = Digest::sha256(b"m");
    pointers.put_blob("app", &digest, 1, None, &[], 1).expect("a blob");
    let count = |work: &dyn Fn()| -> u64 {
        // what is prepared is asked once before
        work();
        server.tell(&name, "SELECT pg_stat_statements_reset()");
        work();
        let calls =
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
            WHERE d.datname = current_database() AND query NOT LIKE '%pg_stat_statements%'";
        server.tell(&name, calls).parse().expect("a number")
    };
    assert_eq!(count(&|| drop(pointers.blob("app", &digest))), 1);
    assert_eq!(count(&|| drop(pointers.manifest("app", &ManifestKey::Digest(digest.clone())))), 1);
    assert_eq!(count(&|| drop(pointers.manifest("app", &ManifestKey::Tag("v".to_owned())))), 1);
}

/// Replicas take turns at work; one that dies is followed after its lease, and what it then still says is not written.
#[test]
fn a_lease_is_one_replicas_until_it_ends() {
    let (first, address) = open(server!());
    let second = PostgresPointers::open(&address.parse().expect("an address")).expect("open");
    let (one, other) = (first.leases().expect("leases"), second.leases().expect("leases"));
    let (long, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
    let take = |of: &Leases, every, time| of.take("collect", every, time).expect("a look");
    let lease = take(&one, Duration::ZERO, long).expect("nobody has it");
    assert_eq!(take(&other, Duration::ZERO, long), None);
    assert_eq!(take(&one, Duration::ZERO, long), None, "not twice either");
    assert!(other.take("scrub", hour, long).expect("a look").is_some(), "other work is another's");
    assert!(one.set_note(&lease, "half").expect("a note"));
    assert!(one.keep(&lease, Duration::from_millis(50)).expect("kept"));
    thread::sleep(Duration::from_millis(60));
    let next = take(&other, hour, long).expect("it is over, and was never finished");
    assert!(next.fence > lease.fence);
    assert_eq!(other.note("collect").expect("a look").as_deref(), Some("half"));
    // the former holder comes back from wherever it was
    assert!(!one.keep(&lease, long).expect("a look"));
    assert!(!one.set_note(&lease, "late").expect("a look"));
    one.end(&lease, true).expect("nothing");
    assert_eq!(other.note("collect").expect("a look").as_deref(), Some("half"));
    assert_eq!(take(&one, Duration::ZERO, long), None, "what it gave back was not its own");
    other.end(&next, true).expect("done");
    assert_eq!(take(&one, hour, long), None, "it was just done");
    assert!(take(&one, Duration::ZERO, long).is_some());
    // of many that ask at once one gets it
    let start = Barrier::new(4);
    let taken = thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|replica| {
                let (own, start) = (if replica % 2 == 0 { &one } else { &other }, &start);
                scope.spawn(move || {
                    start.wait();
                    own.take("sweep", hour, long).expect("a look").is_some()
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().expect("no panic")).filter(|taken| *taken).count()
    });
    assert_eq!(taken, 1);
}

/// What any replica queued any other sends, each notice once at a time and in order.
#[test]
fn notices_are_any_replicas() {
    let (first, address) = open(server!());
    let second = PostgresPointers::open(&address.parse().expect("an address")).expect("open");
    let (one, other) = (first.outbox().expect("an outbox"), second.outbox().expect("an outbox"));
    one.add(&[("a", "1".into()), ("b", "2".into()), ("a", "3".into())]).expect("added");
    assert_eq!(other.count().expect("a count"), 3);
    let waiting = other.first("a").expect("read").expect("one");
    assert_eq!((waiting.body.as_str(), waiting.attempts, waiting.wait), ("1", 0, Duration::ZERO));
    assert!(other.claim(&waiting, Duration::from_millis(50)).expect("claimed"));
    assert!(!one.claim(&waiting, Duration::from_secs(60)).expect("a look"), "it is the other's");
    let again = one.first("a").expect("read").expect("one");
    assert!(again.attempts == 1 && again.wait > Duration::ZERO, "{again:?}");
    // whoever claimed it died
    thread::sleep(Duration::from_millis(60));
    assert!(one.claim(&again, Duration::from_secs(60)).expect("claimed"));
    other.postpone(again.id, 1, Duration::ZERO).expect("nothing");
    let held = one.first("a").expect("read").expect("one");
    assert!(held.attempts == 2 && held.wait > Duration::from_secs(50), "{held:?}");
    one.postpone(again.id, 2, Duration::ZERO).expect("postponed");
    assert_eq!(one.first("a").expect("read").expect("one").wait, Duration::ZERO);
    one.remove(again.id).expect("removed");
    assert_eq!(other.first("a").expect("read").expect("one").body, "3");
    assert_eq!(other.first("c").expect("read"), None);
}

/// Keys of tokens lie in the database sealed, and stay what they are while what seals them is rolled.
#[test]
fn keys_are_sealed_and_rolled() {
    let server = server!();
    let address = server.database();
    let name = address.split(['/', '?']).nth(3).expect("a name").to_owned();
    let replica = |keys: &[char]| {
        let lines: Vec<String> = keys.iter().map(|letter| letter.to_string().repeat(40)).collect();
        let seals =
            if lines.is_empty() { Seals::default() } else { Seals::read(&lines.join("\n")).expect("keys") };
        let pointers = PostgresPointers::open(&address.parse().expect("an address")).expect("open");
        Storage::sealed(MemoryContent::default(), pointers, seals)
    };
    let key = SigningKey { id: "k".to_owned(), seed: vec![7; 32], created: 100 };
    // from before there was a key for them
    replica(&[]).add_signing_key(&key, 50, 10).expect("a key");
    let plain =
        "SELECT count(*) FROM slipway.signing_keys WHERE position('\\x0707070707070707'::bytea in seed) > 0";
    assert_eq!(server.tell(&name, plain), "1");
    for keys in [&['a'][..], &['a', 'b'], &['b', 'a'], &['b']] {
        assert_eq!(replica(keys).signing_keys().expect("keys"), std::slice::from_ref(&key), "{keys:?}");
        assert_eq!(server.tell(&name, plain), "0");
    }
    for keys in [&['a'][..], &[]] {
        assert!(matches!(replica(keys).signing_keys(), Err(StorageError::Sealed)), "{keys:?}");
    }
    let other = SigningKey { id: "l".to_owned(), seed: vec![7; 32], created: 200 };
    replica(&['b']).add_signing_key(&other, 150, 10).expect("a key");
    assert_eq!(server.tell(&name, plain), "0");
    assert_eq!(replica(&['b']).signing_keys().expect("keys").len(), 2);
}

/// Tables that an older version made get what they lack, and keep what they have.
/// Waits until what was asked for once is remembered, which needs the listener's word.
fn remembered(name: &str, server: &Postgres, work: &dyn Fn()) {
    let reads =
        "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
        WHERE d.datname = current_database() AND query LIKE '%FROM repositories r%'";
    for _ in 0..500 {
        server.tell(name, "SELECT pg_stat_statements_reset()");
        work();
        if server.tell(name, reads) == "0" {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it is asked for each time");
}

/// A replica that listens asks nothing twice, and knows of what another one changed within a second, whatever becomes of its listener.
#[test]
fn what_is_remembered_is_told_when_it_changes() {
    let server = server!();
    let (own, address) = open(server);
    let other = PostgresPointers::open(&address.parse().expect("an address")).expect("open");
    let name = address.split(['/', '?']).nth(3).expect("a name").to_owned();
    server.tell(&name, "CREATE EXTENSION pg_stat_statements SCHEMA public");
    let gone: Arc<std::sync::Mutex<Vec<Digest>>> = Arc::default();
    let heard = Arc::clone(&gone);
    own.listen(Arc::new(move |digest| heard.lock().expect("no panic").push(digest.clone())))
        .expect("a thread");
    let tag = ManifestKey::Tag("v".to_owned());
    let blob = Digest::sha256(b"blob");
    let digest = |number: usize| Digest::sha256(number.to_string().as_bytes());
    other.put_manifest("app", &manifest("0", Some("v")), &[], &change(1)).expect("a manifest");
    other.put_blob("app", &blob, 4, None, &[], 1).expect("a blob");
    let look = || {
        let _ = (own.manifest("app", &tag), own.blob("app", &blob));
        let _ = own.manifest("app", &ManifestKey::Digest(digest(0)));
    };
    let bound = Duration::from_secs(1);
    for round in 1..6_usize {
        remembered(&name, server, &look);
        assert_eq!(own.manifest("app", &tag).expect("a tag").digest, digest(round - 1));
        let text = round.to_string();
        other.put_manifest("app", &manifest(&text, Some("v")), &[], &change(2)).expect("moved");
        let moved = std::time::Instant::now();
        if round == 3 {
            let ended =
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'
                OR datname = current_database() AND query = 'SELECT 1'";
            assert_ne!(server.tell(&name, ended), "0", "nobody listens");
        }
        loop {
            let asked = std::time::Instant::now();
            if own.manifest("app", &tag).expect("a tag").digest == digest(round) {
                break;
            }
            assert!(asked - moved < bound, "it is served as it was a second ago");
        }
    }
    // this replica's own change holds at once
    remembered(&name, server, &look);
    own.put_manifest("app", &manifest("own", Some("v")), &[], &change(2)).expect("moved");
    assert_eq!(own.manifest("app", &tag).expect("a tag").digest, Digest::sha256(b"own"));
    remembered(&name, server, &look);
    assert!(other.delete_blob("app", &blob, &removal()).expect("deleted"));
    other.delete_manifest("app", &tag, &removal()).expect("deleted");
    thread::sleep(bound);
    assert_eq!(own.blob("app", &blob).expect("a look"), None);
    assert!(matches!(own.manifest("app", &tag), Err(StorageError::ManifestUnknown(_))));
    assert!(gone.lock().expect("no panic").contains(&blob), "its bytes go from where they are at hand");
    other.tell_removed(&digest(7)).expect("told");
    thread::sleep(bound);
    assert!(gone.lock().expect("no panic").contains(&digest(7)));
}

#[test]
fn a_database_of_an_older_version_gets_what_it_lacks() {
    let address = server!().database();
    let mut client = Client::connect(&address);
    let begin =
        "CREATE SCHEMA slipway; SET search_path = slipway; CREATE TABLE version (number bigint NOT NULL);
        INSERT INTO version VALUES (1);";
    client.batch_execute(begin).expect("a schema");
    client.batch_execute(include_str!("schema.sql")).expect("version 1");
    client.batch_execute("INSERT INTO signing_keys VALUES ('k', '\\x00', 7)").expect("a row");
    let pointers = PostgresPointers::open(&address.parse().expect("an address")).expect("open");
    assert_eq!(pointers.signing_keys().expect("keys").len(), 1);
    assert!(pointers.outbox().expect("an outbox").count().expect("a count") == 0);
    let version = client.query_one("SELECT number FROM version", &[]).expect("a row").get::<_, i64>(0);
    PostgresPointers::open(&address.parse().expect("an address")).expect("once more");
    assert!(version > 1);
}

#[test]
fn a_database_of_another_version_is_refused_in_words() {
    let server = server!();
    let (pointers, address) = open(server);
    drop(pointers);
    let mut client = Client::connect(&address);
    client.batch_execute("UPDATE slipway.version SET number = 1000").expect("an update");
    let refused = PostgresPointers::open(&address.parse().expect("an address")).err().expect("refused");
    assert!(matches!(refused, StorageError::Newer { found: 1000, .. }), "{refused}");
    assert!(refused.to_string().ends_with("use a newer slipway"), "{refused}");
}

#[test]
fn replicas_that_begin_at_once_make_one_schema_and_one_key() {
    let address = server!().database();
    let address: &str = &address;
    let start = Barrier::new(6);
    let keys = thread::scope(|scope| {
        let all: Vec<_> = (0..6_u8)
            .map(|replica| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let own = PostgresPointers::open(&address.parse().expect("an address")).expect("open");
                    let key = SigningKey { id: replica.to_string(), seed: vec![replica; 32], created: 100 };
                    own.add_signing_key(&key, 50, 10).expect("a key");
                    own.signing_keys().expect("keys").into_iter().map(|key| key.id).collect::<Vec<_>>()
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().expect("no panic")).collect::<BTreeSet<_>>()
    });
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert_eq!(keys.first().map(Vec::len), Some(1));
}

/// A server that takes what it is asked and answers nothing holds nobody up for long, and is used again once it goes on.
#[test]
fn a_server_that_stands_still_is_not_waited_for() {
    let Some(server) = Postgres::start() else {
        return slipway_skip::skip("`initdb` is not installed");
    };
    let (pointers, address) = open(&server);
    drop(pointers);
    let address: DatabaseAddress = address.parse().expect("an address");
    let pool = Arc::new(Pool::patient(address.clone(), Duration::from_millis(800)));
    let pointers = PostgresPointers { pool, address, records: Arc::default() };
    let blob = Digest::sha256(b"blob");
    pointers.put_blob("app", &blob, 4, None, &[], 1).expect("a blob");
    server.stand_still(true);
    // more than there are connections: those that come later are told what the first ones found
    let silent = thread::scope(|scope| {
        let ask = |number: u8| match number % 2 {
            0 => pointers.blob("app", &blob).map(drop),
            _ => pointers.put_blob("app", &Digest::sha256(&[number]), 4, None, &[], 1),
        };
        let all: Vec<_> = (0..40).map(|number| scope.spawn(move || ask(number))).collect();
        let all = all.into_iter().map(|one| one.join().expect("no panic"));
        all.filter(|answer| matches!(answer, Err(StorageError::Silent))).count()
    });
    assert_eq!(silent, 40);
    server.stand_still(false);
    assert!(pointers.blob("app", &blob).expect("it is back").is_some());
    pointers.put_blob("app", &Digest::sha256(b"other"), 5, None, &[], 1).expect("a blob");
}

/// What the database gives up by itself leaves its connection as it was.
#[test]
fn what_takes_too_long_is_given_up() {
    let (pointers, address) = open(server!());
    pointers.put_blob("app", &Digest::sha256(b"one"), 4, None, &[], 1).expect("a blob");
    let given_up: Result<(), StorageError> =
        pointers.pool.read(|database| database.batch("SET statement_timeout = '20ms'; SELECT pg_sleep(60)"));
    assert!(matches!(given_up, Err(StorageError::Slow)), "{given_up:?}");
    let long = pointers.pool.write(|database| {
        database.take_time()?;
        database.batch("SELECT pg_sleep(0.1)")
    });
    long.expect("it has the time");
    drop(address);
    assert!(pointers.blob("app", &Digest::sha256(b"one")).expect("a look").is_some());
}

/// A server that went and came back is used again without a word; one that is gone is said to be away, soon.
#[test]
fn a_server_that_comes_back_is_used_again() {
    let Some(mut server) = Postgres::start() else {
        return slipway_skip::skip("`initdb` is not installed");
    };
    let (pointers, _) = open(&server);
    let blob = Digest::sha256(b"blob");
    pointers.put_blob("app", &blob, 4, None, &[], 1).expect("a blob");
    server.restart();
    assert!(pointers.blob("app", &blob).expect("it is back").is_some());
    server.restart();
    pointers.put_blob("app", &Digest::sha256(b"other"), 5, None, &[], 1).expect("a blob");
    server.stop();
    assert!(matches!(pointers.blob("app", &blob), Err(StorageError::Away(_))));
    let put = pointers.put_blob("app", &blob, 4, None, &[], 1);
    assert!(matches!(put, Err(StorageError::Away(_))), "{put:?}");
    server.restart();
    assert!(pointers.blob("app", &blob).expect("it is back").is_some());
    let wanted = Condition { is: Some(Entities::Any), is_not: None };
    let moved = pointers.set_tag("app", "v", &blob, &wanted, &[], &change(1));
    assert!(matches!(moved, Err(StorageError::Moved { current: None, .. })), "{moved:?}");
}
