//! Manifests, tags and referrers of one repository.

use super::{Storage, StorageError, repository, writer::Durability};
use crate::limits;
use rusqlite::{Connection, OptionalExtension, Row};
use slipway_oci::Digest;
use std::sync::Arc;

/// How a manifest is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKey {
    /// By tag.
    Tag(String),
    /// By digest.
    Digest(Digest),
}

impl std::fmt::Display for ManifestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ManifestKey::Tag(tag) => f.write_str(tag),
            ManifestKey::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

/// What a reply about a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRecord {
    /// Its digest.
    pub digest: Digest,
    /// Its media type, as pushed.
    pub media_type: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// Content that a manifest needs in its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// Its digest.
    pub digest: Digest,
    /// The size that the manifest claims, in bytes.
    pub size_bytes: u64,
    /// Whether it may be a manifest as well as a blob. (BuildKit's cache indexes list layer blobs as children:
    /// moby/buildkit#2251.)
    pub manifest: bool,
    /// Whether the repository may lack it (non-distributable layers).
    pub optional: bool,
}

/// A manifest to be stored, already found to be well formed.
#[derive(Clone, Debug)]
pub struct NewManifest {
    /// Digest, media type and size.
    pub record: ManifestRecord,
    /// What it is attached to; need not be there.
    pub subject: Option<Digest>,
    /// The type that a referrers entry shows.
    pub artifact_type: Option<String>,
    /// Its annotations as a JSON object, where it has a subject.
    pub annotations: Option<String>,
    /// What has to be in the repository.
    pub required: Vec<Required>,
    /// The tags to point at it.
    pub tags: Vec<String>,
}

/// One entry of a referrers reply.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// Digest, media type and size.
    pub record: ManifestRecord,
    /// The artifact's type.
    pub artifact_type: Option<String>,
    /// Annotations as a JSON object.
    pub annotations: Option<String>,
}

fn digest_column(row: &Row<'_>, index: usize) -> rusqlite::Result<Digest> {
    let text: String = row.get(index)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn record(row: &Row<'_>) -> rusqlite::Result<ManifestRecord> {
    Ok(ManifestRecord { digest: digest_column(row, 0)?, media_type: row.get(1)?, size_bytes: row.get(2)? })
}

impl Storage {
    /// Finds a manifest by tag or digest.
    pub fn manifest(&self, name: &str, key: &ManifestKey) -> Result<ManifestRecord, StorageError> {
        let record = self.readers.read(|database| {
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
                         JOIN manifests m ON m.repository = r.id WHERE r.name = ?1 AND m.digest = ?2",
                    )?
                    .query_row((name, digest.to_string()), record)
                    .optional()?,
            };
            match found {
                Some(found) => Ok(found),
                None => {
                    repository::known(database, name)?;
                    Err(StorageError::ManifestUnknown(key.to_string()))
                }
            }
        })?;
        // the row alone does not answer for bytes that are gone or cut
        match self.blobs.size(&record.digest)? {
            Some(found) if found == record.size_bytes => Ok(record),
            _ => Err(StorageError::ManifestUnknown(key.to_string())),
        }
    }

    /// The bytes of a manifest, verified.
    pub fn manifest_bytes(&self, record: &ManifestRecord) -> Result<Vec<u8>, StorageError> {
        self.blobs.read_manifest(&record.digest).map_err(|error| match self.blobs.contains(&record.digest) {
            // deleted since the row was read
            Ok(false) => StorageError::ManifestUnknown(record.digest.to_string()),
            _ => error.into(),
        })
    }

    /// Stores a manifest and points its tags at it, all or nothing.
    pub fn put_manifest(
        self: &Arc<Self>,
        name: &str,
        manifest: NewManifest,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        assert_eq!(bytes.len() as u64, manifest.record.size_bytes);
        let digest = manifest.record.digest.clone();
        let mut upload = self.stage(name, digest.algorithm())?;
        upload.append(bytes)?;
        let name = name.to_owned();
        upload.place(&digest, move |database| insert(database, &name, &manifest))
    }

    /// Removes a tag, or a manifest with every tag on it.
    pub fn delete_manifest(&self, name: &str, key: &ManifestKey) -> Result<(), StorageError> {
        let (name, key) = (name.to_owned(), key.clone());
        self.writer.write(Durability::Durable, move |database, batch| {
            let repository = repository::known(database, &name)?;
            let count = match &key {
                ManifestKey::Tag(tag) => database
                    .prepare_cached("DELETE FROM tags WHERE repository = ?1 AND name = ?2")?
                    .execute((repository, tag))?,
                ManifestKey::Digest(digest) => {
                    database
                        .prepare_cached("DELETE FROM tags WHERE repository = ?1 AND digest = ?2")?
                        .execute((repository, digest.to_string()))?;
                    batch.released.insert(digest.clone());
                    database
                        .prepare_cached("DELETE FROM manifests WHERE repository = ?1 AND digest = ?2")?
                        .execute((repository, digest.to_string()))?
                }
            };
            if count == 0 { Err(StorageError::ManifestUnknown(key.to_string())) } else { Ok(()) }
        })
    }

    /// Tags of a repository, sorted by byte, after `last`, at most `count`.
    pub fn tags(&self, name: &str, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        self.readers.read(|database| {
            let repository = repository::known(database, name)?;
            let mut statement = database.prepare_cached(
                "SELECT name FROM tags WHERE repository = ?1 AND name > ?2 ORDER BY name LIMIT ?3",
            )?;
            let tags = statement
                .query_map((repository, last, count), |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok(tags)
        })
    }

    /// A page of what is attached to `subject`, after the digest `last`; and whether there is more. An unknown
    /// repository has none.
    pub fn referrers(
        &self,
        name: &str,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: &str,
    ) -> Result<(Vec<Referrer>, bool), StorageError> {
        self.readers.read(|database| {
            let Some(repository) = repository::find(database, name)? else { return Ok((Vec::new(), false)) };
            let mut statement = database.prepare_cached(
                "SELECT digest, media_type, size, artifact_type, annotations FROM manifests
                 WHERE repository = ?1 AND subject = ?2 AND digest > ?3 AND (?4 IS NULL OR artifact_type = ?4)
                 ORDER BY digest",
            )?;
            let mut rows = statement.query((repository, subject.to_string(), last, artifact_type))?;
            let (mut page, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let annotations: Option<String> = row.get(4)?;
                bytes += annotations.as_ref().map_or(0, String::len);
                let full = page.len() >= limits::REFERRERS_ENTRIES || bytes > limits::REFERRERS_BYTES;
                if full && !page.is_empty() {
                    return Ok((page, true));
                }
                page.push(Referrer { record: record(row)?, artifact_type: row.get(3)?, annotations });
            }
            Ok((page, false))
        })
    }
}

fn insert(database: &Connection, name: &str, manifest: &NewManifest) -> Result<(), StorageError> {
    let repository = repository::ensure(database, name)?;
    for required in &manifest.required {
        check(database, repository, required)?;
    }
    let record = &manifest.record;
    let digest = record.digest.to_string();
    database
        .prepare_cached(
            "INSERT OR REPLACE INTO manifests
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
    let updated = super::now_seconds();
    for tag in &manifest.tags {
        database
            .prepare_cached(
                "INSERT OR REPLACE INTO tags (repository, name, digest, updated) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((repository, tag, &digest, updated))?;
    }
    Ok(())
}

/// No peer checks the size; a lying one makes every client fail later, far from its cause.
fn check(database: &Connection, repository: i64, required: &Required) -> Result<(), StorageError> {
    let mut size = repository::blob_size(database, repository, &required.digest)?;
    if size.is_none() && required.manifest {
        size = database
            .prepare_cached("SELECT size FROM manifests WHERE repository = ?1 AND digest = ?2")?
            .query_row((repository, required.digest.to_string()), |row| row.get(0))
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
