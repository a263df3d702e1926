//! Statements that change something; each runs inside one transaction of [`super::connect`], which holds its [`super::locks`].

use super::{
    connect::Database,
    history, holds, life,
    reads::{find, is_needed, known},
    row::{Outside, natural, number, texts},
    tally,
};
use crate::server::storage::{
    StorageError, now_seconds,
    pointers::{Change, Kept, ManifestKey, NewManifest, Removal, Required},
};
use slipway_oci::Digest;

/// What an edge leads to; the numbers are those of the schema.
#[derive(Clone, Copy)]
enum EdgeKind {
    Blob = 1,
    Child = 2,
    Subject = 3,
}

/// The row of a repository, which is made where it is missing.
fn ensure(database: &mut Database, name: &str) -> Result<i64, StorageError> {
    if let Some(id) = find(database, name)? {
        return Ok(id);
    }
    // of two that make it, the second one waits here and finds the row of the first
    let made = database.row(
        "INSERT INTO repositories (name) VALUES ($1) ON CONFLICT (name) DO NOTHING RETURNING id",
        &[&name],
    )?;
    match made {
        Some(row) => {
            let id = row.try_get(0)?;
            tally::join(database, id, name)?;
            Ok(id)
        }
        None => known(database, name),
    }
}

/// Nobody points at content whose file is about to go.
fn not_condemned(database: &mut Database, digest: &Digest) -> Result<(), StorageError> {
    let text = "SELECT EXISTS (SELECT 1 FROM condemned WHERE digest = $1)";
    match database.one(text, &[&digest.to_string()])? {
        true => Err(StorageError::Condemned(digest.clone())),
        false => Ok(()),
    }
}

/// What becomes of a blob that the repository has already.
const THERE: &str = "ON CONFLICT (repository, digest) DO UPDATE
    SET size = excluded.size, loose = excluded.loose, deleted = NULL, counted = true";

/// Gives a repository a blob, which is loose unless something there names it.
fn insert_blob(
    database: &mut Database,
    repository: i64,
    digest: &Digest,
    size_bytes: u64,
    now: i64,
) -> Result<(), StorageError> {
    let text = format!(
        "INSERT INTO blobs (repository, digest, size, counted, loose) VALUES ($1, $2, $3, true, CASE WHEN EXISTS (
            SELECT 1 FROM edges e WHERE e.repository = $1 AND e.target = $2 AND e.kind IN (1, 2))
            THEN NULL ELSE $4::bigint END) {THERE}"
    );
    database.run(&text, &[&repository, &digest.to_string(), &number(size_bytes), &now])?;
    Ok(())
}

pub(super) fn put_blob(
    database: &mut Database,
    repository: &str,
    digest: &Digest,
    size_bytes: u64,
    now: i64,
) -> Result<(), StorageError> {
    if insert_known(database, repository, digest, size_bytes, now)? {
        return Ok(());
    }
    // the repository is new, or the content is on its way out
    not_condemned(database, digest)?;
    let repository = ensure(database, repository)?;
    insert_blob(database, repository, digest, size_bytes, now)
}

/// The same in one statement where the repository is there and the content is not condemned; whether it was so.
fn insert_known(
    database: &mut Database,
    repository: &str,
    digest: &Digest,
    size_bytes: u64,
    now: i64,
) -> Result<bool, StorageError> {
    let text = format!(
        "INSERT INTO blobs (repository, digest, size, counted, loose)
         SELECT r.id, $2, $3, true, CASE WHEN EXISTS (
            SELECT 1 FROM edges e WHERE e.repository = r.id AND e.target = $2 AND e.kind IN (1, 2))
            THEN NULL ELSE $4::bigint END
         FROM repositories r WHERE r.name = $1 AND NOT EXISTS (SELECT 1 FROM condemned WHERE digest = $2) {THERE}"
    );
    let done = database.run(&text, &[&repository, &digest.to_string(), &number(size_bytes), &now])?;
    Ok(done > 0)
}

pub(super) fn renew(
    database: &mut Database,
    repository: &str,
    digest: &Digest,
    now: i64,
) -> Result<(), StorageError> {
    database.run(
        "UPDATE blobs SET loose = $3 WHERE digest = $2 AND loose IS NOT NULL
         AND repository = (SELECT id FROM repositories WHERE name = $1)",
        &[&repository, &digest.to_string(), &now],
    )?;
    Ok(())
}

pub(super) fn mount(
    database: &mut Database,
    repository: &str,
    digest: &Digest,
    from: Option<&str>,
    now: i64,
) -> Result<bool, StorageError> {
    // who has it, or had it a moment ago, cannot condemn it before this is over
    let Some(size) = super::reads::blob_elsewhere(database, digest, from)? else { return Ok(false) };
    let repository = ensure(database, repository)?;
    insert_blob(database, repository, digest, size, now)?;
    Ok(true)
}

pub(super) fn put_manifest(
    database: &mut Database,
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
    let subject = manifest.subject.as_ref().map(Digest::to_string);
    database.run(
        "INSERT INTO manifests (repository, digest, media_type, size, subject, artifact_type, annotations, pushed)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (repository, digest) DO UPDATE
         SET media_type = excluded.media_type, pushed = excluded.pushed, loose = NULL, orphan = false, deleted = NULL",
        &[
            &repository,
            &digest,
            &record.media_type,
            &number(record.size_bytes),
            &subject,
            &manifest.artifact_type.as_deref().map(Outside),
            &manifest.annotations.as_deref().map(Outside),
            &change.at,
        ],
    )?;
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

fn insert_edges(
    database: &mut Database,
    repository: i64,
    manifest: &NewManifest,
) -> Result<(), StorageError> {
    let (mut targets, mut kinds) = (Vec::new(), Vec::new());
    for required in &manifest.required {
        targets.push(required.digest.to_string());
        kinds.push(if required.manifest { EdgeKind::Child } else { EdgeKind::Blob } as i16);
    }
    if let Some(subject) = &manifest.subject {
        targets.push(subject.to_string());
        kinds.push(EdgeKind::Subject as i16);
    }
    database.run(
        "INSERT INTO edges (repository, manifest, target, kind)
         SELECT $1, $2, target, kind FROM unnest($3::text[], $4::smallint[]) AS edge (target, kind)
         ON CONFLICT DO NOTHING",
        &[&repository, &manifest.record.digest.to_string(), &targets, &kinds],
    )?;
    Ok(())
}

/// What is there has to be what the caller asks for: each tag, or the manifest itself where there is none.
fn expected(database: &mut Database, repository: i64, manifest: &NewManifest) -> Result<(), StorageError> {
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

pub(super) fn is_manifest(
    database: &mut Database,
    repository: i64,
    digest: &str,
) -> Result<bool, StorageError> {
    database.one(
        "SELECT EXISTS (SELECT 1 FROM manifests WHERE repository = $1 AND digest = $2 AND deleted IS NULL)",
        &[&repository, &digest],
    )
}

/// Refuses to move a tag that points at something else.
fn keep(
    database: &mut Database,
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

fn tags_on(database: &mut Database, repository: i64, digest: &str) -> Result<Vec<String>, StorageError> {
    let rows = database.rows(
        "SELECT name FROM tags WHERE repository = $1 AND digest = $2 ORDER BY name",
        &[&repository, &digest],
    )?;
    Ok(texts(&rows)?)
}

/// The type belongs to the bytes: pushed again under another one, they would change what every tag on them is.
fn same_type(database: &mut Database, repository: i64, manifest: &NewManifest) -> Result<(), StorageError> {
    let record = &manifest.record;
    let row = database.row(
        "SELECT media_type FROM manifests WHERE repository = $1 AND digest = $2 AND deleted IS NULL",
        &[&repository, &record.digest.to_string()],
    )?;
    let stored: Option<String> = row.map(|row| row.try_get(0)).transpose()?;
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
fn check(database: &mut Database, repository: i64, required: &Required) -> Result<(), StorageError> {
    let row = database.row(
        "SELECT coalesce(
            (SELECT size FROM blobs WHERE repository = $1 AND digest = $2 AND deleted IS NULL),
            (SELECT size FROM manifests WHERE repository = $1 AND digest = $2 AND deleted IS NULL AND $3)) AS size
         WHERE EXISTS (SELECT 1 FROM blobs WHERE repository = $1 AND digest = $2 AND deleted IS NULL)
            OR $3 AND EXISTS (SELECT 1 FROM manifests WHERE repository = $1 AND digest = $2 AND deleted IS NULL)",
        &[&repository, &required.digest.to_string(), &required.manifest],
    )?;
    match row.map(|row| natural(&row, 0)).transpose()? {
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
    database: &mut Database,
    name: &str,
    digest: &Digest,
    removal: &Removal,
) -> Result<bool, StorageError> {
    let (repository, text) = (known(database, name)?, digest.to_string());
    let count = match removal.trash {
        true => database.run(
            "UPDATE blobs SET deleted = $3, counted = false WHERE repository = $1 AND digest = $2 AND deleted IS NULL",
            &[&repository, &text, &removal.change.at],
        )?,
        false => database.run(
            "DELETE FROM blobs WHERE repository = $1 AND digest = $2 AND deleted IS NULL",
            &[&repository, &text],
        )?,
    };
    let needed = if removal.force { None } else { holds::needs_blob(database, repository, &text)? };
    match needed {
        _ if count == 0 => Err(StorageError::BlobUnknown(digest.clone())),
        Some(manifest) => Err(StorageError::BlobNeeded { digest: digest.clone(), manifest }),
        None if removal.trash => Ok(false),
        None => condemn(database, digest, removal.change.at),
    }
}

pub(super) fn delete_manifest(
    database: &mut Database,
    name: &str,
    key: &ManifestKey,
    removal: &Removal,
) -> Result<Option<Digest>, StorageError> {
    let repository = known(database, name)?;
    match key {
        ManifestKey::Tag(tag) => delete_tag(database, repository, tag, removal).map(|()| None),
        ManifestKey::Digest(digest) => delete_by_digest(database, repository, digest, removal),
    }
}

fn delete_tag(
    database: &mut Database,
    repository: i64,
    tag: &str,
    removal: &Removal,
) -> Result<(), StorageError> {
    let found = history::tagged(database, repository, tag)?;
    removal.condition.check(tag, found.as_ref())?;
    if (removal.immutable)(tag) {
        return Err(StorageError::TagImmutable { tag: tag.to_owned() });
    }
    let digest = found.ok_or_else(|| StorageError::ManifestUnknown(tag.to_owned()))?;
    if let Some(seen) = &removal.seen {
        seen.check(history::seen(database, repository, tag)?)?;
    }
    history::unpoint(database, repository, tag, &digest, removal.seen.is_some(), &removal.change)
}

fn delete_by_digest(
    database: &mut Database,
    repository: i64,
    digest: &Digest,
    removal: &Removal,
) -> Result<Option<Digest>, StorageError> {
    let (text, change) = (digest.to_string(), &removal.change);
    let there = is_manifest(database, repository, &text)?;
    removal.condition.check(&text, there.then_some(digest))?;
    let tags = tags_on(database, repository, &text)?;
    if let Some(tag) = tags.iter().find(|tag| (removal.immutable)(tag)) {
        return Err(StorageError::TagImmutable { tag: tag.clone() });
    }
    if !there {
        return Err(StorageError::ManifestUnknown(text));
    }
    let parent = if removal.force { None } else { holds::parent(database, repository, &text)? };
    if let Some(index) = parent {
        return Err(StorageError::ManifestNeeded { digest: digest.clone(), index });
    }
    for tag in tags {
        history::unpoint(database, repository, &tag, digest, false, change)?;
    }
    life::remove_manifest(database, repository, &text, removal.trash, change.at)?;
    let gone = !removal.trash && condemn(database, digest, change.at)?;
    Ok(gone.then(|| digest.clone()))
}

/// Condemns content that nothing points at.
pub(super) fn condemn(database: &mut Database, digest: &Digest, now: i64) -> Result<bool, StorageError> {
    if is_needed(database, digest)? {
        return Ok(false);
    }
    // by the database's clock: another replica's may be ahead, and take it for old
    let condemned = database.run(
        "INSERT INTO condemned (digest, since)
         VALUES ($1, $2 + (extract(epoch FROM clock_timestamp())::bigint - $3)) ON CONFLICT DO NOTHING",
        &[&digest.to_string(), &now, &now_seconds()],
    )?;
    Ok(condemned > 0)
}

pub(super) fn forget(database: &mut Database, digests: &[Digest]) -> Result<(), StorageError> {
    let digests: Vec<String> = digests.iter().map(Digest::to_string).collect();
    database.run("DELETE FROM condemned WHERE digest = ANY ($1)", &[&digests])?;
    Ok(())
}

/// Content is no longer what it was where it lies, whoever points at it.
pub(super) fn tell_removed(database: &mut Database, digest: &Digest) -> Result<(), StorageError> {
    database.row("SELECT pg_notify('slipway', 'c' || $1)::text", &[&digest.to_string()])?;
    Ok(())
}

/// Other replicas hear what this one counted for limits.
pub(super) fn tell_counts(database: &mut Database, text: &str) -> Result<(), StorageError> {
    database.row("SELECT pg_notify('slipway', 'l' || $1)::text", &[&text])?;
    Ok(())
}
