//! The same histories, each of whose steps another replica takes, over what replicas share.

use super::*;
use crate::server::storage::{
    content::{BucketConfig, MemoryContent, ObjectContent},
    pointers::PostgresPointers,
};
use slipway_skip::engines;

/// Drives replicas, in turns, and memory through one history.
fn drive_replicas(history: &[Operation]) -> Result<(), TestCaseError> {
    let Some(server) = engines::postgres() else {
        slipway_skip::skip("`initdb` is not installed");
        return Ok(());
    };
    if engines::store().is_none() {
        slipway_skip::skip("`versitygw` is not installed: content lies in memory instead");
    }
    let forced = history.iter().any(|one| matches!(one, Operation::DeleteManifest { force: true, .. }));
    let database = server.database();
    let address = database.parse().expect("an address");
    let scratch = tempfile::tempdir().expect("folder");
    let (key_id, secret) = engines::STORE_KEY;
    let bucket = engines::store().map(|store| BucketConfig {
        bucket: "registry".to_owned(),
        prefix: format!("model/{}", database.split(['/', '?']).nth(3).expect("a name")),
        endpoint: Some(store.endpoint()),
        key_id: key_id.to_owned(),
        secret: secret.to_owned(),
        ..BucketConfig::default()
    });
    let memory = MemoryContent::default();
    let storage = || {
        let pointers = PostgresPointers::open(&address).expect("a database");
        match &bucket {
            Some(bucket) => {
                Storage::new(ObjectContent::open(bucket, scratch.path()).expect("a bucket"), pointers)
            }
            None => Storage::new(memory.clone(), pointers),
        }
    };
    let driven = |storage| Driven { storage, folder: None, sessions: Vec::new(), forced, bounds: Vec::new() };
    let (mut shared, mut fleeting) = (driven(storage()), driven(Storage::in_memory()));
    let mut idle = storage();
    for operation in history {
        let before = fleeting.sums();
        prop_assert_eq!(shared.apply(operation), fleeting.apply(operation), "{:?}", operation);
        prop_assert_eq!(shared.life(), fleeting.life(), "{:?}", operation);
        shared.check_bounds(&before);
        // whatever one replica did, another goes on with
        idle.trash.store(shared.storage.trash.load(Ordering::Relaxed), Ordering::Relaxed);
        idle.limit(quotas(&shared.bounds));
        std::mem::swap(&mut idle, &mut shared.storage);
    }
    prop_assert_eq!(shared.picture(), fleeting.picture());
    shared.check_content();
    server.forget(&database);
    Ok(())
}
proptest! {
    // each begins with a database of its own
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn replicas_answer_alike(history in proptest::collection::vec(operation(), 1..40)) {
        drive_replicas(&history)?;
    }

    #[test]
    fn replicas_count_alike(history in proptest::collection::vec(growing(), 20..60)) {
        drive_replicas(&history)?;
    }
}
