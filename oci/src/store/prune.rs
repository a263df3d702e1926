//! Gives room back: forgets images and results of build steps by rules, then collects what nothing names any more.

use super::{Collected, Record, RecordKind, Store, StoreError, collect::Trash};
use rusqlite::Transaction;

/// What may be forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// Images without a name.
    pub unnamed_images: bool,
    /// Images with a name too.
    pub named_images: bool,
    /// Results of build steps whose layers no image has.
    pub cache: bool,
    /// All other results of build steps too; their layers stay with their images.
    pub shared_cache: bool,
    /// Caches of `RUN --mount=type=cache`.
    pub mounts: bool,
    /// What is remembered of build contexts.
    pub contexts: bool,
    /// Only what was last used before this, in seconds since 1970.
    pub used_before: Option<i64>,
    /// Bytes of disk that [what builds have kept](RecordKind::is_kept_for_builds) may keep, all of it together; what may go
    /// goes in the order of its last use, until the rest fits.
    pub keep_bytes: Option<u64>,
    /// Of what builds have kept only that whose id begins so, or whose words are these; empty: all.
    pub only: Vec<String>,
}

impl Prune {
    /// Whether a record of what builds have kept may go.
    fn lets_go(&self, record: &Record) -> bool {
        let kind = match record.kind {
            RecordKind::Step => self.cache,
            RecordKind::Cache => self.mounts,
            RecordKind::Context => self.contexts,
            _ => false,
        };
        let before = self.used_before.unwrap_or(i64::MAX);
        kind && record.used.unwrap_or(0) < before && record.is_one_of(&self.only)
    }
}

impl Record {
    /// Whether its id begins with one of `words`, with or without its algorithm, or its own words are one; with none of them every
    /// record is.
    pub fn is_one_of(&self, words: &[String]) -> bool {
        let hex = self.id.split_once(':').map_or("", |(_, hex)| hex);
        let is = |word: &String| {
            !word.is_empty() && (self.id.starts_with(word) || hex.starts_with(word) || self.about == *word)
        };
        words.is_empty() || words.iter().any(is)
    }
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
    /// Caches that are gone: their ids.
    pub mounts: Vec<String>,
    /// Caches and results that would have gone, but that somebody uses.
    pub in_use: usize,
    /// Bytes of disk that caches and what is remembered of contexts have freed; what was collected comes on top.
    pub bytes: u64,
    /// What went with them; `None` where that is left to a later collection.
    pub collected: Option<Collected>,
}

impl Pruned {
    /// Bytes of disk that were freed.
    pub fn freed_bytes(&self) -> u64 {
        self.bytes + self.collected.map_or(0, |collected| collected.bytes)
    }
}

impl Store {
    /// Forgets what `rules` let go, and collects. Works on a full disk as well.
    pub fn prune(&self, rules: &Prune) -> Result<Pruned, StoreError> {
        self.reserve.within(StoreError::is_full, || {
            let mut pruned = Pruned::default();
            if rules.unnamed_images || rules.named_images {
                self.forget_images(rules, &mut pruned)?;
            }
            if rules.cache || rules.shared_cache || rules.mounts || rules.contexts {
                self.forget_kept(rules, &mut pruned)?;
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

    fn forget_kept(&self, rules: &Prune, pruned: &mut Pruned) -> Result<(), StoreError> {
        let mut kept: Vec<Record> = self.account()?.records;
        kept.retain(|record| record.kind.is_kept_for_builds());
        kept.sort_by_key(|record| record.used);
        let needed = self.needed()?.layers;
        // what several need goes with none of them: what is bounded is what goes with builds' own
        let own = |record: &Record| record.bytes - record.shared_bytes;
        let mut bytes: u64 = kept.iter().map(own).sum();
        let (mut layers, mut rest) = (Vec::new(), Vec::new());
        for record in kept.iter().filter(|record| rules.lets_go(record)) {
            if rules.keep_bytes.is_some_and(|most| bytes <= most) {
                break;
            }
            if record.in_use {
                pruned.in_use += 1;
                continue;
            }
            match record.kind {
                // a result whose layer an image has costs a row, and goes when all do
                RecordKind::Step if own(record) == 0 && needed.contains(&record.id) => continue,
                RecordKind::Step => layers.push(&record.id),
                _ => rest.push(record),
            }
            bytes -= own(record);
        }
        self.forget_results(rules, &layers, pruned)?;
        self.remove_files(&rest, pruned)
    }

    fn forget_results(
        &self,
        rules: &Prune,
        layers: &[&String],
        pruned: &mut Pruned,
    ) -> Result<(), StoreError> {
        let before = rules.used_before.unwrap_or(i64::MAX);
        let whole = rules.keep_bytes.is_none() && rules.only.is_empty();
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for layer in layers {
            // used again since it was looked at: it stays
            pruned.results += transaction
                .prepare_cached("DELETE FROM cache WHERE diff_id = ?1 AND used < ?2")?
                .execute((layer, before))?;
        }
        if whole && rules.shared_cache {
            pruned.results += transaction.execute("DELETE FROM cache WHERE used < ?1", [before])?;
        } else if whole && rules.cache {
            // a step that changed nothing costs a row
            pruned.results +=
                transaction.execute("DELETE FROM cache WHERE diff_id IS NULL AND used < ?1", [before])?;
        }
        Ok(transaction.commit()?)
    }

    /// Removes caches and what is remembered of contexts.
    fn remove_files(&self, records: &[&Record], pruned: &mut Pruned) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut trash = Trash::new(self)?;
        for record in records {
            if record.kind == RecordKind::Context {
                trash.take(&self.root.join("context").join(&record.id));
            } else if self.take_cache(&record.id, &mut |path| trash.take(path))? {
                pruned.mounts.push(if record.about.is_empty() {
                    record.id.clone()
                } else {
                    record.about.clone()
                });
            } else {
                pruned.in_use += 1;
            }
        }
        pruned.bytes += trash.end()?;
        Ok(())
    }
}

const FORGET_UNNAMED: &str = "
DELETE FROM manifests WHERE max(used, added) < ?1 AND digest NOT IN (SELECT digest FROM names)
    AND digest NOT IN (SELECT manifest FROM containers)
    AND digest NOT IN (SELECT child FROM edges WHERE kind IN ('manifest', 'referrer') AND parent IN (SELECT digest FROM manifests))
RETURNING digest";

fn texts(transaction: &Transaction<'_>, sql: &str, before: i64) -> Result<Vec<String>, StoreError> {
    let mut statement = transaction.prepare_cached(sql)?;
    let rows = statement.query_map([before], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests;
