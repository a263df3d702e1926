//! Repositories: their names, and which blobs they have.

use super::{Storage, StorageError, writer::Durability};
use rusqlite::{Connection, OptionalExtension};
use slipway_oci::Digest;

/// The row of a repository, which is made where it is missing.
pub(super) fn ensure(database: &Connection, name: &str) -> Result<i64, StorageError> {
    if let Some(id) = find(database, name)? {
        return Ok(id);
    }
    database.prepare_cached("INSERT INTO repositories (name) VALUES (?1)")?.execute([name])?;
    Ok(database.last_insert_rowid())
}

pub(super) fn find(database: &Connection, name: &str) -> Result<Option<i64>, StorageError> {
    let mut statement = database.prepare_cached("SELECT id FROM repositories WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// The row of a repository that has to be there.
pub(super) fn known(database: &Connection, name: &str) -> Result<i64, StorageError> {
    find(database, name)?.ok_or_else(|| StorageError::RepositoryUnknown(name.to_owned()))
}

/// The size of a blob that the repository has.
pub(super) fn blob_size(
    database: &Connection,
    repository: i64,
    digest: &Digest,
) -> Result<Option<u64>, StorageError> {
    let mut statement =
        database.prepare_cached("SELECT size FROM blobs WHERE repository = ?1 AND digest = ?2")?;
    Ok(statement.query_row((repository, digest.to_string()), |row| row.get(0)).optional()?)
}

impl Storage {
    /// The size in bytes of a blob that the repository has.
    pub fn blob_size(&self, repository: &str, digest: &Digest) -> Result<u64, StorageError> {
        let size: Option<u64> = self.readers.read(|database| {
            let mut statement = database.prepare_cached(
                "SELECT b.size FROM blobs b JOIN repositories r ON r.id = b.repository WHERE r.name = ?1 AND b.digest = ?2",
            )?;
            Ok(statement.query_row((repository, digest.to_string()), |row| row.get(0)).optional()?)
        })?;
        // a file that is gone, or has another length, is not there: who pushes sends it again
        let size = size.filter(|size| self.has_file(digest, *size));
        size.ok_or_else(|| StorageError::BlobUnknown(digest.clone()))
    }

    /// Whether the file under a digest is there in its whole length. What cannot be told counts as there: the read that
    /// follows fails by its name.
    fn has_file(&self, digest: &Digest, size_bytes: u64) -> bool {
        self.blobs.size(digest).map_or(true, |found| found == Some(size_bytes))
    }

    /// Gives a repository a blob that another one has: `from`, or any where none is named. Answers whether it did.
    pub fn mount(&self, repository: &str, digest: &Digest, from: Option<&str>) -> Result<bool, StorageError> {
        let file = self.blobs.size(digest)?;
        let (repository, digest) = (repository.to_owned(), digest.to_string());
        let from = from.map(str::to_owned);
        self.writer.write(Durability::Durable, move |database, _| {
            let mut statement = database.prepare_cached(
                "SELECT b.size FROM blobs b JOIN repositories r ON r.id = b.repository
                 WHERE b.digest = ?1 AND (?2 IS NULL OR r.name = ?2) LIMIT 1",
            )?;
            let size: Option<u64> = statement.query_row((&digest, from), |row| row.get(0)).optional()?;
            // damage is not handed on
            let Some(size) = size.filter(|size| file == Some(*size)) else { return Ok(false) };
            let repository = ensure(database, &repository)?;
            database
                .prepare_cached("INSERT OR IGNORE INTO blobs (repository, digest, size) VALUES (?1, ?2, ?3)")?
                .execute((repository, &digest, size))?;
            Ok(true)
        })
    }

    /// Takes a blob out of one repository; its file goes when no other has it.
    pub fn delete_blob(&self, repository: &str, digest: &Digest) -> Result<(), StorageError> {
        let (repository, digest) = (repository.to_owned(), digest.clone());
        self.writer.write(Durability::Durable, move |database, batch| {
            let repository = known(database, &repository)?;
            let count = database
                .prepare_cached("DELETE FROM blobs WHERE repository = ?1 AND digest = ?2")?
                .execute((repository, digest.to_string()))?;
            if count == 0 {
                return Err(StorageError::BlobUnknown(digest));
            }
            batch.released.insert(digest);
            Ok(())
        })
    }

    /// Names of repositories that have a manifest, sorted by byte, after `last`, at most `count`.
    pub fn repositories(&self, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        self.readers.read(|database| {
            let mut statement = database.prepare_cached(
                "SELECT name FROM repositories r WHERE name > ?1
                 AND EXISTS (SELECT 1 FROM manifests m WHERE m.repository = r.id) ORDER BY name LIMIT ?2",
            )?;
            let names = statement.query_map((last, count), |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(names)
        })
    }
}
