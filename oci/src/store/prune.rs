//! Gives room back: forgets images and results of build steps by rules, then collects what nothing names any more.

use super::{Collected, Store, StoreError};
use rusqlite::Transaction;

/// What may be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// Images without a name.
    pub unnamed_images: bool,
    /// Images with a name too.
    pub named_images: bool,
    /// Results of build steps whose layers no image has.
    pub cache: bool,
    /// All other results of build steps too; their layers stay with their images.
    pub shared_cache: bool,
    /// Only what was last used before this, in seconds since 1970.
    pub used_before: Option<i64>,
    /// Bytes of disk that results of build steps may keep; the longest unused go first.
    pub keep_bytes: Option<u64>,
}

/// What was forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names that are gone.
    pub names: Vec<String>,
    /// Images that are gone, by the digest of their manifest.
    pub images: Vec<String>,
    /// Results of build steps that are gone.
    pub results: usize,
    /// What went with them; `None` where that is left to a later collection.
    pub collected: Option<Collected>,
}

impl Store {
    /// Forgets what `rules` let go, and collects. Works on a full disk as well.
    pub fn prune(&self, rules: &Prune) -> Result<Pruned, StoreError> {
        self.reserve.within(StoreError::is_full, || {
            let mut pruned = Pruned::default();
            if rules.unnamed_images || rules.named_images {
                self.forget_images(rules, &mut pruned)?;
            }
            if rules.cache || rules.shared_cache {
                self.forget_results(rules, &mut pruned)?;
            }
            pruned.collected = self.collect()?;
            Ok(pruned)
        })
    }

    fn forget_images(&self, rules: &Prune, pruned: &mut Pruned) -> Result<(), StoreError> {
        let before = rules.used_before.unwrap_or(i64::MAX);
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if rules.named_images {
            pruned.names = texts(
                &transaction,
                "DELETE FROM names WHERE max(used, updated) < ?1 RETURNING reference",
                before,
            )?;
        }
        // an index goes before its images, which are unnamed then
        loop {
            let gone = texts(&transaction, FORGET_UNNAMED, before)?;
            for digest in &gone {
                transaction.prepare_cached("DELETE FROM edges WHERE parent = ?1")?.execute([digest])?;
            }
            let done = gone.is_empty();
            pruned.images.extend(gone);
            if done {
                break;
            }
        }
        Ok(transaction.commit()?)
    }

    fn forget_results(&self, rules: &Prune, pruned: &mut Pruned) -> Result<(), StoreError> {
        let before = rules.used_before.unwrap_or(i64::MAX);
        let needed = self.needed()?;
        let mut gone: Vec<String> = Vec::new();
        if rules.cache {
            let kept = self.kept_by_cache(&needed)?;
            let mut bytes: u64 = kept.iter().map(|one| one.bytes).sum();
            for one in kept {
                if rules.keep_bytes.is_some_and(|most| bytes <= most) || one.used >= before {
                    break;
                }
                bytes -= one.bytes;
                gone.push(one.layer);
            }
        }
        let all = rules.shared_cache && rules.keep_bytes.is_none();
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for layer in &gone {
            // used again since it was looked at: it stays
            pruned.results += transaction
                .prepare_cached("DELETE FROM cache WHERE diff_id = ?1 AND used < ?2")?
                .execute((layer, before))?;
        }
        if all {
            pruned.results += transaction.execute("DELETE FROM cache WHERE used < ?1", [before])?;
        } else if rules.cache && rules.keep_bytes.is_none() {
            // a step that changed nothing costs a row
            pruned.results +=
                transaction.execute("DELETE FROM cache WHERE diff_id IS NULL AND used < ?1", [before])?;
        }
        Ok(transaction.commit()?)
    }
}

const FORGET_UNNAMED: &str = "
DELETE FROM manifests WHERE max(used, added) < ?1 AND digest NOT IN (SELECT digest FROM names)
    AND digest NOT IN (SELECT child FROM edges WHERE kind = 'manifest' AND parent IN (SELECT digest FROM manifests))
RETURNING digest";

fn texts(transaction: &Transaction<'_>, sql: &str, before: i64) -> Result<Vec<String>, StoreError> {
    let mut statement = transaction.prepare_cached(sql)?;
    let rows = statement.query_map([before], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests;
