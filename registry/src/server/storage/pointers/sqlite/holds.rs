//! What holds what: since when a manifest or a blob is loose, noted in the transaction that made it so.

use crate::server::storage::StorageError;
use rusqlite::{Connection, OptionalExtension};

/// A manifest that is not in the trash and names `?2` as a child.
const PARENT: &str = "SELECT e.manifest FROM edges e JOIN manifests m
    ON m.repository = e.repository AND m.digest = e.manifest AND m.deleted IS NULL
    WHERE e.repository = ?1 AND e.target = ?2 AND e.kind = 2 LIMIT 1";

/// The index that needs a manifest.
pub(super) fn parent(
    database: &Connection,
    repository: i64,
    digest: &str,
) -> Result<Option<String>, StorageError> {
    let mut statement = database.prepare_cached(PARENT)?;
    Ok(statement.query_row((repository, digest), |row| row.get(0)).optional()?)
}

/// The manifest, not in the trash, that needs a blob. A child of an index may be a blob, but only where no manifest of that
/// digest is there.
pub(super) fn needs_blob(
    database: &Connection,
    repository: i64,
    digest: &str,
) -> Result<Option<String>, StorageError> {
    let mut statement = database.prepare_cached(
        "SELECT e.manifest FROM edges e JOIN manifests m
         ON m.repository = e.repository AND m.digest = e.manifest AND m.deleted IS NULL
         WHERE e.repository = ?1 AND e.target = ?2 AND (e.kind = 1 OR e.kind = 2 AND NOT EXISTS (
            SELECT 1 FROM manifests c WHERE c.repository = ?1 AND c.digest = ?2 AND c.deleted IS NULL)) LIMIT 1",
    )?;
    Ok(statement.query_row((repository, digest), |row| row.get(0)).optional()?)
}

/// Whether a tag, an index or its subject holds a manifest.
fn is_held(database: &Connection, repository: i64, digest: &str) -> Result<bool, StorageError> {
    let mut statement = database.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM tags WHERE repository = ?1 AND digest = ?2)
             OR EXISTS (SELECT 1 FROM manifests own JOIN manifests s
                ON s.repository = own.repository AND s.digest = own.subject AND s.deleted IS NULL
                WHERE own.repository = ?1 AND own.digest = ?2)",
    )?;
    let held: bool = statement.query_row((repository, digest), |row| row.get(0))?;
    Ok(held || parent(database, repository, digest)?.is_some())
}

/// Notes whether a manifest is held. `orphan`: something that held it was just taken away.
pub(super) fn settle(
    database: &Connection,
    repository: i64,
    digest: &str,
    orphan: bool,
    now: i64,
) -> Result<(), StorageError> {
    let held = is_held(database, repository, digest)?;
    database
        .prepare_cached(
            "UPDATE manifests SET loose = CASE WHEN ?5 THEN NULL ELSE coalesce(loose, ?4) END,
                orphan = CASE WHEN ?5 THEN 0 ELSE max(orphan, ?3) END
             WHERE repository = ?1 AND digest = ?2 AND deleted IS NULL",
        )?
        .execute((repository, digest, orphan, now, held))?;
    Ok(())
}

/// Notes what a manifest holds from now on: its blobs, which count, and children, and what is attached to it.
pub(super) fn hold_below(database: &Connection, repository: i64, digest: &str) -> Result<(), StorageError> {
    for statement in [
        "UPDATE blobs SET loose = NULL WHERE repository = ?1 AND loose IS NOT NULL AND digest IN
            (SELECT target FROM edges WHERE repository = ?1 AND manifest = ?2 AND kind IN (1, 2))",
        "UPDATE manifests SET loose = NULL, orphan = 0 WHERE repository = ?1 AND loose IS NOT NULL AND digest IN
            (SELECT target FROM edges WHERE repository = ?1 AND manifest = ?2 AND kind = 2)",
        "UPDATE manifests SET loose = NULL, orphan = 0
         WHERE repository = ?1 AND subject = ?2 AND loose IS NOT NULL",
        "UPDATE blobs SET counted = 1 WHERE repository = ?1 AND counted = 0 AND deleted IS NULL AND digest IN
            (SELECT target FROM edges WHERE repository = ?1 AND manifest = ?2 AND kind IN (1, 2))",
    ] {
        database.prepare_cached(statement)?.execute((repository, digest))?;
    }
    Ok(())
}

/// Children of a manifest and what is attached to it, after it went or into the trash.
pub(super) fn orphan_below(
    database: &Connection,
    repository: i64,
    digest: &str,
    now: i64,
) -> Result<(), StorageError> {
    let mut statement = database.prepare_cached(
        "SELECT target FROM edges WHERE repository = ?1 AND manifest = ?2 AND kind = 2
         UNION SELECT digest FROM manifests WHERE repository = ?1 AND subject = ?2 AND deleted IS NULL",
    )?;
    let below: Vec<String> =
        statement.query_map((repository, digest), |row| row.get(0))?.collect::<Result<_, _>>()?;
    below.iter().try_for_each(|one| settle(database, repository, one, true, now))
}

/// Blobs of a manifest that went, or into the trash: those that no other needs do not count any more.
pub(super) fn discount_below(
    database: &Connection,
    repository: i64,
    digest: &str,
) -> Result<(), StorageError> {
    database
        .prepare_cached(
            "UPDATE blobs SET counted = 0 WHERE repository = ?1 AND counted = 1 AND digest IN (
                SELECT target FROM edges WHERE repository = ?1 AND manifest = ?2 AND kind IN (1, 2))
             AND NOT EXISTS (
                SELECT 1 FROM edges e JOIN manifests m
                ON m.repository = e.repository AND m.digest = e.manifest AND m.deleted IS NULL
                WHERE e.repository = ?1 AND e.target = blobs.digest AND e.kind IN (1, 2))",
        )?
        .execute((repository, digest))?;
    Ok(())
}

/// Drops a manifest's row and edges for good; blobs that no other needs are loose from now on.
pub(super) fn drop_manifest(
    database: &Connection,
    repository: i64,
    digest: &str,
    now: i64,
) -> Result<(), StorageError> {
    let mut statement = database.prepare_cached(
        "SELECT target FROM edges WHERE repository = ?1 AND manifest = ?2 AND kind IN (1, 2)",
    )?;
    let targets: Vec<String> =
        statement.query_map((repository, digest), |row| row.get(0))?.collect::<Result<_, _>>()?;
    for statement in [
        "DELETE FROM edges WHERE repository = ?1 AND manifest = ?2",
        "DELETE FROM manifests WHERE repository = ?1 AND digest = ?2",
    ] {
        database.prepare_cached(statement)?.execute((repository, digest))?;
    }
    let mut loosen = database.prepare_cached(
        "UPDATE blobs SET loose = ?3 WHERE repository = ?1 AND digest = ?2 AND loose IS NULL AND NOT EXISTS (
            SELECT 1 FROM edges e WHERE e.repository = ?1 AND e.target = ?2 AND e.kind IN (1, 2))",
    )?;
    for target in targets {
        loosen.execute((repository, target, now))?;
    }
    Ok(())
}
