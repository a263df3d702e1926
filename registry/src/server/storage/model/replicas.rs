//! The same histories, each of whose steps another replica takes.

use super::*;
use pointers::PostgresPointers;

proptest! {
    // each begins with a database of its own
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn replicas_answer_alike(history in proptest::collection::vec(operation(), 1..40)) {
        let Some(server) = slipway_skip::engines::postgres() else {
            slipway_skip::skip("`initdb` is not installed");
            return Ok(());
        };
        let forced = history.iter().any(|one| matches!(one, Operation::DeleteManifest { force: true, .. }));
        let database = server.database();
        let address = database.parse().expect("an address");
        let content = MemoryContent::default();
        let storage = || {
            let pointers = PostgresPointers::open(&address).expect("a database");
            Storage::new(content.clone(), pointers)
        };
        let driven = |storage| Driven { storage, folder: None, sessions: Vec::new(), forced, bounds: Vec::new() };
        let (mut shared, mut fleeting) = (driven(storage()), driven(Storage::in_memory()));
        let mut idle = storage();
        for operation in &history {
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
    }
}
