//! Statements that change something; each runs inside one transaction of [`super::writer`].

use super::{
    history, holds, life,
    reads::{find, known},
    tally,
};
use crate::server::storage::{
    StorageError,
    pointers::{Change, Kept, ManifestKey, NewManifest, Removal, Required},
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
pub(super) fn ensure(database: &Connection, name: &str) -> Result<i64, StorageError> {
    if let Some(id) = find(database, name)? {
        return Ok(id);
    }
    database.prepare_cached("INSERT INTO repositories (name) VALUES (?1)")?.execute([name])?;
    let id = database.last_insert_rowid();
    tally::join(database, id, name)?;
    Ok(id)
}

/// Nobody points at content whose file is about to go.
fn not_condemned(database: &Connection, digest: &Digest) -> Result<(), StorageError> {
    let mut statement = database.prepare_cached("SELECT 1 FROM condemned WHERE digest = ?1")?;
    let found = statement.query_row([digest.to_string()], |_| Ok(())).optional()?;
    found.map_or(Ok(()), |()| Err(StorageError::Condemned(digest.clone())))
}

/// Gives a repository a blob, which is loose unless something there names it.
fn insert_blob(
    database: &Connection,
    repository: i64,
    digest: &Digest,
    size_bytes: u64,
    now: i64,
) -> Result<(), StorageError> {
    database
        .prepare_cached(
            "INSERT INTO blobs (repository, digest, size, counted, loose) VALUES (?1, ?2, ?3, 1, CASE WHEN EXISTS (
                SELECT 1 FROM edges e WHERE e.repository = ?1 AND e.target = ?2 AND e.kind IN (1, 2))
                THEN NULL ELSE ?4 END)
             ON CONFLICT (repository, digest) DO UPDATE
             SET size = excluded.size, loose = excluded.loose, deleted = NULL, counted = 1",
        )?
        .execute((repository, digest.to_string(), size_bytes, now))?;
    Ok(())
}

pub(super) fn put_blob(
    database: &Connection,
    repository: &str,
    digest: &Digest,
    size_bytes: u64,
    now: i64,
) -> Result<(), StorageError> {
    not_condemned(database, digest)?;
    let repository = ensure(database, repository)?;
    insert_blob(database, repository, digest, size_bytes, now)
}

pub(super) fn renew(
    database: &Connection,
    repository: &str,
    digest: &Digest,
    now: i64,
) -> Result<(), StorageError> {
    database
        .prepare_cached(
            "UPDATE blobs SET loose = ?3 WHERE digest = ?2 AND loose IS NOT NULL
             AND repository = (SELECT id FROM repositories WHERE name = ?1)",
        )?
        .execute((repository, digest.to_string(), now))?;
    Ok(())
}

pub(super) fn mount(
    database: &Connection,
    repository: &str,
    digest: &Digest,
    from: Option<&str>,
    now: i64,
) -> Result<bool, StorageError> {
    // who has it keeps it from being condemned
    let Some(size) = super::reads::blob_elsewhere(database, digest, from)? else { return Ok(false) };
    let repository = ensure(database, repository)?;
    insert_blob(database, repository, digest, size, now)?;
    Ok(true)
}

pub(super) fn put_manifest(
    database: &Connection,
    name: &str,
    manifest: &NewManifest,
    change: &Change,
) -> Result<(), StorageError> {
    not_condemned(database, &manifest.record.digest)?;
    let repository = ensure(database, name)?;
    let record = &manifest.record;
    let digest = record.digest.to_string();
    expected(database, repository, manifest)?;
    for required in &manifest.required {
        check(database, repository, required)?;
    }
    same_type(database, repository, manifest)?;
    for (tag, why) in &manifest.kept {
        keep(database, repository, tag, *why, &record.digest)?;
    }
    database
        .prepare_cached(
            "INSERT INTO manifests
             (repository, digest, media_type, size, subject, artifact_type, annotations, pushed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (repository, digest) DO UPDATE
             SET media_type = excluded.media_type, pushed = excluded.pushed, loose = NULL, orphan = 0, deleted = NULL",
        )?
        .execute((
            repository,
            &digest,
            &record.media_type,
            record.size_bytes,
            manifest.subject.as_ref().map(Digest::to_string),
            &manifest.artifact_type,
            &manifest.annotations,
            change.at,
        ))?;
    insert_edges(database, repository, manifest)?;
    holds::hold_below(database, repository, &digest)?;
    for tag in &manifest.tags {
        history::point(database, repository, tag, &record.digest, change)?;
    }
    if manifest.tags.is_empty() {
        holds::settle(database, repository, &digest, false, change.at)?;
    }
    Ok(())
}

fn insert_edges(database: &Connection, repository: i64, manifest: &NewManifest) -> Result<(), StorageError> {
    let digest = manifest.record.digest.to_string();
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
    Ok(())
}

/// What is there has to be what the caller asks for: each tag, or the manifest itself where there is none.
fn expected(database: &Connection, repository: i64, manifest: &NewManifest) -> Result<(), StorageError> {
    if !manifest.condition.is_some() {
        return Ok(());
    }
    for tag in &manifest.tags {
        manifest.condition.check(tag, history::tagged(database, repository, tag)?.as_ref())?;
    }
    if manifest.tags.is_empty() {
        let digest = &manifest.record.digest;
        let there = is_manifest(database, repository, &digest.to_string())?;
        manifest.condition.check(&digest.to_string(), there.then_some(digest))?;
    }
    Ok(())
}

fn is_manifest(database: &Connection, repository: i64, digest: &str) -> Result<bool, StorageError> {
    let mut statement = database.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM manifests WHERE repository = ?1 AND digest = ?2 AND deleted IS NULL)",
    )?;
    Ok(statement.query_row((repository, digest), |row| row.get(0))?)
}

/// Refuses to move a tag that points at something else.
fn keep(
    database: &Connection,
    repository: i64,
    tag: &str,
    why: Kept,
    digest: &Digest,
) -> Result<(), StorageError> {
    let found = history::tagged(database, repository, tag)?;
    match (found.is_some_and(|found| found != *digest), why) {
        (false, _) => Ok(()),
        (true, Kept::Immutable) => Err(StorageError::TagImmutable { tag: tag.to_owned() }),
        (true, Kept::Foreign) => Err(StorageError::TagTaken { tag: tag.to_owned() }),
    }
}

fn tags_on(database: &Connection, repository: i64, digest: &str) -> Result<Vec<String>, StorageError> {
    let mut statement = database
        .prepare_cached("SELECT name FROM tags WHERE repository = ?1 AND digest = ?2 ORDER BY name")?;
    let tags = statement.query_map((repository, digest), |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(tags)
}

/// An immutable tag among those of a manifest.
fn immutable_tag(
    database: &Connection,
    repository: i64,
    digest: &str,
    immutable: &dyn Fn(&str) -> bool,
) -> Result<Option<String>, StorageError> {
    Ok(tags_on(database, repository, digest)?.into_iter().find(|tag| immutable(tag)))
}

/// The type belongs to the bytes: pushed again under another one, they would change what every tag on them is.
fn same_type(database: &Connection, repository: i64, manifest: &NewManifest) -> Result<(), StorageError> {
    let record = &manifest.record;
    let stored: Option<String> = database
        .prepare_cached(
            "SELECT media_type FROM manifests WHERE repository = ?1 AND digest = ?2 AND deleted IS NULL",
        )?
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
        .prepare_cached("SELECT size FROM blobs WHERE repository = ?1 AND digest = ?2 AND deleted IS NULL")?
        .query_row((repository, &digest), |row| row.get(0))
        .optional()?;
    if size.is_none() && required.manifest {
        size = database
            .prepare_cached(
                "SELECT size FROM manifests WHERE repository = ?1 AND digest = ?2 AND deleted IS NULL",
            )?
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
    removal: &Removal,
) -> Result<bool, StorageError> {
    let (repository, text) = (known(database, name)?, digest.to_string());
    let statement = match removal.trash {
        true => {
            "UPDATE blobs SET deleted = ?3, counted = 0 WHERE repository = ?1 AND digest = ?2 AND deleted IS NULL"
        }
        false => {
            "DELETE FROM blobs WHERE repository = ?1 AND digest = ?2 AND deleted IS NULL AND ?3 NOT NULL"
        }
    };
    let count = database.prepare_cached(statement)?.execute((repository, &text, removal.change.at))?;
    let needed = if removal.force { None } else { holds::needs_blob(database, repository, &text)? };
    match needed {
        _ if count == 0 => Err(StorageError::BlobUnknown(digest.clone())),
        Some(manifest) => Err(StorageError::BlobNeeded { digest: digest.clone(), manifest }),
        None if removal.trash => Ok(false),
        None => condemn(database, digest, removal.change.at),
    }
}

pub(super) fn delete_manifest(
    database: &Connection,
    name: &str,
    key: &ManifestKey,
    removal: &Removal,
) -> Result<Option<Digest>, StorageError> {
    let repository = known(database, name)?;
    let unknown = || StorageError::ManifestUnknown(key.to_string());
    let (change, immutable) = (&removal.change, &*removal.immutable);
    match key {
        ManifestKey::Tag(tag) => {
            let found = history::tagged(database, repository, tag)?;
            removal.condition.check(tag, found.as_ref())?;
            if immutable(tag) {
                return Err(StorageError::TagImmutable { tag: tag.clone() });
            }
            let digest = found.ok_or_else(unknown)?;
            if let Some(seen) = &removal.seen {
                seen.check(history::seen(database, repository, tag)?)?;
            }
            history::unpoint(database, repository, tag, &digest, removal.seen.is_some(), change)?;
            Ok(None)
        }
        ManifestKey::Digest(digest) => {
            let text = digest.to_string();
            let there = is_manifest(database, repository, &text)?;
            removal.condition.check(&text, there.then_some(digest))?;
            if let Some(tag) = immutable_tag(database, repository, &text, immutable)? {
                return Err(StorageError::TagImmutable { tag });
            }
            if !there {
                return Err(unknown());
            }
            let parent = if removal.force { None } else { holds::parent(database, repository, &text)? };
            if let Some(index) = parent {
                return Err(StorageError::ManifestNeeded { digest: digest.clone(), index });
            }
            for tag in tags_on(database, repository, &text)? {
                history::unpoint(database, repository, &tag, digest, false, change)?;
            }
            life::remove_manifest(database, repository, &text, removal.trash, change.at)?;
            let gone = !removal.trash && condemn(database, digest, change.at)?;
            Ok(gone.then(|| digest.clone()))
        }
    }
}

/// Condemns content that nothing points at. What is condemned already is left to who did that: were it removed by a second one
/// too, that one could come after a third who took it for old, and after a push that followed.
pub(super) fn condemn(database: &Connection, digest: &Digest, now: i64) -> Result<bool, StorageError> {
    let condemned = database
        .prepare_cached(
            "INSERT INTO condemned (digest, since) SELECT ?1, ?2 WHERE NOT EXISTS (
                SELECT 1 FROM blobs WHERE digest = ?1)
             AND NOT EXISTS (SELECT 1 FROM manifests WHERE digest = ?1)
             ON CONFLICT DO NOTHING",
        )?
        .execute((digest.to_string(), now))?;
    Ok(condemned > 0)
}

pub(super) fn forget(database: &Connection, digests: &[Digest]) -> Result<(), StorageError> {
    let mut statement = database.prepare_cached("DELETE FROM condemned WHERE digest = ?1")?;
    digests.iter().try_for_each(|digest| Ok(statement.execute([digest.to_string()]).map(drop)?))
}
