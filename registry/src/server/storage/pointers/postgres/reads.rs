//! Statements that only look. A blob and a manifest by digest take one, as long as they are there.

use super::{
    connect::Database,
    row::{Outside, digest, digests, natural, number, optional_outside, place, texts},
};
use crate::{
    limits,
    server::storage::{
        StorageError, now_seconds,
        pointers::{BlobRecord, Counts, ManifestKey, ManifestRecord, Referrer, ReferrersPage, Usage},
    },
};
use postgres::Row;
use slipway_oci::Digest;

fn record(row: &Row) -> Result<ManifestRecord, postgres::Error> {
    Ok(ManifestRecord { digest: digest(row, 0)?, media_type: row.try_get(1)?, size_bytes: natural(row, 2)? })
}

/// The row of a repository.
pub(super) fn find(database: &mut Database, name: &str) -> Result<Option<i64>, StorageError> {
    let row = database.row("SELECT id FROM repositories WHERE name = $1", &[&name])?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// The row of a repository that has to be there.
pub(super) fn known(database: &mut Database, name: &str) -> Result<i64, StorageError> {
    find(database, name)?.ok_or_else(|| StorageError::RepositoryUnknown(name.to_owned()))
}

/// A blob that a repository has, with that one's number.
pub(super) fn blob(
    database: &mut Database,
    repository: &str,
    digest: &Digest,
) -> Result<Option<(i64, BlobRecord)>, StorageError> {
    let row = database.row(
        "SELECT b.size, b.loose, r.id FROM repositories r JOIN blobs b ON b.repository = r.id
         WHERE r.name = $1 AND b.digest = $2 AND b.deleted IS NULL",
        &[&repository, &digest.to_string()],
    )?;
    let record = |row: Row| {
        Ok((row.try_get(2)?, BlobRecord { size_bytes: natural(&row, 0)?, loose: row.try_get(1)? }))
    };
    row.map(record).transpose()
}

/// The size of a blob that the repository `from` has, or any.
pub(super) fn blob_elsewhere(
    database: &mut Database,
    digest: &Digest,
    from: Option<&str>,
) -> Result<Option<u64>, StorageError> {
    let Some(from) = from else {
        let text = "SELECT size FROM blobs WHERE digest = $1 AND deleted IS NULL LIMIT 1";
        let row = database.row(text, &[&digest.to_string()])?;
        return Ok(row.map(|row| natural(&row, 0)).transpose()?);
    };
    Ok(blob(database, from, digest)?.map(|(_, blob)| blob.size_bytes))
}

/// Names of repositories that have a blob.
pub(super) fn holders(
    database: &mut Database,
    digest: &Digest,
    last: &str,
    count: u64,
) -> Result<Vec<String>, StorageError> {
    let rows = database.rows(
        "SELECT r.name FROM blobs b JOIN repositories r ON r.id = b.repository
         WHERE b.digest = $1 AND b.deleted IS NULL AND r.name > $2 ORDER BY r.name LIMIT $3",
        &[&digest.to_string(), &last, &number(count)],
    )?;
    Ok(texts(&rows)?)
}

/// Names of repositories in which something points at the content.
pub(super) fn places(
    database: &mut Database,
    digest: &Digest,
    count: u64,
) -> Result<Vec<String>, StorageError> {
    let rows = database.rows(
        "SELECT name FROM repositories WHERE id IN (
            SELECT repository FROM blobs WHERE digest = $1 UNION SELECT repository FROM manifests WHERE digest = $1)
         ORDER BY name LIMIT $2",
        &[&digest.to_string(), &number(count)],
    )?;
    Ok(texts(&rows)?)
}

/// A manifest that a repository has, with that one's number.
pub(super) fn manifest(
    database: &mut Database,
    name: &str,
    key: &ManifestKey,
) -> Result<(i64, ManifestRecord), StorageError> {
    let found = match key {
        ManifestKey::Tag(tag) => database.row(
            "SELECT m.digest, m.media_type, m.size, r.id FROM repositories r
             JOIN tags t ON t.repository = r.id
             JOIN manifests m ON m.repository = r.id AND m.digest = t.digest
             WHERE r.name = $1 AND t.name = $2",
            &[&name, tag],
        )?,
        ManifestKey::Digest(digest) => database.row(
            "SELECT m.digest, m.media_type, m.size, r.id FROM repositories r
             JOIN manifests m ON m.repository = r.id
             WHERE r.name = $1 AND m.digest = $2 AND m.deleted IS NULL",
            &[&name, &digest.to_string()],
        )?,
    };
    match found {
        Some(row) => Ok((row.try_get(3)?, record(&row)?)),
        None => {
            known(database, name)?;
            Err(StorageError::ManifestUnknown(key.to_string()))
        }
    }
}

pub(super) fn tags(
    database: &mut Database,
    name: &str,
    last: &str,
    count: u64,
) -> Result<Vec<String>, StorageError> {
    let repository = known(database, name)?;
    let rows = database.rows(
        "SELECT name FROM tags WHERE repository = $1 AND name > $2 ORDER BY name LIMIT $3",
        &[&repository, &last, &number(count)],
    )?;
    Ok(texts(&rows)?)
}

pub(super) fn repositories(
    database: &mut Database,
    last: &str,
    count: u64,
) -> Result<Vec<String>, StorageError> {
    let rows = database.rows(
        "SELECT name FROM repositories r WHERE name > $1
         AND EXISTS (SELECT 1 FROM manifests m WHERE m.repository = r.id AND m.deleted IS NULL) ORDER BY name LIMIT $2",
        &[&last, &number(count)],
    )?;
    Ok(texts(&rows)?)
}

pub(super) fn referrers(
    database: &mut Database,
    name: &str,
    subject: &Digest,
    page: &ReferrersPage,
) -> Result<(Vec<Referrer>, bool), StorageError> {
    // the database cuts the page: what lies beyond it may be larger than this process
    let rows = database.rows(
        "SELECT digest, media_type, size, artifact_type, annotations, total FROM (
            SELECT *, row_number() OVER sorted AS place, count(*) OVER () AS total,
                sum(coalesce(octet_length(annotations), 0)) OVER sorted AS bytes
            FROM (SELECT m.digest, m.media_type, m.size, m.artifact_type, m.annotations
                FROM repositories r JOIN manifests m ON m.repository = r.id
                WHERE r.name = $1 AND m.subject = $2 AND m.digest > $3 AND m.deleted IS NULL
                AND ($4::text IS NULL OR m.artifact_type = $4) ORDER BY m.digest LIMIT $5::bigint + 1) AS found
            WINDOW sorted AS (ORDER BY digest)) AS all_found
         WHERE place = 1 OR place <= $5::bigint AND bytes <= $6::bigint ORDER BY digest",
        &[
            &name,
            &subject.to_string(),
            &place(&page.last),
            &page.artifact_type.as_deref().map(Outside),
            &number(limits::REFERRERS_ENTRIES as u64),
            &number(limits::REFERRERS_BYTES as u64),
        ],
    )?;
    let total = rows.first().map_or(Ok(0), |row| natural(row, 5))?;
    let referrer = |row: &Row| {
        let (artifact_type, annotations) = (optional_outside(row, 3)?, optional_outside(row, 4)?);
        Ok(Referrer { record: record(row)?, artifact_type, annotations })
    };
    let found = rows.iter().map(referrer).collect::<Result<Vec<_>, postgres::Error>>()?;
    let more = total > found.len() as u64;
    Ok((found, more))
}

/// Whether any repository points at the content.
pub(super) fn is_needed(database: &mut Database, digest: &Digest) -> Result<bool, StorageError> {
    database.one(
        "SELECT EXISTS (SELECT 1 FROM blobs WHERE digest = $1)
             OR EXISTS (SELECT 1 FROM manifests WHERE digest = $1)",
        &[&digest.to_string()],
    )
}

pub(super) fn condemned(
    database: &mut Database,
    before: i64,
    count: u64,
) -> Result<Vec<Digest>, StorageError> {
    // the caller's times become the database's; all of them is all of them by any clock
    let before = before.min(i64::MAX >> 1);
    let rows = database.rows(
        "SELECT digest FROM condemned WHERE since < $1 + (extract(epoch FROM clock_timestamp())::bigint - $3)
         ORDER BY digest LIMIT $2",
        &[&before, &number(count), &now_seconds()],
    )?;
    Ok(digests(&rows)?)
}

/// How much there is. Each row is looked at.
pub(super) fn counts(database: &mut Database) -> Result<Counts, StorageError> {
    let row = database.row(
        "SELECT count(*), coalesce(sum(size), 0)::bigint,
            (SELECT count(*) FROM repositories), (SELECT count(*) FROM manifests WHERE deleted IS NULL),
            (SELECT count(*) FROM tags), (SELECT count(*) FROM uploads)
         FROM (SELECT max(size) AS size FROM blobs WHERE deleted IS NULL GROUP BY digest) AS different",
        &[],
    )?;
    let Some(row) = row else { return Ok(Counts::default()) };
    let at = |index| natural(&row, index);
    Ok(Counts {
        blobs: at(0)?,
        bytes: at(1)?,
        repositories: at(2)?,
        manifests: at(3)?,
        tags: at(4)?,
        uploads: at(5)?,
    })
}

/// All content that is pointed at.
pub(super) fn contents(
    database: &mut Database,
    last: &str,
    count: u64,
) -> Result<Vec<(Digest, u64)>, StorageError> {
    let rows = database.rows(
        "SELECT digest, max(size) FROM (
            (SELECT DISTINCT digest, size FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2)
            UNION ALL
            (SELECT DISTINCT digest, size FROM manifests WHERE digest > $1 ORDER BY digest LIMIT $2)) AS both_kinds
         GROUP BY digest ORDER BY digest LIMIT $2",
        &[&last, &number(count)],
    )?;
    rows.iter().map(|row| Ok((digest(row, 0)?, natural(row, 1)?))).collect()
}

/// How much a repository has. Each of its blobs is looked at.
pub(super) fn usage(database: &mut Database, name: &str) -> Result<Usage, StorageError> {
    let Some(repository) = find(database, name)? else { return Ok(Usage::default()) };
    let mut usage = Usage::default();
    let tags = "SELECT count(*), max(updated), max(pulled), coalesce(sum(pulls), 0)::bigint FROM tags
        WHERE repository = $1";
    if let Some(row) = database.row(tags, &[&repository])? {
        (usage.tags, usage.pulls) = (natural(&row, 0)?, natural(&row, 3)?);
        (usage.updated, usage.pulled) = (row.try_get(1)?, row.try_get(2)?);
    }
    for table in ["blobs", "manifests"] {
        let sums = format!(
            "SELECT count(*) FILTER (WHERE deleted IS NULL),
                coalesce(sum(size) FILTER (WHERE deleted IS NULL), 0)::bigint,
                coalesce(sum(size) FILTER (WHERE deleted IS NOT NULL), 0)::bigint
             FROM {table} WHERE repository = $1"
        );
        let Some(row) = database.row(&sums, &[&repository])? else { continue };
        let count = if table == "blobs" { &mut usage.blobs } else { &mut usage.manifests };
        *count = natural(&row, 0)?;
        usage.bytes += natural(&row, 1)?;
        usage.trash_bytes += natural(&row, 2)?;
    }
    let own = "SELECT coalesce(sum(size), 0)::bigint FROM blobs b
        WHERE repository = $1 AND deleted IS NULL AND NOT EXISTS (
            SELECT 1 FROM blobs o WHERE o.digest = b.digest AND o.repository <> b.repository)";
    if let Some(row) = database.row(own, &[&repository])? {
        usage.own_bytes = natural(&row, 0)?;
    }
    Ok(usage)
}
