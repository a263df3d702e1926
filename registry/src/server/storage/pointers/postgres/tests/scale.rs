//! What stays small however much there is: locks, statements, steps of a collection, and of the schema.

use super::super::{
    life::{found_text, places},
    schema::STEPS,
};
use super::*;
use crate::server::storage::{
    Dependency,
    content::{BucketConfig, ObjectContent},
};
use slipway_oci::Algorithm;
use slipway_skip::engines::STORE_KEY;
use std::{collections::BTreeMap, sync::Arc};

fn name(address: &str) -> String {
    address.split(['/', '?']).nth(3).expect("a name").to_owned()
}

fn connect(address: &str) -> Client {
    let mut client = Client::connect(address);
    client.batch_execute("SET search_path = slipway; SET lock_timeout = '5s'").expect("settings");
    client
}

/// While one push of a layer that is known is under way, others push it into their repositories.
#[test]
fn a_layer_that_everybody_pushes_makes_nobody_wait() {
    let (pointers, address) = open(server!());
    let layer = Digest::sha256(b"base");
    for number in 0..4 {
        // the first of them brings it, the others only have their repositories
        let digest = if number == 0 { layer.clone() } else { Digest::sha256(b"other") };
        pointers.put_blob(&format!("team/app{number}"), &digest, 4, None, &[], 1).expect("a blob");
    }
    let push = |client: &mut Client, number: i32| {
        let text = "INSERT INTO blobs (repository, digest, size, counted)
            SELECT id, $2, 4, true FROM repositories WHERE name = 'team/app' || $1";
        client.execute(text, &[&number.to_string(), &layer.to_string()])
    };
    let slot = |client: &mut Client| -> i32 {
        client.query_one("SELECT pg_backend_pid() % 32", &[]).expect("a row").get(0)
    };
    let mut first = connect(&address);
    first.batch_execute("BEGIN").expect("a transaction");
    push(&mut first, 1).expect("a push");
    // a connection in thirty-two shares its slot, and waits
    let mut second = connect(&address);
    while slot(&mut second) == slot(&mut first) {
        second = connect(&address);
    }
    push(&mut second, 2).expect("it waits for nobody");
    // who takes away waits for who is about to add
    second.batch_execute("SET lock_timeout = '200ms'").expect("a setting");
    let removed = second.execute("DELETE FROM blobs WHERE digest = $1", &[&layer.to_string()]);
    assert!(removed.is_err(), "it was counted beside one that nobody sees");
    first.batch_execute("COMMIT").expect("a commit");
    second.execute("DELETE FROM blobs WHERE digest = $1", &[&layer.to_string()]).expect("removed");
    assert_eq!(pointers.survey().expect("a survey").miscounted, []);
    let left = second.query_one("SELECT count(*) FROM holders WHERE digest = $1", &[&layer.to_string()]);
    assert_eq!(left.expect("a row").get::<_, i64>(0), 0);
}

/// Whoever adds and takes away the same content in however many repositories at once, what is counted is what there is.
#[test]
fn what_is_counted_at_once_is_right() {
    let (pointers, _) = open(server!());
    let pointers = Arc::new(pointers);
    let layers = [b"one", b"two"].map(|bytes| Digest::sha256(bytes));
    thread::scope(|scope| {
        for worker in 0..6_usize {
            let (pointers, layers) = (Arc::clone(&pointers), &layers);
            scope.spawn(move || {
                for turn in 0..25 {
                    let (repository, layer) = (format!("team/{}", worker % 4), &layers[(worker + turn) % 2]);
                    if (worker + turn / 2) % 2 == 0 {
                        match pointers.put_blob(&repository, layer, 3, None, &[], 1) {
                            Ok(()) | Err(StorageError::Condemned(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                    } else if pointers.delete_blob(&repository, layer, &removal()).is_ok_and(|last| last) {
                        pointers.forget(std::slice::from_ref(layer)).expect("forgotten");
                    }
                }
            });
        }
    });
    assert_eq!(pointers.survey().expect("a survey").miscounted, []);
}

/// What a database that counted in one row has goes on being counted.
#[test]
fn what_was_counted_before_is_counted_on() {
    let address = server!().database();
    let mut client = Client::connect(&address);
    client.batch_execute("CREATE SCHEMA slipway; SET search_path = slipway").expect("a schema");
    client.batch_execute("CREATE TABLE version (number bigint); INSERT INTO version VALUES (3)").expect("3");
    STEPS[..3].iter().for_each(|step| client.batch_execute(step).expect("a step"));
    let rows = "INSERT INTO repositories (name) VALUES ('t/a'), ('t/b');
        INSERT INTO namespaces (name) VALUES ('t');
        INSERT INTO members SELECT r.id, n.id FROM repositories r, namespaces n;
        INSERT INTO blobs SELECT id, 'sha256:' || repeat('a', 64), 7, NULL, NULL, true FROM repositories";
    client.batch_execute(rows).expect("rows");
    let pointers = PostgresPointers::open(&address.parse().expect("an address")).expect("open");
    let digest = format!("sha256:{}", "a".repeat(64)).parse().expect("a digest");
    let survey = || pointers.survey().expect("a survey").miscounted;
    assert_eq!(survey(), []);
    pointers.put_blob("t/c", &digest, 7, None, &[], 1).expect("a third");
    assert_eq!(survey(), []);
    for repository in ["t/a", "t/b", "t/c"] {
        pointers.delete_blob(repository, &digest, &removal()).expect("deleted");
        assert_eq!(survey(), [], "{repository}");
    }
}

/// Replicas of the version before go on beside the next one: no step takes anything away that they read or write, and what it adds to
/// their tables they need not know of.
#[test]
fn a_step_of_the_schema_only_adds() {
    let address = server!().database();
    let mut client = Client::connect(&address);
    client.batch_execute("CREATE SCHEMA slipway; SET search_path = slipway").expect("a schema");
    let mut before: BTreeMap<(String, String), String> = BTreeMap::new();
    for (number, step) in STEPS.iter().enumerate() {
        client.batch_execute(step).expect("a step");
        let text = "SELECT table_name::text, column_name::text, data_type::text,
                is_nullable = 'YES' OR column_default IS NOT NULL OR is_identity = 'YES'
            FROM information_schema.columns WHERE table_schema = 'slipway'";
        let rows = client.query(text, &[]).expect("columns");
        let mut now = BTreeMap::new();
        for row in &rows {
            let key: (String, String) = (row.get(0), row.get(1));
            let is_free: bool = row.get(3);
            let is_old = before.keys().any(|(table, _)| *table == key.0);
            assert!(
                is_free || !is_old || before.contains_key(&key),
                "step {}: {key:?} is needed",
                number + 1
            );
            now.insert(key, row.get(2));
        }
        for (key, kind) in &before {
            assert_eq!(now.get(key), Some(kind), "step {} took {key:?} away", number + 1);
        }
        before = now;
    }
}

/// A collection finds what goes by an index of nothing else, and looks at no more rows than it takes.
#[test]
fn a_step_of_a_collection_looks_at_what_it_takes() {
    let (pointers, address) = open(server!());
    pointers.put_blob("app", &Digest::sha256(b"one"), 1, None, &[], 1).expect("a repository");
    let mut client = connect(&address);
    client
        .batch_execute(
            "SET session_replication_role = replica; SET plan_cache_mode = force_generic_plan;
             INSERT INTO blobs SELECT 1, 'b' || n, 1, n, CASE WHEN n % 2 = 0 THEN n END, false FROM generate_series(1, 30000) AS n;
             INSERT INTO manifests (repository, digest, media_type, size, pushed, loose, orphan, deleted)
                SELECT 1, 'm' || n, 't', 1, 1, n, n % 100 = 0, CASE WHEN n % 3 = 0 THEN n END FROM generate_series(1, 30000) AS n;
             ANALYZE",
        )
        .expect("rows");
    for reason in [Reason::Loose, Reason::Untagged, Reason::Trashed] {
        for (_, table, wanted) in places(reason) {
            for of_repository in [false, true] {
                let since = if reason == Reason::Trashed { "deleted" } else { "loose" };
                let text = found_text(table, wanted, since, of_repository);
                let (types, values) = if of_repository {
                    ("bigint, bigint, text", "1000000, 200, 'app'")
                } else {
                    ("bigint, bigint", "1000000, 200")
                };
                let asked = format!("PREPARE found ({types}) AS {text}");
                client.batch_execute(&asked).expect("prepared");
                let rows = client
                    .query(&format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE found({values})"), &[])
                    .expect("a plan");
                client.batch_execute("DEALLOCATE found").expect("done");
                let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                let plan = plan.join("\n");
                assert!(!plan.contains(&format!("Seq Scan on {table}")), "{text}\n{plan}");
                let removed =
                    plan.lines().filter_map(|line| line.trim().strip_prefix("Rows Removed by Filter: "));
                let removed: u64 = removed.map(|count| count.parse::<u64>().expect("a number")).sum();
                // every second or third is in the trash, and there no longer loose where this program writes it
                assert!(removed <= 400, "{removed} looked at for nothing: {text}\n{plan}");
            }
        }
    }
}

/// Of one request, four statements with those that begin and end the transaction, and two requests to the store.
#[test]
fn a_small_upload_asks_little() {
    let server = server!();
    let Some(store) = engines::store() else { return slipway_skip::skip("`versitygw` is not installed") };
    let (pointers, address) = open(server);
    let scratch = tempfile::tempdir().expect("folder");
    let bucket = BucketConfig {
        bucket: "registry".to_owned(),
        prefix: format!("little/{}", name(&address)),
        endpoint: Some(store.endpoint()),
        key_id: STORE_KEY.0.to_owned(),
        secret: STORE_KEY.1.to_owned(),
        ..BucketConfig::default()
    };
    let storage = Storage::new(ObjectContent::open(&bucket, scratch.path()).expect("a bucket"), pointers);
    server.tell(&name(&address), "CREATE EXTENSION pg_stat_statements SCHEMA public");
    let push = |seed: u8| {
        let bytes = vec![seed; 4096];
        let mut upload = storage.stage("app", Algorithm::Sha256).expect("stage");
        upload.append(&bytes).expect("append");
        upload.finish(&Digest::sha256(&bytes)).expect("finish");
    };
    // its repository is there, and what is asked is prepared
    (0..2).for_each(push);
    let asked = || storage.asked(Dependency::Content).expect("a store").requests;
    server.tell(&name(&address), "SELECT pg_stat_statements_reset()");
    let before = asked();
    push(2);
    let requests = asked() - before;
    let calls =
        "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
        WHERE d.datname = current_database() AND toplevel AND query NOT LIKE '%pg_stat_statements%'";
    let statements: u64 = server.tell(&name(&address), calls).parse().expect("a number");
    assert_eq!((statements, requests), (4, 2));
}
