//! What replicas take together: each tells the others once a second what was taken of limits at it, and counts what it hears.
//!
//! It is told by `NOTIFY`, so that nobody waits for a row of anybody's. What is told late, or missed while a replica's listener has no
//! connection, is not counted there: limits over replicas are approximate, and docs/cluster.md says how far.

use super::{
    call::{Shared, blocking},
    storage::{Storage, StorageError},
    throttle::Throttle,
};
use crate::limits;
use std::sync::Arc;

/// Counts for this process, or for all replicas beside which it serves.
pub(super) fn throttle(storage: &Storage) -> Result<Arc<Throttle>, StorageError> {
    let Some(key) = storage.limit_key()? else { return Ok(Arc::default()) };
    let throttle = Arc::new(Throttle::shared(&key)?);
    let heard = Arc::downgrade(&throttle);
    storage.hear_counts(Box::new(move |text| {
        if let Some(throttle) = heard.upgrade() {
            throttle.hear(text);
        }
    }));
    Ok(throttle)
}

/// Tells the others, once a second for as long as the server runs.
pub(super) async fn tell(shared: Arc<Shared>) {
    if !shared.storage.is_shared() {
        return;
    }
    let mut ticks = tokio::time::interval(limits::COUNTS_EVERY);
    loop {
        ticks.tick().await;
        let told = shared.throttle.tell();
        if told.is_empty() {
            continue;
        }
        let storage = Arc::clone(&shared.storage);
        // a database that is away is counted as that, and told nothing: others count less for a second
        let _ = blocking(move || told.iter().try_for_each(|text| storage.tell_counts(text))).await;
    }
}
