//! Statements that change something; each runs inside one transaction of [`super::writer`].

use super::reads::{find, is_needed, known};
use crate::server::storage::{
    StorageError,
    pointers::{Kept, ManifestKey, NewManifest, Required},
};
use rusqlite::{Connection, OptionalExtension};
use slipway_oci::Digest;

/// What an edge leads to; the numbers are those of the schema.
#[derive(Clone, Copy)]
enum EdgeKind {
    Blob = 1,
    Child = 2,
    Subject = 3,
}

/// The row of a repository, which is made where it is missing.
fn ensure(database: &Connection, name: &str) -> Result<i64, StorageError> {
    if let Some(id) = find(database, name)? {
        return Ok(id);
    }
    database.prepare_cached("INSERT INTO repositories (name) VALUES (?1)")?.execute([name])?;
    Ok(database.last_insert_rowid())
}

/// Nobody points at content whose file is about to go.
fn not_condemned(database: &Connection, digest: &Digest) -> Result<(), StorageError> {
    let mut statement = database.prepare_cached("SELECT 1 FROM condemned WHERE digest = ?1")?;
    let found = statement.query_row([digest.to_string()], |_| Ok(())).optional()?;
    found.map_or(Ok(()), |()| Err(StorageError::Condemned(digest.clone())))
}

pub(super) fn put_blob(
    database: &Connection,
    repository: &str,
    digest: &Digest,
    size_bytes: u64,
) -> Result<(), StorageError> {
    not_condemned(database, digest)?;
    let repository = ensure(database, repository)?;
    database
        .prepare_cached("INSERT OR REPLACE INTO blobs (repository, digest, size) VALUES (?1, ?2, ?3)")?
        .execute((repository, digest.to_string(), size_bytes))?;
    Ok(())
}

pub(super) fn mount(
    database: &Connection,
    repository: &str,
    digest: &Digest,
    from: Option<&str>,
) -> Result<bool, StorageError> {
    // who has it keeps it from being condemned
    let Some(size) = super::reads::blob_elsewhere(database, digest, from)? else { return Ok(false) };
    let repository = ensure(database, repository)?;
    database
        .prepare_cached("INSERT OR IGNORE INTO blobs (repository, digest, size) VALUES (?1, ?2, ?3)")?
        .execute((repository, digest.to_string(), size))?;
    Ok(true)
}

pub(super) fn put_manifest(
    database: &Connection,
    name: &str,
    manifest: &NewManifest,
    now: i64,
) -> Result<(), StorageError> {
    not_condemned(database, &manifest.record.digest)?;
    let repository = ensure(database, name)?;
    for required in &manifest.required {
        check(database, repository, required)?;
    }
    let record = &manifest.record;
    let digest = record.digest.to_string();
    same_type(database, repository, manifest)?;
    for (tag, why) in &manifest.kept {
        keep(database, repository, tag, *why, &digest)?;
    }
    database
        .prepare_cached(
            "INSERT OR IGNORE INTO manifests
             (repository, digest, media_type, size, subject, artifact_type, annotations)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            repository,
            &digest,
            &record.media_type,
            record.size_bytes,
            manifest.subject.as_ref().map(Digest::to_string),
            &manifest.artifact_type,
            &manifest.annotations,
        ))?;
    let mut edge = database.prepare_cached(
        "INSERT OR IGNORE INTO edges (repository, manifest, target, kind) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for required in &manifest.required {
        let kind = if required.manifest { EdgeKind::Child } else { EdgeKind::Blob };
        edge.execute((repository, &digest, required.digest.to_string(), kind as i64))?;
    }
    if let Some(subject) = &manifest.subject {
        edge.execute((repository, &digest, subject.to_string(), EdgeKind::Subject as i64))?;
    }
    let mut tag_row = database.prepare_cached(
        "INSERT OR REPLACE INTO tags (repository, name, digest, updated) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for tag in &manifest.tags {
        tag_row.execute((repository, tag, &digest, now))?;
    }
    Ok(())
}

/// Refuses to move a tag that points at something else.
fn keep(
    database: &Connection,
    repository: i64,
    tag: &str,
    why: Kept,
    digest: &str,
) -> Result<(), StorageError> {
    let found: Option<String> = database
        .prepare_cached("SELECT digest FROM tags WHERE repository = ?1 AND name = ?2")?
        .query_row((repository, tag), |row| row.get(0))
        .optional()?;
    match (found.is_some_and(|found| found != digest), why) {
        (false, _) => Ok(()),
        (true, Kept::Immutable) => Err(StorageError::TagImmutable { tag: tag.to_owned() }),
        (true, Kept::Foreign) => Err(StorageError::TagTaken { tag: tag.to_owned() }),
    }
}

/// An immutable tag among those of a manifest.
fn immutable_tag(
    database: &Connection,
    repository: i64,
    digest: &str,
    immutable: &dyn Fn(&str) -> bool,
) -> Result<Option<String>, StorageError> {
    let mut statement =
        database.prepare_cached("SELECT name FROM tags WHERE repository = ?1 AND digest = ?2")?;
    let mut rows = statement.query((repository, digest))?;
    while let Some(row) = rows.next()? {
        let tag: String = row.get(0)?;
        if immutable(&tag) {
            return Ok(Some(tag));
        }
    }
    Ok(None)
}

/// The type belongs to the bytes: pushed again under another one, they would change what every tag on them is.
fn same_type(database: &Connection, repository: i64, manifest: &NewManifest) -> Result<(), StorageError> {
    let record = &manifest.record;
    let stored: Option<String> = database
        .prepare_cached("SELECT media_type FROM manifests WHERE repository = ?1 AND digest = ?2")?
        .query_row((repository, record.digest.to_string()), |row| row.get(0))
        .optional()?;
    match stored {
        Some(stored) if stored != record.media_type => Err(StorageError::OtherType {
            digest: record.digest.clone(),
            stored,
            pushed: record.media_type.clone(),
        }),
        _ => Ok(()),
    }
}

/// No peer checks the size; a lying one makes every client fail later, far from its cause.
fn check(database: &Connection, repository: i64, required: &Required) -> Result<(), StorageError> {
    let digest = required.digest.to_string();
    let mut size: Option<u64> = database
        .prepare_cached("SELECT size FROM blobs WHERE repository = ?1 AND digest = ?2")?
        .query_row((repository, &digest), |row| row.get(0))
        .optional()?;
    if size.is_none() && required.manifest {
        size = database
            .prepare_cached("SELECT size FROM manifests WHERE repository = ?1 AND digest = ?2")?
            .query_row((repository, &digest), |row| row.get(0))
            .optional()?;
    }
    match size {
        Some(actual) if actual != required.size_bytes => Err(StorageError::ReferenceSize {
            digest: required.digest.clone(),
            claimed: required.size_bytes,
            actual,
        }),
        None if !required.optional => Err(StorageError::ReferenceUnknown(required.digest.clone())),
        _ => Ok(()),
    }
}

pub(super) fn delete_blob(
    database: &Connection,
    name: &str,
    digest: &Digest,
    now: i64,
) -> Result<bool, StorageError> {
    let repository = known(database, name)?;
    // a child of an index may be a blob, but only where no manifest of that digest is there
    let needed: Option<String> = database
        .prepare_cached(
            "SELECT manifest FROM edges e WHERE repository = ?1 AND target = ?2 AND (kind = 1 OR kind = 2
             AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = ?1 AND m.digest = ?2)) LIMIT 1",
        )?
        .query_row((repository, digest.to_string()), |row| row.get(0))
        .optional()?;
    let count = database
        .prepare_cached("DELETE FROM blobs WHERE repository = ?1 AND digest = ?2")?
        .execute((repository, digest.to_string()))?;
    match needed {
        _ if count == 0 => Err(StorageError::BlobUnknown(digest.clone())),
        Some(manifest) => Err(StorageError::BlobNeeded { digest: digest.clone(), manifest }),
        None => condemn(database, digest, now),
    }
}

pub(super) fn delete_manifest(
    database: &Connection,
    name: &str,
    key: &ManifestKey,
    immutable: &dyn Fn(&str) -> bool,
    now: i64,
) -> Result<Option<Digest>, StorageError> {
    let repository = known(database, name)?;
    let unknown = || StorageError::ManifestUnknown(key.to_string());
    match key {
        ManifestKey::Tag(tag) => {
            if immutable(tag) {
                return Err(StorageError::TagImmutable { tag: tag.clone() });
            }
            let count = database
                .prepare_cached("DELETE FROM tags WHERE repository = ?1 AND name = ?2")?
                .execute((repository, tag))?;
            if count == 0 { Err(unknown()) } else { Ok(None) }
        }
        ManifestKey::Digest(digest) => {
            let text = digest.to_string();
            if let Some(tag) = immutable_tag(database, repository, &text, immutable)? {
                return Err(StorageError::TagImmutable { tag });
            }
            for statement in [
                "DELETE FROM tags WHERE repository = ?1 AND digest = ?2",
                "DELETE FROM edges WHERE repository = ?1 AND manifest = ?2",
            ] {
                database.prepare_cached(statement)?.execute((repository, &text))?;
            }
            let count = database
                .prepare_cached("DELETE FROM manifests WHERE repository = ?1 AND digest = ?2")?
                .execute((repository, &text))?;
            if count == 0 {
                return Err(unknown());
            }
            Ok(condemn(database, digest, now)?.then(|| digest.clone()))
        }
    }
}

/// Condemns content that nothing points at.
pub(super) fn condemn(database: &Connection, digest: &Digest, now: i64) -> Result<bool, StorageError> {
    if is_needed(database, digest)? {
        return Ok(false);
    }
    database
        .prepare_cached("INSERT OR IGNORE INTO condemned (digest, since) VALUES (?1, ?2)")?
        .execute((digest.to_string(), now))?;
    Ok(true)
}

pub(super) fn forget(database: &Connection, digest: &Digest) -> Result<(), StorageError> {
    database.prepare_cached("DELETE FROM condemned WHERE digest = ?1")?.execute([digest.to_string()])?;
    Ok(())
}
