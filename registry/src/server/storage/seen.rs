//! Content whose bytes this process has seen to be right: a table of fixed size, in which a newer one takes an older one's place.
//!
//! Whoever serves a blob for the first time digests it on the way; then the scrub alone looks after it.

use slipway_oci::Digest;
use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

/// Places of the table: half a megabyte.
const PLACES: usize = 1 << 16;

/// The table.
pub(super) struct Seen {
    keys: RandomState,
    places: Box<[AtomicU64]>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { keys: RandomState::new(), places: (0..PLACES).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Seen {
    fn place(&self, digest: &Digest) -> (&AtomicU64, u64) {
        // keyed: nobody can choose digests that share a place
        let key = self.keys.hash_one(digest) | 1;
        (&self.places[(key >> 32) as usize % PLACES], key)
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        let (place, key) = self.place(digest);
        place.load(Ordering::Relaxed) == key
    }

    pub(super) fn add(&self, digest: &Digest) {
        let (place, key) = self.place(digest);
        place.store(key, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, digest: &Digest) {
        let (place, key) = self.place(digest);
        // what took its place stays
        let _ = place.compare_exchange(key, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_seen_until_it_is_removed() {
        let seen = Seen::default();
        let digests: Vec<Digest> = (0..100_u32).map(|number| Digest::sha256(&number.to_le_bytes())).collect();
        let (first, others) = digests.split_first().expect("some");
        assert!(!seen.has(first));
        seen.add(first);
        assert!(seen.has(first));
        assert!(others.iter().all(|other| !seen.has(other)));
        others.iter().for_each(|other| seen.remove(other));
        assert!(seen.has(first));
        seen.remove(first);
        assert!(!seen.has(first));
    }
}
