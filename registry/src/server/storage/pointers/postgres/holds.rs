//! What holds what: since when a manifest or a blob is loose, noted in the transaction that made it so.

use super::{connect::Database, row::texts};
use crate::server::storage::StorageError;

/// A manifest that is not in the trash and names `$2` as a child.
const PARENT: &str = "SELECT e.manifest FROM edges e JOIN manifests m
    ON m.repository = e.repository AND m.digest = e.manifest AND m.deleted IS NULL
    WHERE e.repository = $1 AND e.target = $2 AND e.kind = 2 ORDER BY e.manifest LIMIT 1";

fn first(
    database: &mut Database,
    text: &str,
    repository: i64,
    digest: &str,
) -> Result<Option<String>, StorageError> {
    Ok(database.row(text, &[&repository, &digest])?.map(|row| row.try_get(0)).transpose()?)
}

/// The index that needs a manifest.
pub(super) fn parent(
    database: &mut Database,
    repository: i64,
    digest: &str,
) -> Result<Option<String>, StorageError> {
    first(database, PARENT, repository, digest)
}

/// The manifest, not in the trash, that needs a blob. A child of an index may be a blob, but only where no manifest of that
/// digest is there.
pub(super) fn needs_blob(
    database: &mut Database,
    repository: i64,
    digest: &str,
) -> Result<Option<String>, StorageError> {
    let text = "SELECT e.manifest FROM edges e JOIN manifests m
         ON m.repository = e.repository AND m.digest = e.manifest AND m.deleted IS NULL
         WHERE e.repository = $1 AND e.target = $2 AND (e.kind = 1 OR e.kind = 2 AND NOT EXISTS (
            SELECT 1 FROM manifests c WHERE c.repository = $1 AND c.digest = $2 AND c.deleted IS NULL))
         ORDER BY e.manifest LIMIT 1";
    first(database, text, repository, digest)
}

/// Notes whether a tag, an index or its subject holds a manifest. `orphan`: something that held it was just taken away.
pub(super) fn settle(
    database: &mut Database,
    repository: i64,
    digest: &str,
    orphan: bool,
    now: i64,
) -> Result<(), StorageError> {
    database.run(
        "UPDATE manifests m SET loose = CASE WHEN held.it THEN NULL ELSE coalesce(loose, $4) END,
            orphan = NOT held.it AND (orphan OR $3)
         FROM (SELECT EXISTS (SELECT 1 FROM tags WHERE repository = $1 AND digest = $2)
             OR EXISTS (SELECT 1 FROM manifests own JOIN manifests s
                ON s.repository = own.repository AND s.digest = own.subject AND s.deleted IS NULL
                WHERE own.repository = $1 AND own.digest = $2)
             OR EXISTS (SELECT 1 FROM edges e JOIN manifests p
                ON p.repository = e.repository AND p.digest = e.manifest AND p.deleted IS NULL
                WHERE e.repository = $1 AND e.target = $2 AND e.kind = 2) AS it) AS held
         WHERE m.repository = $1 AND m.digest = $2 AND m.deleted IS NULL",
        &[&repository, &digest, &orphan, &now],
    )?;
    Ok(())
}

/// Notes what a manifest holds from now on: its blobs, which count, and children, and what is attached to it.
pub(super) fn hold_below(database: &mut Database, repository: i64, digest: &str) -> Result<(), StorageError> {
    for statement in [
        "UPDATE blobs SET loose = NULL, counted = counted OR deleted IS NULL
         WHERE repository = $1 AND (loose IS NOT NULL OR NOT counted AND deleted IS NULL) AND digest IN
            (SELECT target FROM edges WHERE repository = $1 AND manifest = $2 AND kind IN (1, 2))",
        "UPDATE manifests SET loose = NULL, orphan = false WHERE repository = $1 AND loose IS NOT NULL
         AND (subject = $2 OR digest IN
            (SELECT target FROM edges WHERE repository = $1 AND manifest = $2 AND kind = 2))",
    ] {
        database.run(statement, &[&repository, &digest])?;
    }
    Ok(())
}

/// Children of a manifest and what is attached to it, after it went or into the trash.
pub(super) fn orphan_below(
    database: &mut Database,
    repository: i64,
    digest: &str,
    now: i64,
) -> Result<(), StorageError> {
    let rows = database.rows(
        "SELECT target FROM edges WHERE repository = $1 AND manifest = $2 AND kind = 2
         UNION SELECT digest FROM manifests WHERE repository = $1 AND subject = $2 AND deleted IS NULL",
        &[&repository, &digest],
    )?;
    texts(&rows)?.iter().try_for_each(|one| settle(database, repository, one, true, now))
}

/// Blobs of a manifest that went, or into the trash: those that no other needs do not count any more.
pub(super) fn discount_below(
    database: &mut Database,
    repository: i64,
    digest: &str,
) -> Result<(), StorageError> {
    database.run(
        "UPDATE blobs b SET counted = false WHERE repository = $1 AND counted AND digest IN (
            SELECT target FROM edges WHERE repository = $1 AND manifest = $2 AND kind IN (1, 2))
         AND NOT EXISTS (
            SELECT 1 FROM edges e JOIN manifests m
            ON m.repository = e.repository AND m.digest = e.manifest AND m.deleted IS NULL
            WHERE e.repository = $1 AND e.target = b.digest AND e.kind IN (1, 2))",
        &[&repository, &digest],
    )?;
    Ok(())
}

/// Drops a manifest's row and edges for good; blobs that no other needs are loose from now on.
pub(super) fn drop_manifest(
    database: &mut Database,
    repository: i64,
    digest: &str,
    now: i64,
) -> Result<(), StorageError> {
    let rows = database.rows(
        "DELETE FROM edges WHERE repository = $1 AND manifest = $2 RETURNING CASE WHEN kind = 3 THEN NULL ELSE target END",
        &[&repository, &digest],
    )?;
    let targets: Vec<Option<String>> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let targets: Vec<String> = targets.into_iter().flatten().collect();
    database.run("DELETE FROM manifests WHERE repository = $1 AND digest = $2", &[&repository, &digest])?;
    database.run(
        "UPDATE blobs b SET loose = $3 WHERE repository = $1 AND digest = ANY ($2) AND loose IS NULL AND NOT EXISTS (
            SELECT 1 FROM edges e WHERE e.repository = $1 AND e.target = b.digest AND e.kind IN (1, 2))",
        &[&repository, &targets, &now],
    )?;
    Ok(())
}
