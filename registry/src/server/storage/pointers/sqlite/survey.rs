//! What an operator looks for in the whole database: in the file itself, and in what it says.

use super::super::{
    Survey,
    quota::{Scope, Used},
};
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

/// What each repository and namespace has, counted anew: contents that count, once in each scope, and tags.
const COUNTED_ANEW: &str = "
WITH contents AS (
    SELECT repository, digest, max(size) AS size FROM (
        SELECT repository, digest, size FROM blobs WHERE counted = 1
        UNION ALL SELECT repository, digest, size FROM manifests WHERE deleted IS NULL) GROUP BY repository, digest),
of_namespaces AS (
    SELECT namespace, sum(size) AS bytes FROM (
        SELECT m.namespace, c.digest, max(c.size) AS size FROM members m JOIN contents c USING (repository)
        GROUP BY m.namespace, c.digest) GROUP BY namespace),
tags_of AS (SELECT repository, count(*) AS tags FROM tags GROUP BY repository),
tags_of_namespaces AS (
    SELECT m.namespace, sum(t.tags) AS tags FROM members m JOIN tags_of t USING (repository) GROUP BY m.namespace),
scopes AS (
    SELECT 0 AS kind, r.name, r.bytes, r.tags, coalesce(c.bytes, 0) AS counted_bytes, coalesce(t.tags, 0) AS counted_tags
        FROM repositories r
        LEFT JOIN (SELECT repository, sum(size) AS bytes FROM contents GROUP BY repository) c ON c.repository = r.id
        LEFT JOIN tags_of t ON t.repository = r.id
    UNION ALL
    SELECT 1, n.name, n.bytes, n.tags, coalesce(c.bytes, 0), coalesce(t.tags, 0) FROM namespaces n
        LEFT JOIN of_namespaces c ON c.namespace = n.id
        LEFT JOIN tags_of_namespaces t ON t.namespace = n.id WHERE n.name <> ''
    UNION ALL
    SELECT 1, n.name, n.bytes, n.tags,
        (SELECT coalesce(sum(size), 0) FROM (SELECT max(size) AS size FROM contents GROUP BY digest)),
        (SELECT count(*) FROM tags) FROM namespaces n WHERE n.name = '')
SELECT * FROM scopes WHERE bytes <> counted_bytes OR tags <> counted_tags ORDER BY kind DESC, name";

/// What the database says of repositories and namespaces, where a count of what they have comes to something else: what it says,
/// and what is counted. One statement, so that it is one moment's, whatever is pushed meanwhile.
fn miscounted(database: &Connection) -> Result<Vec<(Scope, Used, Used)>, StorageError> {
    let mut statement = database.prepare(COUNTED_ANEW)?;
    let rows = statement.query_map([], |row| {
        let name: String = row.get("name")?;
        let scope =
            if row.get::<_, u8>("kind")? == 0 { Scope::Repository(name) } else { Scope::Namespace(name) };
        let said = Used { bytes: row.get("bytes")?, tags: row.get("tags")? };
        Ok((scope, said, Used { bytes: row.get("counted_bytes")?, tags: row.get("counted_tags")? }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Repository, tag and digest of tags whose manifest is not there.
fn dangling(database: &Connection) -> Result<Vec<(String, String, String)>, StorageError> {
    rows(
        database,
        "SELECT r.name, t.name, t.digest FROM tags t JOIN repositories r ON r.id = t.repository
         WHERE NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = t.repository AND m.digest = t.digest
            AND m.deleted IS NULL) ORDER BY r.name, t.name",
    )
}

/// Repository, manifest and digest of what manifests need and their repository lacks.
fn incomplete(database: &Connection) -> Result<Vec<(String, String, String)>, StorageError> {
    rows(
        database,
        "SELECT r.name, e.manifest, e.target FROM edges e JOIN repositories r ON r.id = e.repository
         WHERE e.kind IN (1, 2)
         AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.repository = e.repository AND b.digest = e.target)
         AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = e.repository AND m.digest = e.target)
         ORDER BY r.name, e.manifest, e.target",
    )
}

/// All that cannot be so, at one moment.
pub(super) fn survey(database: &Connection) -> Result<Survey, StorageError> {
    let one_moment = database.unchecked_transaction()?;
    let found = Survey {
        dangling: dangling(&one_moment)?,
        miscounted: miscounted(&one_moment)?,
        incomplete: incomplete(&one_moment)?,
    };
    one_moment.commit()?;
    Ok(found)
}
