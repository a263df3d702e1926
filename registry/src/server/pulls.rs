//! Pulls that were not written down yet: counted in memory, so that a read costs no write, and written a few times a minute.

use super::storage::{ManifestKey, Pulls, Storage, StorageError};
use crate::limits;
use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};

type Waiting = HashMap<(String, ManifestKey), (i64, u64)>;

/// The counts.
#[derive(Default)]
pub(super) struct PullCounts(Mutex<Waiting>);

impl PullCounts {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().expect("no panic happens while pulls are held")
    }

    /// Counts one. Beyond [`limits::PULLS_WAITING`] different ones until they are written they are not known.
    pub(super) fn count(&self, repository: &str, key: &ManifestKey) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let mut waiting = self.waiting();
        let full = waiting.len() >= limits::PULLS_WAITING;
        let key = (repository.to_owned(), key.clone());
        if full && !waiting.contains_key(&key) {
            return;
        }
        let (at, count) = waiting.entry(key).or_default();
        *at = (*at).max(now);
        *count += 1;
    }

    /// Writes them down, a few in each transaction. Blocks.
    pub(super) fn write(&self, storage: &Storage) -> Result<(), StorageError> {
        let waiting = mem::take(&mut *self.waiting());
        let pulls =
            waiting.into_iter().map(|((repository, key), (at, count))| Pulls { repository, key, at, count });
        let pulls: Vec<Pulls> = pulls.collect();
        pulls.chunks(limits::PULLS_PAGE).try_for_each(|some| storage.record_pulls(some))
    }
}
