//! Step keys and what they led to.

use super::{LayerForm, Store, StoreError, now};
use crate::Digest;
use rusqlite::OptionalExtension;

/// What a step's key led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachedLayer {
    /// The step changed nothing.
    Nothing,
    /// The step made this layer.
    Layer(Box<LayerForm>),
}

/// A key and its result, to be stored.
#[derive(Clone, Debug)]
pub struct CacheEntry<'a> {
    /// The step's key.
    pub key: &'a Digest,
    /// The layer's diff id; `None` where the step changed nothing.
    pub diff_id: Option<&'a Digest>,
    /// The step, for people.
    pub step: &'a str,
    /// What the key is a digest of, as JSON.
    pub description: Option<&'a str>,
}

impl Store {
    /// What `key` led to. A result whose bytes were collected since, and that has no source, is none.
    pub fn cached(&self, key: &Digest) -> Result<Option<CachedLayer>, StoreError> {
        let found: Option<Option<String>> = self
            .database()
            .prepare_cached("SELECT diff_id FROM cache WHERE key = ?1")?
            .query_row([key.to_string()], |row| row.get(0))
            .optional()?;
        match found {
            None => Ok(None),
            Some(None) => Ok(Some(CachedLayer::Nothing)),
            Some(Some(text)) => {
                let Ok(diff_id) = text.parse::<Digest>() else { return Ok(None) };
                let form = self.layer_form(&diff_id)?;
                Ok(form.map(|form| CachedLayer::Layer(Box::new(form))))
            }
        }
    }

    /// Stores a result. The layer's blob must be there already: content first, pointer last.
    pub fn put_cached(&self, entry: &CacheEntry<'_>) -> Result<(), StoreError> {
        self.database()
            .prepare_cached(
                "INSERT OR REPLACE INTO cache (key, diff_id, step, description, made, used)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
            )?
            .execute((
                entry.key.to_string(),
                entry.diff_id.map(Digest::to_string),
                entry.step,
                entry.description,
                now(),
            ))?;
        Ok(())
    }

    /// Forgets the results that are `layer`, and that `layer`'s blob is one of its diff id unless an image says so. Answers
    /// how many results there were.
    pub fn forget_result(&self, layer: &LayerForm) -> Result<usize, StoreError> {
        let pair = (layer.diff_id.to_string(), layer.descriptor.digest.to_string());
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let count = transaction.execute("DELETE FROM cache WHERE diff_id = ?1", [&pair.0])?;
        if count > 0 {
            transaction.execute(
                "DELETE FROM forms WHERE diff_id = ?1 AND digest = ?2
                     AND NOT EXISTS (SELECT 1 FROM edges WHERE child = ?2 AND diff_id = ?1)",
                pair,
            )?;
        }
        transaction.commit()?;
        Ok(count)
    }

    /// Forgets results.
    pub fn forget_keys(&self, keys: &[&Digest]) -> Result<(), StoreError> {
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for key in keys {
            transaction.prepare_cached("DELETE FROM cache WHERE key = ?1")?.execute([key.to_string()])?;
        }
        Ok(transaction.commit()?)
    }

    /// The results that are a layer: key, step, and what the key was made from.
    pub fn results_of(&self, diff_id: &Digest) -> Result<Vec<(Digest, String, String)>, StoreError> {
        let database = self.database();
        let mut statement = database.prepare_cached(
            "SELECT key, step, description FROM cache WHERE diff_id = ?1 AND description IS NOT NULL",
        )?;
        let rows = statement.query_map([diff_id.to_string()], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?))
        })?;
        let mut results = Vec::new();
        for row in rows {
            let (key, step, description) = row?;
            results.extend(key.parse().ok().map(|key| (key, step, description)));
        }
        Ok(results)
    }

    /// What a key was made from, as the JSON that was stored with its result.
    pub fn cached_description(&self, key: &Digest) -> Result<Option<String>, StoreError> {
        let found: Option<Option<String>> = self
            .database()
            .prepare_cached("SELECT description FROM cache WHERE key = ?1")?
            .query_row([key.to_string()], |row| row.get(0))
            .optional()?;
        Ok(found.flatten())
    }

    /// Notes that results were used. Nothing is written where the rows say so to the [hour](crate::limits::USED_GRAIN),
    /// so that a build of what is there writes nothing.
    pub fn touch_cached<'a>(&self, keys: impl IntoIterator<Item = &'a Digest>) -> Result<(), StoreError> {
        let now = now();
        let mut database = self.database();
        let mut stale = Vec::new();
        for key in keys {
            let is_stale: bool = database
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM cache WHERE key = ?1 AND used < ?2)")?
                .query_row((key.to_string(), now - crate::limits::USED_GRAIN), |row| row.get(0))?;
            stale.extend(is_stale.then(|| key.to_string()));
        }
        if stale.is_empty() {
            return Ok(());
        }
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for key in stale {
            transaction.prepare_cached("UPDATE cache SET used = ?2 WHERE key = ?1")?.execute((key, now))?;
        }
        Ok(transaction.commit()?)
    }
}
