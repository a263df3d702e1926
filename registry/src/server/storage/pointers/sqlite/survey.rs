//! What an operator looks for in the whole database: in the file itself, and in what it says.

use super::schema;
use crate::server::storage::StorageError;
use rusqlite::Connection;
use std::path::Path;

/// Most mistakes that are named.
const MISTAKES: usize = 20;

/// Mistakes of the file, in SQLite's words.
pub(in crate::server::storage) fn check(path: &Path) -> Result<Vec<String>, StorageError> {
    let database = schema::connect(path)?;
    let mut statement = database.prepare(&format!("PRAGMA integrity_check({MISTAKES})"))?;
    let lines: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// Bytes of all content that is pointed at.
pub(in crate::server::storage) fn bytes(path: &Path) -> Result<u64, StorageError> {
    bytes_of(&schema::connect(path)?)
}

/// The same of an open one.
pub(super) fn bytes_of(database: &Connection) -> Result<u64, StorageError> {
    let sum = "SELECT coalesce(sum(size), 0) FROM (SELECT max(size) AS size FROM (
        SELECT digest, size FROM blobs UNION ALL SELECT digest, size FROM manifests) GROUP BY digest)";
    Ok(database.query_row(sum, [], |row| row.get(0))?)
}

fn rows(database: &Connection, query: &str) -> Result<Vec<(String, String, String)>, StorageError> {
    let mut statement = database.prepare(query)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Repository, tag and digest of tags whose manifest is not there.
pub(in crate::server::storage) fn dangling(
    path: &Path,
) -> Result<Vec<(String, String, String)>, StorageError> {
    rows(
        &schema::connect(path)?,
        "SELECT r.name, t.name, t.digest FROM tags t JOIN repositories r ON r.id = t.repository
         WHERE NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = t.repository AND m.digest = t.digest
            AND m.deleted IS NULL) ORDER BY r.name, t.name",
    )
}

/// Repository, manifest and digest of what manifests need and their repository lacks.
pub(in crate::server::storage) fn incomplete(
    path: &Path,
) -> Result<Vec<(String, String, String)>, StorageError> {
    rows(
        &schema::connect(path)?,
        "SELECT r.name, e.manifest, e.target FROM edges e JOIN repositories r ON r.id = e.repository
         WHERE e.kind IN (1, 2)
         AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.repository = e.repository AND b.digest = e.target)
         AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = e.repository AND m.digest = e.target)
         ORDER BY r.name, e.manifest, e.target",
    )
}
