//! The keys that tokens are signed with: kept in the storage, so that every process over it knows them, and rolled.
//!
//! A key signs for [`limits::KEY_LIFE_SECONDS`]; what it signed is believed until the last of its tokens is over, then it goes.

use crate::{
    limits,
    server::storage::{SigningKey, Storage, StorageError},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::sync::{Arc, Mutex, RwLock};

/// One key.
pub(in crate::server) struct Key {
    pub(super) id: String,
    pub(super) pair: Ed25519KeyPair,
    created: i64,
}

impl Key {
    /// Of 32 bytes; `None` where they are no key.
    pub(super) fn new(id: String, seed: &[u8], created: i64) -> Option<Key> {
        Some(Key { id, pair: Ed25519KeyPair::from_seed_unchecked(seed).ok()?, created })
    }

    fn random(now: i64) -> Result<SigningKey, StorageError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed");
        let digest = ring::digest::digest(&ring::digest::SHA256, pair.public_key().as_ref());
        let id = URL_SAFE_NO_PAD.encode(&digest.as_ref()[..12]);
        Ok(SigningKey { id, seed: seed.to_vec(), created: now })
    }
}

/// The keys that this process knows.
#[derive(Default)]
pub(in crate::server) struct Keys {
    known: RwLock<Vec<Arc<Key>>>,
    /// When the storage was asked last for a key that is not known, in seconds.
    asked: Mutex<i64>,
}

impl Keys {
    fn read(&self, storage: &Storage, now: i64) -> Result<(), StorageError> {
        let oldest =
            now - limits::KEY_LIFE_SECONDS - limits::REFRESH_LIFE_SECONDS - limits::CLOCK_SKEW_SECONDS;
        let stored = storage.signing_keys()?;
        let keys = stored.into_iter().filter(|key| key.created >= oldest);
        let keys = keys.filter_map(|key| Key::new(key.id, &key.seed, key.created).map(Arc::new));
        *self.known.write().expect("no panic happens while the keys are held") = keys.collect();
        Ok(())
    }

    fn newest(&self, now: i64) -> Option<Arc<Key>> {
        let known = self.known.read().expect("no panic happens while the keys are held");
        let fresh = known.iter().filter(|key| key.created > now - limits::KEY_LIFE_SECONDS);
        fresh.max_by_key(|key| (key.created, key.id.clone())).cloned()
    }

    /// The key to sign with, made where there is none that is young enough. Blocks.
    pub(in crate::server) fn current(&self, storage: &Storage, now: i64) -> Result<Arc<Key>, StorageError> {
        if let Some(key) = self.newest(now) {
            return Ok(key);
        }
        // another process may have made one meanwhile: of several one stays
        storage.add_signing_key(
            &Key::random(now)?,
            now - limits::KEY_LIFE_SECONDS,
            now - limits::KEY_LIFE_SECONDS - limits::REFRESH_LIFE_SECONDS - limits::CLOCK_SKEW_SECONDS,
        )?;
        self.read(storage, now)?;
        self.newest(now).ok_or(StorageError::SigningKey)
    }

    /// A key by its name, if it is known without asking.
    pub(in crate::server) fn known(&self, id: &str) -> Option<Arc<Key>> {
        let known = self.known.read().expect("no panic happens while the keys are held");
        known.iter().find(|key| key.id == id).cloned()
    }

    /// Whether the storage is worth asking for a key: names that anybody invents are not looked for all the time.
    pub(in crate::server) fn may_ask(&self, now: i64) -> bool {
        let mut asked = self.asked.lock().expect("no panic happens while the time is held");
        let may = *asked != now;
        *asked = now;
        may
    }

    /// Looks for a key that another process made. Blocks.
    pub(in crate::server) fn find(
        &self,
        storage: &Storage,
        id: &str,
        now: i64,
    ) -> Result<Option<Arc<Key>>, StorageError> {
        self.read(storage, now)?;
        Ok(self.known(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shared_rolled_and_forgotten() {
        let storage = Storage::in_memory();
        let (one, other) = (Keys::default(), Keys::default());
        let start = 1_800_000_000;
        let first = one.current(&storage, start).expect("a key");
        assert_eq!(other.current(&storage, start + 5).expect("a key").id, first.id);
        let late = start + limits::KEY_LIFE_SECONDS + 1;
        let second = other.current(&storage, late).expect("a key");
        assert_ne!(second.id, first.id);
        // tokens of the first one are still believed, and a process that does not know the second finds it
        assert!(other.known(&first.id).is_some() && one.known(&second.id).is_none());
        assert!(one.find(&storage, &second.id, late).expect("look").is_some());
        assert!(one.may_ask(late + 1) && !one.may_ask(late + 1) && one.may_ask(late + 2));
        let end = late + limits::KEY_LIFE_SECONDS + limits::REFRESH_LIFE_SECONDS + limits::CLOCK_SKEW_SECONDS;
        let third = one.current(&storage, end).expect("a key");
        assert!(one.known(&first.id).is_none() && one.known(&third.id).is_some());
        assert!(storage.signing_keys().expect("keys").iter().all(|key| key.id != first.id));
        assert!(!format!("{:?}", storage.signing_keys().expect("keys")).contains("seed: ["));
    }
}
