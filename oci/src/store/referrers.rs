//! What is attached to images of the store: manifests that say whom they are about (image-spec `manifest.md`, "subject"), such as
//! provenance, lists of packages and signatures.
//!
//! Whoever is attached is needed by its subject, as an index needs its images: it stays as long as that, goes with it, and is in no
//! list of images.

use super::{
    Store, StoreError,
    manifests::{Edge, FIRST_REFERRER, ManifestRow, write_edges},
};
use crate::{
    Descriptor, Digest, limits,
    spec::{Manifest, ManifestError, Parsed},
};
use rusqlite::OptionalExtension;

/// Something that is attached.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Its descriptor as registries list it: with the artifact's type and the manifest's annotations.
    pub descriptor: Descriptor,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Attached {
    /// Reads the manifest `bytes` of something attached; `None` where it says of nobody that it is about them.
    ///
    /// # Errors
    /// When it is no manifest.
    pub fn read(bytes: &[u8]) -> Result<Option<(Digest, Attached)>, ManifestError> {
        let parsed = Parsed::from_bytes(bytes, None)?;
        let media = parsed.media_type().to_owned();
        let Parsed::Manifest(manifest) = parsed else { return Ok(None) };
        let Some(subject) = &manifest.subject else { return Ok(None) };
        let subject = subject.digest.clone();
        let mut descriptor = Descriptor::of(media, bytes);
        let own = manifest.artifact_type.clone().filter(|kind| !kind.is_empty());
        descriptor.artifact_type = Some(own.unwrap_or_else(|| manifest.config.media_type.clone()));
        descriptor.annotations.clone_from(&manifest.annotations);
        Ok(Some((subject, Attached { descriptor, manifest: *manifest })))
    }
}

impl Store {
    /// Attaches the manifest whose blobs are here to its subject, which is registered here, in the place of `replaced`.
    ///
    /// # Errors
    /// When the manifest has no subject, the subject is not here or has too much attached.
    pub fn put_referrer(&self, digest: &Digest, replaced: &[Digest]) -> Result<(), StoreError> {
        let bytes = self.blobs().read_manifest(digest)?;
        let Some((subject, attached)) = Attached::read(&bytes)? else {
            return Err(StoreError::NoSubject(digest.clone()));
        };
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let is_here = transaction
            .prepare_cached("SELECT 1 FROM manifests WHERE digest = ?1")?
            .query_row([subject.to_string()], |_| Ok(()))
            .optional()?;
        if is_here.is_none() {
            return Err(StoreError::NoImage(subject.to_string()));
        }
        for old in replaced.iter().filter(|old| *old != digest) {
            let old = old.to_string();
            transaction
                .prepare_cached("DELETE FROM edges WHERE parent = ?1 AND child = ?2 AND kind = 'referrer'")?
                .execute((subject.to_string(), &old))?;
            let is_attached: bool = transaction
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM edges WHERE child = ?1)")?
                .query_row([&old], |row| row.get(0))?;
            if !is_attached {
                transaction.prepare_cached("DELETE FROM edges WHERE parent = ?1")?.execute([&old])?;
                transaction.prepare_cached("DELETE FROM manifests WHERE digest = ?1")?.execute([&old])?;
            }
        }
        let row = ManifestRow {
            digest,
            kind: "image",
            media_type: &attached.descriptor.media_type,
            size_bytes: bytes.len() as u64,
            config: None,
            platform: None,
            built: None,
        };
        let is_known: bool = transaction
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM manifests WHERE digest = ?1)")?
            .query_row([digest.to_string()], |row| row.get(0))?;
        // one that is known as an image keeps what is known of its layers
        if !is_known {
            row.write(&transaction)?;
            write_edges(&transaction, digest, &Edge::of_manifest(&attached.manifest, None))?;
        }
        let (there, count, last): (bool, i64, i64) = transaction
            .prepare_cached(
                "SELECT coalesce(max(child = ?2), 0), count(*), coalesce(max(place), ?3) FROM edges
                 WHERE parent = ?1 AND kind = 'referrer'",
            )?
            .query_row((subject.to_string(), digest.to_string(), FIRST_REFERRER - 1), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        if !there {
            if count as usize >= limits::ATTACHED {
                return Err(StoreError::ManyReferrers(subject));
            }
            transaction
                .prepare_cached(
                    "INSERT INTO edges (parent, place, kind, child, media_type, size, diff_id, platform)
                     VALUES (?1, ?2, 'referrer', ?3, ?4, ?5, NULL, NULL)",
                )?
                .execute((
                    subject.to_string(),
                    last + 1,
                    digest.to_string(),
                    &attached.descriptor.media_type,
                    bytes.len() as i64,
                ))?;
        }
        Ok(transaction.commit()?)
    }

    /// What is attached to a manifest of the store, in the order in which it came. What cannot be read is left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Attached>, StoreError> {
        let children: Vec<String> = self
            .database()
            .prepare_cached("SELECT child FROM edges WHERE parent = ?1 AND kind = 'referrer' ORDER BY place")?
            .query_map([subject.to_string()], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let digests = children.iter().filter_map(|text| text.parse::<Digest>().ok());
        let read = |digest: Digest| Attached::read(&self.blobs().read_manifest(&digest).ok()?).ok()?;
        Ok(digests.filter_map(read).map(|(_, attached)| attached).collect())
    }
}

#[cfg(test)]
mod tests;
