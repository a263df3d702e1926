//! Statements that only look.

use crate::{
    limits,
    server::storage::{
        StorageError,
        pointers::{BlobRecord, Counts, ManifestKey, ManifestRecord, Referrer, ReferrersPage, Usage},
    },
};
use rusqlite::{Connection, OptionalExtension, Row};
use slipway_oci::Digest;

pub(super) fn digest_column(row: &Row<'_>, index: usize) -> rusqlite::Result<Digest> {
    let text: String = row.get(index)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn record(row: &Row<'_>) -> rusqlite::Result<ManifestRecord> {
    Ok(ManifestRecord { digest: digest_column(row, 0)?, media_type: row.get(1)?, size_bytes: row.get(2)? })
}

/// The row of a repository.
pub(super) fn find(database: &Connection, name: &str) -> Result<Option<i64>, StorageError> {
    let mut statement = database.prepare_cached("SELECT id FROM repositories WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// The row of a repository that has to be there.
pub(super) fn known(database: &Connection, name: &str) -> Result<i64, StorageError> {
    find(database, name)?.ok_or_else(|| StorageError::RepositoryUnknown(name.to_owned()))
}

/// A blob that a repository has.
pub(super) fn blob(
    database: &Connection,
    repository: &str,
    digest: &Digest,
) -> Result<Option<BlobRecord>, StorageError> {
    let mut statement = database.prepare_cached(
        "SELECT b.size, b.loose FROM repositories r JOIN blobs b ON b.repository = r.id
         WHERE r.name = ?1 AND b.digest = ?2 AND b.deleted IS NULL",
    )?;
    let record = |row: &Row<'_>| Ok(BlobRecord { size_bytes: row.get(0)?, loose: row.get(1)? });
    Ok(statement.query_row((repository, digest.to_string()), record).optional()?)
}

/// The size of a blob that the repository `from` has, or any.
pub(super) fn blob_elsewhere(
    database: &Connection,
    digest: &Digest,
    from: Option<&str>,
) -> Result<Option<u64>, StorageError> {
    let digest = digest.to_string();
    let size = match from {
        Some(from) => database
            .prepare_cached(
                "SELECT b.size FROM repositories r JOIN blobs b ON b.repository = r.id
                 WHERE r.name = ?1 AND b.digest = ?2 AND b.deleted IS NULL",
            )?
            .query_row((from, digest), |row| row.get(0))
            .optional()?,
        None => database
            .prepare_cached("SELECT size FROM blobs WHERE digest = ?1 AND deleted IS NULL LIMIT 1")?
            .query_row([digest], |row| row.get(0))
            .optional()?,
    };
    Ok(size)
}

/// Names of repositories that have a blob.
pub(super) fn holders(
    database: &Connection,
    digest: &Digest,
    last: &str,
    count: u64,
) -> Result<Vec<String>, StorageError> {
    let mut statement = database.prepare_cached(
        "SELECT r.name FROM blobs b JOIN repositories r ON r.id = b.repository
         WHERE b.digest = ?1 AND b.deleted IS NULL AND r.name > ?2 ORDER BY r.name LIMIT ?3",
    )?;
    let names = statement
        .query_map((digest.to_string(), last, count), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(names)
}

/// Names of repositories in which something points at the content.
pub(super) fn places(
    database: &Connection,
    digest: &Digest,
    count: u64,
) -> Result<Vec<String>, StorageError> {
    let mut statement = database.prepare_cached(
        "SELECT name FROM repositories WHERE id IN (
            SELECT repository FROM blobs WHERE digest = ?1 UNION SELECT repository FROM manifests WHERE digest = ?1)
         ORDER BY name LIMIT ?2",
    )?;
    let names =
        statement.query_map((digest.to_string(), count), |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(names)
}

pub(super) fn manifest(
    database: &Connection,
    name: &str,
    key: &ManifestKey,
) -> Result<ManifestRecord, StorageError> {
    let found = match key {
        ManifestKey::Tag(tag) => database
            .prepare_cached(
                "SELECT m.digest, m.media_type, m.size FROM repositories r
                 JOIN tags t ON t.repository = r.id
                 JOIN manifests m ON m.repository = r.id AND m.digest = t.digest
                 WHERE r.name = ?1 AND t.name = ?2",
            )?
            .query_row((name, tag), record)
            .optional()?,
        ManifestKey::Digest(digest) => database
            .prepare_cached(
                "SELECT m.digest, m.media_type, m.size FROM repositories r
                 JOIN manifests m ON m.repository = r.id
                 WHERE r.name = ?1 AND m.digest = ?2 AND m.deleted IS NULL",
            )?
            .query_row((name, digest.to_string()), record)
            .optional()?,
    };
    match found {
        Some(found) => Ok(found),
        None => {
            known(database, name)?;
            Err(StorageError::ManifestUnknown(key.to_string()))
        }
    }
}

pub(super) fn tags(
    database: &Connection,
    name: &str,
    last: &str,
    count: u64,
) -> Result<Vec<String>, StorageError> {
    let repository = known(database, name)?;
    let mut statement = database
        .prepare_cached("SELECT name FROM tags WHERE repository = ?1 AND name > ?2 ORDER BY name LIMIT ?3")?;
    let tags = statement.query_map((repository, last, count), |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(tags)
}

pub(super) fn repositories(
    database: &Connection,
    last: &str,
    count: u64,
) -> Result<Vec<String>, StorageError> {
    let mut statement = database.prepare_cached(
        "SELECT name FROM repositories r WHERE name > ?1
         AND EXISTS (SELECT 1 FROM manifests m WHERE m.repository = r.id AND m.deleted IS NULL) ORDER BY name LIMIT ?2",
    )?;
    let names = statement.query_map((last, count), |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(names)
}

pub(super) fn referrers(
    database: &Connection,
    name: &str,
    subject: &Digest,
    page: &ReferrersPage,
) -> Result<(Vec<Referrer>, bool), StorageError> {
    let Some(repository) = find(database, name)? else { return Ok((Vec::new(), false)) };
    let mut statement = database.prepare_cached(
        "SELECT digest, media_type, size, artifact_type, annotations FROM manifests
         WHERE repository = ?1 AND subject = ?2 AND digest > ?3 AND deleted IS NULL AND (?4 IS NULL OR artifact_type = ?4)
         ORDER BY digest",
    )?;
    let mut rows = statement.query((repository, subject.to_string(), &page.last, &page.artifact_type))?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let annotations: Option<String> = row.get(4)?;
        bytes += annotations.as_ref().map_or(0, String::len);
        let full = found.len() >= limits::REFERRERS_ENTRIES || bytes > limits::REFERRERS_BYTES;
        if full && !found.is_empty() {
            return Ok((found, true));
        }
        found.push(Referrer { record: record(row)?, artifact_type: row.get(3)?, annotations });
    }
    Ok((found, false))
}

/// Whether any repository points at the content.
pub(super) fn is_needed(database: &Connection, digest: &Digest) -> Result<bool, StorageError> {
    let mut statement = database.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM blobs WHERE digest = ?1)
             OR EXISTS (SELECT 1 FROM manifests WHERE digest = ?1)",
    )?;
    Ok(statement.query_row([digest.to_string()], |row| row.get(0))?)
}

pub(super) fn condemned(database: &Connection, before: i64, count: u64) -> Result<Vec<Digest>, StorageError> {
    let mut statement =
        database.prepare_cached("SELECT digest FROM condemned WHERE since < ?1 ORDER BY digest LIMIT ?2")?;
    let digests =
        statement.query_map((before, count), |row| digest_column(row, 0))?.collect::<Result<_, _>>()?;
    Ok(digests)
}

/// How much there is: counts of indexes, but for the blobs, of which each is looked at.
pub(super) fn counts(database: &Connection) -> Result<Counts, StorageError> {
    let (blobs, bytes) = database
        .prepare_cached(
            "SELECT count(*), coalesce(sum(size), 0) FROM (SELECT max(size) AS size FROM blobs WHERE deleted IS NULL GROUP BY digest)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let one = |table: &str| -> Result<u64, StorageError> {
        Ok(database
            .prepare_cached(&format!("SELECT count(*) FROM {table}"))?
            .query_row([], |row| row.get(0))?)
    };
    Ok(Counts {
        repositories: one("repositories")?,
        manifests: one("manifests WHERE deleted IS NULL")?,
        tags: one("tags")?,
        blobs,
        bytes,
        uploads: one("uploads")?,
    })
}

/// All content that is pointed at.
pub(super) fn contents(
    database: &Connection,
    last: &str,
    count: u64,
) -> Result<Vec<(Digest, u64)>, StorageError> {
    let mut statement = database.prepare_cached(
        "SELECT digest, max(size) FROM (
            SELECT * FROM (SELECT DISTINCT digest, size FROM blobs WHERE digest > ?1 ORDER BY digest LIMIT ?2)
            UNION ALL
            SELECT * FROM (SELECT DISTINCT digest, size FROM manifests WHERE digest > ?1 ORDER BY digest LIMIT ?2))
         GROUP BY digest ORDER BY digest LIMIT ?2",
    )?;
    let content = |row: &Row<'_>| Ok((digest_column(row, 0)?, row.get(1)?));
    let all = statement.query_map((last, count), content)?.collect::<Result<_, _>>()?;
    Ok(all)
}

/// How much a repository has. Each of its blobs is looked at.
pub(super) fn usage(database: &Connection, name: &str) -> Result<Usage, StorageError> {
    let Some(repository) = find(database, name)? else { return Ok(Usage::default()) };
    let mut usage = database
        .prepare_cached(
            "SELECT count(*), max(updated), max(pulled), coalesce(sum(pulls), 0) FROM tags WHERE repository = ?1",
        )?
        .query_row([repository], |row| {
            let (tags, updated) = (row.get(0)?, row.get(1)?);
            Ok(Usage { tags, updated, pulled: row.get(2)?, pulls: row.get(3)?, ..Usage::default() })
        })?;
    let sums =
        "SELECT coalesce(sum(deleted IS NULL), 0), coalesce(sum(CASE WHEN deleted IS NULL THEN size END), 0),
        coalesce(sum(CASE WHEN deleted NOT NULL THEN size END), 0)";
    let sum = |table: &str| -> Result<(u64, u64, u64), StorageError> {
        let mut statement = database.prepare_cached(&format!("{sums} FROM {table} WHERE repository = ?1"))?;
        Ok(statement.query_row([repository], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?)
    };
    let (blobs, manifests) = (sum("blobs")?, sum("manifests")?);
    (usage.blobs, usage.manifests) = (blobs.0, manifests.0);
    usage.bytes = blobs.1 + manifests.1;
    usage.trash_bytes = blobs.2 + manifests.2;
    usage.own_bytes = database
        .prepare_cached(
            "SELECT coalesce(sum(size), 0) FROM blobs b WHERE repository = ?1 AND deleted IS NULL AND NOT EXISTS (
                SELECT 1 FROM blobs o WHERE o.digest = b.digest AND o.repository <> b.repository)",
        )?
        .query_row([repository], |row| row.get(0))?;
    Ok(usage)
}
