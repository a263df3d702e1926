//! What an operator looks for in the whole database: what it says that cannot be so.

use super::{connect::Database, row::natural};
use crate::server::storage::{
    StorageError,
    pointers::{Scope, Survey, Used},
};
use postgres::Row;

/// Makes the transaction see one moment, however long it takes to look through everything.
fn of_one_moment(database: &mut Database) -> Result<(), StorageError> {
    database.take_time()?;
    database.batch("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
}

/// Bytes of all content that is pointed at.
pub(super) fn content_bytes(database: &mut Database) -> Result<u64, StorageError> {
    of_one_moment(database)?;
    let row = database.row(
        "SELECT coalesce(sum(size), 0)::bigint FROM (SELECT max(size) AS size FROM (
            SELECT digest, size FROM blobs UNION ALL SELECT digest, size FROM manifests) AS each GROUP BY digest) AS all_of_it",
        &[],
    )?;
    Ok(row.map_or(Ok(0), |row| natural(&row, 0))?)
}

/// What each repository and namespace has, counted anew: contents that count, once in each scope, and tags.
const COUNTED_ANEW: &str = "
WITH contents AS (
    SELECT repository, digest, max(size) AS size FROM (
        SELECT repository, digest, size FROM blobs WHERE counted
        UNION ALL SELECT repository, digest, size FROM manifests WHERE deleted IS NULL) AS each GROUP BY repository, digest),
of_repositories AS (SELECT repository, sum(size)::bigint AS bytes FROM contents GROUP BY repository),
of_namespaces AS (
    SELECT namespace, sum(size)::bigint AS bytes FROM (
        SELECT m.namespace, c.digest, max(c.size) AS size FROM members m JOIN contents c USING (repository)
        GROUP BY m.namespace, c.digest) AS each GROUP BY namespace),
tags_of AS (SELECT repository, count(*) AS tags FROM tags GROUP BY repository),
tags_of_namespaces AS (
    SELECT m.namespace, sum(t.tags)::bigint AS tags FROM members m JOIN tags_of t USING (repository) GROUP BY m.namespace),
said AS (SELECT kind, scope, sum(bytes)::bigint AS bytes, sum(tags)::bigint AS tags FROM sums GROUP BY kind, scope),
scopes AS (
    SELECT 0 AS of_kind, r.name, coalesce(s.bytes, 0) AS bytes, coalesce(s.tags, 0) AS tags,
        coalesce(c.bytes, 0) AS counted_bytes, coalesce(t.tags, 0) AS counted_tags FROM repositories r
        LEFT JOIN said s ON s.kind = 1 AND s.scope = r.id
        LEFT JOIN of_repositories c ON c.repository = r.id LEFT JOIN tags_of t ON t.repository = r.id
    UNION ALL
    SELECT 1, n.name, coalesce(s.bytes, 0), coalesce(s.tags, 0), coalesce(c.bytes, 0), coalesce(t.tags, 0) FROM namespaces n
        LEFT JOIN said s ON s.kind = 2 AND s.scope = n.id
        LEFT JOIN of_namespaces c ON c.namespace = n.id LEFT JOIN tags_of_namespaces t ON t.namespace = n.id)
SELECT of_kind, name, bytes, tags, counted_bytes, counted_tags FROM scopes
WHERE bytes <> counted_bytes OR tags <> counted_tags ORDER BY of_kind DESC, name";

fn miscounted(row: &Row) -> Result<(Scope, Used, Used), StorageError> {
    let name: String = row.try_get(1)?;
    let kind: i32 = row.try_get(0)?;
    // a sum that is wrong may be below nothing
    let at = |index| row.try_get(index).map(|value: i64| u64::try_from(value).unwrap_or(0));
    let scope = if kind == 0 { Scope::Repository(name) } else { Scope::Namespace(name) };
    Ok((scope, Used { bytes: at(2)?, tags: at(3)? }, Used { bytes: at(4)?, tags: at(5)? }))
}

fn three(row: &Row) -> Result<(String, String, String), StorageError> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

/// All that cannot be so.
pub(super) fn survey(database: &mut Database) -> Result<Survey, StorageError> {
    of_one_moment(database)?;
    let dangling = database.rows(
        "SELECT r.name, t.name, t.digest FROM tags t JOIN repositories r ON r.id = t.repository
         WHERE NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = t.repository AND m.digest = t.digest
            AND m.deleted IS NULL) ORDER BY r.name, t.name",
        &[],
    )?;
    let incomplete = database.rows(
        "SELECT r.name, e.manifest, e.target FROM edges e JOIN repositories r ON r.id = e.repository
         WHERE e.kind IN (1, 2)
         AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.repository = e.repository AND b.digest = e.target)
         AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = e.repository AND m.digest = e.target)
         ORDER BY r.name, e.manifest, e.target",
        &[],
    )?;
    Ok(Survey {
        dangling: dangling.iter().map(three).collect::<Result<_, _>>()?,
        miscounted: database.rows(COUNTED_ANEW, &[])?.iter().map(miscounted).collect::<Result<_, _>>()?,
        incomplete: incomplete.iter().map(three).collect::<Result<_, _>>()?,
    })
}
