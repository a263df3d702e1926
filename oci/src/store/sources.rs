//! Where blobs can be had again.

use super::{Store, StoreError};
use crate::Digest;

impl Store {
    /// Notes that `repository` (registry and path) was seen to have the blob. One that was here before any repository was
    /// known to have it was made here, and stays so ([`Store::is_foreign`]).
    pub fn put_source(&self, digest: &Digest, repository: &str) -> Result<(), StoreError> {
        let own = self.blobs().contains(digest)?;
        let mut database = self.database();
        let transaction = database.transaction()?;
        if own {
            transaction
                .prepare_cached(
                    "INSERT INTO sources (digest, repository) SELECT ?1, ''
                     WHERE NOT EXISTS (SELECT 1 FROM sources WHERE digest = ?1)",
                )?
                .execute([digest.to_string()])?;
        }
        transaction
            .prepare_cached("INSERT OR IGNORE INTO sources (digest, repository) VALUES (?1, ?2)")?
            .execute((digest.to_string(), repository))?;
        Ok(transaction.commit()?)
    }

    /// Whether the blob came, or can come, from a repository, and was not made here: what was pushed has a source too.
    pub fn is_foreign(&self, digest: &Digest) -> Result<bool, StoreError> {
        let database = self.database();
        let mut statement = database.prepare_cached("SELECT repository FROM sources WHERE digest = ?1")?;
        let rows = statement.query_map([digest.to_string()], |row| row.get(0))?;
        let rows: Vec<String> = rows.collect::<Result<_, _>>()?;
        Ok(!rows.is_empty() && !rows.iter().any(String::is_empty))
    }

    /// The repositories that were seen to have the blob.
    pub fn sources(&self, digest: &Digest) -> Result<Vec<String>, StoreError> {
        let database = self.database();
        let mut statement = database
            .prepare_cached("SELECT repository FROM sources WHERE digest = ?1 AND repository != ''")?;
        let rows = statement.query_map([digest.to_string()], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
